"""Whatever anybody puts on the topics: every service stays up, nothing is stuck, and good calls are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from forebay.errors import CodecError
from forebay.kafka import PinnedConsumer, Record, header
from forebay.settings import TIERS, Settings
from forebay_processor.intake import JobReader
from forebay_schemas import topics as topic_names
from tests.support.hostile import records
from tests.support.raw import RawProducer, RawRecord
from tests.support.services import APP, Site
from tests.support.waiting import until
from tests.support.wire import read_all

EACH = 5000
"""Hostile records that each topic gets."""
BATCH = 50
PARTITIONS = 12
RETRY_PARTITIONS = 3


async def test_hostile_records_on_every_topic_hurt_nobody(site: Site) -> None:
    gateway, _ = site.pair()
    other = await asyncio.to_thread(site.processor)
    namespace = site.namespace
    queues = [topic_names.jobs(namespace, APP, tier) for tier in TIERS]
    retries = [topic_names.retries(namespace, APP, delay) for delay in topic_names.RETRY_DELAYS_MS]
    replies, catalog = topic_names.replies(namespace, gateway.instance), topic_names.catalog(namespace)
    topics = {
        **dict.fromkeys(queues, PARTITIONS),
        **dict.fromkeys(retries, RETRY_PARTITIONS),
        replies: 2,
        catalog: 1,
    }
    await _allow_any_timestamp(site.settings, topics)
    batches = _hostile_batches(namespace, gateway.instance)

    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as client,
        RawProducer.connect(site.settings, topics) as producer,
    ):
        over = asyncio.Event()
        calls = asyncio.create_task(_good_calls(client, over))
        for number, batch in enumerate(batches):
            for topic, partitions in topics.items():
                # a compacted topic takes no record without a key
                keyed = [replace(record, key=record.key or b"") for record in batch] if topic == catalog else batch
                await producer.produce(topic, number % partitions, keyed)
        for group, read in _groups(namespace, queues, retries):
            if group.endswith("interactive"):
                over.set()  # they would move its end on and on
                statuses = await calls
            await until(partial(_is_committed, site.settings, group, read), 150, f"{group} has committed all")
    assert len(statuses) > 20
    assert set(statuses) == {200}, "good calls are answered"
    assert gateway.is_ready()
    await asyncio.to_thread(site.processor, "latecomer")
    await until(lambda: asyncio.to_thread(gateway.serves, "shout"), 30, "the catalog is still followed")
    for service in (gateway, other):
        assert service.process.poll() is None
    for name, log in site.logs():
        assert "Traceback" not in log, name

    letters = await read_all(site.settings, topic_names.dead(namespace, APP))
    origins = {header(letter, "fb-origin") for letter in letters}
    for topic in (*queues, *retries):
        for record in await read_all(site.settings, topic, topics[topic]):
            reason = _why_not(JobReader(namespace), record)
            if reason is not None:
                assert f"{topic}/{record.partition}/{record.offset}" in origins, f"no dead letter of {reason}"
    for letter in letters:
        names = [name for name, _ in letter.headers]
        for name in ("fb-error-type", "fb-error-detail", "fb-origin"):
            assert names.count(name) == 1, "headers are replaced, never appended"
            assert header(letter, name), "each says why it is dead and where it stood"


def _hostile_batches(namespace: str, instance: str) -> list[list[RawRecord]]:
    batches: list[list[RawRecord]] = []

    @settings(max_examples=EACH // BATCH, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.lists(records(namespace, instance), min_size=BATCH, max_size=BATCH))
    def generate(batch: list[RawRecord]) -> None:
        batches.append(batch)

    generate()
    assert sum(map(len, batches)) >= EACH
    return batches


def _why_not(reader: JobReader, record: Record) -> str | None:
    """Why a record is no job; None where it is one."""
    try:
        reader.read(record)
    except CodecError as error:
        return str(error)
    return None


async def _good_calls(client: httpx.AsyncClient, over: asyncio.Event) -> list[int]:
    statuses = []
    while not over.is_set():
        statuses.append((await client.post("/v1/on_loop", json={"tag": "good"})).status_code)
        await asyncio.sleep(0.05)
    return statuses


def _groups(namespace: str, queues: list[str], retries: list[str]) -> Iterable[tuple[str, dict[str, int]]]:
    yield topic_names.retries_group(namespace, APP), dict.fromkeys(retries, RETRY_PARTITIONS)
    for tier, queue in zip(reversed(TIERS), reversed(queues), strict=True):
        yield topic_names.group(namespace, APP, tier), {queue: PARTITIONS}


async def _is_committed(settings: Settings, group: str, topics: dict[str, int]) -> bool:
    """Whether the group has committed the end of every partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    for topic, partitions in topics.items():
        consumer = PinnedConsumer(settings, "test", topic, range(partitions))
        await consumer.start()
        try:
            ends = await consumer.ends(10)
        finally:
            await consumer.stop()
        for partition, end in ends.items():
            found = committed.get(TopicPartition(topic, partition))
            if found is None or found.offset != end:
                return False
    return True


async def _allow_any_timestamp(settings: Settings, topics: Iterable[str]) -> None:
    """Kafka refuses timestamps of the future, unless a topic's setting is other than the default."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        for topic in topics:
            described: Any = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            kept = {entry[0]: entry[1] for entry in described[0].resources[0][4] if entry[0] in _KEPT}
            configs = {**kept, "message.timestamp.after.max.ms": str(2**63 - 1)}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    finally:
        await admin.close()


_KEPT = ("cleanup.policy", "retention.ms", "max.message.bytes")
