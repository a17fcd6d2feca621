"""What a record looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """One record as it was fetched.

    Attributes:
        topic: where it is.
        partition: of the topic.
        offset: in the partition.
        timestamp: milliseconds since the epoch, as its producer set it or the broker did.
        key: None where it has none.
        value: None where it is a tombstone.
        headers: in their order; a name may come again.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def header(record: Record, name: str) -> str | None:
    """Return the value of a record's header, or None where it has none."""
    for key, value in record.headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return None
