"""Building batches of records: what a producer sends.

aiokafka's compiled builder does it. Header names that are not UTF-8, which records may have that are passed on as they
came, go through its other one, written in Python.
"""

from __future__ import annotations

import struct
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

from forebay.kafka.records import NAME_ERRORS

_MAGIC = 2
_NO_COMPRESSION = 0
_ATTRIBUTES_PLACE, _CRC_PLACE, _IDENTITY_PLACE = 21, 17, 43
_IDENTITY = struct.Struct(">qhi")
_CRC = struct.Struct(">I")


class _RawName(str):
    """A header's name whose bytes are not those of its text."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - str's signature
        return super().encode("utf-8", NAME_ERRORS)


class BatchBuilder:
    """One batch, as long as records are added to it.

    Args:
        most_bytes: of the batch, unless its first record has more.
    """

    __slots__ = ("_builder", "_most_bytes", "count")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._builder: Any = _builder(DefaultRecordBatchBuilder, most_bytes)
        self.count = 0

    def add(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> bool:
        """Add a record, unless the batch is full: then return False."""
        try:
            added = self._builder.append(self.count, None, key, value, headers)
        except UnicodeEncodeError:
            if self.count:
                return False
            self._builder = _builder(_DefaultRecordBatchBuilderPy, self._most_bytes)
            added = self._builder.append(0, None, key, value, [(_RawName(name), content) for name, content in headers])
        if added is None:
            return False
        self.count += 1
        return True

    def build(self, producer: int, epoch: int, sequence: int) -> bytes:
        """Return the batch, numbered as the producer's next one; to be called once."""
        builder = self._builder
        if isinstance(builder, DefaultRecordBatchBuilder):
            builder.set_producer_state(producer, epoch, sequence)
            return bytes(builder.build())
        return renumbered(bytes(builder.build()), producer, epoch, sequence)


def _builder(kind: Any, most_bytes: int) -> Any:
    return kind(
        magic=_MAGIC,
        compression_type=_NO_COMPRESSION,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=most_bytes,
    )


def renumbered(batch: bytes, producer: int, epoch: int, sequence: int) -> bytes:
    """Return a batch with another number, as that of another producer."""
    changed = bytearray(batch)
    _IDENTITY.pack_into(changed, _IDENTITY_PLACE, producer, epoch, sequence)
    _CRC.pack_into(changed, _CRC_PLACE, calc_crc32c(bytes(changed[_ATTRIBUTES_PLACE:])))
    return bytes(changed)
