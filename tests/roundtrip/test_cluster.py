"""One node of three fails or restarts, under load: callers get honest answers, and the new leaders are soon in use."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from forebay.errors import BrokerError, DeliveryExpired
from forebay.kafka import Admin, Link, PinnedConsumer, Producer
from forebay.settings import load_settings
from forebay_broker import EmbeddedBroker, EmbeddedCluster
from forebay_schemas import topics as topic_names
from tests.support.load import Load
from tests.support.services import Site
from tests.support.waiting import until

RATE = 50
"""Calls a second."""

DEADLINES = {"brief_on_loop": 1.0, "on_loop": 30.0}
"""The operations that are called, and their deadlines in seconds."""

LATE = 5.0
"""Seconds beyond its deadline after which an answer would count as a hang, on a busy machine."""

IN_USE_WITHIN = 10.0
"""Seconds from the election of new leaders until every call is answered."""

_BETWEEN_LOOKS = 0.2
"""Seconds between two looks at the partitions, which must not keep the process from making its calls."""

STEADY = 2.0
"""Seconds of nothing but answers after which the site counts as recovered."""


class Partitions:
    """Who leads the partitions that a site's calls need, as nodes say that are not away."""

    def __init__(self, nodes: list[EmbeddedBroker], site: Site) -> None:
        self._servers = ",".join(node.bootstrap_servers for node in nodes)
        self._topics = [
            "__consumer_offsets",
            topic_names.jobs(site.namespace, "roundtrip", "interactive"),
            topic_names.replies(site.namespace, "gateway-0"),
        ]

    async def led_without(self, node: int) -> bool:
        """Whether every partition has a leader, and none of them is the node."""
        partitions = await self._described()
        return bool(partitions) and all(partition["leader"] not in (-1, node) for partition in partitions)

    async def in_sync(self, copies: int = 3) -> bool:
        """Whether every partition has so many copies that are up to date."""
        partitions = await self._described()
        return bool(partitions) and all(len(partition["isr"]) == copies for partition in partitions)

    async def _described(self) -> list[dict[str, Any]]:
        """What a node says of the partitions; nothing if the one that was asked does not answer."""
        await asyncio.sleep(_BETWEEN_LOOKS)
        client = AIOKafkaAdminClient(bootstrap_servers=self._servers, request_timeout_ms=2000)
        try:
            await client.start()
            described = await client.describe_topics(self._topics)
        except KafkaError:
            return []
        finally:
            await client.close()
        return [partition for topic in described for partition in topic["partitions"]]


@asynccontextmanager
async def loaded(site: Site) -> AsyncIterator[Load]:
    """A gateway and two processors under load, until the block ends; then every call was answered, and in time."""
    gateway, _ = await asyncio.to_thread(site.pair)
    await asyncio.to_thread(site.processor)
    load = Load(gateway.url, tuple(DEADLINES), RATE)
    async with load.running():
        yield load
    for call in load.calls:
        assert call.took < DEADLINES[call.operation] + LATE, call
        assert call.status in (200, 503, 504), call
    for name, text in site.logs():
        assert "Traceback" not in text, name


async def recovered(load: Load, since: float) -> float:
    """Wait until calls are all answered again; returns the seconds until the first of them."""

    def steady() -> float | None:
        answered = load.answered_since(since)
        return None if answered is None or time.monotonic() - answered < STEADY else answered

    try:
        answered = await until(steady, 60.0, "all calls are answered again")
    except AssertionError as error:
        raise AssertionError(f"{error}; the last: {load.calls[-RATE:]}; {load.under_way} wait") from None
    assert isinstance(answered, float)
    return answered - since


@pytest.mark.parametrize(("go_away", "come_back"), [("kill", "start"), ("pause", "resume")])
async def test_new_leaders_are_used_soon_after_a_node_fails(
    cluster: EmbeddedCluster, make_site: Callable[..., Site], go_away: str, come_back: str
) -> None:
    victim = 2
    node = cluster.nodes[victim - 1]
    site = make_site(cluster)
    others = Partitions([other for other in cluster.nodes if other is not node], site)
    async with loaded(site) as load:
        await recovered(load, time.monotonic())
        await asyncio.to_thread(getattr(node, go_away))
        try:
            await until(lambda: others.led_without(victim), 30.0, "other nodes lead its partitions")
            elected = time.monotonic()
            took = await recovered(load, elected)
        finally:
            await asyncio.to_thread(getattr(node, come_back))
        assert took < IN_USE_WITHIN
        await until(Partitions(cluster.nodes, site).in_sync, 30.0, "the node has caught up")
        assert await recovered(load, time.monotonic()) < IN_USE_WITHIN
    # what was accepted is done once the new leaders are there, long before these deadlines
    assert set(load.statuses("on_loop")) <= {200, 503}


