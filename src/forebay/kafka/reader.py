"""The reader: asks the leaders of some partitions for records whenever somebody wants more.

aiokafka's consumer fetches ahead in the background, and passes what comes through one task more and a look at every
partition. Here nothing is fetched before it is wanted: what has gathered meanwhile comes together, no more than one
response of each broker is held in memory, and nothing else stands between a response and whoever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest

from forebay.errors import BrokerError, BrokerUnavailable, RecordsUnreadable
from forebay.kafka.arrivals import Lull
from forebay.kafka.connection import ADMIN_TIMEOUT, connect, connection, disconnect, within
from forebay.kafka.records import Record
from forebay.kafka.wire.batches import Fetched
from forebay.settings import Settings

log = logging.getLogger(__name__)

LONG_POLL = 0.5
"""Seconds that a broker may keep a request while it has no record."""
RESPONSE_BYTES = 50 * 1024 * 1024
"""Bytes at most of one response, unless its first batch has more."""
REQUEST_BOUND = 15.0
"""Seconds after which a connection without an answer counts as dead."""
PATIENCE = 1.0
"""Seconds after which `Reader.next` returns with nothing, so that its caller can see to other things."""
BACK_OFF = 0.1
"""Seconds without a request to a broker after one that failed."""

_READ_COMMITTED = 1
_NO_LEADER = -1

Locate = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
Resume = Callable[[Collection[int]], Awaitable[Mapping[int, int | None]]]
OnPositioned = Callable[[int, int, "Start"], None]
"""Is told that reading of a partition begins, or begins anew, at an offset, and why there; no record comes before."""


class Start(Enum):
    """Why reading a partition begins where it does."""

    COMMITTED = "it is what the group has committed"
    UNCOMMITTED = "it is the beginning, since the group has committed nothing of the partition"
    RESET = "it is the beginning, since what was to be read next is gone; offsets from before mean nothing any more"


class Reader:
    """Reads partitions of one topic, each from where it is told to.

    Args:
        settings: where the cluster is.
        client: name of this client, for the broker's logs.
        topic: what to read.
        begin: says where partitions begin; asked where the record that was to be read is gone.
        resume: says where to go on in partitions that were assigned without an offset, or None for where they begin;
            default: where they begin.
        on_positioned: told where reading of a partition begins that was assigned without an offset, or whose next
            record is gone.
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        topic: str,
        *,
        begin: Locate,
        resume: Resume | None = None,
        on_positioned: OnPositioned | None = None,
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._client = AIOKafkaClient(**connection(settings, client), request_timeout_ms=int(REQUEST_BOUND * 1000))
        self._partition_bytes = settings.max_message_bytes
        self._begin = begin
        self._resume = resume
        self._on_positioned = on_positioned
        self._loop = asyncio.get_running_loop()
        self._positions: dict[int, int] = {}
        self._unplaced: dict[int, Start] = {}
        self._paused: frozenset[int] = frozenset()
        self._fetched: dict[int, Fetched] = {}
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._answer = Lull(PATIENCE)
        self._troubled: set[int] = set()
        self._stopped = False

    async def start(self) -> None:
        """Connect; raises `BrokerUnavailable` when nobody answers."""
        await connect(self._settings, self._client.bootstrap())
        await within(ADMIN_TIMEOUT, f"looking up {self.topic}", self._client.set_topics([self.topic]))

    async def stop(self) -> None:
        """Disconnect, within a bound; whoever waits for records gets a `BrokerUnavailable`."""
        self._stopped = True
        self._answer.end()
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await disconnect(f"the reader of {self.topic}", self._client.close())

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of each partition that is read next: whatever lies before it was returned or holds no record.

        Markers of transactions, aborted records and what compaction removed are stepped over. Partitions of which it is
        not known yet where to begin are left out.
        """
        return self._positions

    def assign(self, positions: Mapping[int, int | None]) -> None:
        """Read these partitions from now on and no others: from these offsets, or from where each is to be resumed."""
        self._positions = {partition: offset for partition, offset in positions.items() if offset is not None}
        start = Start.COMMITTED if self._resume is not None else Start.UNCOMMITTED
        self._unplaced = {partition: start for partition, offset in positions.items() if offset is None}
        self._paused = frozenset()
        self._fetched.clear()
        self._answer.end()

    def pause(self, partitions: Iterable[int]) -> None:
        """Return nothing more of these partitions until they are resumed, and do not ask for it."""
        self._paused = self._paused.union(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Read these partitions again."""
        self._paused = self._paused.difference(partitions)
        self._answer.end()

    async def next(self, limit: int | None = None) -> list[Record]:
        """Return up to ``limit`` records, in order within each partition; none if none came for a while.

        What has arrived is returned at once. Otherwise the brokers are asked, and the first answer ends the wait. To be
        awaited by one task at a time.

        Raises:
            BrokerError: a batch cannot be read, it cannot be found out where to begin, or the reader has stopped. A
                broker that is away is no error: it is asked again.
        """
        records = self._take(limit)
        if not records:
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

    def _take(self, limit: int | None) -> list[Record]:
        if self._stopped:
            raise BrokerUnavailable(f"reading {self.topic}: the reader has stopped")
        records: list[Record] = []
        for partition in [partition for partition in self._fetched if partition not in self._paused]:
            fetched = self._fetched[partition]
            try:
                fetched.take(limit, records)
            except RecordsUnreadable:
                del self._fetched[partition]  # it is fetched again: what is wrong with it may have been so on the way
                if not records:
                    raise
            finally:
                del self._positions[partition]  # to the end of the line, for the sake of the others
                self._positions[partition] = fetched.position
            if fetched.exhausted:
                del self._fetched[partition]
            if limit is not None and len(records) >= limit:
                break
        return records

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
                    else:
                        found[partition] = (offset, Start.COMMITTED)
            asked = [partition for partition, start in unplaced.items() if start is not Start.COMMITTED]
            if asked:
                for partition, offset in (await self._begin(asked)).items():
                    found[partition] = (offset, unplaced[partition])
        except BrokerError:
            if self._unplaced is unplaced:
                raise
        if self._unplaced is not unplaced:
            return  # there is another assignment by now
        for partition, (offset, start) in found.items():
            del unplaced[partition]
            self._positions[partition] = offset
            if self._on_positioned is not None:
                self._on_positioned(partition, offset, start)

    def _ask(self) -> None:
        """Send a request to each leader that none is under way to, for what has not arrived yet of its partitions."""
        wanted: dict[int, list[tuple[int, int, int]]] = {}
        for partition, position in self._positions.items():
            if not (partition in self._fetched or partition in self._paused or partition in self._unplaced):
                leader = self._client.cluster.leader_for_partition(TopicPartition(self.topic, partition))
                asked = wanted.setdefault(_NO_LEADER if leader is None else leader, [])
                asked.append((partition, position, self._partition_bytes))
        for leader, partitions in wanted.items():
            if leader not in self._under_way:
                self._under_way[leader] = self._loop.create_task(self._fetch(leader, partitions))

    async def _fetch(self, leader: int, partitions: list[tuple[int, int, int]]) -> None:
        """Make one request, and see to it that the next one fares better if it fails."""
        try:
            if leader == _NO_LEADER:
                raise LeaderNotAvailableError
            request = FetchRequest(
                int(LONG_POLL * 1000), 1, RESPONSE_BYTES, _READ_COMMITTED, [(self.topic, partitions)]
            )
            self._take_in(await self._client.send(leader, request), partitions)
            if leader in self._troubled:
                log.info("%s is read again from broker %d", self.topic, leader)
                self._troubled -= {leader, _NO_LEADER}
        except (KafkaError, OSError) as error:
            self._answer.end()
            if leader not in self._troubled:
                log.warning("%s cannot be read, and is tried again: %s", self.topic, error or type(error).__name__)
                self._troubled.add(leader)
            self._client.force_metadata_update()
            await asyncio.sleep(BACK_OFF)
        finally:
            del self._under_way[leader]
            self._answer.end()

    def _take_in(self, response: Any, partitions: list[tuple[int, int, int]]) -> None:
        """Keep what a response brings; raises what is wrong with one of its partitions."""
        asked = {partition: offset for partition, offset, _ in partitions}
        trouble: KafkaError | None = None
        aborted_place = 4 if response.API_VERSION == 4 else 5
        for _, answered in response.topics:
            for answer in answered:
                partition, code, content = answer[0], answer[1], answer[-1]
                offset = asked[partition]
                if self._positions.get(partition) != offset:
                    continue  # it was taken away meanwhile, or set elsewhere
                if code == 0:
                    if content:
                        aborted = answer[aborted_place] or ()
                        self._fetched[partition] = Fetched(self.topic, partition, offset, content, aborted)
                elif (error := for_code(code)) is OffsetOutOfRangeError:
                    log.warning("%s/%d: offset %d is gone, or not there yet", self.topic, partition, offset)
                    self._unplaced[partition] = Start.RESET
                else:
                    trouble = error()
        if trouble is not None:
            raise trouble
