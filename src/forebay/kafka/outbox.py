"""What was handed to the producer and is not sent yet, and the order in which it is sent."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from forebay.errors import BrokerError
from forebay.kafka.records import Partition
from forebay.kafka.sequences import Identity

OnDelivery = Callable[[BrokerError | None], None]
OnOffset = Callable[[int], None]


class Outgoing(NamedTuple):
    """A record that was handed over, with its size in bytes, and who wants to know what becomes of it.

    From ``expires`` on, in seconds of the monotonic clock, it is not worth waiting for a leader of its partition.
    """

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    size: int
    on_delivery: OnDelivery | None
    on_offset: OnOffset | None = None
    expires: float = math.inf


class Outbox:
    """What is produced to a topic: to one partition of it, or to any.

    A partition carries one batch at a time; what is handed over meanwhile makes the next one.

    Args:
        topic: where the records go.
        partition: of the topic; None for any.
        in_flight: partitions of the topic with a batch under way, from whichever of its outboxes.
        now: on the caller's clock, in seconds.

    Attributes:
        waiting: records that no batch has taken yet.
        one_by_one: how many of those that wait go in a batch of their own each, since together they were too large.
        since: when the first of those that wait was handed over, on the caller's clock.
        used: when a batch was last made of its records, on the caller's clock.
        stuck_since: when its partition was seen to take nothing, likewise; None once it has taken something since.
    """

    __slots__ = ("_last", "in_flight", "one_by_one", "partition", "since", "stuck_since", "topic", "used", "waiting")

    def __init__(self, topic: str, partition: int | None, in_flight: set[int], now: float) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[Outgoing] = deque()
        self.in_flight = in_flight
        self.one_by_one = 0
        self.since = self.used = now
        self.stuck_since: float | None = None
        self._last = 0

    def take_expired(self, now: float) -> list[Outgoing]:
        """Take out what waits and has expired."""
        expired = [record for record in self.waiting if record.expires <= now]
        if expired:
            self.waiting = deque(record for record in self.waiting if record.expires > now)
        return expired

    def next_partition(self, leaders: Sequence[int], is_free: Callable[[int], bool]) -> int | None:
        """Return the partition whose turn it is among those without a batch under way, and whose leader is free.

        Args:
            leaders: of all partitions, in their order.
            is_free: whether a request can be made to a leader now.
        """
        count = len(leaders)
        if self.partition is not None:
            wanted = self.partition
            ready = wanted not in self.in_flight and wanted < count and is_free(leaders[wanted])
            return wanted if ready else None
        for step in range(1, count + 1):
            candidate = (self._last + step) % count
            if candidate not in self.in_flight and is_free(leaders[candidate]):
                self._last = candidate
                return candidate
        return None


class Batch:
    """Records of one partition that go together.

    Args:
        outbox: where they come from.
        partition: where they go.
        records: themselves.
        content: as they are sent.
        identity: under which they are numbered.
        first: the number of the first of them.

    Attributes:
        doubtful: whether a broker may have taken it already without our knowing.
        lacks_replicas: whether its leader has last answered that too few replicas are in sync.
    """

    __slots__ = ("content", "doubtful", "first", "identity", "lacks_replicas", "outbox", "partition", "records")

    def __init__(
        self,
        outbox: Outbox,
        partition: int,
        records: list[Outgoing],
        content: bytes,
        identity: Identity,
        first: int,
    ) -> None:
        self.outbox = outbox
        self.partition = partition
        self.records = records
        self.content = content
        self.identity = identity
        self.first = first
        self.doubtful = False
        self.lacks_replicas = False

    @property
    def place(self) -> Partition:
        """Topic and partition."""
        return self.outbox.topic, self.partition
