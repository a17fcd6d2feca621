"""delays: bring jobs back from the retry topics to their queue when they are due.

Every processor of an app is a member of one group that reads the retry topics, one for each delay. A job stays in its
topic until it is due, so a processor that ends keeps nothing from its successor; its lease ends when its queue has it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from forebay import headers
from forebay.errors import BrokerError, BrokerUnavailable, CodecError, MessageTooLarge, TopicUnknown, UnusableJob
from forebay.kafka import Record
from forebay.messages import JobMessage
from forebay.settings import TIERS
from forebay_processor.fatal import Fatal
from forebay_processor.intake import JobReader
from forebay_processor.lease import Lease, Partition
from forebay_processor.metrics import Metrics
from forebay_processor.pauses import Pauses
from forebay_processor.processor import Processor
from forebay_processor.sending import Sending
from forebay_processor.settle import Settler
from forebay_schemas import topics as topic_names

READING = "retries"
"""What the reading of the retry topics is called, beside the tiers."""
WINDOW = 1000
"""Records of a partition that may be in hand: those that are due next."""
WINDOW_BYTES = 4 * 1024 * 1024
"""Bytes of them."""
ROOM = 500
"""Records that are taken in at once."""
TRY_AGAIN_MS = 250
"""Milliseconds after which a job that could not be moved is tried again: its queue is gone, or too much is produced."""

_LONGEST_WAIT = 1.0
_SHORTEST_WAIT = 0.001
_WAIT_IN_DOUBT = 0.05


@dataclass(slots=True, frozen=True, eq=False)
class _Delayed:
    """A job that waits here.

    Attributes:
        due: when it leaves this topic, in milliseconds since the epoch.
        not_before: when it may run, likewise; later than ``due`` where this topic's delay is too short for it.
        queue: the topic that it belongs to.
    """

    due: int
    not_before: int
    queue: str
    record: Record
    lease: Lease
    job: JobMessage


class Partitions(Protocol):
    """Says where in a queue a job had better go."""

    def choose(self, queue: str, operation: str) -> int | None:
        """Return a partition whose owner runs the operation; None where any will do."""


class Delays:
    """Takes jobs that wait in the retry topics, and moves each to its queue when it is due.

    Args:
        namespace: prefix of topics.
        app: whose jobs they are.
        reader: reads them.
        producer: where they go.
        settler: settles records that are no jobs, and jobs that their queue does not take.
        processor: sees to it that those are settled.
        fatal: takes the errors for which a lease cannot end.
        metrics: counts it.
        pauses: says whether nothing is to be moved.
        partitions: says which partition of its queue a job goes to; default: to any.
        clock: seconds since the epoch.
    """

    window = WINDOW
    window_bytes: int | None = WINDOW_BYTES
    log_level = logging.DEBUG

    def __init__(
        self,
        namespace: str,
        app: str,
        reader: JobReader,
        producer: Sending,
        settler: Settler,
        processor: Processor,
        fatal: Fatal,
        metrics: Metrics,
        pauses: Pauses,
        partitions: Partitions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._delays = {
            topic_names.retries(namespace, app, name): delay for name, delay in topic_names.RETRY_DELAYS_MS.items()
        }
        self._queues = {tier: topic_names.jobs(namespace, app, tier) for tier in TIERS}
        self._reader = reader
        self._producer = producer
        self._settler = settler
        self._processor = processor
        self._partitions = partitions
        self._fatal = fatal
        self._metrics = metrics
        self._pauses = pauses
        self._clock = clock
        self._waiting: dict[Partition, deque[_Delayed]] = {}
        self._moving: set[_Delayed] = set()
        self._news = asyncio.Event()

    @property
    def topics(self) -> list[str]:
        """The retry topics of the app."""
        return list(self._delays)

    def room(self) -> int:
        """Return how many more records are wanted now: what each partition may have in hand bounds it."""
        return ROOM

    async def wait_for_room(self, bound: float) -> None:
        """Return at once: there always is."""

    def take(self, leased: Sequence[tuple[Record, Lease]]) -> None:
        """Take in records, each with the lease on it."""
        now = int(self._clock() * 1000)
        for record, lease in leased:
            try:
                delayed = self._read(record, lease, now)
            except CodecError as error:
                self._processor.see_to(lease, self._settler.settle_unreadable(record, lease, error))
            else:
                self._waiting.setdefault(lease.partition, deque()).append(delayed)
        self._news.set()

    def _read(self, record: Record, lease: Lease, now: int) -> _Delayed:
        job = self._reader.read(record)
        origin = headers.origin(record, self._queues.values())
        queue = origin.topic if origin is not None else self._queues.get(job["tier"])
        if queue is None:
            raise UnusableJob(f"its tier is none of {', '.join(self._queues)}: {job['tier'][:100]!r}")
        delay = self._delays[record.topic]
        not_before = headers.not_before(record)
        if not_before is None:
            not_before = min(record.timestamp, now) + delay
        not_before = min(not_before, job["deadline"])  # then its queue's processors say that nobody waits any more
        return _Delayed(min(not_before, now + delay), not_before, queue, record, lease, job)

    def withdraw(self, partitions: Collection[Partition] | None = None) -> None:
        """Hand back what waits here, of these partitions or of all; what is being moved is not waited for again."""
        self._moving = {
            delayed for delayed in self._moving if partitions is not None and delayed.lease.partition not in partitions
        }
        for partition in list(self._waiting):
            if partitions is None or partition in partitions:
                for delayed in self._waiting.pop(partition):
                    delayed.lease.hand_back()

    def make_way(self, lease: Lease) -> None:
        """Have a lease end soon whose partition is full because of it, if nothing but its reply is missing."""
        self._settler.make_way(lease)

    async def run(self) -> None:
        """Move jobs when they are due, until cancelled; run it as a task."""
        while True:
            await self._wait()
            await self._producer.wait_for_capacity()
            self.move()

    async def _wait(self) -> None:
        """Wait until a job is due, or there are new ones."""
        now = self._clock() * 1000
        wait = min((waiting[0].due - now for waiting in self._waiting.values()), default=math.inf) / 1000
        if READING in self._pauses.in_doubt():
            wait = max(wait, _WAIT_IN_DOUBT)
        if wait <= 0:
            await asyncio.sleep(0)
            return
        self._news.clear()
        try:
            async with asyncio.timeout(min(max(wait, _SHORTEST_WAIT), _LONGEST_WAIT)):
                await self._news.wait()
        except TimeoutError:
            return

    def move(self) -> None:
        """Move the jobs that are due, in their order in each partition, until too much waits for the broker."""
        if READING in self._pauses.in_doubt():
            return
        now = int(self._clock() * 1000)
        for partition in list(self._waiting):
            waiting = self._waiting[partition]
            while waiting and waiting[0].due <= now and not self._producer.backpressured:
                self._move(waiting.popleft(), now)
            if not waiting:
                del self._waiting[partition]

    def _move(self, delayed: _Delayed, now: int) -> None:
        left = delayed.not_before - now
        if left > 0:
            self._send(delayed, self._next_delay(left), None)
            return
        operation = delayed.job["operation"]
        partition = self._partitions.choose(delayed.queue, operation) if self._partitions else None
        self._send(delayed, delayed.queue, partition)

    def _send(self, delayed: _Delayed, topic: str, partition: int | None) -> None:
        """Produce a job to a topic; its lease ends when the topic has it."""
        record, lease = delayed.record, delayed.lease

        def delivered(error: BrokerError | None) -> None:
            is_ours = delayed in self._moving
            self._moving.discard(delayed)
            if error is None:
                self._metrics.moved.inc()
                lease.hand_on()
                return
            lease.promised = False
            if isinstance(error, MessageTooLarge):
                self._refuse(delayed, topic, error)
            elif not isinstance(error, TopicUnknown):
                self._fatal.report(error)
            elif not is_ours:
                lease.hand_back()
            elif partition is not None:
                self._send(delayed, topic, None)  # the queue may have fewer partitions than it had
            else:
                self._wait_again(delayed)

        try:
            self._producer.publish(
                topic, record.value, key=record.key, headers=record.headers, partition=partition, on_delivery=delivered
            )
        except MessageTooLarge as error:
            self._refuse(delayed, topic, error)
        except BrokerUnavailable:  # it is so large that it does not fit beside what waits for the broker
            self._wait_again(delayed)
        else:
            lease.promised = True
            self._moving.add(delayed)

    def _refuse(self, delayed: _Delayed, topic: str, error: MessageTooLarge) -> None:
        """See to a job that can never be moved: it is a dead letter, and its caller is told."""
        settling = self._settler.settle_unmovable(delayed.record, delayed.lease, delayed.job, f"{topic}: {error}")
        self._processor.see_to(delayed.lease, settling)

    def _wait_again(self, delayed: _Delayed) -> None:
        """Put a job that could not be moved now back in its place, to be moved a little later."""
        later = replace(delayed, due=int(self._clock() * 1000) + TRY_AGAIN_MS)
        waiting = self._waiting.setdefault(delayed.lease.partition, deque())
        insort(waiting, later, key=lambda one: one.record.offset)
        self._news.set()

    def _next_delay(self, left: int) -> str:
        """Return the retry topic with the longest delay that is over in time, or else the one with the shortest."""
        topics = list(self._delays)
        return topics[max(bisect_right(list(self._delays.values()), left) - 1, 0)]
