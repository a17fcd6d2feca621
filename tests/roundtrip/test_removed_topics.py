"""Topics that somebody removed: a reply topic stays removed, though the tests' Kafka creates what it is asked for.

Those that an app needs, to keep a dead letter or to hand a job on, are created again.
"""

from __future__ import annotations

import asyncio

import httpx

from forebay.kafka import Admin
from forebay.messages import encode_job
from forebay_schemas import topics as topic_names
from tests.support.services import APP, Site
from tests.support.waiting import until
from tests.support.wire import a_job, put, read_all, replies_to


async def test_replies_to_a_gateway_that_is_gone_do_not_bring_its_topic_back(site: Site) -> None:
    gateway, _ = await asyncio.to_thread(site.pair)
    replies = topic_names.replies(site.namespace, gateway.instance)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client, Admin.connect(site.settings) as admin:
        held = asyncio.create_task(client.post("/v1/on_loop", json={"tag": "orphan", "seconds": 3}))
        await until(lambda: site.times_run("on_loop")["orphan"], 20, "the handler is running")
        gateway.kill()
        await asyncio.gather(held, return_exceptions=True)
        await admin.delete(replies)
        await until(lambda: site.runs("on_loop", "end"), 20, "the handler is done")

        other = await asyncio.to_thread(site.gateway)
        for operation in ("on_loop", "in_thread"):
            answer = await asyncio.to_thread(
                httpx.post, f"{other.url}/v1/{operation}", json={"tag": "after", "seconds": 0}, timeout=60
            )
            assert answer.status_code == 200
        assert replies not in await admin.names()

        again = await asyncio.to_thread(lambda: site.gateway(FOREBAY_INSTANCE=gateway.instance))
        answer = await asyncio.to_thread(
            httpx.post, f"{again.url}/v1/on_loop", json={"tag": "again", "seconds": 0}, timeout=60
        )
        assert answer.status_code == 200


async def test_what_a_processor_has_to_keep_or_to_hand_on_waits_for_its_topic_to_be_created_again(site: Site) -> None:
    gateway, processor = await asyncio.to_thread(site.pair)
    dead, retries = topic_names.dead(site.namespace, APP), topic_names.retries(site.namespace, APP, "200ms")
    queue = topic_names.jobs(site.namespace, APP, "interactive")
    job = a_job(site.settings, "unheard-of", "interactive", b"", None)
    job["request_id"] = job["request_id"].replace(site.settings.instance, gateway.instance)
    job["reply_topic"] = topic_names.replies(site.namespace, gateway.instance)
    job["deadline"] = job["created_at"] + 12_000
    async with Admin.connect(site.settings) as admin:
        await admin.delete(dead)
        await admin.delete(retries)
        await until(lambda: _are_gone(admin, dead, retries), 20, "the broker takes nothing for them any more")
        await put(site.settings, queue, b"noise", key=b"noise")
        await put(site.settings, queue, encode_job(job), key=job["request_id"].encode())
        [reply] = await until(
            lambda: replies_to(site.settings, gateway.instance, job["request_id"]), 30, "nobody knows the operation"
        )
        assert reply["problem"] is not None
        assert reply["problem"]["type"] == "no-processor"
        await until(lambda: _are_there(admin, dead, retries), 20, "the topics are there again")
    [letter] = await until(lambda: read_all(site.settings, dead), 20, "the dead letter is kept")
    assert letter.value == b"noise"
    assert await read_all(site.settings, retries, 3), "the job was handed on"
    assert processor.process.poll() is None


async def _are_gone(admin: Admin, *topics: str) -> bool:
    return not set(topics) & set(await admin.names())


async def _are_there(admin: Admin, *topics: str) -> bool:
    return set(topics) <= set(await admin.names())
