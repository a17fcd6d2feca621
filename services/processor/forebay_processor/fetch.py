"""fetch: bring in records as a member of a consumer group, never waiting for a handler, a send or a commit.

Two fetches are never far apart, so that Kafka's poll limit says nothing about how long a handler may take: a fetcher
whose intake is full goes on polling with its partitions paused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from forebay.errors import AuthorizationFailed, BrokerError, GroupRefused, TopicUnknown
from forebay.kafka import Arrivals, BoundedEvent, Record
from forebay_processor.fatal import Fatal
from forebay_processor.intake import Intake
from forebay_processor.lease import Partition
from forebay_processor.leases import Leases
from forebay_processor.trouble import Trouble

log = logging.getLogger(__name__)

ANSWER_BOUND = 0.002
"""Seconds at most that a job which came alone has for its reply before the next fetch."""

GRACE = 0.5
"""Seconds that the jobs in hand have to end before a processor that is leaving gives its other partitions away."""

REVOKE_BOUND = 0.25
"""Seconds at most by which a rebalance waits for jobs in hand to end."""
REVOKE_IDLE = 0.05
"""Seconds without the end of a job after which those in hand count as long."""

COMMIT_INTERVAL = 0.5
"""Seconds between two commits."""

_POLL = 0.5
_LEAVE_TICK = 0.02
_BACK_OFF = 0.5
_COMMIT_BOUND = 5.0
_LAST_COMMIT_BOUND = 2.0
_REVOKE_TICK = 0.005


class Consumer(Protocol):
    """A member of a group, as `forebay.kafka.GroupConsumer` is one."""

    @property
    def positions(self) -> Mapping[Partition, int]:
        """The offset of each partition that is read next."""

    @property
    def trouble(self) -> str | None:
        """Why records of some partition cannot be read; None while they can."""

    async def start(self) -> None:
        """Connect and join the group."""

    async def stop(self) -> None:
        """Leave the group and disconnect."""

    def give_up_idle(self) -> None:
        """Give others all partitions but the busy ones."""

    async def read(self, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits without a bound for one."""

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits up to ``timeout`` seconds for one."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing more of these partitions until they are resumed."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch these partitions again."""

    async def commit(self, offsets: Mapping[Partition, int], timeout: float) -> bool:
        """Commit the offset to read next of each partition; False when they are another member's."""


