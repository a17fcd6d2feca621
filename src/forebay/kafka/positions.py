"""Where each partition is read next, and how that is found out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import Enum

from forebay.errors import BrokerError
from forebay.kafka.link import Link
from forebay.kafka.offsets import beginnings
from forebay.kafka.records import Partition

POSITION_BOUND = 15.0
"""Seconds that finding out where to begin may take."""
STALE = -1
"""In place of an offset: it was of a topic of the same name that is no more."""

Locate = Callable[[Collection[Partition]], Awaitable[Mapping[Partition, int | None]]]
OnPositioned = Callable[[Partition, int, "Start"], None]
"""Is told that reading of a partition begins, or begins anew, at an offset, and why there; no record comes before."""


class Start(Enum):
    """Why reading a partition begins where it does."""

    COMMITTED = "it is what the group has committed"
    UNCOMMITTED = "it is the beginning, since the group has committed nothing of the partition"
    RESET = "offsets from before mean nothing any more: the record to be read next is gone, or the topic is another one"


_AT_BEGINNING = (Start.UNCOMMITTED, Start.RESET)


class Positions:
    """Where the partitions of a reader are read next.

    Args:
        link: to the cluster.
        ids: of the topics as they are now, by name; kept by the reader.
        resume: says where to go on in partitions that were assigned without an offset.
        on_positioned: told of each partition whose position was found out.

    Attributes:
        known: the positions, in the order in which the partitions are to be asked for.
        unknown: the other partitions, with the reason why reading each will begin where it will.
    """

    def __init__(
        self,
        link: Link,
        ids: Mapping[str, bytes | None],
        resume: Locate | None,
        on_positioned: OnPositioned | None,
    ) -> None:
        self.known: dict[Partition, int] = {}
        self.unknown: dict[Partition, Start] = {}
        self._link = link
        self._ids = ids
        self._found_in: dict[Partition, bytes | None] = {}
        self._resume = resume
        self._on_positioned = on_positioned

    def assign(self, positions: Mapping[Partition, int | None]) -> None:
        """Have these partitions and no others: at these offsets, or where each is to be resumed."""
        self.known = {partition: offset for partition, offset in positions.items() if offset is not None}
        start = Start.COMMITTED if self._resume is not None else Start.UNCOMMITTED
        self.unknown = {partition: start for partition, offset in positions.items() if offset is None}

    def move(self, partition: Partition, position: int) -> None:
        """Read a partition on from here, after the others have had their turn."""
        del self.known[partition]
        self.known[partition] = position

    def reset(self, partitions: Collection[Partition]) -> None:
        """Begin partitions anew, since what was to be read next is gone."""
        for partition in partitions:
            self.known.pop(partition, None)
        # another dictionary, also without any partition: what `find` is finding out now does not count any more
        self.unknown = {**self.unknown, **dict.fromkeys(partitions, Start.RESET)}

    def are_of_this_topic(self, partition: Partition) -> bool:
        """Whether a partition's offsets are of the topic that has this name now, and not of one before."""
        current = self._ids.get(partition[0])
        return self._found_in.get(partition, current) == current

    async def find(self) -> BrokerError | None:
        """Find out the positions that are unknown; return what is in the way of some."""
        unknown = self.unknown
        found, problem = await self._committed(unknown)
        for topic in dict.fromkeys(topic for topic, _ in unknown):
            numbers = [number for (name, number), start in unknown.items() if name == topic and start in _AT_BEGINNING]
            try:
                begins = await beginnings(self._link, topic, numbers, POSITION_BOUND) if numbers else {}
            except BrokerError as error:
                problem = error
                continue
            found.update({(topic, number): (begin, unknown[topic, number]) for number, begin in begins.items()})
        if self.unknown is not unknown:
            return None  # there is another assignment by now
        for partition, (offset, start) in found.items():
            self._begin(partition, offset, start)
        return problem

    async def _committed(
        self, unknown: dict[Partition, Start]
    ) -> tuple[dict[Partition, tuple[int, Start]], BrokerError | None]:
        """Ask where to resume; note of those without an offset that they are to begin at the beginning."""
        found: dict[Partition, tuple[int, Start]] = {}
        asked = [partition for partition, start in unknown.items() if start is Start.COMMITTED]
        if not asked or self._resume is None:
            return found, None
        try:
            resumed = await self._resume(asked)
        except BrokerError as error:
            return found, error
        for partition, offset in resumed.items():
            if offset is None or offset == STALE:
                unknown[partition] = Start.UNCOMMITTED if offset is None else Start.RESET
            else:
                found[partition] = (offset, Start.COMMITTED)
        return found, None

    def _begin(self, partition: Partition, offset: int, start: Start) -> None:
        del self.unknown[partition]
        self.known[partition] = offset
        current = self._ids.get(partition[0])
        if self._found_in.setdefault(partition, current) != current:
            self._found_in[partition] = current
            start = Start.RESET
        if self._on_positioned is not None:
            self._on_positioned(partition, offset, start)
