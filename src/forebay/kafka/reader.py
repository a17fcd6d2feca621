"""The reader: asks the leaders of some partitions for records whenever somebody wants more.

aiokafka's consumer fetches ahead in the background, and passes what comes through one task more and a look at every
partition. Here nothing is fetched before it is wanted: what has gathered meanwhile comes together, no more than one
response of each broker is held in memory, and nothing else stands between a response and whoever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from enum import Enum

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable, RecordsUnreadable
from forebay.kafka.arrivals import BoundedEvent
from forebay.kafka.link import REQUEST_BOUND, Link
from forebay.kafka.offsets import beginnings
from forebay.kafka.records import Record
from forebay.kafka.wire import codes
from forebay.kafka.wire.batches import Fetched
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.fetch import Answer, FetchRequest, Wanted, answers_of
from forebay.kafka.wire.metadata import NO_LEADER

log = logging.getLogger(__name__)

LONG_POLL = 0.5
"""Seconds that a broker may keep a request while it has no record."""
RESPONSE_BYTES = 50 * 1024 * 1024
"""Bytes at most of one response, unless its first batch has more."""
EMPTY_AFTER = 1.0
"""Seconds after which `Reader.next` returns with nothing, so that its caller can see to other things."""
POSITION_BOUND = 15.0
"""Seconds that finding out where to begin may take."""
BACK_OFF = 0.1
"""Seconds without a request for a partition, or to a broker, after one that failed."""
UNREADABLE_BACK_OFF = 1.0
"""Seconds after which records that cannot be read are asked for again: they may have been damaged on the way."""

_TOPIC_CHANGED = (codes.UNKNOWN_TOPIC, codes.UNKNOWN_TOPIC_ID, codes.INCONSISTENT_TOPIC_ID)
_LEADER_CHANGES = (
    codes.LEADER_NOT_AVAILABLE,
    codes.NOT_LEADER,
    codes.FENCED_LEADER_EPOCH,
    codes.UNKNOWN_LEADER_EPOCH,
    codes.OFFSET_NOT_AVAILABLE,
)

STALE = -1
"""In place of an offset: it was of a topic of the same name that is no more."""

Locate = Callable[[Collection[int]], Awaitable[Mapping[int, int | None]]]
OnPositioned = Callable[[int, int, "Start"], None]
"""Is told that reading of a partition begins, or begins anew, at an offset, and why there; no record comes before."""


class Start(Enum):
    """Why reading a partition begins where it does."""

    COMMITTED = "it is what the group has committed"
    UNCOMMITTED = "it is the beginning, since the group has committed nothing of the partition"
    RESET = "offsets from before mean nothing any more: the record to be read next is gone, or the topic is another one"


class Reader:
    """Reads partitions of one topic, each from where it is told to.

    Where the topic is deleted and created again, each partition is read from its beginning.

    Args:
        link: to the cluster; started by the caller.
        topic: what to read.
        partition_bytes: how much of a partition to ask for at once.
        resume: says where to go on in partitions that were assigned without an offset: None for where they begin, and
            `STALE` for the same where an offset is known that means nothing any more; default: where they begin.
        on_positioned: told where reading of a partition begins that was assigned without an offset, or whose next
            record is gone.
    """

    def __init__(
        self,
        link: Link,
        topic: str,
        *,
        partition_bytes: int,
        resume: Locate | None = None,
        on_positioned: OnPositioned | None = None,
    ) -> None:
        self.topic = topic
        self._link = link
        self._lane = link.new_lane("fetch")
        self._partition_bytes = partition_bytes
        self._resume = resume
        self._on_positioned = on_positioned
        self._loop = asyncio.get_running_loop()
        self._topic_id: bytes | None = None
        self._positioned_in: dict[int, bytes | None] = {}
        self._positions: dict[int, int] = {}
        self._unplaced: dict[int, Start] = {}
        self._paused: frozenset[int] = frozenset()
        self._fetched: dict[int, Fetched] = {}
        self._under_way: dict[int, tuple[asyncio.Task[None], list[Wanted]]] = {}
        self._not_before: dict[int, float] = {}
        self._trouble: dict[int, str] = {}
        self._fatal: BrokerError | None = None
        self._answer = BoundedEvent(EMPTY_AFTER)
        self._failing: set[int] = set()
        self._stopped = False
        link.watch(topic)
        link.listen(self._on_metadata)

    async def start(self) -> None:
        """Find the topic.

        Raises:
            BrokerUnavailable: no broker answers in time.
            BrokerError: the topic cannot be read; `TopicUnknown` where there is none.
        """
        try:
            async with asyncio.timeout(POSITION_BOUND):
                await self._link.find(self.topic)
        except TimeoutError:
            raise BrokerUnavailable(f"looking up {self.topic}: no answer within {POSITION_BOUND:g} s") from None
        self._on_metadata()

    async def stop(self) -> None:
        """Close the reader's connections; whoever waits for records gets a `BrokerUnavailable`."""
        if self._stopped:
            return
        self._stopped = True
        self._link.stop_listening(self._on_metadata)
        self._link.unwatch(self.topic)
        self._answer.set()
        tasks = [task for task, _ in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close_lane(self._lane)

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of each partition that is read next: whatever lies before it was returned or holds no record.

        Markers of transactions, aborted records and what compaction removed are stepped over. Partitions of which it is
        not known yet where to begin are left out.
        """
        return self._positions

    @property
    def topic_id(self) -> bytes | None:
        """Which of the topics of this name is read; None where the cluster does not tell."""
        return self._topic_id

    def topic_id_of(self, partition: int) -> bytes | None:
        """Which of the topics of this name the partition's offsets were of, when reading of it last began."""
        return self._positioned_in.get(partition, self._topic_id)

    @property
    def trouble(self) -> str | None:
        """Why some partition cannot be read, in a sentence; None while all can."""
        return next(iter(self._trouble.values()), None)

    def assign(self, positions: Mapping[int, int | None]) -> None:
        """Read these partitions from now on and no others: from these offsets, or from where each is to be resumed."""
        self._positions = {partition: offset for partition, offset in positions.items() if offset is not None}
        start = Start.COMMITTED if self._resume is not None else Start.UNCOMMITTED
        self._unplaced = {partition: start for partition, offset in positions.items() if offset is None}
        self._paused = frozenset()
        self._fetched.clear()
        self._not_before.clear()
        self._trouble.clear()
        self._answer.set()

    def pause(self, partitions: Iterable[int]) -> None:
        """Return nothing more of these partitions until they are resumed, and do not ask for it."""
        self._paused = self._paused.union(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Read these partitions again."""
        self._paused = self._paused.difference(partitions)
        self._answer.set()

    async def next(self, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; none if none came for a while.

        What has arrived is returned at once. Otherwise the brokers are asked, and the first answer ends the wait. To be
        awaited by one task at a time.

        Raises:
            TopicUnknown: the topic is gone; it is read from its beginning once it is there again.
            AuthorizationFailed: the cluster does not allow to read it.
            BrokerError: it cannot be found out where to begin, or the reader has stopped. A broker that is away is no
                error: it is asked again. Records that cannot be read are none either, see `trouble`.
        """
        records = self._take(limit)
        if not records:
            self._check()
            if self._unplaced:
                await self._place()
            self._ask()
            await self._answer.wait()
            records = self._take(limit)
        return records

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits up to ``timeout`` seconds for one. Raises as `next`."""
        try:
            async with asyncio.timeout(timeout):
                while not (records := await self.next(limit)):
                    pass
                return records
        except TimeoutError:
            return []

    def _check(self) -> None:
        fatal, self._fatal = self._fatal, None
        if fatal is None and (fatal := self._link.trouble_with(self.topic)) is not None:
            self._link.request_refresh()
        if fatal is not None:
            raise fatal

    def _take(self, limit: int | None) -> list[Record]:
        if self._stopped:
            raise BrokerUnavailable(f"reading {self.topic}: the reader has stopped")
        records: list[Record] = []
        for partition in [partition for partition in self._fetched if partition not in self._paused]:
            fetched = self._fetched[partition]
            try:
                fetched.take(limit, records)
            except RecordsUnreadable as error:
                del self._fetched[partition]
                self._cannot_read(partition, str(error))
            else:
                if fetched.exhausted:
                    del self._fetched[partition]
                self._can_read(partition)
            del self._positions[partition]  # to the end of the line, for the sake of the others
            self._positions[partition] = fetched.position
            if limit is not None and len(records) >= limit:
                break
        return records

    def _cannot_read(self, partition: int, reason: str) -> None:
        if self._trouble.get(partition) != reason:
            log.error("%s; it is tried again, and the other partitions are read on", reason)
            self._trouble[partition] = reason
        self._wait_before_asking(partition, UNREADABLE_BACK_OFF)

    def _can_read(self, partition: int) -> None:
        if self._trouble and self._trouble.pop(partition, None) is not None:
            log.info("%s/%d is read again", self.topic, partition)

    def _wait_before_asking(self, partition: int, seconds: float) -> None:
        self._not_before[partition] = time.monotonic() + seconds
        self._loop.call_later(seconds, self._answer.set)

    # where to begin

    async def _place(self) -> None:
        """Find out where to read partitions of which that is not known."""
        unplaced = self._unplaced
        try:
            found: dict[int, tuple[int, Start]] = {}
            asked = [partition for partition, start in unplaced.items() if start is Start.COMMITTED]
            if asked and self._resume is not None:
                for partition, offset in (await self._resume(asked)).items():
                    if offset is None:
                        unplaced[partition] = Start.UNCOMMITTED
                    elif offset == STALE:
                        unplaced[partition] = Start.RESET
                    else:
                        found[partition] = (offset, Start.COMMITTED)
            asked = [partition for partition, start in unplaced.items() if start is not Start.COMMITTED]
            if asked:
                for partition, begin in (await beginnings(self._link, self.topic, asked, POSITION_BOUND)).items():
                    found[partition] = (begin, unplaced[partition])
        except BrokerError:
            if self._unplaced is unplaced:
                raise
        if self._unplaced is not unplaced:
            return  # there is another assignment by now
        for partition, (offset, start) in found.items():
            del unplaced[partition]
            self._positions[partition] = offset
            if self._positioned_in.setdefault(partition, self._topic_id) != self._topic_id:
                self._positioned_in[partition] = self._topic_id
                start = Start.RESET
            if self._on_positioned is not None:
                self._on_positioned(partition, offset, start)

    def _reset(self, partitions: Iterable[int]) -> None:
        """Read partitions from their beginning, since what was to be read next is gone."""
        self._unplaced = dict(self._unplaced)  # whatever is being found out for the others is found out again
        for partition in partitions:
            self._positions.pop(partition, None)
            self._fetched.pop(partition, None)
            self._trouble.pop(partition, None)
            self._unplaced[partition] = Start.RESET

    def _on_metadata(self) -> None:
        """Notice that the topic was deleted and created again, and give up requests to whoever leads no more."""
        topic = self._link.topic(self.topic)
        if topic is None:
            return
        if topic.id != self._topic_id:
            if self._topic_id is not None:
                log.warning("%s was deleted and created again; it is read from its beginning", self.topic)
                self._reset(list(self._positions))
                self._give_up(list(self._under_way))
            self._topic_id = topic.id
        self._give_up(
            [
                leader
                for leader, (_, wanted) in self._under_way.items()
                if all(self._link.leader(self.topic, one.partition) != leader for one in wanted)
            ]
        )

    def _give_up(self, leaders: Iterable[int]) -> None:
        for leader in leaders:
            if leader != NO_LEADER:
                # taken out here and not by the task: one that is cancelled before its first step does nothing any more
                self._under_way.pop(leader)[0].cancel()
                self._link.drop(leader, self._lane)
        self._answer.set()

    # fetching

    def _ask(self) -> None:
        """Send a request to each leader that none is under way to, for what has not arrived yet of its partitions."""
        wanted: dict[int, list[Wanted]] = {}
        now = time.monotonic() if self._not_before else 0.0
        for partition, position in self._positions.items():
            if partition in self._fetched or partition in self._paused or partition in self._unplaced:
                continue
            if self._not_before:
                if self._not_before.get(partition, 0.0) > now:
                    continue
                self._not_before.pop(partition, None)
            leader = self._link.leader(self.topic, partition)
            if leader == NO_LEADER and 0 < (count := self._link.partitions(self.topic)) <= partition:
                self._cannot_read(partition, f"{self.topic} has {count} partitions, and no partition {partition}")
                continue
            wanted.setdefault(leader, []).append(Wanted(partition, position, self._partition_bytes))
        for leader, some in wanted.items():
            if leader not in self._under_way:
                self._under_way[leader] = (self._loop.create_task(self._fetch(leader, some)), some)

    async def _fetch(self, leader: int, wanted: list[Wanted]) -> None:
        """Make one request, and see to it that the next one fares better if it fails."""
        try:
            if leader == NO_LEADER:
                raise Unreachable("some of its partitions have no leader")
            request = FetchRequest(self.topic, self._topic_id, wanted, wait=LONG_POLL, most_bytes=RESPONSE_BYTES)
            code, answers = answers_of(await self._link.send(leader, request, self._lane, REQUEST_BOUND))
            if code in _TOPIC_CHANGED:
                self._link.request_refresh()
            elif code:
                raise Unreachable(codes.name_of(code))
            self._take_in(answers, wanted)
            if leader in self._failing:
                log.info("%s is read again from broker %d", self.topic, leader)
                self._failing -= {leader, NO_LEADER}
        except Unreachable as error:
            self._answer.set()
            if leader not in self._failing:
                log.warning("%s cannot be read, and is tried again: %s", self.topic, error)
                self._failing.add(leader)
            self._link.request_refresh()
            await asyncio.sleep(BACK_OFF)
        finally:
            entry = self._under_way.get(leader)
            if entry is not None and entry[1] is wanted:
                del self._under_way[leader]
            self._answer.set()

    def _take_in(self, answers: Iterable[Answer], wanted: Iterable[Wanted]) -> None:
        """Keep what a response brings."""
        asked = {one.partition: one.offset for one in wanted}
        for partition, code, aborted, content in answers:
            offset = asked[partition]
            if self._positions.get(partition) != offset:
                continue  # it was taken away meanwhile, or set elsewhere
            if code == codes.NONE:
                if content:
                    self._fetched[partition] = Fetched(self.topic, partition, offset, content, aborted)
                else:
                    self._can_read(partition)
            elif code == codes.OFFSET_OUT_OF_RANGE:
                log.warning("%s/%d: offset %d is gone, or not there yet", self.topic, partition, offset)
                self._reset([partition])
            elif code == codes.TOPIC_AUTHORIZATION_FAILED:
                self._fatal = AuthorizationFailed("topic", self.topic, "Read")
            else:
                self._link.request_refresh()
                self._wait_before_asking(partition, BACK_OFF)
                if code not in _TOPIC_CHANGED and code not in _LEADER_CHANGES:
                    place = f"{self.topic}/{partition} from offset {offset}"
                    self._cannot_read(partition, f"the records of {place} cannot be read: {codes.name_of(code)}")
