"""Jobs that a processor's version of the app does not know, and the retry topics, which bring jobs back when due."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from forebay import headers
from forebay.kafka import Record, header
from forebay.messages import JobMessage, ReplyMessage, decode_reply, encode_job
from forebay_schemas import topics as topic_names
from tests.roundtrip.conftest import Pair
from tests.support.raw import ZSTD, RawProducer, RawRecord
from tests.support.services import APP, Gateway, Site
from tests.support.steady import SteadyLoad
from tests.support.waiting import until, wait_until
from tests.support.wire import a_job, put, read_all, replies_to

JOBS = "interactive"
WHILE = 6.0
"""Seconds in which a job that nobody knows goes round several times, also on a machine that stands still for some."""
ROUNDS = ("200ms", "1s")
"""The retry topics through which it goes meanwhile."""


def a_job_of(site: Site, gateway: Gateway, *, seconds: float = 30.0, **changes: object) -> JobMessage:
    """A job that the gateway is told about, of an operation that turns bytes round."""
    job = a_job(site.settings, "turn_round", JOBS, b"abc", None)
    job["request_id"] = f"{gateway.instance}-{uuid.uuid4()}"
    job["reply_topic"] = topic_names.replies(site.namespace, gateway.instance)
    job["deadline"] = time.time_ns() // 1_000_000 + int(seconds * 1000)
    job.update(changes)  # type: ignore[typeddict-item] # any field may be changed
    return job


async def reply_to(site: Site, gateway: Gateway, request_id: str, within: float) -> ReplyMessage:
    [reply] = await until(lambda: replies_to(site.settings, gateway.instance, request_id), within, "there is a reply")
    found: ReplyMessage = reply
    return found


async def records_of(site: Site, topic: str, request_id: str, partitions: int = 3) -> list[Record]:
    return [record for record in await read_all(site.settings, topic, partitions) if record.key == request_id.encode()]


@pytest.mark.parametrize(
    "changes",
    [{"operation": "unheard-of"}, {"operation": "on_loop", "payload_schema": b"\x01\x02\x03\x04\x05\x06\x07\x08"}],
    ids=["operation", "schema"],
)
async def test_a_job_that_nobody_knows_is_handed_on_until_its_deadline(pair: Pair, changes: dict[str, Any]) -> None:
    site, gateway = pair.site, pair.gateway
    job = a_job_of(site, gateway, seconds=WHILE, **changes)
    name, value = job["request_id"], encode_job(job)
    queue = topic_names.jobs(site.namespace, APP, JOBS)
    delays = {topic_names.retries(site.namespace, APP, delay): topic_names.RETRY_DELAYS_MS[delay] for delay in ROUNDS}
    offset = await put(site.settings, queue, value, key=name.encode(), headers=[("mine", b"kept")])

    reply = await reply_to(site, gateway, name, 20)
    assert reply["outcome"] == "FAILED"
    assert reply["problem"] is not None
    assert reply["problem"]["type"] == "no-processor"
    assert reply["attempt"] == 0

    waited = [record for topic in delays for record in await records_of(site, topic, name)]
    passed_on = sorted(waited, key=lambda record: record.timestamp)
    returned = sorted(await records_of(site, queue, name, 12), key=lambda record: record.timestamp)[1:]
    assert 2 <= len(passed_on) == len(returned) <= WHILE / 0.2
    for count, (record, back) in enumerate(zip(passed_on, returned, strict=True), 1):
        assert record.value == value, "the same bytes"
        assert len(dict(record.headers)) == len(record.headers), "headers are replaced, never appended"
        assert header(record, "fb-handed-on") == str(count)
        assert header(record, "fb-origin") == f"{queue}/0/{offset}"
        assert header(record, "mine") == "kept"
        assert header(record, "fb-attempt") is None, "no attempt is spent"
        due = int(header(record, "fb-not-before") or 0)
        assert due - record.timestamp <= delays[record.topic]
        assert due <= back.timestamp, "it waits for its time"
        assert due <= job["deadline"] - 100, "while there is still somebody to tell"
    assert not await records_of(site, topic_names.dead(site.namespace, APP), name, 1)


@pytest.mark.parametrize("delay", topic_names.RETRY_DELAYS_MS)
async def test_a_job_in_a_retry_topic_runs_when_it_is_due(pair: Pair, delay: str) -> None:
    """Also where no header says when that is: then it is the topic's delay after the record was produced."""
    site, gateway = pair.site, pair.gateway
    topic = topic_names.retries(site.namespace, APP, delay)
    now = time.time_ns() // 1_000_000
    due = now + 1000
    said, silent = a_job_of(site, gateway), a_job_of(site, gateway)
    produced = min(now, due - topic_names.RETRY_DELAYS_MS[delay])
    if delay == "200ms":
        due = now + 200
    for job, history in ((said, [("fb-not-before", str(due).encode())]), (silent, [])):
        key = job["request_id"].encode()
        await put(site.settings, topic, encode_job(job), key=key, headers=history, timestamp_ms=produced)
    for job in (said, silent):
        reply = await reply_to(site, gateway, job["request_id"], 20)
        assert reply["outcome"] == "COMPLETED"
        assert reply["payload"] == b"cba"
        assert reply["enqueued"] // 1000 >= due, "never early"


