"""Whatever stands in the reply topic or in the catalog, the gateway stays up, and each caller gets an honest answer."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, cast

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from forebay import failures
from forebay.messages import ReplyMessage, encode_reply
from forebay_gateway.claim import CLAIM_KEY
from forebay_schemas import topics as topic_names
from forebay_schemas.headers import NOT_BEFORE, TRACEPARENT
from tests.roundtrip.conftest import Pair
from tests.support.replies import a_reply
from tests.support.waiting import until
from tests.support.wire import put


def problem(kind: str) -> dict[str, Any]:
    return {"outcome": "FAILED", "problem": {"type": kind, "title": "t\x00\x1b", "detail": "d\r\n"}}


REPLIES: dict[str, tuple[dict[str, Any], int]] = {
    "line break in the media type": ({"content_type": "a/b\r\nx: y"}, 502),
    "media type beyond latin-1": ({"content_type": "a/\u2026"}, 502),
    "no media type": ({"content_type": ""}, 502),
    "unknown schema": ({"payload_schema": b"\x00" * 8}, 502),
    "another request": ({"request_id": "gw-1"}, 502),
    "another tenant": ({"tenant": "another"}, 502),
    "progress": ({"outcome": "PROGRESS"}, 502),
    "failure without a word": ({"outcome": "FAILED"}, 502),
    "cancelled without a word": ({"outcome": "CANCELLED"}, 502),
    "odd problem": (problem("\r\n\x00 \u2026 <"), 422),
    "long problem": (problem("x" * 200_000), 422),
    "instants before time": (dict.fromkeys(("enqueued", "fetched", "started", "finished"), -(2**63)), 200),
    "instants after time": (dict.fromkeys(("enqueued", "fetched", "started", "finished"), 2**63 - 1), 200),
    "no attempt": ({"attempt": -(2**31)}, 200),
    "expired": ({"outcome": "EXPIRED"}, 504),
}

BYTES = {"tombstone": None, "empty": b"", "garbage": b"\xc3\x01garbage", "json": b"{}", "large": b"\xff" * 500_000}


class Held:
    """A call that is held while its handler runs, so that a test can answer it first."""

    def __init__(self, pair: Pair, client: httpx.AsyncClient) -> None:
        self.pair = pair
        self.tag = uuid.uuid4().hex
        self.call = asyncio.create_task(client.post("/v1/long_on_loop", json={"tag": self.tag, "seconds": 100}))

    async def job(self) -> str:
        def begun() -> str | None:
            return next((run.job for run in self.pair.site.runs("long_on_loop") if run.tag == self.tag), None)

        return cast(str, await until(begun, 15, "the handler runs"))

    async def answer(self, value: bytes | None, headers: list[tuple[str, Any]] | None = None) -> httpx.Response:
        topic = topic_names.replies(self.pair.site.namespace, self.pair.gateway.instance)
        await put(self.pair.site.settings, topic, value, key=(await self.job()).encode(), headers=headers or [])
        response = await self.call
        self.pair.site.let_end(self.tag)
        return response


def by_hand(job: str, **fields: Any) -> ReplyMessage:
    return a_reply(**{"request_id": job, "content_type": "text/plain", "payload": b"by hand", **fields})


def counted(pair: Pair) -> float:
    """How many calls have an outcome, whichever."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in httpx.get(f"{pair.gateway.admin_url}/metrics", timeout=20).text.splitlines()
        if line.startswith("forebay_requests_total{")
    )


@pytest.mark.parametrize(("fields", "status"), REPLIES.values(), ids=REPLIES)
async def test_a_reply_that_decodes_ends_in_an_honest_answer(
    client: httpx.AsyncClient, pair: Pair, fields: dict[str, Any], status: int
) -> None:
    before = await asyncio.to_thread(counted, pair)
    held = Held(pair, client)
    response = await held.answer(encode_reply(by_hand(await held.job(), **fields)))
    assert response.status_code == status, response.text
    if status != 200:
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.content)["status"] == status
    assert response.headers["forebay-request-id"] == await held.job()
    assert await asyncio.to_thread(counted, pair) == before + 1


@pytest.mark.parametrize("value", BYTES.values(), ids=BYTES)
async def test_a_reply_that_does_not_decode_is_502(client: httpx.AsyncClient, pair: Pair, value: bytes | None) -> None:
    response = await Held(pair, client).answer(value)
    assert response.status_code == 502
    assert response.json()["type"] == "urn:forebay:problem:unreadable-reply"


@pytest.mark.parametrize("value", [None, b"", "\u00b2".encode(), b"9" * 5000, b"-1", b"\xff"])
async def test_odd_headers_of_a_reply_change_nothing(
    client: httpx.AsyncClient, pair: Pair, value: bytes | None
) -> None:
    held = Held(pair, client)
    headers = [(NOT_BEFORE, value), (TRACEPARENT, value), ("", value), ("odd", value)]
    response = await held.answer(encode_reply(by_hand(await held.job(), **problem(failures.RETRY_LATER))), headers)
    assert response.status_code == 503
    assert "retry-after" not in response.headers


KEYS = st.none() | st.binary(max_size=60) | st.just(CLAIM_KEY) | st.sampled_from([b"on_loop", b"echo", b"gw-1"])
VALUES = st.none() | st.binary(max_size=200) | st.sampled_from([b"{}", b"\xc3\x01" + b"\x00" * 30, b"[" * 5000])
HEADERS = st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=60)), max_size=3)
RECORDS = st.lists(st.tuples(KEYS, VALUES, HEADERS), min_size=50, max_size=50)


@settings(
    max_examples=20,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(replies=RECORDS, catalog=RECORDS)
async def test_whatever_is_in_the_topics_good_calls_are_answered(pair: Pair, replies: Any, catalog: Any) -> None:
    site, instance = pair.site, pair.gateway.instance
    producer = AIOKafkaProducer(bootstrap_servers=site.settings.brokers)
    await producer.start()
    try:
        for topic, records in (
            (topic_names.replies(site.namespace, instance), replies),
            (topic_names.catalog(site.namespace), catalog),
        ):
            for key, value, headers in records:
                if topic.endswith("catalog"):
                    # a tombstone of an operation withdraws it, and a compacted topic takes no record without a key
                    key = b"x" + (key or b"")
                elif value is None:
                    key = key or b""  # the client sends no record with neither
                await producer.send(topic, value, key=key, headers=headers, partition=0)
        await producer.flush()
    finally:
        await producer.stop()
    async with httpx.AsyncClient(base_url=pair.gateway.url, timeout=60) as client:
        responses = await asyncio.gather(*(client.post("/v1/on_loop", json={"tag": "good"}) for _ in range(5)))
    assert [response.status_code for response in responses] == [200] * 5
    assert await asyncio.to_thread(pair.gateway.is_ready)
