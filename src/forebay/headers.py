"""What has happened to a job since it was asked for, as its record's headers say.

Headers come from anywhere, so reading them never fails: one that is not as it should be counts as absent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from forebay.kafka import LATEST_TIMESTAMP, Headers, Record, header, header_number
from forebay_schemas.headers import ATTEMPT, HANDED_ON, NOT_BEFORE, ORIGIN

MOST = 2**31 - 1
"""The largest count that a header, or a reply, can hold."""

_LARGEST_OFFSET = 2**63 - 1


class Origin(NamedTuple):
    """Where a record stood first."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, record: Record) -> Origin:
        """Return where a record stands now."""
        return cls(record.topic, record.partition, record.offset)

    @property
    def text(self) -> bytes:
        """The value of the header."""
        return f"{self.topic}/{self.partition}/{self.offset}".encode()


def attempt(record: Record) -> int:
    """Return which run of the job comes next, from 1."""
    return _within(header_number(record, ATTEMPT), 1, MOST) or 1


def handed_on(record: Record) -> int:
    """Return how often the job was handed on."""
    return _within(header_number(record, HANDED_ON), 0, MOST) or 0


def not_before(record: Record) -> int | None:
    """Return the instant, in milliseconds since the epoch, before which the job is not to be run."""
    return _within(header_number(record, NOT_BEFORE), 0, LATEST_TIMESTAMP)


def origin(record: Record, topics: Collection[str]) -> Origin | None:
    """Return where the record stood first; None where no header says so, or it names none of these topics."""
    parts = (header(record, ORIGIN) or "").rsplit("/", 2)
    if len(parts) != 3 or parts[0] not in topics or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        return None
    if any(len(part) > 19 for part in parts[1:]):
        return None
    partition, offset = int(parts[1]), int(parts[2])
    return Origin(parts[0], partition, offset) if partition <= MOST and offset <= _LARGEST_OFFSET else None


def replaced(headers: Headers, changes: Mapping[str, bytes]) -> list[tuple[str, bytes | None]]:
    """Return headers in which those of ``changes`` stand once, with their new values, and all others as they were."""
    return [*((name, value) for name, value in headers if name not in changes), *changes.items()]


def _within(number: int | None, lowest: int, highest: int) -> int | None:
    return number if number is not None and lowest <= number <= highest else None