async def test_jobs_that_are_due_together_come_back_in_their_order(pair: Pair) -> None:
    site, gateway = pair.site, pair.gateway
    topic = topic_names.retries(site.namespace, APP, "1s")
    due = time.time_ns() // 1_000_000 + 1000
    jobs = [a_job_of(site, gateway) for _ in range(20)]
    for job in jobs:
        said = [("fb-not-before", str(due).encode())]
        await put(site.settings, topic, encode_job(job), key=job["request_id"].encode(), headers=said)
    replies = [await reply_to(site, gateway, job["request_id"], 20) for job in jobs]
    assert {reply["outcome"] for reply in replies} == {"COMPLETED"}
    assert all(reply["enqueued"] // 1000 >= due for reply in replies)
    by_time = sorted(replies, key=lambda reply: reply["enqueued"])
    assert [reply["enqueued"] for reply in replies] == [reply["enqueued"] for reply in by_time]


async def test_a_job_that_is_due_later_than_its_topic_can_say_waits_in_another(pair: Pair) -> None:
    site, gateway = pair.site, pair.gateway
    job = a_job_of(site, gateway)
    name, due = job["request_id"], time.time_ns() // 1_000_000 + 7000
    said = [("fb-not-before", str(due).encode())]
    await put(
        site.settings,
        topic_names.retries(site.namespace, APP, "200ms"),
        encode_job(job),
        key=name.encode(),
        headers=said,
    )
    reply = await reply_to(site, gateway, name, 20)
    assert reply["outcome"] == "COMPLETED"
    assert reply["enqueued"] // 1000 >= due
    others = [await records_of(site, topic_names.retries(site.namespace, APP, delay), name) for delay in ("1s", "5s")]
    assert any(others)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "it ends too early"),
        ({"tier": "no tier"}, "its tier is none of interactive, standard, bulk"),
        ({"reply_topic": "elsewhere"}, "its reply_topic is not a gateway's"),
    ],
)
async def test_what_cannot_be_brought_back_becomes_a_dead_letter(
    pair: Pair, changes: dict[str, Any], reason: str
) -> None:
    site, gateway = pair.site, pair.gateway
    job = a_job_of(site, gateway, **changes)
    value = encode_job(job)
    value, topic = (value if changes else value[:-20]), topic_names.retries(site.namespace, APP, "5m")
    offset = await put(site.settings, topic, value, key=job["request_id"].encode())
    dead = topic_names.dead(site.namespace, APP)
    [letter] = await until(lambda: records_of(site, dead, job["request_id"], 1), 20, "there is a dead letter")
    assert letter.value == value
    assert reason in (header(letter, "fb-error-detail") or "")
    assert header(letter, "fb-origin") == f"{topic}/0/{offset}"