async def test_a_rolling_restart_costs_few_calls(cluster: EmbeddedCluster, make_site: Callable[..., Site]) -> None:
    site = make_site(cluster)
    partitions = Partitions(cluster.nodes, site)
    async with loaded(site) as load:
        await recovered(load, time.monotonic())
        for node in cluster.nodes:
            await asyncio.to_thread(node.stop)
            await asyncio.to_thread(node.start)
            await until(partitions.in_sync, 30.0, "the node has caught up")
        assert await recovered(load, time.monotonic()) < IN_USE_WITHIN
    assert set(load.statuses("on_loop")) <= {200, 503}
    answered = load.statuses("on_loop")
    assert answered[200] > 0.8 * answered.total()


async def test_services_start_while_a_node_is_frozen(cluster: EmbeddedCluster, make_site: Callable[..., Site]) -> None:
    """The first of the addresses that they are given takes connections and never answers."""
    frozen = cluster.nodes[0]
    site = make_site(cluster)
    await asyncio.to_thread(frozen.pause)
    try:
        gateway, _ = await asyncio.to_thread(site.pair)
    finally:
        await asyncio.to_thread(frozen.resume)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        response = await client.post("/v1/on_loop", json={"tag": "a", "seconds": 0})
    assert response.status_code == 200


async def test_topics_are_of_use_before_every_node_has_heard_of_them(cluster: EmbeddedCluster, namespace: str) -> None:
    """A node that was frozen while they were made learns of them last, and is asked for them all the same."""
    settings = load_settings(bootstrap_servers=cluster.bootstrap_servers, namespace=namespace)
    producer = Producer(settings, "test")
    await producer.start()
    try:
        for number, node in enumerate(cluster.nodes * 2):
            name = f"{namespace}new.{number}"
            node.pause()
            try:
                async with Admin.connect(settings) as admin:
                    await admin.create(name, 3, -1, {})
            finally:
                node.resume()
            await asyncio.wait_for(producer.publish_and_wait(name, b"value", key=b"key"), 30)
            consumer = PinnedConsumer(settings, "test", name, range(3))
            await consumer.start()
            try:
                assert [record.value for record in await consumer.fetch(30.0)] == [b"value"]
            finally:
                await consumer.stop()
    finally:
        await producer.stop()


async def test_what_nobody_waits_for_is_given_up_while_its_partition_has_no_leader(
    cluster: EmbeddedCluster, namespace: str
) -> None:
    """It holds up nothing that goes elsewhere, and what may wait for longer arrives when the node is back."""
    settings = load_settings(bootstrap_servers=cluster.bootstrap_servers, namespace=namespace)
    single, copied = f"{namespace}single", f"{namespace}copied"
    link = Link(settings, "test")
    producer = Producer(settings, "test", link=link)
    await link.start()
    await producer.start()
    try:
        async with Admin.connect(settings) as admin:
            await admin.create(single, 1, 1, {})
            await admin.create(copied, 1, 3, {})
        for name in (single, copied):
            await asyncio.wait_for(producer.publish_and_wait(name, b"before", key=b"key", partition=0), 30)
        node = cluster.nodes[link.leader(single, 0) - 1]
        told: list[tuple[float, BrokerError | None]] = []

        def note(waits: float, error: BrokerError | None) -> None:
            told.append((waits, error))

        await asyncio.to_thread(node.kill)
        try:
            for waits in (0.5, 1000.0, math.inf):
                told_of = partial(note, waits)
                producer.publish(single, b"v", key=b"k", partition=0, within=waits, on_delivery=told_of)
                await asyncio.wait_for(producer.publish_and_wait(copied, b"meanwhile", key=b"key", partition=0), 30)
            await until(lambda: told, 60, "the record is given up")
            assert [(waits, type(error)) for waits, error in told] == [(0.5, DeliveryExpired)]

            def has_made_way() -> bool:
                producer.make_way(single, 0)
                return len(told) == 2

            await until(has_made_way, 60, "the record that would wait for long makes way")
            assert [(waits, type(error)) for waits, error in told[1:]] == [(1000.0, DeliveryExpired)]
        finally:
            await asyncio.to_thread(node.start)
        await until(lambda: len(told) == 3, 60, "the last record is acknowledged")
        assert told[2] == (math.inf, None)
    finally:
        await producer.stop()
        await link.stop()
