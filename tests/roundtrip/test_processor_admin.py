"""A processor's own port: whether it is ready, and its numbers."""

from __future__ import annotations

import asyncio
import re

import httpx

from forebay import topics
from forebay.kafka import Admin
from forebay_schemas import topics as topic_names
from tests.support.ports import free_ports
from tests.support.services import APP, Site
from tests.support.waiting import until
from tests.support.wire import put, read_all


async def test_health_and_metrics_of_a_processor_whose_topic_is_deleted(site: Site) -> None:
    gateway = await asyncio.to_thread(site.gateway)
    [port] = free_ports(1)
    processor = await asyncio.to_thread(site.processor, APP, "--admin-port", str(port))
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as admin,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        await until(lambda: _is_ready(admin), 30, "it is ready")
        assert (await admin.get("/health/live")).json() == {"status": "live"}
        assert (await admin.get("/nothing")).status_code == 404

        asked = {"tag": "held", "seconds": 100}
        held = [asyncio.create_task(client.post("/v1/long_on_loop", json=asked)) for _ in range(3)]
        await until(lambda: len(site.runs("long_on_loop")) == 3, 20, "the handlers are running")
        assert await _metric(admin, 'forebay_worker_slots_used{app="roundtrip",tier="bulk"}') == 3
        assert await _metric(admin, 'forebay_worker_slots_available{app="roundtrip"}') == 13
        site.let_end("held")
        expired = await client.post("/v1/brief_on_loop", json={"tag": "slow", "seconds": 60})
        assert expired.status_code == 504
        await until(lambda: _counts(admin, 'forebay_expired_total{app="roundtrip"}', 1), 20, "it is counted")
        await asyncio.gather(*held)

        bulk = topic_names.jobs(site.namespace, APP, "bulk")
        async with Admin.connect(site.settings) as kafka:
            await kafka.delete(bulk)
        await until(lambda: "the topics of bulk are gone" in processor.output, 30, "it has noticed")
        await until(lambda: _is_ready(admin), 30, "the topic is created again, and is read")
        response = await client.post("/v1/quick_in_bulk", json={"tag": "again"})
        assert response.status_code == 200
    assert processor.process.poll() is None


async def test_topics_that_cannot_be_created_again_are_told(site: Site) -> None:
    """The cluster has one node, and is asked for three copies."""
    await topics.ensure(site.settings, topics.of_processor(site.settings, APP))
    [port] = free_ports(1)
    flags = ("--admin-port", str(port))
    processor = await asyncio.to_thread(lambda: site.processor(APP, *flags, FOREBAY_REPLICATION_FACTOR="3"))
    dead, last = topic_names.dead(site.namespace, APP), topic_names.retries(site.namespace, APP, "5m")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as admin:
        await until(lambda: _is_ready(admin), 30, "it is ready")
        async with Admin.connect(site.settings) as kafka:
            await kafka.delete(dead)
            await until(lambda: _is_gone(kafka, dead), 20, "the broker takes nothing for it any more")
        await put(site.settings, topic_names.jobs(site.namespace, APP, "bulk"), b"noise", key=b"noise")
        gone = "the topics of dead letters are gone, and cannot be created again: "
        await until(lambda: _reason(admin, gone), 30, "readiness tells of the dead letter that waits")
        async with Admin.connect(site.settings) as kafka:
            await kafka.delete(last)
        await until(lambda: _reason(admin, "the topics of retries, dead letters are gone, "), 30, "and of the retries")
        assert processor.output.count("cannot be created again") == 1

        await topics.ensure(site.settings, topics.of_processor(site.settings, APP))
        await until(lambda: _is_ready(admin), 30, "somebody else has created them")
        assert len(await until(lambda: read_all(site.settings, dead), 20, "the dead letter is kept")) == 1
    await until(lambda: "the topics of dead letters are there again" in processor.output, 20, "it says so")
    assert processor.process.poll() is None


async def test_a_port_that_is_taken_is_one_sentence(site: Site) -> None:
    gateway = await asyncio.to_thread(site.gateway)
    refused = site.start_processor("latecomer", "--admin-port", str(gateway.admin_port))
    assert await asyncio.to_thread(refused.exit_code) == 2
    [sentence] = [line for line in refused.output.splitlines() if line.startswith("forebay: ")]
    assert f"--admin-port {gateway.admin_port}" in sentence
    assert "Traceback" not in refused.output


async def _is_gone(kafka: Admin, topic: str) -> bool:
    return topic not in await kafka.names()


async def _is_ready(admin: httpx.AsyncClient) -> bool:
    response = await admin.get("/health/ready")
    return response.status_code == 200 and response.json() == {"status": "ready"}


async def _reason(admin: httpx.AsyncClient, part: str) -> bool:
    response = await admin.get("/health/ready")
    return response.status_code == 503 and part in response.json()["reason"]


async def _metric(admin: httpx.AsyncClient, name: str) -> float | None:
    found = re.search(rf"^{re.escape(name)} (\S+)$", (await admin.get("/metrics")).text, re.MULTILINE)
    return float(found[1]) if found else None


async def _counts(admin: httpx.AsyncClient, name: str, count: float) -> bool:
    return await _metric(admin, name) == count
