"""How an idempotent producer numbers its batches, so that a broker takes each of them once and in order.

A broker remembers, of each partition, which number of which producer came last. So a partition goes on with the
identity that it began with. Once its numbers are forgotten here, or doubtful, it begins anew with an identity that no
broker has seen: with the same one, number 0 could be taken for a repetition and be dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from forebay.kafka.records import Partition

_MASK = 2**31 - 1


class Identity(NamedTuple):
    """Under what a producer is known to the brokers."""

    id: int
    epoch: int


@dataclass(slots=True)
class _Numbered:
    identity: Identity
    next: int


class Sequences:
    """The numbers of each partition, by topic and partition.

    Attributes:
        fresh: the identity for partitions that begin; None while one has to be asked for.
    """

    __slots__ = ("_numbered", "fresh")

    def __init__(self) -> None:
        self.fresh: Identity | None = None
        self._numbered: dict[Partition, _Numbered] = {}

    def __len__(self) -> int:
        return len(self._numbered)

    def next(self, partition: Partition) -> tuple[Identity, int] | None:
        """Return identity and number for the next batch of a partition; None while there is no identity to begin with.

        To be followed by `took` once the batch is made.
        """
        numbered = self._numbered.get(partition)
        if numbered is None:
            if self.fresh is None:
                return None
            numbered = self._numbered[partition] = _Numbered(self.fresh, 0)
        return numbered.identity, numbered.next

    def took(self, partition: Partition, count: int) -> None:
        """Count the records of the batch that was made with the numbers of `next`."""
        numbered = self._numbered[partition]
        numbered.next = (numbered.next + count) & _MASK

    def give_back(self, partition: Partition, identity: Identity, first: int) -> None:
        """Use a batch's numbers for the next one: no broker has taken this one, nor ever will."""
        numbered = self._numbered.get(partition)
        if numbered is not None and numbered.identity == identity:
            numbered.next = first

    def forget(self, partition: Partition) -> None:
        """Forget a partition's numbers, or doubt them."""
        if self._numbered.pop(partition, None) is not None:
            self.fresh = None

    def forget_topic(self, topic: str) -> None:
        """Forget the numbers of all partitions of a topic."""
        for partition in [partition for partition in self._numbered if partition[0] == topic]:
            self.forget(partition)
