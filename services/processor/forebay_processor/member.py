"""A fetcher as a member of a consumer group: one for each tier, and one for each retry topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forebay.kafka import GroupConsumer, Record, Start
from forebay.settings import Settings
from forebay_processor.fetch import Fetcher
from forebay_processor.intake import Intake
from forebay_processor.lease import Partition
from forebay_processor.leases import Leases


class Member:
    """A `GroupConsumer` whose partitions are named with their topic.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        topic: what to read.
        group: consumer group.
        operations: those that this processor runs.
    """

    def __init__(self, settings: Settings, client: str, topic: str, group: str, operations: Iterable[str]) -> None:
        self._topic = topic
        self._fetcher: Fetcher | None = None
        self._leases: Leases | None = None
        self._consumer = GroupConsumer(
            settings,
            client,
            topic,
            group,
            on_revoked=self._revoked,
            on_assigned=self._assigned,
            on_positioned=self._positioned,
            operations=operations,
            busy=lambda: [partition for _, partition in self._leases.busy] if self._leases else [],
        )

    def serve(self, fetcher: Fetcher, leases: Leases) -> None:
        """Tell this fetcher which partitions it reads, and this account where reading begins."""
        self._fetcher, self._leases = fetcher, leases

    @property
    def positions(self) -> Mapping[Partition, int]:
        """The offset of each partition that is read next."""
        return {(self._topic, partition): offset for partition, offset in self._consumer.positions.items()}

    async def start(self) -> None:
        """Connect and join the group."""
        await self._consumer.start()

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        await self._consumer.stop()

    def give_up_idle(self) -> None:
        """Give others all partitions but the busy ones."""
        self._consumer.give_up_idle()

    async def read(self, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits without a bound for one."""
        return await self._consumer.read(limit)

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits up to ``timeout`` seconds for one."""
        return await self._consumer.fetch(timeout, limit)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing more of these partitions until they are resumed."""
        self._consumer.pause([partition for _, partition in partitions])

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch these partitions again."""
        self._consumer.resume([partition for _, partition in partitions])

    async def commit(self, offsets: Mapping[Partition, int], timeout: float) -> bool:
        """Commit the offset to read next of each partition; False when they are another member's."""
        return await self._consumer.commit({partition: offset for (_, partition), offset in offsets.items()}, timeout)

    async def _revoked(self, partitions: frozenset[int]) -> None:
        if self._fetcher is not None:
            await self._fetcher.revoked({(self._topic, partition) for partition in partitions})

    async def _assigned(self, partitions: frozenset[int]) -> None:
        if self._fetcher is not None:
            await self._fetcher.assigned({(self._topic, partition) for partition in partitions})

    def _positioned(self, partition: int, offset: int, start: Start) -> None:
        if self._leases is not None:
            self._leases.begin((self._topic, partition), offset, start)


def make_fetcher(
    settings: Settings,
    client: str,
    name: str,
    topic: str,
    group: str,
    operations: Iterable[str],
    intake: Intake,
    window: int,
    window_bytes: int | None = None,
) -> Fetcher:
    """Return a fetcher that reads a topic as a member of a group.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        name: of what is read, for the log.
        topic: what to read.
        group: consumer group.
        operations: those that this processor runs.
        intake: takes what is read.
        window: offsets of a partition that may be outstanding.
        window_bytes: bytes of it that may be in hand; None: any number.
    """
    member = Member(settings, client, topic, group, operations)
    fetcher = Fetcher(name, member, intake, window, window_bytes)
    member.serve(fetcher, fetcher.leases)
    return fetcher
