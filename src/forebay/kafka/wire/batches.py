"""What a fetch brought of a partition: batches of records, checked and unpacked as they are taken.

aiokafka's compiled reader does the unpacking. Two things that anybody may produce it does not cope with, so they are
done here: records that decompress to more than fits in memory, and headers whose names are not UTF-8.

A batch with a wrong checksum was damaged on the way, and is asked for again. One whose checksum is right, and that
cannot be unpacked all the same, never will be: it is stepped over, and one record stands for what is lost of it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from forebay.errors import RecordsUnreadable
from forebay.kafka.records import LATEST_TIMESTAMP, NAME_ERRORS, Record
from forebay.kafka.wire.compression import CannotDecompress, decompress

log = logging.getLogger(__name__)

_LOG_OVERHEAD = struct.Struct(">qi")
_MAGIC_PLACE = 16
_HEADER = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES_PLACE = 21
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_ABORT_MARKER = 0


class _Header(NamedTuple):
    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta


class _BeyondBatch(ValueError):
    """A record has an offset beyond its batch's last: read on after it, what follows the batch would be lost."""

    def __init__(self, offset: int, last: int) -> None:
        super().__init__(f"a record of their batch has the offset {offset}, but the last of the batch is {last}")


class Fetched:
    """What a response brought of one partition, unpacked as it is taken.

    Args:
        topic: that was read.
        partition: of the topic.
        offset: of the first record that was asked for; its batch may begin earlier.
        content: the batches as the broker sent them.
        aborted: producer id and first offset of each transaction among them that was aborted; its records are left out.

    Attributes:
        position: offset of the record that is to be taken next.
        exhausted: whether there is nothing more.
    """

    __slots__ = ("_aborted", "_aborting", "_partition", "_records", "_topic", "exhausted", "position")

    def __init__(
        self, topic: str, partition: int, offset: int, content: bytes, aborted: Iterable[tuple[int, int]] = ()
    ) -> None:
        self.position = offset
        self.exhausted = False
        self._topic = topic
        self._partition = partition
        self._aborted = sorted(aborted, key=lambda transaction: transaction[1], reverse=True)
        self._aborting: set[int] = set()
        self._records = self._unpack(content)

    def take(self, limit: int | None, into: list[Record]) -> None:
        """Add records to a list until it holds ``limit``.

        Raises:
            RecordsUnreadable: the next batch is damaged; asked for again, it may not be.
        """
        for record in self._records:
            into.append(record)
            if limit is not None and len(into) >= limit:
                return
        self.exhausted = True

    def _unpack(self, content: bytes) -> Iterator[Record]:
        place, end = 0, len(content)
        while end - place >= _LOG_OVERHEAD.size:
            _, length = _LOG_OVERHEAD.unpack_from(content, place)
            after = place + _LOG_OVERHEAD.size + length
            if after > end:
                return  # a broker cuts the last batch where the response is full
            if length <= _MAGIC_PLACE - _LOG_OVERHEAD.size:
                raise self._unreadable(f"a batch of {length} bytes is none")
            batch = content[place:after]
            place = after
            if batch[_MAGIC_PLACE] < 2:
                yield from self._legacy(batch)
            else:
                yield from self._batch(batch)

    def _batch(self, batch: bytes) -> Iterator[Record]:
        if len(batch) < _HEADER.size:
            raise self._unreadable(f"a batch of {len(batch)} bytes is none")
        header = _Header._make(_HEADER.unpack_from(batch))
        reader = DefaultRecordBatch(batch)
        if not reader.validate_crc():
            raise self._unreadable("the checksum of the batch is wrong: it is corrupt")
        if not self._leaves_out(header, reader):
            codec = header.attributes & _CODEC
            if codec:
                try:
                    batch = _without_compression(batch, header, decompress(codec, batch[_HEADER.size :]))
                except CannotDecompress as error:
                    yield from self._step_over(header.last_offset, header.max_timestamp, str(error))
                    return
                except MemoryError as error:
                    raise self._unreadable("there is no memory to decompress them") from error
                reader = DefaultRecordBatch(batch)
            reason = ""
            try:
                try:
                    yield from self._convert(reader, header.last_offset)
                except (UnicodeDecodeError, CorruptRecordException):
                    yield from self._skip(self._read(batch, header))
            except _BeyondBatch as error:
                reason = str(error)
            except (IndexError, ValueError):
                reason = "a record of their batch does not end where it says"
            if reason:
                yield from self._step_over(header.last_offset, header.max_timestamp, reason)
        self.position = max(self.position, header.last_offset + 1)  # compaction may have taken its last records

    def _convert(self, reader: Any, last: int) -> Iterator[Record]:
        topic, partition = self._topic, self._partition
        for record in reader:
            offset = record.offset
            if offset > last:
                raise _BeyondBatch(offset, last)
            if offset >= self.position:
                timestamp = record.timestamp
                if not 0 <= timestamp <= LATEST_TIMESTAMP:
                    timestamp = _within_range(timestamp)
                self.position = offset + 1
                yield Record(topic, partition, offset, timestamp, record.key, record.value, tuple(record.headers))

    def _skip(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record.offset >= self.position:
                self.position = record.offset + 1
                yield record

    def _step_over(self, last: int, timestamp: int, reason: str) -> Iterator[Record]:
        """Go on after the last record of a batch that can never be read; return a record that says why."""
        offset = self.position
        if last < offset:
            return
        self.position = last + 1
        place = f"{self._topic}/{self._partition} from offset {offset} to {last}"
        reason = f"the records of {place} cannot be read, and never will be: {reason}"
        log.error("%s; they are stepped over", reason)
        yield Record(self._topic, self._partition, offset, _within_range(timestamp), None, None, (), reason)

    def _legacy(self, batch: bytes) -> Iterator[Record]:
        """Unpack what was written in a format of before Kafka 0.11, which compacted topics may still hold."""
        reader = LegacyRecordBatch(batch, batch[_MAGIC_PLACE])
        if not reader.validate_crc():
            raise self._unreadable("the checksum of the batch is wrong: it is corrupt")
        last, _ = _LOG_OVERHEAD.unpack_from(batch)
        try:
            for message in reader:
                if message.offset > last:
                    raise _BeyondBatch(message.offset, last)
                if message.offset >= self.position:
                    self.position = message.offset + 1
                    timestamp = _within_range(message.timestamp or 0)
                    place = (self._topic, self._partition, message.offset)
                    yield Record(*place, timestamp, message.key, message.value, ())
        except Exception as error:  # a codec's own errors, besides those of aiokafka
            yield from self._step_over(last, 0, str(error) or type(error).__name__)

    def _leaves_out(self, header: _Header, reader: Any) -> bool:
        """Whether no record of a batch is to be returned: it marks the end of a transaction, or was aborted."""
        while self._aborted and self._aborted[-1][1] <= header.last_offset:
            self._aborting.add(self._aborted.pop()[0])
        if header.attributes & _CONTROL:
            for marker in reader:
                if marker.key is not None and marker.key[2:4] == _ABORT_MARKER.to_bytes(2, "big"):
                    self._aborting.discard(header.producer_id)
            return True
        return bool(header.attributes & _TRANSACTIONAL) and header.producer_id in self._aborting

    def _read(self, batch: bytes, header: _Header) -> Iterator[Record]:
        """Unpack the records of a batch of which aiokafka refuses one.

        Raises:
            IndexError: one does not end where it says.
            ValueError: likewise.
            _BeyondBatch: one has an offset beyond the batch's last.
        """
        position = _HEADER.size
        for _ in range(header.records):
            size, position = _varint(batch, position)
            record = _record(batch[position : position + size])
            position += size
            if record.offset > header.last_offset_delta:
                raise _BeyondBatch(header.base_offset + record.offset, header.last_offset)
            timestamp = header.first_timestamp + record.timestamp
            if header.attributes & _LOG_APPEND_TIME:
                timestamp = header.max_timestamp
            yield record._replace(
                topic=self._topic,
                partition=self._partition,
                offset=header.base_offset + record.offset,
                timestamp=_within_range(timestamp),
            )

    def _unreadable(self, reason: str) -> RecordsUnreadable:
        return RecordsUnreadable(self._topic, self._partition, self.position, reason)


def _within_range(timestamp: int) -> int:
    return min(max(timestamp, 0), LATEST_TIMESTAMP)


def _without_compression(batch: bytes, header: _Header, records: bytes) -> bytes:
    plain = bytearray(batch[: _HEADER.size])
    struct.pack_into(">h", plain, _ATTRIBUTES_PLACE, header.attributes & ~_CODEC)
    struct.pack_into(">i", plain, _LOG_OVERHEAD.size - 4, _HEADER.size - _LOG_OVERHEAD.size + len(records))
    return bytes(plain + records)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a number of Kafka's variable length; return it and the position after it."""
    shift = value = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7


def _record(data: bytes) -> Record:
    """Read a record; its timestamp and offset are those of its batch's first record further on."""
    position = 1  # its attributes, of which none is in use
    timestamp, position = _varint(data, position)
    offset, position = _varint(data, position)
    key, position = _bytes(data, position)
    value, position = _bytes(data, position)
    count, position = _varint(data, position)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, position = _bytes(data, position)
        content, position = _bytes(data, position)
        headers.append(((name or b"").decode("utf-8", NAME_ERRORS), content))
    if position != len(data):
        raise ValueError(position)
    return Record("", 0, offset, timestamp, key, value, tuple(headers))


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = _varint(data, position)
    if size < 0:
        return None, position
    if position + size > len(data):
        raise ValueError(size)
    return data[position : position + size], position + size
