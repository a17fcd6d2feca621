"""The two kinds of consumer: one that is pinned to its partitions, and one that shares them with its group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError

from forebay.errors import BrokerUnavailable
from forebay.kafka.connection import ADMIN_TIMEOUT, connect, connection, disconnect, within
from forebay.kafka.reader import OnPositioned, Reader
from forebay.kafka.records import Record
from forebay.kafka.sharing import FairShare
from forebay.settings import Settings

_OnRebalance = Callable[[Iterable[TopicPartition]], Awaitable[None]]


class PinnedConsumer:
    """Reads given partitions of one topic outside any group, so that no rebalance can move it."""

    def __init__(self, settings: Settings, client: str, topic: str, partitions: Iterable[int] = (0,)) -> None:
        self.topic = topic
        self._settings = settings
        self._partitions = list(partitions)
        self._consumer = AIOKafkaConsumer(**connection(settings, client), enable_auto_commit=False)
        self._reader = Reader(settings, client, topic, begin=partial(_beginnings, self._consumer, topic))

    async def start(self, offsets: Mapping[int, int] | None = None, *, at_end: bool = False) -> None:
        """Connect and take up the position: the given offsets, else the end or the beginning of each partition.

        The position is pinned when this returns: every record produced afterwards will be fetched.
        """
        await connect(self._settings, self._consumer.start())
        await self._reader.start()
        if offsets is None and at_end:
            offsets = await self.ends(ADMIN_TIMEOUT)
        elif offsets is None:
            offsets = await _beginnings(self._consumer, self.topic, self._partitions)
        self._reader.assign({partition: offsets[partition] for partition in self._partitions})

    async def stop(self) -> None:
        """Disconnect, within a bound."""
        leaving = disconnect(f"the client that looks after {self.topic}", self._consumer.stop())
        await asyncio.gather(self._reader.stop(), leaving)

    async def read(self, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; waits without a bound for one."""
        while not (records := await self._reader.next(limit)):
            pass
        return records

    async def fetch(self, timeout: float, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; waits up to ``timeout`` seconds for one."""
        return await self._reader.fetch(timeout, limit)

    def positions(self) -> Mapping[int, int]:
        """Return the offset that each partition is read from next."""
        return self._reader.positions

    async def ends(self, timeout: float) -> dict[int, int]:
        """Ask the broker where each partition ends; raises `BrokerUnavailable` after ``timeout`` seconds."""
        partitions = [TopicPartition(self.topic, partition) for partition in self._partitions]
        found = await within(timeout, f"end of {self.topic}", self._consumer.end_offsets(partitions))
        return {partition.partition: offset for partition, offset in found.items()}


class GroupConsumer:
    """A member of a consumer group that reads one topic and commits by hand.

    aiokafka keeps the membership; it is told to fetch nothing itself.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        topic: what to read.
        group: consumer group.
        on_revoked: called with the partitions that are about to be taken away; it may still commit.
        on_assigned: called with the partitions that are ours from now on, before anything of them is read.
        busy: says in which partitions there is work in hand, which had better not move to another member.
        on_positioned: called before the first record of an assigned partition is returned: with the partition, the
            offset at which reading begins, and why there. Also called when a partition has to begin anew, because the
            record to be read next is gone; offsets of before then mean nothing any more (`Start.RESET`).
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        topic: str,
        group: str,
        *,
        on_revoked: Callable[[frozenset[int]], Awaitable[None]],
        on_assigned: Callable[[frozenset[int]], Awaitable[None]],
        busy: Callable[[], Collection[int]],
        on_positioned: OnPositioned | None = None,
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._share = FairShare(busy)
        self._consumer = AIOKafkaConsumer(
            **connection(settings, client),
            group_id=group,
            partition_assignment_strategy=(self._share,),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 4),
            max_poll_interval_ms=int(settings.poll_limit * 1000),
        )
        self._reader = Reader(
            settings,
            client,
            topic,
            begin=partial(_beginnings, self._consumer, topic),
            resume=self.committed,
            on_positioned=on_positioned,
        )
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._committing: asyncio.Future[None] | None = None

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of each partition that is read next: whatever lies before it was returned or holds no record.

        So where all records that were returned are done with, this may be committed. Partitions of which it is not
        known yet where to begin are left out.
        """
        return self._reader.positions

    async def start(self) -> None:
        """Connect and join the group; partitions come by ``on_assigned``."""
        await connect(self._settings, self._consumer.start())
        await self._reader.start()
        self._subscribe()

    def give_up_idle(self) -> None:
        """Ask the group to give others all our partitions but the busy ones, since we are about to leave.

        The group shares its partitions anew: ours are revoked, and those that remain are assigned.
        """
        self._share.leaving = True
        self._subscribe()

    def _subscribe(self) -> None:
        """Join the group, or join it anew."""
        self._consumer.subscribe([self.topic], listener=_Listener(self._revoked, self._assigned))

    async def stop(self) -> None:
        """Leave the group and disconnect, within a bound."""
        leaving = disconnect(f"the member that reads {self.topic}", self._consumer.stop())
        await asyncio.gather(self._reader.stop(), leaving)

    async def read(self, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records of the partitions that are not paused; waits without a bound for one."""
        while True:
            await self._show_up()
            records = await self._reader.next(limit)
            if records:
                return records

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records of the partitions that are not paused; waits up to ``timeout`` seconds."""
        await self._show_up()
        return await self._reader.fetch(timeout, limit)

    async def _show_up(self) -> None:
        """Let aiokafka see that we go on reading, for the poll limit, and tell us what is wrong with our membership.

        It is never cancelled but with its task: aiokafka would count us as reading from then on, whatever we do.
        """
        try:
            await self._consumer.getmany()
        except (KafkaError, ConsumerStoppedError) as error:
            raise BrokerUnavailable(f"reading {self.topic}: {error or type(error).__name__}") from error

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing more of these partitions until they are resumed; those not ours are passed over."""
        self._reader.pause(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch these partitions again; those not ours are passed over."""
        self._reader.resume(partitions)

    async def commit(self, offsets: Mapping[int, int], timeout: float) -> bool:
        """Commit the offset to read next of each partition.

        Returns:
            False when the group has moved on without us: the partitions are another member's, and so is what follows.
        """
        commits = {TopicPartition(self.topic, partition): offset for partition, offset in offsets.items()}
        try:
            async with asyncio.timeout(timeout):
                # a commit that was sent cannot be called back, so it is not cancelled, and the next one waits for it
                while self._committing is not None and not self._committing.done():
                    await asyncio.wait([self._committing])
                committing = self._committing = asyncio.ensure_future(self._consumer.commit(commits))
                committing.add_done_callback(_retrieve)
                await asyncio.wait([committing])
                committing.result()
        except (CommitFailedError, IllegalStateError):
            return False
        except TimeoutError:
            raise BrokerUnavailable(f"committing {self.topic}: no answer within {timeout:g} s") from None
        except KafkaError as error:
            raise BrokerUnavailable(f"committing {self.topic}: {error or type(error).__name__}") from error
        return True

    async def committed(self, partitions: Collection[int]) -> dict[int, int | None]:
        """Return the offset that the group has committed in each partition, or None where it has committed nothing.

        They are asked for in one request.

        Raises:
            BrokerUnavailable: no answer came in time.
        """
        wanted = [TopicPartition(self.topic, partition) for partition in partitions]
        coordinator = self._consumer._coordinator
        found = await within(
            ADMIN_TIMEOUT, f"committed offsets of {self.topic}", coordinator.fetch_committed_offsets(wanted)
        )
        return {place.partition: found[place].offset if place in found else None for place in wanted}

    async def _revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._reader.assign({})
        await self._on_revoked(frozenset(tp.partition for tp in revoked))

    async def _assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        partitions = frozenset(tp.partition for tp in assigned)
        await self._on_assigned(partitions)
        self._reader.assign(dict.fromkeys(partitions))


async def _beginnings(consumer: AIOKafkaConsumer, topic: str, partitions: Collection[int]) -> dict[int, int]:
    """Ask the broker where partitions begin."""
    asking = consumer.beginning_offsets([TopicPartition(topic, partition) for partition in partitions])
    found = await within(ADMIN_TIMEOUT, f"beginning of {topic}", asking)
    return {partition.partition: offset for partition, offset in found.items()}


def _retrieve(committing: asyncio.Future[None]) -> None:
    """Take note of how a commit ended, also when nobody waits for it any more."""
    if not committing.cancelled():
        committing.exception()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, on_revoked: _OnRebalance, on_assigned: _OnRebalance) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._on_assigned(assigned)
