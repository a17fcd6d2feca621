"""Produces records that no client library would: any bytes as a header's name, null values, any timestamp."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import cramjam
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from forebay.settings import Settings


@dataclass(frozen=True)
class RawRecord:
    """A record as the protocol knows it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp: int = -1


def _varint(number: int) -> bytes:
    number = ((number << 1) ^ (number >> 63)) & 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


ZSTD = 4


def batch_of(records: Sequence[RawRecord], codec: int = 0) -> bytes:
    """Encode records as a batch of the protocol's second version; by hand, so that nothing is checked.

    They are compressed where the codec is that of zstd.
    """
    first = records[0].timestamp
    body = bytearray()
    for number, record in enumerate(records):
        content = b"\0" + _varint(record.timestamp - first) + _varint(number) + _text(record.key) + _text(record.value)
        content += _varint(len(record.headers))
        for name, value in record.headers:
            content += _text(name) + _text(value)
        body += _varint(len(content)) + content
    latest = max(record.timestamp for record in records)
    if codec == ZSTD:
        body = bytearray(cramjam.zstd.compress(bytes(body)))
    rest = struct.pack(">hiqqqhii", codec, len(records) - 1, first, latest, -1, -1, -1, len(records)) + body
    head = struct.pack(">qii", 0, len(rest) + 9, -1) + b"\2"
    return head + struct.pack(">I", calc_crc32c(bytes(rest))) + rest


class RawProducer:
    """Sends batches to the leaders of partitions."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings, topics: Iterable[str]) -> Any:
        """Connect for the length of a block."""
        client = AIOKafkaClient(bootstrap_servers=settings.brokers)
        await client.bootstrap()
        await client.set_topics(list(topics))
        try:
            yield cls(client)
        finally:
            await client.close()

    async def produce(self: Self, topic: str, partition: int, records: Sequence[RawRecord], codec: int = 0) -> int:
        """Produce records in one batch; returns the offset of the first."""
        leader = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch_of(records, codec))])])
        response = await self._client.send(leader, request)
        [(_, [answer])] = response.topics
        assert answer[1] == 0, f"{topic}/{partition}: error {answer[1]}"
        return int(answer[2])
