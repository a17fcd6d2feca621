"""fetch: bring in the jobs of one tier, never waiting for a handler, a send or a commit.

Two fetches are never far apart, so that Kafka's poll limit says nothing about how long a handler may take: a tier that
is full goes on polling with its partitions paused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from forebay import tracing
from forebay.errors import BrokerError, CodecError
from forebay.kafka import Arrivals, GroupConsumer, Lull, Record, header
from forebay.messages import decode_job
from forebay.settings import Settings
from forebay_processor.offsets import PartitionOffsets
from forebay_processor.schedule import Scheduler
from forebay_processor.work import Work
from forebay_schemas import topics as topic_names
from forebay_schemas.headers import ATTEMPT

log = logging.getLogger(__name__)

WINDOW = 1000
"""Offsets of a partition that may be outstanding: so many jobs at most run twice after a crash."""

REST = 0.002
"""Seconds at most that a job which came alone has for its reply before the next look for jobs."""

GRACE = 0.5
"""Seconds that the jobs in hand have to end before a processor that is leaving gives its other partitions away."""

_POLL = 0.5
_LEAVE_TICK = 0.02
_BACK_OFF = 0.5
_COMMIT_BOUND = 5.0


class TierFetcher:
    """Reads the jobs of one tier as a member of its group, and keeps account of their offsets.

    Args:
        settings: where the cluster is, and the group's limits.
        app: whose jobs to read.
        tier: the lane of them.
        processor: id of this processor.
        scheduler: takes the jobs.
        on_work: called after jobs were offered to it.
        on_undecodable: called with a record that is no job, and the error that says why.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        tier: str,
        processor: str,
        scheduler: Scheduler,
        *,
        on_work: Callable[[], None],
        on_undecodable: Callable[[TierFetcher, Record, CodecError], None],
    ) -> None:
        self.tier = tier
        self._scheduler = scheduler
        self._on_work = on_work
        self._on_undecodable = on_undecodable
        self._offsets: dict[int, PartitionOffsets] = {}
        self._owned: frozenset[int] = frozenset()
        self._paused: frozenset[int] = frozenset()
        self._full: set[int] = set()
        self._accepting = True
        self._joined = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._lull = Lull(REST)
        self._consumer = GroupConsumer(
            settings,
            processor,
            topic_names.jobs(settings.namespace, app, tier),
            topic_names.group(settings.namespace, app, tier),
            on_revoked=self._revoked,
            on_assigned=self._assigned,
            busy=lambda: [partition for partition, offsets in self._offsets.items() if not offsets.finished],
        )

    async def start(self) -> None:
        """Join the group."""
        await self._consumer.start()

    async def until_joined(self) -> None:
        """Wait until the group has said which partitions are ours; none are where there are more members than those."""
        await self._joined.wait()

    async def stop(self) -> None:
        """Commit what is settled and leave the group; a second call waits for the first."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        await self.commit()
        await self._consumer.stop()

    def stop_accepting(self) -> None:
        """Take in no more jobs, and hand back those that wait; those that run stay ours, and so do their partitions."""
        self._accepting = False
        self._hand_back(self._scheduler.withdraw(lambda work: work.tier == self.tier))
        self._room.set()

    async def leave(self) -> None:
        """Leave the group when the jobs in hand are done and committed; to be called after `stop_accepting`.

        If that takes a while, the partitions without a job in hand go to the others before.
        """
        patience = time.monotonic() + GRACE
        giving_up = False
        while not all(offsets.finished for offsets in self._offsets.values()):
            await self.commit()
            if not giving_up and time.monotonic() > patience:
                giving_up = True
                self._consumer.give_up_idle()
            await asyncio.sleep(_LEAVE_TICK)
        await self.stop()

    def wake(self) -> None:
        """Tell that jobs have left the scheduler, so that there may be room."""
        if not self._room.is_set():
            self._room.set()

    def settle(self, record: Record) -> None:
        """Mark a record as done with."""
        self._lull.end()
        offsets = self._offsets.get(record.partition)
        if offsets is not None:
            offsets.settle(record.offset)
            if record.partition in self._full and not offsets.full:
                self._full.discard(record.partition)

    async def run(self) -> None:
        """Fetch until cancelled, or until we have left the group; run it as a task."""
        arrivals = Arrivals(self._take, self._lull.wait)
        while self._stopping is None:
            room = self._scheduler.room(self.tier) if self._accepting else 0
            self._hold(room)
            try:
                if room and not self._paused:
                    await arrivals.next(self._consumer, room)
                elif room:  # a partition that is paused must be looked at again even if nothing arrives
                    self._take(await self._consumer.fetch(_POLL, room))
                else:
                    self._take(await self._consumer.fetch(0, 1))  # of a partition that came a moment ago
                    await self._wait_for_room()
            except BrokerError as error:
                if self._stopping is None:
                    log.warning("%s: %s", self.tier, error)
                    await asyncio.sleep(_BACK_OFF)

    async def commit(self) -> None:
        """Commit the settled prefix of each partition that has moved on."""
        positions = {
            partition: position
            for partition in self._owned
            if (offsets := self._offsets.get(partition)) is not None and (position := offsets.committable) is not None
        }
        if not positions:
            return
        try:
            if await self._consumer.commit(positions, _COMMIT_BOUND):
                for partition, position in positions.items():
                    if partition in self._offsets:
                        self._offsets[partition].committed(position)
            else:
                log.info("%s: the group moved on before a commit; the new owners run those jobs again", self.tier)
        except BrokerError as error:
            log.warning("%s: %s", self.tier, error)

    async def _wait_for_room(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(_POLL):
                await self._room.wait()
        except TimeoutError:
            return

    def _hold(self, room: int) -> None:
        """Pause the partitions that have to wait, resume the others."""
        wanted = self._full if room else self._owned
        if wanted != self._paused:
            self._consumer.pause(wanted - self._paused)
            self._consumer.resume(self._paused - wanted)
            self._paused = frozenset(wanted)

    def _take(self, records: list[Record]) -> None:
        if not self._accepting:
            return  # they are not committed, so the next owner fetches them
        now = time.time_ns() // 1000
        for record in records:
            offsets = self._offsets.get(record.partition)
            if offsets is None or not offsets.add(record.offset):
                continue
            if offsets.full:
                self._full.add(record.partition)
            try:
                job = decode_job(record.value or b"")
            except CodecError as error:
                self._on_undecodable(self, record, error)
                continue
            attempt = header(record, ATTEMPT)
            self._scheduler.offer(
                Work(
                    job=job,
                    record=record,
                    tier=self.tier,
                    attempt=int(attempt) if attempt and attempt.isdigit() else 1,
                    sender=tracing.from_headers(record.headers),
                    enqueued=record.timestamp * 1000,
                    fetched=now,
                )
            )
        if records:
            self._on_work()

    def _hand_back(self, withdrawn: Iterable[Work]) -> None:
        """Give up jobs that were not started."""
        by_partition: dict[int, list[int]] = {}
        for work in withdrawn:
            by_partition.setdefault(work.record.partition, []).append(work.record.offset)
        for partition, offsets in self._offsets.items():
            offsets.hand_back(by_partition.get(partition, ()))

    async def _revoked(self, partitions: frozenset[int]) -> None:
        """Commit what is settled, and hand back what was not started; what runs goes on, and is answered."""
        await self.commit()
        withdrawn = self._scheduler.withdraw(
            lambda work: work.tier == self.tier and work.record.partition in partitions
        )
        self._hand_back(withdrawn)
        self._owned -= partitions
        self._paused -= partitions

    async def _assigned(self, partitions: frozenset[int]) -> None:
        """Begin with the partitions that are ours now; forget the account of those that did not come back."""
        before = self._offsets
        self._offsets = {
            partition: before[partition] if partition in before else PartitionOffsets(WINDOW)
            for partition in partitions
        }
        for offsets in self._offsets.values():
            offsets.resume()
        try:
            for partition, committed in (await self._consumer.committed(partitions)).items():
                self._offsets[partition].resume(committed)
        except BrokerError as error:  # the consumer itself goes on asking, and begins where the group says
            log.warning("%s: %s", self.tier, error)
        self._owned = partitions
        self._full = {partition for partition in partitions if self._offsets[partition].full}
        self._paused = frozenset()
        if partitions:
            log.info("%s: reads %d partitions", self.tier, len(partitions))
        self._joined.set()
