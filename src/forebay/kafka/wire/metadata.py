"""Asking for metadata: where the brokers are, what partitions a topic has, who leads them, and the topic's id.

aiokafka's request knows no topic ids, without which a topic that was deleted and created again looks like the one
before; and it lets a cluster create the topics that it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiokafka.protocol.metadata as aiokafka_metadata
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Schema

from forebay.kafka.wire.bytes import Cursor, compact_string, unsigned_varint

NO_LEADER = -1
_NO_ID = bytes(16)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the cluster has it.

    Attributes:
        id: tells it from others of the same name, before and after; None where the cluster knows no ids.
        leaders: the node that leads each partition, in their order; `NO_LEADER` where there is none just now.
        replicas: how many copies each partition has, in their order.
    """

    id: bytes | None
    leaders: tuple[int, ...]
    replicas: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a broker answers.

    Attributes:
        brokers: host and port of each node.
        controller: the node to ask for changes.
        topics: those that exist.
        errors: the error code of each topic that was asked for and is not among them.
    """

    brokers: dict[int, tuple[str, int]]
    controller: int
    topics: dict[str, Topic] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


class _Response(Response):  # type: ignore[misc] # aiokafka has no types
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema()

    metadata: Metadata

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> _Response:
        response = cls()
        response.metadata = _parse(Cursor(data if isinstance(data, bytes) else data.read()))
        return response


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema()

    def __init__(self, topics: Sequence[str] | None) -> None:
        super().__init__()
        self._topics = topics

    def encode(self) -> bytes:
        if self._topics is None:
            topics = unsigned_varint(0)
        else:
            topics = unsigned_varint(len(self._topics) + 1)
            topics += b"".join(_NO_ID + compact_string(name) + b"\0" for name in self._topics)
        return topics + b"\0\0\0" + b"\0"  # create nothing, tell of no access rights; no tagged fields


class MetadataRequest:
    """Asks for topics without creating any.

    Args:
        topics: their names; None for all there are.
    """

    def __init__(self, topics: Sequence[str] | None) -> None:
        self._topics = topics

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Return the request in the version that suits a broker that has these."""
        if versions[_Request.API_KEY][1] >= _Request.API_VERSION:
            return _Request(self._topics)
        topics = None if self._topics is None else list(self._topics)
        return aiokafka_metadata.MetadataRequest(topics, allow_auto_topic_creation=False).prepare(versions)


def metadata_of(response: Any) -> Metadata:
    """Return what a response to a `MetadataRequest` says."""
    if isinstance(response, _Response):
        return response.metadata
    topics: dict[str, Topic] = {}
    errors: dict[str, int] = {}
    for code, name, _internal, partitions in response.topics:
        if code:
            errors[name] = code
        else:
            placed = sorted((partition[1], partition[2], len(partition[3])) for partition in partitions)
            topics[name] = Topic(None, tuple(p[1] for p in placed), tuple(p[2] for p in placed))
    brokers = {node: (host, port) for node, host, port, _rack in response.brokers}
    return Metadata(brokers, response.controller_id, topics, errors)


def _parse(cursor: Cursor) -> Metadata:
    cursor.int32()  # throttle time
    brokers: dict[int, tuple[str, int]] = {}
    for _ in cursor.count():
        node = cursor.int32()
        brokers[node] = (cursor.compact_string(), cursor.int32())
        cursor.compact_string()  # rack
        cursor.skip_tags()
    cursor.compact_string()  # cluster id
    metadata = Metadata(brokers, cursor.int32())
    for _ in cursor.count():
        code = cursor.int16()
        name = cursor.compact_string()
        topic_id = cursor.raw(16)
        cursor.boolean()  # whether it is internal
        placed = sorted(_partition(cursor) for _ in cursor.count())
        cursor.int32()  # access rights
        cursor.skip_tags()
        if code:
            metadata.errors[name] = code
        else:
            leaders = tuple(leader for _, leader, _ in placed)
            replicas = tuple(count for _, _, count in placed)
            metadata.topics[name] = Topic(None if topic_id == _NO_ID else topic_id, leaders, replicas)
    return metadata


def _partition(cursor: Cursor) -> tuple[int, int, int]:
    """Read a partition: its number, its leader, and how many replicas it has."""
    cursor.int16()  # its error, which the leader tells of too
    number, leader = cursor.int32(), cursor.int32()
    cursor.int32()  # leader epoch
    counts = []
    for _ in range(3):  # replicas, those in sync, those offline
        nodes = cursor.count()
        cursor.raw(4 * len(nodes))
        counts.append(len(nodes))
    cursor.skip_tags()
    return number, leader, counts[0]
