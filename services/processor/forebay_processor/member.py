"""A fetcher as a member of a consumer group: one for each tier, and one for each retry topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from forebay.app import Forebay
from forebay.kafka import GroupConsumer, Link, Record, Start
from forebay.settings import TIERS, Settings
from forebay_processor.fatal import Fatal
from forebay_processor.fetch import Fetcher
from forebay_processor.intake import Intake
from forebay_processor.lease import Partition
from forebay_processor.leases import Leases
from forebay_schemas import topics as topic_names


class Member:
    """A `GroupConsumer` whose partitions are named with their topic.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        topic: what to read.
        group: consumer group.
        link: of this process to the cluster.
        operations: that this version of the app knows; the other members of the group are told.

    Attributes:
        topic: what is read.
    """

    def __init__(
        self, settings: Settings, client: str, topic: str, group: str, link: Link, operations: Iterable[str]
    ) -> None:
        self.topic = topic
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
            link=link,
            busy=lambda: [partition for _, partition in self._leases.busy] if self._leases else [],
        )

    def fetcher(self, name: str, intake: Intake, fatal: Fatal) -> Fetcher:
        """Return a fetcher that reads by this.

        Args:
            name: of what is read, for the log.
            intake: takes it.
            fatal: takes the errors of the group that waiting does not mend.
        """
        fetcher = self._fetcher = Fetcher(name, self, intake, fatal)
        self._leases = fetcher.leases
        return fetcher

    @property
    def known_somewhere(self) -> Mapping[str, Sequence[int]]:
        """The operations that not every member knows, each with the partitions of those who do."""
        return self._consumer.known_somewhere

    @property
    def positions(self) -> Mapping[Partition, int]:
        """The offset of each partition that is read next."""
        return {(self.topic, partition): offset for partition, offset in self._consumer.positions.items()}

    @property
    def trouble(self) -> str | None:
        """Why records of some partition cannot be read; None while they can."""
        return self._consumer.trouble

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
            await self._fetcher.revoked({(self.topic, partition) for partition in partitions})

    async def _assigned(self, partitions: frozenset[int]) -> None:
        if self._fetcher is not None:
            await self._fetcher.assigned({(self.topic, partition) for partition in partitions})

    def _positioned(self, partition: int, offset: int, start: Start) -> None:
        if self._leases is not None:
            self._leases.begin((self.topic, partition), offset, start)


def queue_members(settings: Settings, app: Forebay, client: str, link: Link) -> dict[str, Member]:
    """Return the members that read an app's queues, by tier; they tell others which operations this version knows."""
    members = {}
    for tier in TIERS:
        topic, group = (name(settings.namespace, app.name, tier) for name in (topic_names.jobs, topic_names.group))
        members[tier] = Member(settings, client, topic, group, link, app.operations)
    return members


def retry_members(settings: Settings, app: Forebay, client: str, link: Link, topics: Iterable[str]) -> list[Member]:
    """Return the members that read an app's retry topics."""
    group = topic_names.retries_group(settings.namespace, app.name)
    return [Member(settings, client, topic, group, link, app.operations) for topic in topics]


class KnownPartitions:
    """Where the jobs of an operation are run while versions of an app run side by side.

    Args:
        members: that read the app's queues.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = {member.topic: member for member in members}
        self._turn = 0

    def choose(self, queue: str, operation: str) -> int | None:
        """Return a partition whose owner knows the operation, in turn; None where all do, or nobody is known to."""
        member = self._members.get(queue)
        partitions = member.known_somewhere.get(operation) if member is not None else None
        if not partitions:
            return None
        self._turn += 1
        return partitions[self._turn % len(partitions)]
