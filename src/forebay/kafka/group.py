"""A consumer that shares the partitions of its topics with the other members of its group."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from forebay.errors import BrokerUnavailable
from forebay.kafka.link import Link
from forebay.kafka.positions import STALE, OnPositioned
from forebay.kafka.reader import Reader
from forebay.kafka.records import Partition, Record
from forebay.kafka.shared_link import SharedLink
from forebay.kafka.wire.assignor import FairShare
from forebay.kafka.wire.membership import Membership, OnRebalance
from forebay.settings import Settings

log = logging.getLogger(__name__)

COMMITTED_BOUND = 15.0
"""Seconds that asking for what the group has committed may take."""
STALLED_AFTER = 60.0
"""Seconds for which sharing the partitions may go on before the membership counts as stalled, and is made anew."""

_NOTE = "topic-id:"


class GroupConsumer:
    """A member of a consumer group that reads some topics and commits by hand.

    What it commits carries the id of the topic, so that it means nothing for another topic that gets the name later.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        topics: what to read.
        group: consumer group.
        on_revoked: awaited with the partitions that are about to be taken away; it may still commit.
        on_assigned: awaited with the partitions that are ours from now on, before anything of them is read. No
            heartbeat is sent meanwhile, so it asks the broker for nothing.
        busy: says in which partitions there is work in hand, which had better not move to another member; those first
            that had better stay most of all.
        on_positioned: called before the first record of an assigned partition is returned: with the partition, the
            offset at which reading begins, and why there. Also called when a partition has to begin anew; offsets of
            before then mean nothing any more (`Start.RESET`).
        operations: those that this member runs; the other members are told, and whoever asks about the group.
        link: to share; default: one of its own.
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        topics: Collection[str],
        group: str,
        *,
        on_revoked: OnRebalance,
        on_assigned: OnRebalance,
        busy: Callable[[], Collection[Partition]],
        operations: Iterable[str] = (),
        on_positioned: OnPositioned | None = None,
        link: Link | None = None,
    ) -> None:
        self.topics = tuple(topics)
        self.group = group
        self._settings = settings
        self._share = FairShare(busy, operations)
        self._shared = SharedLink(settings, client, link)
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._on_positioned = on_positioned
        self._reader_or_none: Reader | None = None
        self._membership: Membership | None = None
        self._owned: frozenset[Partition] = frozenset()
        self._last_positions: Mapping[Partition, int] | None = None
        self._unsettled_since: float | None = None
        self._committing: asyncio.Future[bool] | None = None

    async def start(self) -> None:
        """Connect and join the group; partitions come by ``on_assigned``.

        Raises:
            BrokerUnavailable: the cluster does not answer.
            BrokerError: a topic cannot be read; `TopicUnknown` where there is none.
        """
        link = await self._shared.start()
        self._reader_or_none = Reader(
            link,
            self.topics,
            partition_bytes=self._settings.max_message_bytes,
            resume=self._resume,
            on_positioned=self._on_positioned,
        )
        await self._reader.start()
        self._membership = self._join()

    def _join(self) -> Membership:
        self._unsettled_since = None
        return Membership(
            self._shared.link,
            self.group,
            self.topics,
            self._share,
            session_timeout=self._settings.session_timeout,
            poll_limit=self._settings.poll_limit,
            on_revoked=self._revoked,
            on_assigned=self._assigned,
        )

    def give_up_idle(self) -> None:
        """Ask the group to give others all our partitions but the busy ones, since we are about to leave.

        The group shares its partitions anew: ours are revoked, and those that remain are assigned.
        """
        self._share.leaving = True
        if self._membership is not None:
            self._membership.rejoin()

    async def stop(self) -> None:
        """Leave the group and disconnect, within a bound."""
        membership, self._membership = self._membership, None
        if self._reader_or_none is not None:
            await self._reader_or_none.stop()
        if membership is not None:
            await membership.close()
        await self._shared.stop()

    # reading

    @property
    def positions(self) -> Mapping[Partition, int]:
        """The offset of each partition that is read next: whatever lies before it was returned or holds no record.

        So where all records that were returned are done with, this may be committed. Partitions of which it is not
        known yet where to begin are left out. While partitions are revoked, it is where reading them ended.
        """
        if self._last_positions is not None:
            return self._last_positions
        return {} if self._reader_or_none is None else self._reader_or_none.positions

    @property
    def confirmed_at(self) -> float:
        """When, by `time.monotonic`, the last heartbeat was sent to which the group answered that this is a member."""
        return -math.inf if self._membership is None else self._membership.confirmed_at

    @property
    def known_somewhere(self) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """By topic, the operations that not every member knows, each with the partitions of those who do."""
        return self._share.known_somewhere

    @property
    def trouble(self) -> str | None:
        """Why records of some partition cannot be read, in a sentence; None while they can."""
        return None if self._reader_or_none is None else self._reader_or_none.trouble

    async def read(self, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records of the partitions that are not paused; waits without a bound for one.

        Raises:
            BrokerUnavailable: something is wrong that may pass; to be called again after a while.
            TopicUnknown: a topic is gone, and there was nothing of the others; once it is there again it is read from
                its beginning.
            AuthorizationFailed: the cluster does not allow it; waiting does not help.
            GroupRefused: the group does not take this member; waiting does not help.
        """
        while True:
            await self._poll_membership()
            records = await self._reader.next(limit)
            if records:
                return records

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits up to ``timeout`` seconds for one. Raises as `read`."""
        await self._poll_membership()
        return await self._reader.fetch(timeout, limit)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing more of these partitions until they are resumed; those not ours are ignored."""
        self._reader.pause(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch these partitions again; those not ours are ignored."""
        self._reader.resume(partitions)

    @property
    def _reader(self) -> Reader:
        if self._reader_or_none is None:
            raise BrokerUnavailable(f"reading for {self.group}: the consumer is not started")
        return self._reader_or_none

    async def _poll_membership(self) -> None:
        """Count as alive in the group, and make the membership anew if it has broken or stalled."""
        membership = self._membership
        if membership is None:
            raise BrokerUnavailable(f"reading for {self.group}: this consumer is not a member of it")
        try:
            membership.poll()
        except BrokerUnavailable as error:
            if membership.broken:
                await self._join_anew(membership, str(error))
            raise
        if membership.settled:
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = time.monotonic()
        elif time.monotonic() - self._unsettled_since > STALLED_AFTER:
            await self._join_anew(membership, f"its partitions were not shared within {STALLED_AFTER:g} s")

    async def _join_anew(self, membership: Membership, reason: str) -> None:
        log.warning("group %s is joined anew: %s", self.group, reason)
        self._membership = None
        await membership.close()
        if self._owned:
            await self._revoked(self._owned)
        self._membership = self._join()

    # committing

    async def commit(self, offsets: Mapping[Partition, int], timeout: float) -> bool:
        """Commit the offset to read next of each partition; those of a topic that is no more are left out.

        Returns:
            False when the group has moved on without us: the partitions are another member's, and so is what follows.

        Raises:
            BrokerUnavailable: it is not known whether they were committed.
            AuthorizationFailed: the cluster does not allow it.
        """
        membership = self._membership
        if membership is None:
            return False
        reader = self._reader
        noted = {
            partition: (offset, _note(reader.id_of(partition[0])))
            for partition, offset in offsets.items()
            if reader.is_of_this_topic(partition)
        }
        if not noted:
            return True
        try:
            async with asyncio.timeout(timeout):
                # a commit that was sent cannot be called back, so it is not cancelled, and the next one waits for it
                while self._committing is not None and not self._committing.done():
                    await asyncio.wait([self._committing])
                committing = self._committing = asyncio.ensure_future(_within(timeout, membership.commit(noted)))
                committing.add_done_callback(_retrieve)
                await asyncio.wait([committing])
                return committing.result()
        except TimeoutError:
            raise BrokerUnavailable(f"committing for {self.group}: no answer within {timeout:g} s") from None

    async def committed(self, partitions: Collection[Partition]) -> dict[Partition, int | None]:
        """Return the offset that the group has committed in each partition, or None where it has committed nothing.

        They are asked for in one request. What was committed of another topic of the same name counts as nothing.

        Raises:
            BrokerUnavailable: no answer came in time.
            AuthorizationFailed: the cluster does not allow it.
        """
        resumed = await self._resume(partitions)
        return {partition: None if offset == STALE else offset for partition, offset in resumed.items()}

    async def _resume(self, partitions: Collection[Partition]) -> dict[Partition, int | None]:
        membership = self._membership
        if membership is None:
            raise BrokerUnavailable(f"what {self.group} has committed: this consumer is not a member of it")
        try:
            async with asyncio.timeout(COMMITTED_BOUND):
                found = await membership.committed(partitions)
        except TimeoutError:
            raise BrokerUnavailable(
                f"what {self.group} has committed: no answer within {COMMITTED_BOUND:g} s"
            ) from None
        resumed: dict[Partition, int | None] = {}
        for partition in partitions:
            offset, note = found.get(partition, (None, ""))
            current = _note(self._reader.id_of(partition[0]))
            stale = note.startswith(_NOTE) and bool(current) and note != current
            resumed[partition] = STALE if stale else offset
        return resumed

    # rebalances

    async def _revoked(self, revoked: frozenset[Partition]) -> None:
        self._last_positions = dict(self._reader.positions)
        self._reader.assign({})
        self._owned = frozenset()
        try:
            await self._on_revoked(revoked)
        finally:
            self._last_positions = None

    async def _assigned(self, assigned: frozenset[Partition]) -> None:
        self._owned = assigned
        await self._on_assigned(assigned)
        self._reader.assign(dict.fromkeys(assigned))


def _note(topic_id: bytes | None) -> str:
    return "" if topic_id is None else f"{_NOTE}{topic_id.hex()}"


async def _within(seconds: float, committing: Awaitable[bool]) -> bool:
    async with asyncio.timeout(seconds):
        return await committing


def _retrieve(committing: asyncio.Future[bool]) -> None:
    """Take note of how a commit ended, also when nobody waits for it any more."""
    if not committing.cancelled():
        committing.exception()
