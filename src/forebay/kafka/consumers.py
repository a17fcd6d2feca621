"""The two kinds of consumer: one that is pinned to its partitions, and one that shares them with its group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import cast

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from forebay.errors import BrokerUnavailable
from forebay.kafka.connection import ADMIN_TIMEOUT, connection, disconnect, within
from forebay.kafka.records import Record
from forebay.kafka.sharing import FairShare
from forebay.settings import Settings


class PinnedConsumer:
    """Reads given partitions of one topic by ``assign()``: no group, so no rebalance can move it."""

    def __init__(self, settings: Settings, client: str, topic: str, partitions: Iterable[int] = (0,)) -> None:
        self._consumer = AIOKafkaConsumer(
            **connection(settings, client),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=settings.max_message_bytes,
        )
        self.topic = topic
        self._partitions = [TopicPartition(topic, partition) for partition in partitions]

    async def start(self, offsets: Mapping[int, int] | None = None, *, at_end: bool = False) -> None:
        """Connect and take up the position: the given offsets, else the end or the beginning of each partition.

        The position is pinned when this returns: every record produced afterwards will be fetched.
        """
        await within(ADMIN_TIMEOUT, f"connecting to read {self.topic}", self._consumer.start())
        self._consumer.assign(self._partitions)
        if offsets is None:
            pick = self._consumer.end_offsets if at_end else self._consumer.beginning_offsets
            found = await within(ADMIN_TIMEOUT, f"offsets of {self.topic}", pick(self._partitions))
            offsets = {partition.partition: offset for partition, offset in found.items()}
        for partition in self._partitions:
            self._consumer.seek(partition, offsets[partition.partition])

    async def stop(self) -> None:
        """Disconnect, within a bound."""
        await disconnect(f"the reader of {self.topic}", self._consumer.stop())

    async def fetch(self, timeout: float, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; waits up to ``timeout`` seconds for one."""
        try:
            batches = await self._consumer.getmany(timeout_ms=int(timeout * 1000), max_records=limit)
        except KafkaError as error:
            raise BrokerUnavailable(f"reading {self.topic}: {error or type(error).__name__}") from error
        if len(batches) == 1:
            return cast("list[Record]", next(iter(batches.values())))
        return [record for records in batches.values() for record in records]

    async def first(self) -> Record:
        """Return the next record as soon as there is one; waits without a bound.

        It costs the event loop fewer turns than `fetch`, which shows where there is one record at a time.
        """
        return await _first(self._consumer, self.topic)

    async def positions(self) -> dict[int, int]:
        """Return the offset that each partition is read from next."""
        return {partition.partition: await self._consumer.position(partition) for partition in self._partitions}

    async def ends(self, timeout: float) -> dict[int, int]:
        """Ask the broker where each partition ends; raises `BrokerUnavailable` after ``timeout`` seconds."""
        found = await within(timeout, f"end of {self.topic}", self._consumer.end_offsets(self._partitions))
        return {partition.partition: offset for partition, offset in found.items()}


class GroupConsumer:
    """A member of a consumer group that reads one topic and commits by hand.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        topic: what to read.
        group: consumer group.
        on_revoked: called with the partitions that are about to be taken away; it may still commit.
        on_assigned: called with the partitions that are ours from now on.
        busy: says in which partitions there is work in hand, which had better not move to another member.
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
    ) -> None:
        self.topic = topic
        self._consumer = AIOKafkaConsumer(
            **connection(settings, client),
            group_id=group,
            partition_assignment_strategy=(FairShare(busy),),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 4),
            max_poll_interval_ms=int(settings.poll_limit * 1000),
            max_partition_fetch_bytes=settings.max_message_bytes,
        )
        self._listener = _Listener(on_revoked, on_assigned)
        self._committing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Connect and join the group; partitions come by ``on_assigned``."""
        await within(ADMIN_TIMEOUT, f"connecting to read {self.topic}", self._consumer.start())
        self._consumer.subscribe([self.topic], listener=self._listener)

    async def stop(self) -> None:
        """Leave the group and disconnect, within a bound."""
        await disconnect(f"the reader of {self.topic}", self._consumer.stop())

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records of the partitions that are not paused; waits up to ``timeout`` seconds."""
        try:
            batches = await self._consumer.getmany(timeout_ms=int(timeout * 1000), max_records=limit)
        except KafkaError as error:
            raise BrokerUnavailable(f"reading {self.topic}: {error or type(error).__name__}") from error
        return [record for records in batches.values() for record in records]

    async def first(self) -> Record:
        """Return the next record as soon as there is one; waits without a bound.

        It costs the event loop fewer turns than `fetch`, which shows where there is one record at a time.
        """
        return await _first(self._consumer, self.topic)

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing more of these partitions until they are resumed; those not ours are passed over."""
        assigned = self._consumer.assignment()
        self._consumer.pause(*(tp for tp in assigned if tp.partition in set(partitions)))

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch these partitions again; those not ours are passed over."""
        assigned = self._consumer.assignment()
        self._consumer.resume(*(tp for tp in assigned if tp.partition in set(partitions)))

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

    async def committed(self, partition: int) -> int | None:
        """Return the offset that the group has committed, or None where it has committed nothing."""
        offset = await within(
            ADMIN_TIMEOUT, f"offsets of {self.topic}", self._consumer.committed(TopicPartition(self.topic, partition))
        )
        return None if offset is None else int(offset)


async def _first(consumer: AIOKafkaConsumer, topic: str) -> Record:
    try:
        return cast(Record, await consumer.getone())
    except KafkaError as error:
        raise BrokerUnavailable(f"reading {topic}: {error or type(error).__name__}") from error


def _retrieve(committing: asyncio.Future[None]) -> None:
    """Take note of how a commit ended, also when nobody waits for it any more."""
    if not committing.cancelled():
        committing.exception()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(
        self,
        on_revoked: Callable[[frozenset[int]], Awaitable[None]],
        on_assigned: Callable[[frozenset[int]], Awaitable[None]],
    ) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked(frozenset(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._on_assigned(frozenset(tp.partition for tp in assigned))
