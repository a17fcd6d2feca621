"""What a record looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """One record as it was fetched."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since the epoch
    key: bytes | None
    value: bytes | None
    headers: Headers


def header(record: Record, name: str) -> str | None:
    """Return the value of a record's header, or None where it has none."""
    for key, value in record.headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return None
