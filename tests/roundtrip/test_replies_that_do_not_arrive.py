"""Replies that are large, refused or have nowhere to go: none holds up anything, and none is lost in silence."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import httpx

from forebay.kafka import Admin
from forebay.messages import JobMessage, encode_job
from forebay_schemas import topics as topic_names
from tests.roundtrip.conftest import Pair
from tests.support.access import AUTHORIZER, TOPIC, WRITE, deny
from tests.support.brokers import a_broker
from tests.support.services import APP, Site
from tests.support.waiting import until
from tests.support.wire import a_job, committed, put, read_all

TIER = "interactive"
LARGE = 8 * 1024 * 1024 - 64 * 1024
"""Bytes of a result that fills a message, nearly."""


async def test_large_results_from_all_slots_at_once_are_all_delivered(site: Site) -> None:
    gateway, _ = await asyncio.to_thread(site.pair)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=120) as client:
        calls = [client.post("/v1/swell", content=str(LARGE).encode(), headers=TEXT) for _ in range(16)]
        responses = await asyncio.gather(*calls)
    assert [response.status_code for response in responses] == [200] * 16
    assert {len(response.content) for response in responses} == {LARGE}
    await until(lambda: _all_is_committed(site), 30, "all of it is committed")


TEXT = {"content-type": "text/plain"}
IMAGE = {"content-type": "image/png"}


async def _all_is_committed(site: Site) -> bool:
    topic = topic_names.jobs(site.namespace, APP, TIER)
    records = await read_all(site.settings, topic, 12)
    found = await committed(site.settings, APP, TIER)
    ends = dict.fromkeys(range(12), 0)
    for record in records:
        ends[record.partition] = record.offset + 1
    return found == ends


def _a_job_for(site: Site, instance: str) -> JobMessage:
    job = a_job(site.settings, "turn_round", TIER, b"abc", None)
    job["request_id"] = f"{instance}-{uuid.uuid4()}"
    job["reply_topic"] = topic_names.replies(site.namespace, instance)
    return job


async def test_replies_to_a_topic_that_is_deleted_while_it_is_in_use_are_given_up_soon(pair: Pair) -> None:
    site, instance = pair.site, f"former-{uuid.uuid4().hex[:6]}"
    replies = topic_names.replies(site.namespace, instance)
    jobs = topic_names.jobs(site.namespace, APP, TIER)
    async with Admin.connect(site.settings) as admin:
        await admin.create(replies, 2, -1, {})
        await until(lambda: admin.describe([replies]), 20, "the topic exists")
        job = _a_job_for(site, instance)
        await put(site.settings, jobs, encode_job(job), key=job["request_id"].encode())
        await until(lambda: read_all(site.settings, replies), 20, "the first reply arrives")
        await admin.delete(replies)
    begun = time.monotonic()
    for _ in range(20):
        job = _a_job_for(site, instance)
        offset = await put(site.settings, jobs, encode_job(job), key=job["request_id"].encode())

    async def is_settled() -> bool:
        return (await committed(site.settings, APP, TIER)).get(0, 0) > offset

    await until(is_settled, 30, "their jobs are done with")
    print(f"given up after {time.monotonic() - begun:.1f} s")  # noqa: T201
    assert replies in pair.processor.output
    assert pair.processor.process.poll() is None


async def test_replies_that_their_topic_refuses_are_given_up_and_others_arrive(
    pair: Pair, client: httpx.AsyncClient
) -> None:
    site, instance = pair.site, f"refusing-{uuid.uuid4().hex[:6]}"
    replies = topic_names.replies(site.namespace, instance)
    jobs = topic_names.jobs(site.namespace, APP, TIER)
    async with Admin.connect(site.settings) as admin:
        await admin.create(replies, 2, -1, {"message.timestamp.before.max.ms": "0"})
        await until(lambda: admin.describe([replies]), 20, "the topic exists")
    for _ in range(3):
        job = _a_job_for(site, instance)
        offset = await put(site.settings, jobs, encode_job(job), key=job["request_id"].encode())

    async def is_settled() -> bool:
        return (await committed(site.settings, APP, TIER)).get(0, 0) > offset

    await until(is_settled, 30, "their jobs are done with")
    assert f"replies to {replies} cannot be delivered" in pair.processor.output
    assert pair.processor.process.poll() is None
    assert (await client.post("/v1/turn_round", content=b"abc", headers=IMAGE)).status_code == 200


async def test_a_reply_that_access_rules_forbid_ends_the_processor_with_a_sentence(
    tmp_path: Path, namespace: str
) -> None:
    with a_broker(tmp_path / "broker", **AUTHORIZER) as broker:
        await asyncio.to_thread(broker.start)
        site = Site(broker.bootstrap_servers, namespace, tmp_path)
        try:
            processor = await asyncio.to_thread(site.processor)
            replies, jobs = topic_names.replies(namespace, "other"), topic_names.jobs(namespace, APP, TIER)
            async with Admin.connect(site.settings) as admin:
                await admin.create(replies, 2, -1, {})
                await until(lambda: admin.describe([replies]), 20, "the topic exists")
            await deny(broker.bootstrap_servers, TOPIC, replies, WRITE)

            async def has_ended() -> bool:
                """Ask again and again: the rule holds some time after it was made."""
                job = _a_job_for(site, "other")
                await put(site.settings, jobs, encode_job(job), key=job["request_id"].encode())
                await asyncio.sleep(0.5)
                return processor.process.poll() is not None

            await until(has_ended, 60, "the processor ends")
            code = processor.exit_code()
            assert code != 0
            [sentence] = [line for line in processor.output.splitlines() if line.startswith("forebay: ")]
            assert f"topic {replies}" in sentence
            assert "access rule" in sentence
            assert "Traceback" not in processor.output
            asked = len(await read_all(site.settings, jobs))
            found = await committed(site.settings, APP, TIER)
            assert found.get(0, 0) < asked, "what could not be answered is left to others"
        finally:
            site.close()