async def test_a_job_that_its_queue_does_not_take_becomes_a_dead_letter_and_its_caller_is_told(pair: Pair) -> None:
    """Compressed, it is small enough for the retry topic."""
    site, gateway = pair.site, pair.gateway
    job = a_job_of(site, gateway, payload=bytes(20 * 1024 * 1024))
    topic, key = topic_names.retries(site.namespace, APP, "200ms"), job["request_id"].encode()
    async with RawProducer.connect(site.settings, [topic]) as producer:
        now = time.time_ns() // 1_000_000
        offset = await producer.produce(topic, 0, [RawRecord(key, encode_job(job), timestamp=now)], ZSTD)
    reply = await reply_to(site, gateway, job["request_id"], 20)
    assert reply["outcome"] == "FAILED"
    assert reply["problem"] is not None
    assert "is larger than" in (reply["problem"]["detail"] or "")

    async def letters() -> list[Record]:
        found = await read_all(site.settings, topic_names.dead(site.namespace, APP), 1)
        return [letter for letter in found if header(letter, "fb-origin") == f"{topic}/0/{offset}"]

    [letter] = await until(letters, 20, "there is a dead letter")
    assert letter.value is None, "it is too large for the dead letters, too"
    assert "its 20" in (header(letter, "fb-error-detail") or "")
    assert pair.processor.process.poll() is None


async def test_what_waits_for_its_time_survives_the_processor_that_kept_it(site: Site) -> None:
    gateway, victim = site.pair()
    heir = await asyncio.to_thread(site.processor)
    due = time.time_ns() // 1_000_000 + 2000
    jobs = [a_job_of(site, gateway, seconds=60) for _ in range(30)]
    for number, job in enumerate(jobs):
        topic = topic_names.retries(site.namespace, APP, "5s")
        said = [("fb-not-before", str(due).encode())]
        value, key = encode_job(job), job["request_id"].encode()
        await put(site.settings, topic, value, key=key, headers=said, partition=number % 3)
    victim.kill()
    replies = topic_names.replies(site.namespace, gateway.instance)
    wanted = {job["request_id"] for job in jobs}

    async def all_replied() -> bool:
        return wanted <= {(record.key or b"").decode() for record in await read_all(site.settings, replies)}

    await until(all_replied, 30, "every job has run")
    answers = [record for record in await read_all(site.settings, replies) if (record.key or b"").decode() in wanted]
    for reply in (decode_reply(record.value or b"") for record in answers):
        assert reply["outcome"] == "COMPLETED"
        assert reply["enqueued"] // 1000 >= due
    assert heir.process.poll() is None


def test_a_rolling_upgrade_under_load_serves_its_new_operation_from_the_first_call_on(site: Site) -> None:
    """200 requests a second, a quarter of them of an operation that old processors, which still run, do not know.

    On two cores the slowest of them took 0.2 to 0.5 s, the median of the rest was 0.02 s, and their slowest 0.3 s. A
    machine so busy that one of the rest takes half a second itself adds to the new ones what it adds to that one.
    """
    gateway, first_old = site.pair()
    second_old = site.processor()
    with SteadyLoad(gateway.port) as load:
        load.call("on_loop", 150)
        first_new = site.start_processor("roundtrip_newer")
        wait_until(lambda: gateway.serves("brand_new"), 60, "the gateway serves it")
        load.call("brand_new", 50)
        first_new.wait_until_reading()
        second_new = site.processor("roundtrip_newer")
        for old in (first_old, second_old):
            old.terminate()
            assert old.exit_code() == 0
        answers = load.end()
    known, new = answers["on_loop"], answers["brand_new"]
    statuses = Counter(status for status, _ in (*known, *new))
    median = statistics.median(seconds for _, seconds in known)
    slowest_known, slowest = (max(seconds for _, seconds in calls) for calls in (known, new))
    print(f"known: {len(known)}, median {median:.3f} s, slowest {slowest_known:.3f} s")  # noqa: T201
    print(f"new: {len(new)}, slowest {slowest:.3f} s, {slowest - median:.3f} s above that median; {statuses}")  # noqa: T201
    assert set(statuses) == {200}, statuses
    assert len(new) > 50
    assert slowest < 1.0 + (median if slowest_known < 0.5 else slowest_known)
    assert second_new.process.poll() is None
    assert not asyncio.run(read_all(site.settings, topic_names.dead(site.namespace, APP))), "none is dead"
    handed_on = asyncio.run(read_all(site.settings, topic_names.retries(site.namespace, APP, "200ms"), 3))
    assert handed_on, "old processors got some of its jobs"
    assert max(headers.handed_on(record) for record in handed_on) <= 2, "each soon found one that knows it"
