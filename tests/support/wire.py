"""What is on the topics, as a test sees it, and what a test puts there by hand."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from forebay.kafka import Headers, PinnedConsumer, Record
from forebay.messages import JobMessage, ReplyMessage, decode_reply
from forebay.settings import Settings
from forebay_schemas import topics as topic_names


async def read_all(settings: Settings, topic: str, partitions: int = 1) -> list[Record]:
    """Everything that a topic holds now."""
    consumer = PinnedConsumer(settings, "test", topic, range(partitions))
    try:
        await consumer.start()
        ends = await consumer.ends(10)
        records: list[Record] = []
        while _is_behind(consumer.positions(), ends):
            records += await consumer.fetch(0.5)
        return records
    finally:
        await consumer.stop()


async def ends(settings: Settings, topic: str, partitions: int) -> Mapping[int, int]:
    """The offset at which each partition of a topic ends."""
    consumer = PinnedConsumer(settings, "test", topic, range(partitions))
    try:
        await consumer.start()
        return await consumer.ends(10)
    finally:
        await consumer.stop()


def _is_behind(positions: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    """Whether something is left to read; what was produced since we asked for the ends may have been read already."""
    return any(positions[partition] < end for partition, end in ends.items())


async def replies_to(settings: Settings, instance: str, request_id: str) -> list[ReplyMessage]:
    """The replies to one request, in order."""
    records = await read_all(settings, topic_names.replies(settings.namespace, instance))
    return [decode_reply(record.value or b"") for record in records if record.key == request_id.encode()]


async def put(
    settings: Settings,
    topic: str,
    value: bytes | None,
    *,
    key: bytes,
    headers: Headers = (),
    partition: int = 0,
    timestamp_ms: int | None = None,
) -> int:
    """Produce one record, whatever it is; returns its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers)
    await producer.start()
    try:
        sent = await producer.send_and_wait(
            topic, value, key=key, headers=list(headers), partition=partition, timestamp_ms=timestamp_ms
        )
        return int(sent.offset)
    finally:
        await producer.stop()


async def committed(settings: Settings, app: str, tier: str) -> dict[int, int]:
    """The offset that the group of an app's tier has committed, by partition; those without one are left out."""
    client = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await client.start()
    try:
        found = await client.list_consumer_group_offsets(topic_names.group(settings.namespace, app, tier))
    finally:
        await client.close()
    return {partition.partition: entry.offset for partition, entry in found.items() if entry.offset >= 0}


def a_job(settings: Settings, operation: str, tier: str, payload: bytes, schema: bytes | None) -> JobMessage:
    """A job such as a gateway makes, that the instance named in ``settings`` asks for."""
    now = time.time_ns() // 1_000_000
    return JobMessage(
        request_id=f"{settings.instance}-{uuid.uuid4()}",
        operation=operation,
        tenant="default",
        tier=tier,
        content_type="application/json",
        payload=payload,
        payload_schema=schema,
        reply_topic=topic_names.replies(settings.namespace, settings.instance),
        reply_partition=topic_names.HELD_PARTITION,
        created_at=now,
        deadline=now + 30_000,
        ordering_key=None,
        idempotency_key=None,
    )
