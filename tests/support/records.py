"""Records as a consumer brings them, for tests without Kafka."""

from __future__ import annotations

from forebay.kafka import Headers, Record


def a_record(
    value: bytes | None = None,
    *,
    topic: str = "topic",
    partition: int = 0,
    offset: int = 0,
    headers: Headers = (),
) -> Record:
    """A record of which only what is said here matters."""
    return Record(topic, partition, offset, timestamp=0, key=None, value=value, headers=headers)
