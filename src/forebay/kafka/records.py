"""What a record looks like, and how to read its headers: they come from anywhere, so reading them never fails."""

from __future__ import annotations

from typing import NamedTuple

from forebay_schemas.headers import Headers

Partition = tuple[str, int]
"""A topic, and the number of one of its partitions."""

NAME_ERRORS = "surrogateescape"
"""How bytes of a header's name that are not UTF-8 become characters, and bytes again, so that producing the same
headers again gives the same bytes."""

LATEST_TIMESTAMP = 253_402_300_799_999
"""Milliseconds since the epoch of the last instant that a date has: the end of the year 9999."""

_DIGITS = frozenset("0123456789")
_MOST_DIGITS = 18


class Record(NamedTuple):
    """One record as it was fetched.

    Attributes:
        topic: where it is.
        partition: of the topic.
        offset: in the partition.
        timestamp: milliseconds since the epoch, as its producer set it or the broker did; from 0 to `LATEST_TIMESTAMP`.
        key: None where it has none.
        value: None where it is a tombstone.
        headers: in their order; a name may come again.
        unreadable: why nothing else is known of it: it stands for one or more records that can never be read.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    unreadable: str | None = None


def header(record: Record, name: str) -> str | None:
    """Return the text of the first header of this name; None where there is none, it is null or it is not UTF-8."""
    for key, value in record.headers:
        if key == name:
            try:
                return None if value is None else value.decode()
            except UnicodeDecodeError:
                return None
    return None


def header_number(record: Record, name: str) -> int | None:
    """Return the number that a header holds; None unless its text is one to 18 of the digits 0 to 9."""
    text = header(record, name)
    if not text or len(text) > _MOST_DIGITS or not _DIGITS.issuperset(text):
        return None
    return int(text)
