"""Reads the replies to this instance: one consumer, pinned to its reply topic, and the check that it keeps up.

The consumer is assigned, never a member of a group, so that no rebalance can move it. It starts at the end as it stood
before the gateway was ready: what came earlier was meant for another process of this name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from forebay import topics
from forebay.errors import BrokerError, InstanceTaken, TopicUnknown
from forebay.kafka import Arrivals, BoundedEvent, Link, PinnedConsumer, Producer, Record
from forebay.settings import Settings
from forebay_gateway.claim import CLAIM_KEY, Claim
from forebay_gateway.metrics import Metrics
from forebay_gateway.waiters import ReplyOutcome, Waiters
from forebay_schemas.topics import HELD_PARTITION

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""Seconds between two looks at the consumer and the broker."""
ANSWER_SECONDS = 3.0
"""Seconds within which the broker must answer to count as there."""
IDLE_LOOK_SECONDS = 0.05
"""Seconds at most without a look for replies while nobody waits for one."""
STALLED_LOOKS = 3
"""Looks in a row at which there was something to read and nothing was read: then the consumer is made anew."""


class Replies:
    """Reads the reply topic, resolves the waiters and holds the instance's name.

    Args:
        settings: where the cluster is, and the name of this instance.
        producer: where the claim to the name goes.
        waiters: who waits for the replies.
        metrics: counts those that nobody waits for.
        on_lost: called once if another gateway takes the name.
        link: to share; default: one of its own.
    """

    def __init__(
        self,
        settings: Settings,
        producer: Producer,
        waiters: Waiters,
        metrics: Metrics,
        on_lost: Callable[[], None],
        link: Link | None = None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._spec = topics.replies(settings)
        self._producer = producer
        self._waiters = waiters
        self._metrics = metrics
        self._on_lost = on_lost
        self._consumer: PinnedConsumer | None = None
        self._trouble: str | None = "the replies are not read yet"
        self._next_look = BoundedEvent(IDLE_LOOK_SECONDS)
        self._position = 0
        self._looks_without_progress = 0
        self._must_claim = False
        self.claim = Claim(settings.instance, self._publish_claim, on_lost)

    @property
    def trouble(self) -> str | None:
        """Why no reply would be read at present, in a sentence; None while they are."""
        if self._trouble is not None:
            return self._trouble
        if self._consumer is not None and self._consumer.trouble is not None:
            return self._consumer.trouble
        if self.claim.lost:
            return "another gateway has taken the instance name"
        return None if self.claim.held else "the instance name is not held yet"

    async def start(self) -> None:
        """Pin the consumer to the end of the topic; replies to what is produced from now on will be seen.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        consumer = self._consumer = PinnedConsumer(
            self._settings, self._settings.instance, self._spec.name, [HELD_PARTITION], link=self._link
        )
        await consumer.start(at_end=True)
        self._position = consumer.positions()[HELD_PARTITION]
        self._trouble = None

    async def stop(self) -> None:
        """Disconnect."""
        self._trouble = "the gateway is stopping"
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def read(self) -> None:
        """Take in replies until cancelled; run it as a task."""
        arrivals = Arrivals(self._take, self._wait_for_answer)
        while True:
            consumer = self._consumer
            if consumer is None:
                await asyncio.sleep(WATCH_SECONDS)
                continue
            try:
                await arrivals.next(consumer)
            except BrokerError as error:
                if consumer is self._consumer:
                    self._note(str(error))
                    await asyncio.sleep(WATCH_SECONDS)

    def expect(self) -> None:
        """Look for replies again: the broker has a job that will have one."""
        self._next_look.set()

    async def watch(self) -> None:
        """Look after the consumer until cancelled; run it as a task.

        A topic that was deleted is created again, and one that is another than before is claimed anew. A consumer can
        stall in silence after the broker was away: one that does not move while there is something to read is made anew
        at the same position.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._look()
            except TopicUnknown as error:
                self._note(f"{error}; it is created again")
                await self._create_again()
            except BrokerError as error:
                self._note(str(error))
            except InstanceTaken:
                self._on_lost()
                return
            else:
                if self._consumer is None or self._consumer.trouble is None:
                    self._note(None)

    async def _look(self) -> None:
        consumer = self._consumer
        if consumer is None:
            await self._connect()
            return
        end = (await consumer.ends(ANSWER_SECONDS))[HELD_PARTITION]
        before = self._position
        position = consumer.positions().get(HELD_PARTITION, before)
        self._position = position
        if position < before or self._must_claim:
            self._must_claim = True
            await self.claim.make()
            self._must_claim = False
        stalled = end > before == position
        self._looks_without_progress = self._looks_without_progress + 1 if stalled else 0
        if self._looks_without_progress >= STALLED_LOOKS:
            self._looks_without_progress = 0
            self._note(f"no reply was read since offset {position} of {end}; the consumer is made anew")
            self._consumer = None
            await consumer.stop()
            await self._connect()

    async def _connect(self) -> None:
        consumer = PinnedConsumer(
            self._settings, self._settings.instance, self._spec.name, [HELD_PARTITION], link=self._link
        )
        try:
            await consumer.start({HELD_PARTITION: self._position})
        except BrokerError:
            await consumer.stop()
            raise
        self._consumer = consumer

    async def _create_again(self) -> None:
        try:
            await topics.ensure(self._settings, [self._spec])
        except BrokerError as error:
            self._note(str(error))
        else:
            self._must_claim = True

    def _note(self, trouble: str | None) -> None:
        """Take note of what keeps replies from being read, and say so when that begins and when it ends."""
        if trouble is not None and self._trouble is None:
            log.warning("replies: %s", trouble)
        elif trouble is None and self._trouble is not None:
            log.info("replies are read again")
        self._trouble = trouble

    def _publish_claim(self, value: bytes, on_delivery: Callable[[BrokerError | None], None] | None = None) -> None:
        try:
            self._producer.publish(
                self._spec.name, value, key=CLAIM_KEY, partition=HELD_PARTITION, on_delivery=on_delivery
            )
        except BrokerError as error:
            log.warning("the claim to the name '%s': %s", self._settings.instance, error)
            if on_delivery is not None:
                on_delivery(error)

    async def _wait_for_answer(self) -> None:
        """Wait until an answer is sent, which a look for more would delay, and while nobody waits for another one."""
        await asyncio.sleep(0)
        if not len(self._waiters):
            await self._next_look.wait()

    def _take(self, records: list[Record]) -> None:
        for record in records:
            if record.unreadable is not None:
                continue
            outcome = self._waiters.resolve(record.key or b"", record)
            if outcome is ReplyOutcome.DELIVERED:
                continue
            if record.key == CLAIM_KEY:
                self.claim.on_record(record)
            elif outcome is ReplyOutcome.LATE:
                self._metrics.late.inc()
            else:
                self._metrics.duplicate.inc()
