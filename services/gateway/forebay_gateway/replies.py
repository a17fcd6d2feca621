"""Brings the replies home: one consumer, pinned to this instance's reply topic, and the watch over it.

It is assigned, never a member of a group, so that no rebalance can move it, and it starts at the end as it stood before
the gateway was ready: what came earlier was meant for a former life of this instance.
"""

from __future__ import annotations

import asyncio
import logging

from forebay.errors import BrokerError
from forebay.kafka import Arrivals, BoundedEvent, PinnedConsumer, Record
from forebay.settings import Settings
from forebay_gateway.metrics import Metrics
from forebay_gateway.waiters import ReplyOutcome, Waiters
from forebay_schemas.topics import HELD_PARTITION

log = logging.getLogger(__name__)

WATCH_INTERVAL = 1.0
"""Seconds between two looks at the consumer and the broker."""
WATCH_BOUND = 3.0
"""Seconds within which the broker must answer to count as there."""
IDLE_LOOK_SECONDS = 0.05
"""Seconds at most without a look for replies while nobody waits for one."""
STALLED_AFTER = 3
"""Looks in a row at which there was something to read and nothing was read: then the consumer is made anew."""


class Replies:
    """Reads the reply topic and resolves the waiters.

    Args:
        settings: where the cluster is.
        topic: the reply topic of this instance, which must exist.
        waiters: who waits for the replies.
        metrics: counts those that nobody waits for.
    """

    def __init__(self, settings: Settings, topic: str, waiters: Waiters, metrics: Metrics) -> None:
        self._settings = settings
        self._topic = topic
        self._waiters = waiters
        self._metrics = metrics
        self._consumer: PinnedConsumer | None = None
        self._position = 0
        self._up = False
        self._next_look = BoundedEvent(IDLE_LOOK_SECONDS)

    @property
    def up(self) -> bool:
        """Whether the consumer sits where it should and the broker answered the last look."""
        return self._up

    async def start(self) -> None:
        """Pin the consumer to the end of the topic; replies to what is produced from now on will be seen.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        self._consumer = PinnedConsumer(self._settings, self._settings.instance, self._topic, [HELD_PARTITION])
        await self._consumer.start(at_end=True)
        self._position = self._consumer.positions()[HELD_PARTITION]
        self._up = True

    async def stop(self) -> None:
        """Disconnect."""
        self._up = False
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def read(self) -> None:
        """Take in replies until cancelled; run it as a task."""
        arrivals = Arrivals(self._take, self._rest)
        while True:
            consumer = self._consumer
            if consumer is None:
                await asyncio.sleep(WATCH_INTERVAL)
                continue
            try:
                await arrivals.next(consumer)
            except BrokerError as error:
                if consumer is self._consumer:
                    log.warning("replies: %s", error)
                    await asyncio.sleep(WATCH_INTERVAL)

    def expect(self) -> None:
        """Look for replies again: the broker has a job that will have one."""
        self._next_look.set()

    async def _rest(self) -> None:
        """Let the answer go first; while nobody waits for another one, the next look had better not be in its way."""
        await asyncio.sleep(0)
        if not len(self._waiters):
            await self._next_look.wait()

    def _take(self, records: list[Record]) -> None:
        for record in records:
            outcome = self._waiters.resolve(record.key or b"", record)
            if outcome is ReplyOutcome.LATE:
                self._metrics.late.inc()
            elif outcome is ReplyOutcome.DUPLICATE:
                self._metrics.duplicate.inc()
        self._position = max(self._position, records[-1].offset + 1)

    async def watch(self) -> None:
        """Look after the consumer until cancelled; run it as a task.

        A consumer can stall in silence after the broker was away. One that does not move while there is something to
        read is made anew at the same position.
        """
        behind, before = 0, self._position
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            try:
                if self._consumer is None:
                    await self._connect()
                    continue
                end = (await self._consumer.ends(WATCH_BOUND))[HELD_PARTITION]
            except BrokerError as error:
                if self._up:
                    log.warning("replies: %s", error)
                self._up = False
                continue
            if not self._up:
                log.info("replies: the broker answers again")
            self._up = True
            behind = behind + 1 if end > before == self._position else 0
            before = self._position
            if behind >= STALLED_AFTER:
                log.warning("replies: nothing read since offset %d of %d; connecting anew", self._position, end)
                behind, self._up = 0, False
                stalled, self._consumer = self._consumer, None
                await stalled.stop()

    async def _connect(self) -> None:
        consumer = PinnedConsumer(self._settings, self._settings.instance, self._topic, [HELD_PARTITION])
        try:
            await consumer.start({HELD_PARTITION: self._position})
        except BrokerError:
            await consumer.stop()
            raise
        self._consumer = consumer
