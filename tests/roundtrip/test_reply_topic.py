"""A reply topic that is deleted under its gateway is created again, and readiness tells the truth meanwhile."""

from __future__ import annotations

import asyncio

import httpx

from forebay.kafka import Admin
from forebay_schemas import topics as topic_names
from tests.support.services import Site
from tests.support.waiting import until, wait_until


async def test_a_reply_topic_that_is_deleted_is_created_again(site: Site) -> None:
    gateway, _ = await asyncio.to_thread(site.pair)
    topic = topic_names.replies(site.namespace, gateway.instance)

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
            return await client.post("/v1/on_loop", json={"tag": "x"})

    async def is_answered() -> bool:
        return (await call()).status_code == 200

    def reason() -> str | None:
        response = httpx.get(f"{gateway.admin_url}/health/ready", timeout=20)
        return None if response.status_code == 200 else str(response.json()["reason"])

    assert (await call()).status_code == 200
    for times in range(2):

        def told(before: int = times) -> str | None:
            """Why it is not ready; whoever does not look meanwhile reads in the log that it was not."""
            return reason() or (topic if gateway.output.count("replies are read again") > before else None)

        async with Admin.connect(site.settings) as admin:
            await admin.delete(topic)
        why = await asyncio.to_thread(wait_until, told, 30, "the gateway is not ready")
        assert topic in why or "name" in why
        await asyncio.to_thread(gateway.wait_until_ready)
        await until(is_answered, 30, "calls are answered again")
    async with Admin.connect(site.settings) as admin:
        [found] = (await admin.describe([topic])).values()
    assert found.partitions == 2
    assert "Traceback" not in gateway.output
