"""A member of a consumer group, as tests of one topic want it: partitions are plain numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from forebay.errors import BrokerError
from forebay.kafka import GroupConsumer, Link, Partition, Record, Start
from forebay.settings import Settings
from tests.support.waiting import until

BOUND = 30.0


class Member:
    """A member that is told what it owns and where reading begins, and notes it.

    Attributes:
        owned: its partitions.
        busy: those in which it says that it has work in hand.
        positioned: what it was told of where reading begins.
        records: what `keep_reading` has read.
        before_revoked: awaited before its partitions are taken away.
    """

    def __init__(self, settings: Settings, topic: str, name: str = "test", link: Link | None = None) -> None:
        self.topic = topic
        self.owned: frozenset[int] = frozenset()
        self.busy: Collection[int] = ()
        self.positioned: list[tuple[int, int, Start]] = []
        self.records: list[Record] = []
        self.before_revoked: Callable[[], Awaitable[None]] | None = None
        self.consumer = GroupConsumer(
            settings,
            name,
            [topic],
            f"{settings.namespace}group",
            on_revoked=self._revoked,
            on_assigned=self._assigned,
            busy=lambda: self._named(self.busy),
            on_positioned=lambda partition, offset, start: self.positioned.append((partition[1], offset, start)),
            link=link,
        )
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.consumer.start()

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self.consumer.stop()

    async def owns(self, count: int) -> None:
        """Read until it has so many partitions."""

        async def look() -> bool:
            await self.consumer.fetch(0, 1)
            return len(self.owned) == count

        await until(look, BOUND, f"{count} partitions are this member's")

    async def read(self, count: int) -> list[Record]:
        """Read exactly so many records."""
        records: list[Record] = []
        async with asyncio.timeout(BOUND):
            while len(records) < count:
                records += await self.consumer.fetch(0.5, count - len(records))
        return records

    def keep_reading(self) -> None:
        """Read in the background from now on, whatever goes wrong."""
        self._reading = asyncio.create_task(self._keep_reading())

    async def _keep_reading(self) -> None:
        while True:
            try:
                self.records += await self.consumer.read(None)
            except BrokerError:
                await asyncio.sleep(0.1)

    @property
    def positions(self) -> dict[int, int]:
        return {partition: offset for (_, partition), offset in self.consumer.positions.items()}

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        return await self.consumer.commit({(self.topic, number): offset for number, offset in offsets.items()}, BOUND)

    async def committed(self, partitions: Iterable[int]) -> dict[int, int | None]:
        found = await self.consumer.committed(self._named(partitions))
        return {number: offset for (_, number), offset in found.items()}

    def pause(self, partitions: Iterable[int]) -> None:
        self.consumer.pause(self._named(partitions))

    def resume(self, partitions: Iterable[int]) -> None:
        self.consumer.resume(self._named(partitions))

    def _named(self, partitions: Iterable[int]) -> list[Partition]:
        return [(self.topic, partition) for partition in partitions]

    async def _revoked(self, partitions: frozenset[Partition]) -> None:
        if self.before_revoked is not None:
            await self.before_revoked()
        self.owned -= {number for _, number in partitions}

    async def _assigned(self, partitions: frozenset[Partition]) -> None:
        self.owned = frozenset(number for _, number in partitions)
