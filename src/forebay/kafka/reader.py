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
from forebay.kafka.records import Partition, Record
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

Locate = Callable[[Collection[Partition]], Awaitable[Mapping[Partition, int | None]]]
OnPositioned = Callable[[Partition, int, "Start"], None]
"""Is told that reading of a partition begins, or begins anew, at an offset, and why there; no record comes before."""


class Start(Enum):
    """Why reading a partition begins where it does."""

    COMMITTED = "it is what the group has committed"
    UNCOMMITTED = "it is the beginning, since the group has committed nothing of the partition"
    RESET = "offsets from before mean nothing any more: the record to be read next is gone, or the topic is another one"


_AT_BEGINNING = (Start.UNCOMMITTED, Start.RESET)


class Reader:
    """Reads partitions of some topics, each from where it is told to.

    Where a topic is deleted and created again, each of its partitions is read from its beginning.

    Args:
        link: to the cluster; started by the caller.
        topics: what to read.
        partition_bytes: how much of a partition to ask for at once.
        resume: says where to go on in partitions that were assigned without an offset: None for where they begin, and
            `STALE` for the same where an offset is known that means nothing any more; default: where they begin.
        on_positioned: told where reading of a partition begins that was assigned without an offset, or whose next
            record is gone.
    """

    def __init__(
        self,
        link: Link,
        topics: Collection[str],
        *,
        partition_bytes: int,
        resume: Locate | None = None,
        on_positioned: OnPositioned | None = None,
    ) -> None:
        self.topics = tuple(topics)
        self._name = ", ".join(self.topics)
        self._link = link
        self._lane = link.new_lane("fetch")
        self._partition_bytes = partition_bytes
        self._resume = resume
        self._on_positioned = on_positioned
        self._loop = asyncio.get_running_loop()
        self._ids: dict[str, bytes | None] = {}
        self._names: dict[bytes | str, str] = {topic: topic for topic in self.topics}
        self._positioned_in: dict[Partition, bytes | None] = {}
        self._positions: dict[Partition, int] = {}
        self._unplaced: dict[Partition, Start] = {}
        self._paused: frozenset[Partition] = frozenset()
        self._fetched: dict[Partition, Fetched] = {}
        self._under_way: dict[int, tuple[asyncio.Task[None], dict[Partition, int]]] = {}
        self._not_before: dict[Partition, float] = {}
        self._trouble: dict[Partition, str] = {}
        self._denied: AuthorizationFailed | None = None
        self._answer = BoundedEvent(EMPTY_AFTER)
        self._failing: set[int] = set()
        self._stopped = False
        for topic in self.topics:
            link.watch(topic)
        link.listen(self._on_metadata)

    async def start(self) -> None:
        """Find the topics.

        Raises:
            BrokerUnavailable: no broker answers in time.
            BrokerError: a topic cannot be read; `TopicUnknown` where there is none.
        """
        try:
            async with asyncio.timeout(POSITION_BOUND):
                for topic in self.topics:
                    await self._link.find(topic)
        except TimeoutError:
            raise BrokerUnavailable(f"looking up {self._name}: no answer within {POSITION_BOUND:g} s") from None
        self._on_metadata()

    async def stop(self) -> None:
        """Close the reader's connections; whoever waits for records gets a `BrokerUnavailable`."""
        if self._stopped:
            return
        self._stopped = True
        self._link.stop_listening(self._on_metadata)
        for topic in self.topics:
            self._link.unwatch(topic)
        self._answer.set()
        tasks = [task for task, _ in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close_lane(self._lane)

    @property
    def positions(self) -> Mapping[Partition, int]:
        """The offset of each partition that is read next: whatever lies before it was returned or holds no record.

        Markers of transactions, aborted records and what compaction removed are stepped over. Partitions of which it is
        not known yet where to begin are left out.
        """
        return self._positions

    def id_of(self, topic: str) -> bytes | None:
        """Which of the topics of this name is read; None where the cluster does not tell."""
        return self._ids.get(topic)

    def is_of_this_topic(self, partition: Partition) -> bool:
        """Whether a partition's offsets are of the topic that has this name now, and not of one before."""
        current = self._ids.get(partition[0])
        return self._positioned_in.get(partition, current) == current

    @property
    def trouble(self) -> str | None:
        """Why some partition cannot be read, in a sentence; None while all can."""
        return next(iter(self._trouble.values()), None)

    def assign(self, positions: Mapping[Partition, int | None]) -> None:
        """Read these partitions from now on and no others: from these offsets, or from where each is to be resumed."""
        self._positions = {partition: offset for partition, offset in positions.items() if offset is not None}
        start = Start.COMMITTED if self._resume is not None else Start.UNCOMMITTED
        self._unplaced = {partition: start for partition, offset in positions.items() if offset is None}
        self._paused = frozenset()
        self._fetched.clear()
        self._not_before.clear()
        self._trouble.clear()
        self._answer.set()

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Return nothing more of these partitions until they are resumed, and do not ask for it."""
        self._paused = self._paused.union(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Read these partitions again."""
        self._paused = self._paused.difference(partitions)
        self._answer.set()

    async def next(self, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; none if none came for a while.

        What has arrived is returned at once. Otherwise the brokers are asked, and the first answer ends the wait. To be
        awaited by one task at a time.

        Raises:
            TopicUnknown: a topic is gone, and there was nothing of the others; it is read from its beginning once it is
                there again.
            AuthorizationFailed: the cluster does not allow to read a topic.
            BrokerError: it cannot be found out where to begin, or the reader has stopped. A broker that is away is no
                error: it is asked again. Records that cannot be read are none either, see `trouble`.
        """
        records = self._take(limit)
        if not records:
            problem = await self._place() if self._unplaced else None
            self._ask()
            await self._answer.wait()
            records = self._take(limit)
            if not records:
                self._raise_what_is_wrong(problem)
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

    def _raise_what_is_wrong(self, problem: BrokerError | None) -> None:
        denied, self._denied = self._denied, None
        for topic in self.topics:
            if denied is None and (trouble := self._link.trouble_with(topic)) is not None:
                self._link.request_refresh()
                raise trouble
        if (problem := denied or problem) is not None:
            raise problem

    def _take(self, limit: int | None) -> list[Record]:
        if self._stopped:
            raise BrokerUnavailable(f"reading {self._name}: the reader has stopped")
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

    def _cannot_read(self, partition: Partition, reason: str) -> None:
        if self._trouble.get(partition) != reason:
            log.error("%s; it is tried again, and the other partitions are read on", reason)
            self._trouble[partition] = reason
        self._wait_before_asking(partition, UNREADABLE_BACK_OFF)

    def _can_read(self, partition: Partition) -> None:
        if self._trouble and self._trouble.pop(partition, None) is not None:
            log.info("%s/%d is read again", *partition)

    def _wait_before_asking(self, partition: Partition, seconds: float) -> None:
        self._not_before[partition] = time.monotonic() + seconds
        self._loop.call_later(seconds, self._answer.set)

    # where to begin

    async def _place(self) -> BrokerError | None:
        """Find out where to read partitions of which that is not known; return what is in the way of some."""
        unplaced = self._unplaced
        problem: BrokerError | None = None
        found: dict[Partition, tuple[int, Start]] = {}
        asked = [partition for partition, start in unplaced.items() if start is Start.COMMITTED]
        if asked and self._resume is not None:
            try:
                resumed = await self._resume(asked)
            except BrokerError as error:
                resumed, problem = {}, error
            for partition, offset in resumed.items():
                if offset is None or offset == STALE:
                    unplaced[partition] = Start.UNCOMMITTED if offset is None else Start.RESET
                else:
                    found[partition] = (offset, Start.COMMITTED)
        for topic in self.topics:
            numbers = [number for (name, number), start in unplaced.items() if name == topic and start in _AT_BEGINNING]
            try:
                begins = await beginnings(self._link, topic, numbers, POSITION_BOUND) if numbers else {}
            except BrokerError as error:
                problem = error
                continue
            found.update({(topic, number): (begin, unplaced[topic, number]) for number, begin in begins.items()})
        if self._unplaced is not unplaced:
            return None  # there is another assignment by now
        for partition, (offset, start) in found.items():
            self._begin(partition, offset, start)
        return problem

    def _begin(self, partition: Partition, offset: int, start: Start) -> None:
        del self._unplaced[partition]
        self._positions[partition] = offset
        current = self._ids.get(partition[0])
        if self._positioned_in.setdefault(partition, current) != current:
            self._positioned_in[partition] = current
            start = Start.RESET
        if self._on_positioned is not None:
            self._on_positioned(partition, offset, start)

    def _reset(self, partitions: Iterable[Partition]) -> None:
        """Read partitions from their beginning, since what was to be read next is gone."""
        self._unplaced = dict(self._unplaced)  # whatever is being found out for the others is found out again
        for partition in partitions:
            self._positions.pop(partition, None)
            self._fetched.pop(partition, None)
            self._trouble.pop(partition, None)
            self._unplaced[partition] = Start.RESET

    def _on_metadata(self) -> None:
        """Notice topics that were deleted and created again, and give up requests to whoever leads no more."""
        for name in self.topics:
            topic = self._link.topic(name)
            if topic is not None and (name not in self._ids or topic.id != self._ids[name]):
                known = self._ids.get(name)
                self._ids[name] = topic.id
                if topic.id is not None:
                    self._names[topic.id] = name
                if known is not None:
                    log.warning("%s was deleted and created again; it is read from its beginning", name)
                    self._names.pop(known, None)
                    self._reset([partition for partition in self._positions if partition[0] == name])
                    self._give_up(list(self._under_way))
        self._give_up(
            [
                leader
                for leader, (_, wanted) in self._under_way.items()
                if all(self._link.leader(*partition) not in (leader, NO_LEADER) for partition in wanted)
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
        wanted: dict[int, dict[Partition, int]] = {}
        now = time.monotonic() if self._not_before else 0.0
        for partition, position in self._positions.items():
            if partition in self._fetched or partition in self._paused:
                continue
            if self._not_before:
                if self._not_before.get(partition, 0.0) > now:
                    continue
                self._not_before.pop(partition, None)
            leader = self._link.leader(*partition)
            if leader == NO_LEADER and self._is_no_partition(partition):
                continue
            wanted.setdefault(leader, {})[partition] = position
        for leader, some in wanted.items():
            if leader not in self._under_way:
                self._under_way[leader] = (self._loop.create_task(self._fetch(leader, some)), some)

    def _is_no_partition(self, partition: Partition) -> bool:
        topic, number = partition
        count = self._link.partitions(topic)
        if not 0 < count <= number:
            return False
        self._cannot_read(partition, f"{topic} has {count} partitions, and no partition {number}")
        return True

    async def _fetch(self, leader: int, wanted: dict[Partition, int]) -> None:
        """Make one request, and see to it that the next one fares better if it fails."""
        try:
            if leader == NO_LEADER:
                raise Unreachable("some of its partitions have no leader")
            by_topic: dict[str, list[Wanted]] = {}
            for (topic, number), offset in wanted.items():
                by_topic.setdefault(topic, []).append(Wanted(number, offset, self._partition_bytes))
            request = FetchRequest(by_topic, self._ids, wait=LONG_POLL, most_bytes=RESPONSE_BYTES)
            code, answers = answers_of(await self._link.send(leader, request, self._lane, REQUEST_BOUND))
            if code in _TOPIC_CHANGED:
                self._link.request_refresh()
            elif code:
                raise Unreachable(codes.name_of(code))
            self._take_in(answers, wanted)
            if leader in self._failing:
                log.info("%s: read again from broker %d", self._name, leader)
                self._failing -= {leader, NO_LEADER}
        except Unreachable as error:
            self._answer.set()
            if leader not in self._failing:
                log.warning("%s cannot be read, and is tried again: %s", self._name, error)
                self._failing.add(leader)
            self._link.request_refresh()
            await asyncio.sleep(BACK_OFF)
        finally:
            entry = self._under_way.get(leader)
            if entry is not None and entry[1] is wanted:
                del self._under_way[leader]
            self._answer.set()

    def _take_in(self, answers: Iterable[Answer], wanted: Mapping[Partition, int]) -> None:
        """Keep what a response brings."""
        for topic_id, number, code, aborted, content in answers:
            topic = self._names.get(topic_id, "")
            partition = (topic, number)
            offset = wanted.get(partition)
            if offset is None or self._positions.get(partition) != offset:
                continue  # it was taken away meanwhile, or set elsewhere
            if code == codes.NONE:
                if content:
                    self._fetched[partition] = Fetched(topic, number, offset, content, aborted)
                else:
                    self._can_read(partition)
            elif code == codes.OFFSET_OUT_OF_RANGE:
                log.warning("%s/%d: offset %d is gone, or not there yet", topic, number, offset)
                self._reset([partition])
            elif code == codes.TOPIC_AUTHORIZATION_FAILED:
                self._denied = AuthorizationFailed("topic", topic, "Read")
                self._wait_before_asking(partition, BACK_OFF)
            else:
                self._link.request_refresh()
                self._wait_before_asking(partition, BACK_OFF)
                if code not in _TOPIC_CHANGED and code not in _LEADER_CHANGES:
                    place = f"{topic}/{number} from offset {offset}"
                    self._cannot_read(partition, f"the records of {place} cannot be read: {codes.name_of(code)}")
