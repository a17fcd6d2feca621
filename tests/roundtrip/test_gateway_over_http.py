"""The HTTP contract: headers, problems, what replies nobody waits for do, and the admin port."""

from __future__ import annotations

import asyncio
import json
import re
import time
from http.client import HTTPConnection
from uuid import UUID

import httpx
import psutil
import pytest

from forebay_schemas import topics as topic_names
from tests.roundtrip.conftest import Pair
from tests.support.waiting import until, wait_until
from tests.support.wire import put, read_all

STAGES = ["validate", "produce", "queue", "run", "reply"]


def stages_of(server_timing: str) -> dict[str, float]:
    """Milliseconds by stage."""
    entries = [entry.strip().split(";dur=") for entry in server_timing.split(",")]
    return {name: float(duration) for name, duration in entries}


def timed_call(port: int, operation: str, body: dict[str, object]) -> tuple[float, dict[str, float]]:
    """Milliseconds by the client's clock, and by stage, of one call."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    begun = time.perf_counter()
    connection.request("POST", f"/v1/{operation}", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    wall = (time.perf_counter() - begun) * 1000
    connection.close()
    assert response.status == 200
    return wall, stages_of(response.headers["server-timing"])


def test_the_stages_add_up_to_the_wall_time(pair: Pair) -> None:
    def account_for_it() -> bool:
        wall, stages = timed_call(pair.gateway.port, "on_loop", {"tag": "timed", "seconds": 0.3})
        assert list(stages) == STAGES
        assert all(duration >= 0 for duration in stages.values())
        assert sum(stages.values()) <= wall
        assert 295 <= stages["run"] <= sum(stages.values()), "a loop's timers may be a millisecond early"
        return sum(stages.values()) / wall >= 0.95  # but for when the client itself had to wait for the machine

    wait_until(account_for_it, 60, "the stages account for what a call takes")


def test_each_stage_is_measured_by_itself(pair: Pair) -> None:
    def measured(seconds: float) -> list[dict[str, float]]:
        body = {"tag": "timed", "seconds": seconds}
        return [timed_call(pair.gateway.port, "in_thread", body)[1] for _ in range(3)]

    # the least of several, since any of them may have had to wait for the machine
    slow, quick = measured(0.5), measured(0.0)
    most = min(stages["run"] for stages in slow) - min(stages["run"] for stages in quick)
    assert most >= 400, "what the handler takes is in 'run'"
    assert min(sum(stages.values()) - stages["run"] for stages in slow) < 400, "and nowhere else"


async def test_time_spent_waiting_for_a_slot_is_in_queue(client: httpx.AsyncClient) -> None:
    async def those_that_waited() -> list[dict[str, float]]:
        # more than there are slots, so that some wait for others, if all come before the first is done
        calls = [client.post("/v1/in_thread", json={"tag": "crowd", "seconds": 0.3}) for _ in range(20)]
        stages = [stages_of(response.headers["server-timing"]) for response in await asyncio.gather(*calls)]
        return [each for each in stages if each["queue"] > 200]

    waited = await until(those_that_waited, 60, "some wait for a slot")
    assert min(each["run"] for each in waited) < 500, "what they waited is in no other stage"


async def test_every_request_has_an_id_of_its_own(client: httpx.AsyncClient, pair: Pair) -> None:
    begun = time.time()
    responses = [await client.post("/v1/on_loop", json={"tag": "id"}) for _ in range(3)]
    ids = [response.headers["forebay-request-id"] for response in responses]
    assert len(set(ids)) == 3
    for request_id in ids:
        instance, identity = request_id[:-37], UUID(request_id[-36:])
        assert instance == pair.gateway.instance
        assert identity.version == 7
        assert begun - 1 <= (identity.int >> 80) / 1000 <= time.time() + 1
    assert [run.job for run in pair.site.runs("on_loop") if run.tag == "id"] == ids, "the handler sees the same"


@pytest.mark.parametrize("path", ["/", "/v1/", "/v1/unheard-of", "/v1/on_loop/", "/v2/on_loop", "/v1/%2e%2e/on_loop"])
async def test_what_is_not_served_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, json={"tag": "x"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:forebay:problem:unknown-operation"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_another_method_is_refused(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/v1/on_loop")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:forebay:problem:wrong-method"


@pytest.mark.parametrize(
    ("operation", "content_type"),
    [("on_loop", "text/plain"), ("on_loop", None), ("turn_round", "application/json"), ("turn_round", "image")],
)
async def test_another_media_type_is_refused(
    client: httpx.AsyncClient, operation: str, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await client.post(f"/v1/{operation}", content=b'{"tag": "x"}', headers=headers)
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["accept"] == {"on_loop": "application/json", "turn_round": "image/*"}[operation]


async def test_a_charset_beside_the_media_type_is_welcome(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    response = await client.post("/v1/on_loop", content=b'{"tag": "x"}', headers=headers)
    assert response.status_code == 200, response.text


async def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(pair: Pair) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway.port)
    writer.write(
        b"POST /v1/on_loop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 10000000000\r\n\r\n"
    )
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}")
    writer.close()
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["max_size"] == 900_000


async def test_a_body_that_turns_out_too_large_is_refused(client: httpx.AsyncClient) -> None:
    async def chunks() -> object:
        for _ in range(100):
            yield bytes(10_000)

    headers = {"content-type": "application/json"}
    response = await client.post("/v1/on_loop", content=chunks(), headers=headers)  # type: ignore[arg-type]
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_client_that_sends_all_of_a_large_body_reads_its_refusal(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/on_loop", content=bytes(5_000_000), headers=headers)
    assert response.status_code == 413


async def test_what_is_not_http_is_refused_and_harms_nobody(client: httpx.AsyncClient, pair: Pair) -> None:
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway.port)
        writer.write(request)
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), request
        writer.close()
    assert (await client.post("/v1/on_loop", json={"tag": "next"})).status_code == 200


async def test_a_client_that_leaves_harms_nobody(client: httpx.AsyncClient, pair: Pair) -> None:
    head = b"POST /v1/on_loop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n"
    for body in (b"", b"{", b'{"tag":"gone","seconds":0.5}'):
        _, writer = await asyncio.open_connection("127.0.0.1", pair.gateway.port)
        writer.write(head + body)
        await writer.drain()
        writer.transport.abort()
    assert (await client.post("/v1/on_loop", json={"tag": "next"})).status_code == 200
    assert pair.gateway.is_ready()
    assert "Traceback" not in pair.gateway.output


async def test_an_idle_connection_is_the_clients_to_close(pair: Pair) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.gateway.port)
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    while (line := (await reader.readline()).lower()) != b"\r\n":
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    await reader.readexactly(length)
    with pytest.raises(TimeoutError):  # httpx, for one, keeps an idle connection for 5 s and then may still use it
        async with asyncio.timeout(6):
            await reader.read(1)
    writer.close()


async def test_a_duplicate_reply_is_counted_and_changes_nothing(client: httpx.AsyncClient, pair: Pair) -> None:
    response = await client.post("/v1/on_loop", json={"tag": "twice"})
    topic = topic_names.replies(pair.site.namespace, pair.gateway.instance)
    key = response.headers["forebay-request-id"].encode()
    [reply] = [record for record in await read_all(pair.site.settings, topic) if record.key == key]
    before = await _unexpected_replies(pair)
    await put(pair.site.settings, topic, reply.value, key=key, headers=reply.headers)
    await until(lambda: _counted(pair, before, duplicate=1), 20, "the duplicate is counted")
    assert (await client.post("/v1/on_loop", json={"tag": "next"})).json()["tag"] == "next"


async def test_a_reply_that_nobody_waits_for_is_counted_and_changes_nothing(
    client: httpx.AsyncClient, pair: Pair
) -> None:
    topic = topic_names.replies(pair.site.namespace, pair.gateway.instance)
    before = await _unexpected_replies(pair)
    await put(pair.site.settings, topic, b"anything", key=b"somebody else's")
    await put(pair.site.settings, topic, None, key=b"a tombstone")
    await until(lambda: _counted(pair, before, late=2), 20, "the late replies are counted")
    assert (await client.post("/v1/on_loop", json={"tag": "next"})).json()["tag"] == "next"


async def test_a_reply_after_the_deadline_is_counted_as_late(client: httpx.AsyncClient, pair: Pair) -> None:
    before = await _unexpected_replies(pair)
    # the processor gives its answer after the deadline, because the handler does not listen
    response = await client.post("/v1/stubborn", json={"tag": "late", "seconds": 1.5})
    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:forebay:problem:deadline-passed"
    await until(lambda: _counted(pair, before, late=1), 20, "the late reply is counted")


async def test_a_reply_that_cannot_be_read_concerns_its_caller_only(client: httpx.AsyncClient, pair: Pair) -> None:
    def job_of(tag: str) -> bytes | None:
        return next((run.job.encode() for run in pair.site.runs("long_on_loop") if run.tag == tag), None)

    mine = asyncio.create_task(client.post("/v1/long_on_loop", json={"tag": "garbled", "seconds": 100}))
    others = asyncio.create_task(client.post("/v1/long_on_loop", json={"tag": "other", "seconds": 100}))
    key = await until(lambda: job_of("garbled"), 20, "the handler was begun")
    topic = topic_names.replies(pair.site.namespace, pair.gateway.instance)
    await put(pair.site.settings, topic, b"\xc3\x01garbage", key=key)
    response = await mine
    assert response.status_code == 502
    assert response.json()["type"] == "urn:forebay:problem:unreadable-reply"
    for tag in ("other", "garbled"):
        pair.site.let_end(tag)
    assert (await others).json()["tag"] == "other"


async def _unexpected_replies(pair: Pair) -> tuple[float, float]:
    return tuple(  # type: ignore[return-value]
        [
            await asyncio.to_thread(pair.gateway.metric, f"forebay_{kind}_replies_total")
            for kind in ("late", "duplicate")
        ]
    )


async def _counted(pair: Pair, before: tuple[float, float], *, late: int = 0, duplicate: int = 0) -> bool:
    now = await _unexpected_replies(pair)
    return now == (before[0] + late, before[1] + duplicate)


async def test_requests_are_counted_by_operation_and_outcome(client: httpx.AsyncClient, pair: Pair) -> None:
    def counts() -> list[float]:
        metric = pair.gateway.metric
        return [
            metric("forebay_requests_total", operation="traced_on_loop", outcome="completed"),
            metric("forebay_requests_total", operation="traced_on_loop", outcome="invalid"),
            metric("forebay_rejected_total", reason="invalid"),
            metric("forebay_stage_seconds_count", tier="interactive", stage="run"),
        ]

    before = await asyncio.to_thread(counts)
    await client.post("/v1/traced_on_loop", json={"tag": "one"})
    await client.post("/v1/traced_on_loop", json={"tag": 1})
    after = await asyncio.to_thread(counts)
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1, 1]


def test_health_and_metrics_have_a_port_of_their_own(pair: Pair) -> None:
    with httpx.Client(base_url=pair.gateway.admin_url, timeout=20) as admin:
        assert admin.get("/health/live").json() == {"status": "live"}
        assert admin.get("/health/ready").json() == {"status": "ready"}
        metrics = admin.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert re.search(r"^# TYPE forebay_stage_seconds histogram$", metrics.text, re.MULTILINE)
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert httpx.get(f"{pair.gateway.url}{path}", timeout=20).status_code == 404, "not for clients"


def test_both_ports_are_on_loopback_only(pair: Pair) -> None:
    listening = [
        connection.laddr
        for connection in psutil.Process(pair.gateway.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == {pair.gateway.port, pair.gateway.admin_port}
    assert {address.ip for address in listening} == {"127.0.0.1"}
