"""What the caller is told when a handler does not give its result, and that nothing else suffers from it."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from forebay.kafka import header
from forebay_schemas import topics as topic_names
from tests.roundtrip.conftest import Pair
from tests.support.raw import ZSTD, RawProducer, RawRecord
from tests.support.services import APP
from tests.support.waiting import until
from tests.support.wire import committed, ends, read_all

PROBLEM = "urn:forebay:problem:"
SECRETS = ("swordfish", "Traceback", "roundtrip.py", "line ")


def is_problem(response: httpx.Response, status: int, kind: str) -> bool:
    body = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == PROBLEM + kind
    assert body["status"] == status
    assert body["title"]
    return True


@pytest.mark.parametrize("place", ["on_loop", "in_thread", "in_process"])
async def test_an_exception_is_a_problem_without_its_text_or_traceback(
    client: httpx.AsyncClient, pair: Pair, place: str
) -> None:
    response = await client.post(f"/v1/fail_{place}", json={"tag": "one"})
    assert is_problem(response, 500, "handler-failed")
    assert response.json()["detail"] == "it raised RuntimeError"
    assert not any(secret in response.text for secret in SECRETS)
    assert not any("swordfish" in value for value in response.headers.values())
    assert 'raise RuntimeError("password=swordfish")' in pair.processor.output, "the log has all of it"
    assert pair.site.times_run(f"fail_{place}")["one"] == 1


@pytest.mark.parametrize("place", ["on_loop", "in_thread", "in_process"])
async def test_a_handler_that_exits_fails_alone(client: httpx.AsyncClient, pair: Pair, place: str) -> None:
    response = await client.post(f"/v1/exit_{place}", json={"tag": "one"})
    assert is_problem(response, 500, "handler-failed")
    assert not any(secret in response.text for secret in SECRETS)
    assert pair.processor.process.poll() is None
    assert (await client.post("/v1/on_loop", json={"tag": "next"})).status_code == 200


async def test_a_handler_whose_part_is_cancelled_fails(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/cancel_itself", json={"tag": "one"})
    assert is_problem(response, 500, "handler-failed")
    assert response.json()["detail"] == "it raised CancelledError"


async def test_failures_leave_every_slot_free(client: httpx.AsyncClient) -> None:
    for operation in ("fail_on_loop", "cancel_itself", "misreport", "exit_in_thread", "reject"):
        for _ in range(20):  # more than there are slots
            assert (await client.post(f"/v1/{operation}", json={"tag": "many"})).status_code in (422, 500)
    assert (await client.post("/v1/on_loop", json={"tag": "after"})).status_code == 200


@pytest.mark.parametrize("operation", ["choose", "choose_in_process"])
@pytest.mark.parametrize(
    ("asked", "detail"),
    [({"way": "up"}, "way: Invalid enum value 'up'"), ({"way": "left", "share": 2.0}, "a share is at most 1")],
)
async def test_a_value_that_only_the_type_refuses_is_the_callers_mistake(
    client: httpx.AsyncClient, pair: Pair, operation: str, asked: dict[str, object], detail: str
) -> None:
    response = await client.post(f"/v1/{operation}", json=asked)
    assert is_problem(response, 422, "invalid")
    assert response.json()["detail"] == detail
    assert (await client.post(f"/v1/{operation}", json={"way": "left"})).status_code == 200
    dead = await read_all(pair.site.settings, topic_names.dead(pair.site.namespace, APP))
    assert response.headers["forebay-request-id"].encode() not in {record.key for record in dead}


async def test_a_rejection_tells_the_caller_why(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/reject", json={"tag": "any"})
    assert is_problem(response, 422, "rejected")
    assert response.json()["detail"] == "the picture shows nothing"


async def test_a_rejection_may_bring_its_own_problem(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/reject", json={"tag": "own"})
    assert is_problem(response, 422, "sold-out")
    assert response.json()["title"] == "There is nothing left"
    assert response.json()["detail"] == "the last one went yesterday"


async def test_a_handler_that_asks_for_a_later_run_says_when(client: httpx.AsyncClient) -> None:
    begun = time.monotonic()
    response = await client.post("/v1/ask_again", json={"tag": "any"})
    assert is_problem(response, 503, "retry-later")
    assert 28 - (time.monotonic() - begun) <= int(response.headers["retry-after"]) <= 30
    assert response.json()["detail"] == "the archive is being moved"


async def test_a_result_of_another_type_is_a_problem(client: httpx.AsyncClient, pair: Pair) -> None:
    response = await client.post("/v1/misreport", json={"tag": "any"})
    assert is_problem(response, 500, "unusable-result")
    assert "the handler returned str, not the declared Done" in pair.processor.output


async def test_a_result_that_is_too_large_to_send_is_a_problem(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/inflate", content=b"x", headers={"content-type": "text/plain"})
    assert is_problem(response, 500, "unusable-result")
    assert "larger than" in response.json()["detail"]


async def test_a_batch_that_can_never_be_read_is_stepped_over_on_every_topic(
    client: httpx.AsyncClient, pair: Pair
) -> None:
    """Kilobytes that decompress to more than is let into memory; the broker takes them."""
    site, settings = pair.site, pair.site.settings
    queue = topic_names.jobs(site.namespace, APP, "interactive")
    retries = topic_names.retries(site.namespace, APP, "200ms")
    others = [topic_names.catalog(site.namespace), topic_names.replies(site.namespace, pair.gateway.instance)]
    bomb = RawRecord(b"k", bytes(300 * 1024 * 1024), timestamp=time.time_ns() // 1_000_000)
    async with RawProducer.connect(settings, [queue, retries, *others]) as producer:
        offsets = {topic: await producer.produce(topic, 0, [bomb], ZSTD) for topic in (queue, retries, *others)}
    expected = {f"{topic}/0/{offsets[topic]}" for topic in (queue, retries)}

    async def reasons() -> list[str | None]:
        letters = await read_all(settings, topic_names.dead(site.namespace, APP))
        found = [header(letter, "fb-error-detail") for letter in letters if header(letter, "fb-origin") in expected]
        return found if len(found) == len(expected) else []

    for reason in await until(reasons, 60, "each is a dead letter"):
        assert "to more than 268435456 bytes" in (reason or "")
    for _ in range(24):  # so that each partition gets some
        assert (await client.post("/v1/on_loop", json={"tag": "after"})).status_code == 200

    async def all_is_committed() -> bool:
        return await committed(settings, APP, "interactive") == await ends(settings, queue, 12)

    await until(all_is_committed, 30, "the group has committed everything")
    await asyncio.to_thread(site.processor, "latecomer")
    await until(lambda: asyncio.to_thread(pair.gateway.serves, "shout"), 30, "the catalog is still followed")
    assert pair.gateway.is_ready()
    assert pair.processor.process.poll() is None
