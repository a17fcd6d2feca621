"""A fetcher as a member of a consumer group: one for each tier, and one for the retry topics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from forebay.app import Forebay
from forebay.kafka import GroupConsumer, Link, Partition, Start
from forebay.settings import TIERS, Settings
from forebay_processor.fatal import Fatal
from forebay_processor.fetch import Fetcher
from forebay_processor.intake import Intake
from forebay_schemas import topics as topic_names


class Member:
    """A consumer that is a member of a group, and the fetcher that reads by it.

    Args:
        settings: the group's limits.
        client: name of this client, for the broker's logs.
        topics: what to read.
        group: consumer group.
        link: of this process to the cluster.
        operations: that this version of the app knows; the other members of the group are told.

    Attributes:
        consumer: reads and commits.
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        topics: Collection[str],
        group: str,
        link: Link,
        operations: Iterable[str],
    ) -> None:
        self._fetcher: Fetcher | None = None
        self.consumer = GroupConsumer(
            settings,
            client,
            topics,
            group,
            on_revoked=self._revoked,
            on_assigned=self._assigned,
            on_positioned=self._positioned,
            operations=operations,
            link=link,
            busy=self._busy,
        )

    def confirmed(self) -> float:
        """Return when, by `time.monotonic`, the last heartbeat was sent that the group answered."""
        return self.consumer.confirmed_at

    def fetcher(self, name: str, intake: Intake, fatal: Fatal) -> Fetcher:
        """Return a fetcher that reads by this.

        Args:
            name: of what is read, for the log.
            intake: takes it.
            fatal: takes the errors of the group that waiting does not mend.
        """
        self._fetcher = Fetcher(name, self.consumer, intake, fatal)
        return self._fetcher

    def _busy(self) -> Collection[Partition]:
        return self._fetcher.leases.busy if self._fetcher is not None else ()

    async def _revoked(self, partitions: Collection[Partition]) -> None:
        if self._fetcher is not None:
            await self._fetcher.revoked(partitions)

    async def _assigned(self, partitions: Collection[Partition]) -> None:
        if self._fetcher is not None:
            await self._fetcher.assigned(partitions)

    def _positioned(self, partition: Partition, offset: int, start: Start) -> None:
        if self._fetcher is not None:
            self._fetcher.leases.begin(partition, offset, start)


def queue_members(settings: Settings, app: Forebay, client: str, link: Link) -> dict[str, Member]:
    """Return the members that read an app's queues, by tier; they tell others which operations this version knows."""
    members = {}
    for tier in TIERS:
        topic, group = (name(settings.namespace, app.name, tier) for name in (topic_names.jobs, topic_names.group))
        members[tier] = Member(settings, client, [topic], group, link, app.operations)
    return members


def retries_member(settings: Settings, app: Forebay, client: str, link: Link, topics: Collection[str]) -> Member:
    """Return the member that reads an app's retry topics."""
    group = topic_names.retries_group(settings.namespace, app.name)
    return Member(settings, client, topics, group, link, app.operations)


class KnownPartitions:
    """Where the jobs of an operation are run while versions of an app run side by side.

    Args:
        members: that read the app's queues.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._consumers = {topic: member.consumer for member in members for topic in member.consumer.topics}
        self._turn = 0

    def choose(self, queue: str, operation: str) -> int | None:
        """Return a partition whose owner knows the operation, in turn; None where all do, or nobody is known to."""
        partitions = self._of(queue, operation)
        if not partitions:
            return None
        self._turn += 1
        return partitions[self._turn % len(partitions)]

    def exist(self, queue: str, operation: str) -> bool:
        """Return whether a partition has an owner who knows an operation that others do not."""
        return bool(self._of(queue, operation))

    def _of(self, queue: str, operation: str) -> Sequence[int]:
        consumer = self._consumers.get(queue)
        return consumer.known_somewhere.get(queue, {}).get(operation, ()) if consumer is not None else ()
