"""Asking a broker for records, by the topic's id.

aiokafka's request names the topic, and so goes on in one that was deleted and created again as if it were the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import aiokafka.protocol.fetch as aiokafka_fetch
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Schema

from forebay.kafka.wire.bytes import Cursor, unsigned_varint

_READ_COMMITTED = 1
_CONSUMER, _NO_SESSION, _LAST_EPOCH, _UNKNOWN = -1, 0, -1, -1
_HEAD = struct.Struct(">iiiibii")
_PARTITION = struct.Struct(">iiqiqib")
_PARTITION_HEAD = struct.Struct(">ihqqqB")
_PREFERRED_REPLICA_BYTES = 4
_NONE = 1
"""The greatest first byte of an array that is null or empty."""


class Wanted(NamedTuple):
    """What is asked for of a partition: from which offset on, and how many bytes at the most."""

    partition: int
    offset: int
    most_bytes: int


class Answer(NamedTuple):
    """What a broker answers of a partition.

    Attributes:
        topic: the id that it was asked for by, or its name.
        partition: its number.
        code: an error code, or 0.
        aborted: producer id and first offset of each aborted transaction among the records.
        content: batches of records.
    """

    topic: bytes | str
    partition: int
    code: int
    aborted: Sequence[tuple[int, int]]
    content: bytes


class _Response(Response):  # type: ignore[misc] # aiokafka has no types
    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema()

    code: int
    answers: list[Answer]

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> _Response:
        response = cls()
        response.code, response.answers = _parse(Cursor(data if isinstance(data, bytes) else data.read()))
        return response


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema()

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self._encoded = encoded

    def encode(self) -> bytes:
        return self._encoded


class FetchRequest:
    """Asks for records of some partitions, up to the last stable offset.

    Args:
        wanted: what of which partition, by topic.
        ids: of the topics, by their names; where one is missing or None, they are asked for by name.
        wait: seconds that the broker may keep the request while it has nothing.
        most_bytes: of the response, unless its first batch has more.
    """

    def __init__(
        self,
        wanted: Mapping[str, Sequence[Wanted]],
        ids: Mapping[str, bytes | None],
        *,
        wait: float,
        most_bytes: int,
    ) -> None:
        self._wanted = wanted
        self._by_id = {topic_id: wanted[topic] for topic in wanted if (topic_id := ids.get(topic)) is not None}
        self._wait = int(wait * 1000)
        self._most_bytes = most_bytes

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Return the request in the version that suits a broker that has these."""
        if len(self._by_id) == len(self._wanted) and versions[_Request.API_KEY][1] >= _Request.API_VERSION:
            return _Request(self._encode())
        topics = [(topic, [tuple(one) for one in some]) for topic, some in self._wanted.items()]
        return aiokafka_fetch.FetchRequest(self._wait, 1, self._most_bytes, _READ_COMMITTED, topics).prepare(versions)

    def _encode(self) -> bytes:
        parts = [
            _HEAD.pack(_CONSUMER, self._wait, 1, self._most_bytes, _READ_COMMITTED, _NO_SESSION, _LAST_EPOCH),
            unsigned_varint(len(self._by_id) + 1),
        ]
        for topic_id, wanted in self._by_id.items():
            parts += (topic_id, unsigned_varint(len(wanted) + 1))
            parts += (
                _PARTITION.pack(one.partition, _UNKNOWN, one.offset, _UNKNOWN, _UNKNOWN, one.most_bytes, 0)
                for one in wanted
            )
            parts.append(b"\0")  # no tagged fields
        parts.append(b"\1\1\0")  # no topics to forget, no rack, no tagged fields
        return b"".join(parts)


def answers_of(response: Any) -> tuple[int, list[Answer]]:
    """Return what a response to a `FetchRequest` says: an error code of all of it, and of each partition."""
    if isinstance(response, _Response):
        return response.code, response.answers
    answers = []
    aborted_place = 4 if response.API_VERSION == 4 else 5
    for topic, partitions in response.topics:
        for answer in partitions:
            answers.append(Answer(topic, answer[0], answer[1], answer[aborted_place] or (), answer[-1] or b""))
    return getattr(response, "error_code", 0), answers


def _parse(cursor: Cursor) -> tuple[int, list[Answer]]:
    cursor.int32()  # throttle time
    code = cursor.int16()
    cursor.int32()  # session
    answers = []
    for _ in cursor.count():
        topic_id = cursor.raw(16)
        for _ in cursor.count():
            partition, partition_code, *_, transactions = cursor.unpack(_PARTITION_HEAD)
            aborted: Sequence[tuple[int, int]] = ()
            if transactions > _NONE:  # nearly always there are none, and this is the hot path
                cursor.position -= 1
                aborted = [_aborted(cursor) for _ in cursor.count()]
            cursor.position += _PREFERRED_REPLICA_BYTES
            content = cursor.compact_bytes()
            cursor.skip_tags()
            answers.append(Answer(topic_id, partition, partition_code, aborted, content))
        cursor.skip_tags()
    return code, answers


def _aborted(cursor: Cursor) -> tuple[int, int]:
    transaction = cursor.int64(), cursor.int64()
    cursor.skip_tags()
    return transaction
