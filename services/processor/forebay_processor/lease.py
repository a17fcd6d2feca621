"""A lease: the hold on one job, from the fetch of its record until it is certain what became of it.

It ends exactly once. Whoever holds a lease that can end in none of the ways below stops the process, so that the
partition goes to another one: no partition is ever stuck behind a job that nobody works on.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

Partition = tuple[str, int]
"""A topic, and the number of one of its partitions."""


class Ending(Enum):
    """What became of a job."""

    DONE = auto()
    """It is answered, or a dead letter, or nobody wants it: its offset is settled."""
    HANDED_ON = auto()
    """Another topic has it, so another processor will: its offset is settled."""
    HANDED_BACK = auto()
    """It is still to be run, by whoever owns the partition next: its offset is not settled."""


class Holder(Protocol):
    """Keeps account of leases."""

    def ended(self, lease: Lease) -> None:
        """Take note of the end of a lease."""


class LeaseError(Exception):
    """A lease was ended a second time: or not at all: a mistake in the processor itself."""


class Lease:
    """The hold on the job at one offset of a partition.

    Args:
        holder: is told how it ends.
        partition: where the job's record is.
        offset: of the record.
        timestamp: of the record, which tells it from another one at the same offset of a topic that was made anew.
        size: bytes of the record's value.

    Attributes:
        ending: how it ended; None as long as it has not.
        promised: whether the producer has what ends it, and so owes the end.
        reply_to: topic and partition of the reply that the producer has; None while it has none.
        era: of the partition's account, when it was handed back.
        turn: how many leases its holder had granted before: older ones have smaller numbers.
    """

    __slots__ = ("_holder", "ending", "era", "offset", "partition", "promised", "reply_to", "size", "timestamp", "turn")

    def __init__(self, holder: Holder, partition: Partition, offset: int, timestamp: int = 0, size: int = 0) -> None:
        self._holder = holder
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.size = size
        self.ending: Ending | None = None
        self.promised = False
        self.reply_to: Partition | None = None
        self.era = 0
        self.turn = 0

    def __str__(self) -> str:
        return f"{self.partition[0]}/{self.partition[1]} at offset {self.offset}"

    def done(self) -> None:
        """End it: what was to be said about the job is acknowledged, or there is nobody to say it to."""
        self._end(Ending.DONE)

    def hand_on(self) -> None:
        """End it: another topic has the job, and has acknowledged it."""
        self._end(Ending.HANDED_ON)

    def hand_back(self) -> None:
        """End it: the job is left to whoever fetches its record next."""
        self._end(Ending.HANDED_BACK)

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.ending is None

    def _end(self, ending: Ending) -> None:
        if self.ending is not None:
            raise LeaseError(f"the lease of {self} ended as {self.ending.name}, and now as {ending.name}")
        self.ending = ending
        self._holder.ended(self)
