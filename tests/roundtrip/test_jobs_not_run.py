"""Jobs that are not run: those that nobody waits for any more, and records that cannot be read."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from forebay.kafka import Record, header
from forebay.messages import JobMessage, decode_job, encode_job
from forebay_schemas import topics as topic_names
from tests.roundtrip.conftest import Pair
from tests.support.services import APP, Site
from tests.support.waiting import until
from tests.support.wire import a_job, committed, put, read_all, replies_to


async def test_jobs_whose_deadline_has_passed_are_answered_and_not_run(site: Site) -> None:
    gateway, killed = site.pair(FOREBAY_PARTITIONS="1")
    killed.kill()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        # one that can still be run, between others that cannot
        operations = ["brief_in_bulk", "quick_in_bulk", "brief_in_bulk", "brief_in_bulk"]
        asked = []
        for number, operation in enumerate(operations):
            task = asyncio.create_task(client.post(f"/v1/{operation}", json={"tag": f"number {number}"}))
            await until(partial(_produced, site, number + 1), 20, "the job is in the topic")
            asked.append(task)
        live = asked.pop(1)
        responses = await asyncio.gather(*asked)
        assert [response.status_code for response in responses] == [504] * 3

        await asyncio.to_thread(site.processor, FOREBAY_PARTITIONS="1")
        assert (await live).status_code == 200
        await until(lambda: _everything_is_committed(site), 30, "the expired jobs are done with")
    for response in responses:
        [reply] = await replies_to(site.settings, gateway.instance, response.headers["forebay-request-id"])
        assert reply["outcome"] == "EXPIRED"
        assert reply["payload"] == b""
        assert reply["problem"] is not None
        assert reply["problem"]["type"] == "deadline-passed"
        assert reply["problem"]["detail"] == "it passed before the job was run"
    assert not site.runs("brief_in_bulk")
    await until(lambda: gateway.metric("forebay_late_replies_total") == 3, 20, "the gateway has got the replies, too")


async def _produced(site: Site, count: int) -> bool:
    return len(await read_all(site.settings, topic_names.jobs(site.namespace, APP, "bulk"))) == count


async def _everything_is_committed(site: Site) -> bool:
    end = len(await read_all(site.settings, topic_names.jobs(site.namespace, APP, "bulk")))
    return await committed(site.settings, APP, "bulk") == {0: end}


def truncated(job: bytes) -> bytes:
    return job[: len(job) // 2]


def garbage(_: bytes) -> bytes:
    return b"\x00\xffno Avro at all"


def of_another_schema(job: bytes) -> bytes:
    return job[:2] + b"\x01\x02\x03\x04\x05\x06\x07\x08" + job[10:]


def with_more_behind_it(job: bytes) -> bytes:
    return job + b"\x00"


def a_header_alone(job: bytes) -> bytes:
    return job[:10]


def nothing(_: bytes) -> bytes:
    return b""


def a_tombstone(_: bytes) -> None:
    return None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (garbage, "message starts with 00 FF, not with the single-object marker C3 01"),
        (truncated, "it ends too early"),
        (of_another_schema, "no known schema of forebay.Job has the fingerprint 0102030405060708"),
        (with_more_behind_it, "1 bytes are left over"),
        (a_header_alone, "it ends too early"),
        (nothing, "message of 0 bytes is truncated"),
        (a_tombstone, "message of 0 bytes is truncated"),
    ],
)
async def test_a_record_that_is_no_job_becomes_a_dead_letter_and_its_partition_goes_on(
    client: httpx.AsyncClient, pair: Pair, spoil: Callable[[bytes], bytes | None], reason: str
) -> None:
    value = spoil(encode_job(a_job(pair.site.settings, "on_loop", "interactive", b"", None)))
    letter = await _buried(pair, value)
    assert letter.value == value, "the original bytes"
    headers = dict(letter.headers)
    assert len(headers) == len(letter.headers), "headers are replaced, never appended"
    assert headers["fb-error-type"] == b"unreadable-job"
    assert reason in (header(letter, "fb-error-detail") or "")
    assert headers["mine"] == b"kept"
    await _every_partition_answers(client)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"deadline": 2**60}, "no instant of a date"),
        ({"reply_topic": "somebody.elses"}, "its reply_topic is not a gateway's: 'somebody.elses'"),
        ({"tenant": "t" * 1000}, "its operation or tenant is longer than 255 characters"),
        ({"request_id": "a\nb"}, "its request_id is none: 'a\\nb'"),
        ({"payload_schema": None}, "disagree on whether there is a schema"),
        ({"operation": "turn_round"}, "disagree on whether there is a schema"),
        ({"payload": b"\xff\xff"}, "does not fit the schema of roundtrip.Task"),
    ],
)
async def test_a_job_that_can_never_run_becomes_a_dead_letter_too(
    client: httpx.AsyncClient, pair: Pair, changed: dict[str, object], reason: str
) -> None:
    example = await client.post("/v1/on_loop", json={"tag": "example"})
    job = await _job_of(pair, example.headers["forebay-request-id"])
    name = job["request_id"] = f"{pair.gateway.instance}-{uuid.uuid4()}"
    job.update(changed)  # type: ignore[typeddict-item] # any field may be changed
    value = encode_job(job)
    letter = await _buried(pair, value, name)
    assert letter.value == value
    assert dict(letter.headers)["fb-error-type"] == b"unreadable-job"
    assert reason in (header(letter, "fb-error-detail") or "")
    [reply] = await until(lambda: replies_to(pair.site.settings, pair.gateway.instance, name), 20, "the caller is told")
    assert reply["outcome"] == "FAILED"
    assert reply["problem"] is not None
    assert reply["problem"]["type"] == "unreadable-job"
    await _every_partition_answers(client)


async def test_whoever_waits_for_a_record_that_cannot_be_read_is_told(client: httpx.AsyncClient, pair: Pair) -> None:
    held = asyncio.create_task(client.post("/v1/long_on_loop", json={"tag": "spoiled", "seconds": 100}))
    [run] = await until(
        lambda: [run for run in pair.site.runs("long_on_loop") if run.tag == "spoiled"], 20, "the handler is running"
    )
    await put(
        pair.site.settings, topic_names.jobs(pair.site.namespace, APP, "interactive"), b"spoiled", key=run.job.encode()
    )
    response = await held
    pair.site.let_end("spoiled")
    assert response.status_code == 500
    assert response.json()["type"] == "urn:forebay:problem:unreadable-job"
    assert "dead letters" in response.json()["detail"]


async def test_a_reply_whose_gateway_is_gone_holds_up_nobody(client: httpx.AsyncClient, pair: Pair) -> None:
    example = await client.post("/v1/on_loop", json={"tag": "example"})
    job = await _job_of(pair, example.headers["forebay-request-id"])
    topic = topic_names.jobs(pair.site.namespace, APP, "interactive")
    for _ in range(20):  # more than there are slots
        job["request_id"] = f"gone-{uuid.uuid4()}"
        job["reply_topic"] = topic_names.replies(pair.site.namespace, "gone")
        job["deadline"] += 60_000
        await put(pair.site.settings, topic, encode_job(job), key=job["request_id"].encode())
    async with asyncio.timeout(60):
        await _every_partition_answers(client)
    await until(
        lambda: "cannot be delivered, and their jobs are done with" in pair.processor.output, 30, "it is given up"
    )
    await until(lambda: _is_committed(pair, topic), 30, "and counts as done")


async def _is_committed(pair: Pair, topic: str) -> bool:
    end = len(await read_all(pair.site.settings, topic))
    return (await committed(pair.site.settings, APP, "interactive")).get(0) == end


async def _buried(pair: Pair, value: bytes | None, request_id: str | None = None) -> Record:
    """Put a record among the jobs, and return the dead letter that it has become."""
    topic = topic_names.jobs(pair.site.namespace, APP, "interactive")
    key = (request_id or f"nobody-{uuid.uuid4()}").encode()
    headers = [("mine", b"kept"), ("fb-origin", b"somewhere/else/0"), ("fb-error-type", b"old")]
    offset = await put(pair.site.settings, topic, value, key=key, headers=headers)

    async def letters() -> list[Record]:
        found = await read_all(pair.site.settings, topic_names.dead(pair.site.namespace, APP))
        return [record for record in found if record.key == key]

    [letter] = await until(letters, 20, "there is a dead letter")
    assert isinstance(letter.headers, tuple)
    assert dict(letter.headers)["fb-origin"] == f"{topic}/0/{offset}".encode()
    record: Record = letter
    return record


async def _job_of(pair: Pair, request_id: str) -> JobMessage:
    """The job that a gateway has made."""
    topic = topic_names.jobs(pair.site.namespace, APP, "interactive")
    [record] = [
        record
        for record in await read_all(pair.site.settings, topic, pair.site.settings.partitions)
        if record.key == request_id.encode()
    ]
    return decode_job(record.value or b"")


async def _every_partition_answers(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.post("/v1/on_loop", json={"tag": "next"}) for _ in range(60)))
    assert {response.status_code for response in responses} == {200}
