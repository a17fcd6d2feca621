"""The reader: asks the leaders of some partitions for records whenever somebody wants more.

aiokafka's consumer fetches ahead in the background, and passes what comes through one task more and a look at every
partition. Here nothing is fetched before it is wanted: what has gathered meanwhile comes together, no more than one
response of each broker is held in memory, and nothing else stands between a response and whoever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping

from forebay.errors import AuthorizationFailed, BrokerError, BrokerUnavailable, RecordsUnreadable
from forebay.kafka.arrivals import BoundedEvent
from forebay.kafka.fetching import TOPIC_CHANGED, FetchRequests
from forebay.kafka.link import Link
from forebay.kafka.positions import POSITION_BOUND, Locate, OnPositioned, Positions
from forebay.kafka.records import Partition, Record
from forebay.kafka.wire import codes
from forebay.kafka.wire.batches import Fetched
from forebay.kafka.wire.fetch import Answer
from forebay.kafka.wire.metadata import NO_LEADER

log = logging.getLogger(__name__)

EMPTY_AFTER = 1.0
"""Seconds after which `Reader.next` returns with nothing, so that its caller can see to other things."""
BACK_OFF = 0.1
"""Seconds without a request for a partition, after one that failed."""
UNREADABLE_BACK_OFF = 1.0
"""Seconds after which records that cannot be read are asked for again: they may have been damaged on the way."""

_LEADER_CHANGES = (
    codes.LEADER_NOT_AVAILABLE,
    codes.NOT_LEADER,
    codes.FENCED_LEADER_EPOCH,
    codes.UNKNOWN_LEADER_EPOCH,
    codes.OFFSET_NOT_AVAILABLE,
)


def _about(partition: Partition) -> dict[str, str]:
    """Mark a line of the log as one about this partition: the last line about each tells how it is."""
    return {"about": "{}/{}".format(*partition)}


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
        self._loop = asyncio.get_running_loop()
        self._ids: dict[str, bytes | None] = {}
        self._names: dict[bytes | str, str] = {topic: topic for topic in self.topics}
        self._positions = Positions(link, self._ids, resume, on_positioned)
        self._paused: frozenset[Partition] = frozenset()
        self._fetched: dict[Partition, Fetched] = {}
        self._not_before: dict[Partition, float] = {}
        self._trouble: dict[Partition, str] = {}
        self._denied: AuthorizationFailed | None = None
        self._answer = BoundedEvent(EMPTY_AFTER)
        self._requests = FetchRequests(
            link,
            self._name,
            self._ids,
            partition_bytes=partition_bytes,
            on_answers=self._take_in,
            on_end=self._answer.set,
        )
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
        self._forget_failures_except(())
        self._answer.set()
        await self._requests.stop()

    @property
    def positions(self) -> Mapping[Partition, int]:
        """The offset of each partition that is read next: whatever lies before it was returned or holds no record.

        Markers of transactions, aborted records and what compaction removed are stepped over. Partitions of which it is
        not known yet where to begin are left out.
        """
        return self._positions.known

    def id_of(self, topic: str) -> bytes | None:
        """Which of the topics of this name is read; None where the cluster does not tell."""
        return self._ids.get(topic)

    def is_of_this_topic(self, partition: Partition) -> bool:
        """Whether a partition's offsets are of the topic that has this name now, and not of one before."""
        return self._positions.are_of_this_topic(partition)

    @property
    def trouble(self) -> str | None:
        """Why some partition cannot be read, in a sentence; None while all can."""
        denials = (str(denial) for topic in self.topics if (denial := self._link.denial(topic)) is not None)
        return next(iter(self._trouble.values()), None) or next(denials, None)

    def assign(self, positions: Mapping[Partition, int | None]) -> None:
        """Read these partitions from now on and no others: from these offsets, or from where each is to be resumed."""
        self._positions.assign(positions)
        self._paused = frozenset()
        self._fetched.clear()
        self._not_before.clear()
        self._forget_failures_except(positions)
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
            problem = await self._positions.find() if self._positions.unknown else None
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
            self._positions.move(partition, fetched.position)
            if limit is not None and len(records) >= limit:
                break
        return records

    def _cannot_read(self, partition: Partition, reason: str) -> None:
        if self._trouble.get(partition) != reason:
            log.error("%s; it is tried again, and the other partitions are read on", reason, extra=_about(partition))
            self._trouble[partition] = reason
        self._wait_before_asking(partition, UNREADABLE_BACK_OFF)

    def _can_read(self, partition: Partition) -> None:
        if self._trouble and self._trouble.pop(partition, None) is not None:
            log.info("%s/%d is read again", *partition, extra=_about(partition))

    def _forget_failures_except(self, partitions: Collection[Partition]) -> None:
        self._requests.forget_failures_except(partitions)
        for partition in [partition for partition in self._trouble if partition not in partitions]:
            del self._trouble[partition]
            log.info("%s/%d is not read here any more", *partition, extra=_about(partition))

    def _wait_before_asking(self, partition: Partition, seconds: float) -> None:
        self._not_before[partition] = time.monotonic() + seconds
        self._loop.call_later(seconds, self._answer.set)

    # topics that change

    def _reset(self, partitions: Collection[Partition]) -> None:
        """Read partitions from their beginning, since what was to be read next is gone."""
        for partition in partitions:
            self._fetched.pop(partition, None)
        self._positions.reset(partitions)

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
                    log.warning(
                        "%s was deleted and created again; it is read from its beginning", name, extra={"over": True}
                    )
                    self._names.pop(known, None)
                    self._reset([partition for partition in self._positions.known if partition[0] == name])
                    self._requests.give_up_all()
        self._requests.give_up_former_leaders()
        self._answer.set()

    # fetching

    def _ask(self) -> None:
        """Send a request to each leader that none is under way to, for what has not arrived yet of its partitions."""
        wanted: dict[int, dict[Partition, int]] = {}
        now = time.monotonic() if self._not_before else 0.0
        for partition, position in self._positions.known.items():
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
            self._requests.send(leader, some)

    def _is_no_partition(self, partition: Partition) -> bool:
        missing = self._link.missing_partition(*partition)
        if missing is None:
            return False
        self._cannot_read(partition, str(missing))
        return True

    def _take_in(self, answers: Iterable[Answer], wanted: Mapping[Partition, int]) -> None:
        """Keep what a response brings."""
        for topic_id, number, code, aborted, content in answers:
            topic = self._names.get(topic_id, "")
            partition = (topic, number)
            offset = wanted.get(partition)
            if offset is None or self._positions.known.get(partition) != offset:
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
                self._cannot_read(partition, str(self._denied))
            else:
                self._link.request_refresh()
                self._wait_before_asking(partition, BACK_OFF)
                if code not in TOPIC_CHANGED and code not in _LEADER_CHANGES:
                    place = f"{topic}/{number} from offset {offset}"
                    self._cannot_read(partition, f"the records of {place} cannot be read: {codes.name_of(code)}")
