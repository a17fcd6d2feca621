"""A reply topic that somebody removed stays removed, though the tests' Kafka creates what it is asked for."""

from __future__ import annotations

import asyncio

import httpx

from forebay.kafka import Admin
from forebay_schemas import topics as topic_names
from tests.support.services import Site
from tests.support.waiting import until


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