class Fetcher:
    """Reads what one group has for this processor, and commits what is settled.

    Args:
        name: of what is read, for the log.
        consumer: reads it.
        intake: takes it.
        fatal: takes the errors of the group, or of access to it, that waiting does not mend.

    Attributes:
        leases: the account of it.
        topic_is_gone: whether the last look found no topic; once there is one again it is read from its beginning.
    """

    def __init__(
        self,
        name: str,
        consumer: Consumer,
        intake: Intake,
        fatal: Fatal,
    ) -> None:
        self.name = name
        self.leases = Leases(intake.window, intake.window_bytes, self._on_end)
        self._consumer = consumer
        self._intake = intake
        self._fatal = fatal
        self._paused: frozenset[Partition] = frozenset()
        self.topic_is_gone = False
        self._has_room = True
        self._accepting = True
        self._joined = asyncio.Event()
        self._said_to_read = 0
        self._reading = Trouble(f"{name}: reading")
        self._committing = Trouble(f"{name}: committing")
        self._stopping: asyncio.Task[None] | None = None
        self._answered = BoundedEvent(ANSWER_BOUND)

    @property
    def trouble(self) -> str | None:
        """What keeps it from reading or committing at present; None while all is well."""
        if not self._joined.is_set():
            return "it has not joined its group yet"
        return self._reading.text or self._consumer.trouble or self._committing.text

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
        await self.commit(_LAST_COMMIT_BOUND)
        await self._consumer.stop()

    def stop_accepting(self) -> None:
        """Take in no more jobs, and hand back those that wait; those that run stay ours, and so do their partitions."""
        self._accepting = False
        self.leases.close()
        self._intake.withdraw()

    async def leave(self) -> None:
        """Leave the group when the jobs in hand are done and committed; to be called after `stop_accepting`.

        If that takes a while, the partitions without a job in hand go to the others before.
        """
        patience = time.monotonic() + GRACE
        giving_up = False
        while not self.leases.finished:
            await self.commit()
            if not giving_up and time.monotonic() > patience:
                giving_up = True
                self._consumer.give_up_idle()
            await asyncio.sleep(_LEAVE_TICK)
        await self.stop()

    async def run(self) -> None:
        """Fetch until cancelled, or until we have left the group; run it as a task."""
        arrivals = Arrivals(self.take, self._answered.wait)
        while self._stopping is None:
            room = self._intake.room() if self._accepting else 0
            self._apply_backpressure(room)
            try:
                if room and self._reading.text is None:
                    await arrivals.next(self._consumer, room)
                elif room:  # whether it works again must show also where nothing arrives
                    self.take(await self._consumer.fetch(_POLL, room))
                else:
                    self.take(await self._consumer.fetch(0, 1))  # of a partition that came a moment ago
                    await self._intake.wait_for_room(_POLL)
                self.topic_is_gone = False
                self._reading.note(None)
            except (AuthorizationFailed, GroupRefused) as error:
                self._fatal.report(error)
                return
            except BrokerError as error:
                self.topic_is_gone = isinstance(error, TopicUnknown)
                if self._stopping is None:
                    self._reading.note(error)
                    await asyncio.sleep(_BACK_OFF)

    async def keep_committing(self) -> None:
        """Commit what is settled every now and then, until cancelled, and see to what keeps partitions full."""
        while True:
            await asyncio.sleep(COMMIT_INTERVAL)
            await self.commit()
            for lease in self.leases.in_the_way:
                self._intake.make_way(lease)

    async def commit(self, bound: float = _COMMIT_BOUND) -> None:
        """Commit the settled prefix of each partition that has moved on; it takes ``bound`` seconds at the most."""
        self.leases.reached(self._consumer.positions)
        positions = self.leases.offer()
        if not positions:
            return
        try:
            if await self._consumer.commit(positions, bound):
                self.leases.confirm(positions)
            else:
                log.info("%s: the group moved on before a commit; the new owners run those jobs again", self.name)
            self._committing.note(None)
        except AuthorizationFailed as error:
            self._fatal.report(error)
        except BrokerError as error:
            self._committing.note(error)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """Hand back what was not begun, and commit what is settled; what runs goes on, and is answered."""
        self._intake.withdraw(partitions)
        await self._wait_for_short_jobs()
        await self.commit()
        self.leases.revoke(partitions)
        self._paused = self._paused.difference(partitions)

    async def _wait_for_short_jobs(self) -> None:
        """Wait while jobs in hand end, one soon after the other: what has ended is committed, and not run again."""
        give_up = time.monotonic() + REVOKE_BOUND
        ended = time.monotonic()
        while (before := self.leases.in_hand) and time.monotonic() < min(give_up, ended + REVOKE_IDLE):
            await asyncio.sleep(_REVOKE_TICK)
            if self.leases.in_hand < before:
                ended = time.monotonic()

    async def assigned(self, partitions: Collection[Partition]) -> None:
        """Begin with the partitions that are ours now."""
        self.leases.assign(partitions)
        self._paused = frozenset()
        if partitions and len(partitions) != self._said_to_read:
            self._said_to_read = len(partitions)
            log.log(self._intake.log_level, "%s: reads %d partitions", self.name, len(partitions))
        self._joined.set()

    def _on_end(self, partition: Partition) -> None:
        """Note that a lease has ended: its partition may have room again, and what came alone has had its reply."""
        self._answered.set()
        if self._has_room and partition in self._paused and partition not in self.leases.full:
            self._paused = self._paused.difference((partition,))
            self._consumer.resume((partition,))

    def take(self, records: list[Record]) -> None:
        """Pass on the records whose jobs are to be run here, each with its lease."""
        leased = [(record, lease) for record in records if (lease := self.leases.grant(record)) is not None]
        if leased:
            self._intake.take(leased)

    def _apply_backpressure(self, room: int) -> None:
        """Pause the partitions that have to wait, resume the others."""
        self._has_room = room > 0
        wanted = self.leases.full if room else self.leases.owned
        if wanted != self._paused:
            self._consumer.pause(wanted - self._paused)
            self._consumer.resume(self._paused - wanted)
            self._paused = frozenset(wanted)
