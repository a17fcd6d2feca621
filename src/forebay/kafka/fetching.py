"""The requests of a reader: one to each leader at a time, for records of some of its partitions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from forebay.kafka.link import REQUEST_BOUND, Link
from forebay.kafka.records import Partition
from forebay.kafka.wire import codes
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.fetch import Answer, FetchRequest, Wanted, answers_of
from forebay.kafka.wire.metadata import NO_LEADER

log = logging.getLogger(__name__)

LONG_POLL = 0.5
"""Seconds that a broker may keep a request while it has no record."""
RESPONSE_BYTES = 50 * 1024 * 1024
"""Bytes at most of one response, unless its first batch has more."""
BACK_OFF = 0.1
"""Seconds without a request to a broker, after one that failed."""

TOPIC_CHANGED = (codes.UNKNOWN_TOPIC, codes.UNKNOWN_TOPIC_ID, codes.INCONSISTENT_TOPIC_ID)
"""The codes with which a broker answers that the topic is not the one that was asked for."""

OnAnswers = Callable[[Iterable[Answer], Mapping[Partition, int]], None]
"""Is told the answers of a response, with the partitions that were asked for and the offset of each."""


class FetchRequests:
    """Makes one fetch request to each leader at a time.

    Args:
        link: to the cluster.
        name: the topics, for the log.
        ids: of the topics as they are now, by name; kept by the reader.
        partition_bytes: how much of a partition to ask for at once.
        on_answers: called with what a response brings.
        on_end: called when a request has failed or ended.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        ids: Mapping[str, bytes | None],
        *,
        partition_bytes: int,
        on_answers: OnAnswers,
        on_end: Callable[[], None],
    ) -> None:
        self._link = link
        self._lane = link.new_lane("fetch")
        self._name = name
        self._about = {"about": name}
        self._ids = ids
        self._partition_bytes = partition_bytes
        self._on_answers = on_answers
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[int, tuple[asyncio.Task[None], dict[Partition, int]]] = {}
        self._failing: dict[int, set[Partition]] = {}

    async def stop(self) -> None:
        """Cancel what is under way, and close the connections."""
        tasks = [task for task, _ in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close_lane(self._lane)

    def send(self, leader: int, wanted: dict[Partition, int]) -> None:
        """Ask a leader for these partitions from these offsets, unless a request to it is under way."""
        if leader not in self._under_way:
            self._under_way[leader] = (self._loop.create_task(self._fetch(leader, wanted)), wanted)

    def give_up_all(self) -> None:
        """Give up all requests."""
        self._give_up(list(self._under_way))

    def give_up_former_leaders(self) -> None:
        """Give up the requests to nodes that lead none of the partitions any more that they were asked for."""
        self._give_up(
            [
                leader
                for leader, (_, wanted) in self._under_way.items()
                if all(self._link.leader(*partition) not in (leader, NO_LEADER) for partition in wanted)
            ]
        )

    def forget_failures_except(self, partitions: Collection[Partition]) -> None:
        """Tell nothing more of failures, but those of these partitions: the others are not read here any more."""
        if self._failing and not self._end_failures(lambda partition: partition not in partitions):
            log.info("%s: what could not be read is not read here any more", self._name, extra=self._about)

    def _end_failures(self, is_over: Callable[[Partition], bool]) -> bool:
        """End the failures of partitions, whichever broker was asked for them; return whether others are left."""
        for leader, partitions in list(self._failing.items()):
            partitions.difference_update([partition for partition in partitions if is_over(partition)])
            if not partitions:
                del self._failing[leader]
        return bool(self._failing)

    def _give_up(self, leaders: Iterable[int]) -> None:
        for leader in leaders:
            if leader != NO_LEADER:
                # taken out here and not by the task: one that is cancelled before its first step does nothing any more
                self._under_way.pop(leader)[0].cancel()
                self._link.drop(leader, self._lane)

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
            if code in TOPIC_CHANGED:
                self._link.request_refresh()
            elif code:
                raise Unreachable(codes.name_of(code))
            self._on_answers(answers, wanted)
            if self._failing and not code and not self._end_failures(wanted.__contains__):
                log.info("%s: read again from broker %d", self._name, leader, extra=self._about)
        except Unreachable as error:
            self._on_end()
            if leader not in self._failing:
                log.warning("%s cannot be read, and is tried again: %s", self._name, error, extra=self._about)
            self._failing.setdefault(leader, set()).update(wanted)
            self._link.request_refresh()
            await asyncio.sleep(BACK_OFF)
        finally:
            entry = self._under_way.get(leader)
            if entry is not None and entry[1] is wanted:
                del self._under_way[leader]
            self._on_end()
