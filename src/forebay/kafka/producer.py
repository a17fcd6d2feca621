"""The producer: hands records over without waiting, sends them in batches, and tells when each one is safe.

aiokafka's ``send`` costs a future and a coroutine a record, and scatters what comes at once over all partitions, each a
batch of its own. Here whatever is handed over in one turn of the event loop is put in as few batches as balance allows.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import Counter, deque
from collections.abc import Iterable

from forebay.errors import BrokerError, BrokerUnavailable, DeliveryExpired, MessageTooLarge, TopicUnknown
from forebay.kafka.link import Link, Shared
from forebay.kafka.outbox import OnDelivery, OnOffset, Outbox, Outgoing
from forebay.kafka.sender import Batch, Sender
from forebay.kafka.sequences import Identity
from forebay.kafka.wire.building import BatchBuilder
from forebay.kafka.wire.metadata import NO_LEADER
from forebay.settings import Settings
from forebay_schemas.headers import Headers

log = logging.getLogger(__name__)

RECORDS_PER_PARTITION = 8
"""Records at most that go to one partition together where any will do: a batch each would be slow, and all in one batch
would give a burst to a single consumer."""
BATCH_BYTES = 512 * 1024
"""Bytes at most of a batch, unless a single record has more."""
REQUEST_BYTES = 32 * 1024 * 1024
"""Bytes of records after which no further batch is added to a request."""
BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes of records that may wait for the broker; beyond that nothing more is taken, unless nothing waits."""
CAPACITY_BYTES = BUFFER_BYTES // 2
"""Bytes up to which whoever can wait for capacity is let in; the rest is for those who cannot."""
START_BOUND = 15.0
"""Seconds that the producer may take to be known to the cluster."""
FORGET_AFTER = 300.0
"""Seconds after which a topic is forgotten to which nothing was produced."""

_RECORD_OVERHEAD = 256
_HEADER_OVERHEAD = 8
_MOST_CHARACTERS = 249
_TOPIC_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")


class Producer:
    """An idempotent producer: acknowledged by all in-sync replicas, in order, each record once.

    A batch never expires while the broker is away, so whoever waits for an acknowledgement brings a bound.

    Args:
        settings: where the cluster is, and how large a message may be.
        client: name of this client, for the broker's logs.
        link: to share; default: one of its own.
    """

    def __init__(self, settings: Settings, client: str, *, link: Link | None = None) -> None:
        self._settings = settings
        self._shared = Shared(settings, client, link)
        self._loop = asyncio.get_running_loop()
        self._large = settings.max_message_bytes // 2
        self._outboxes: dict[tuple[str, int | None], Outbox] = {}
        self._topics: Counter[str] = Counter()
        self._in_flight: dict[str, set[int]] = {}
        self._ready: dict[Outbox, None] = {}
        self._scheduled = False
        self._buffered = 0
        self._reserved = 0
        self._capacity_waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sender: Sender | None = None
        self._stopped = False

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: no broker answers in time.
            AuthorizationFailed: the cluster lets this client produce nothing.
        """
        link = await self._shared.start()
        sender = self._sender = Sender(link, self._ended, self._too_large, self._send_ready)
        link.listen(self._on_metadata)
        sender.identify()
        try:
            async with asyncio.timeout(START_BOUND):
                while sender.sequences.fresh is None:
                    if sender.trouble is not None:
                        raise sender.trouble
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise BrokerUnavailable(f"producing: the cluster gave no producer id within {START_BOUND:g} s") from None

    async def stop(self, timeout: float = 5.0) -> None:
        """Send what was handed over, for ``timeout`` seconds at the most, then disconnect."""
        if self._stopped:
            return
        await self.flush(timeout)
        self._stopped = True
        if self._sender is not None:
            self._shared.link.stop_listening(self._on_metadata)
            for batch in await self._sender.stop():
                self._ended(batch, BrokerUnavailable(f"producing to {batch.outbox.topic}: the producer stopped"), -1)
        for outbox in list(self._outboxes.values()):
            self._fail(outbox, BrokerUnavailable(f"producing to {outbox.topic}: the producer stopped"))
            self._forget(outbox)
        await self._shared.stop()

    @property
    def usable(self) -> bool:
        """Whether records can be produced, as far as the cluster's rules go; an outage of the broker is no matter."""
        return not self._stopped and self._sender is not None and self._sender.trouble is None

    # handing records over

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        on_delivery: OnDelivery | None = None,
        within: float = math.inf,
    ) -> None:
        """Hand a record over; it is on its way when the event loop comes round again, and this never waits.

        Without a partition the record goes to one in turn, whatever its key: that balances better than hashing ids and
        costs nothing. ``on_delivery`` is called once: with None when the broker has acknowledged the record, or with
        the error for which it never will: `TopicUnknown` where there is no such topic, `AuthorizationFailed` where the
        cluster does not allow it, `MessageTooLarge` where the topic takes less than Forebay's settings say,
        `RecordRefused` where another setting of the topic forbids it. A record for a given partition that has no
        leader, or too few replicas, is given up with `DeliveryExpired` once ``within`` seconds are over.

        Raises:
            MessageTooLarge: the record is larger than the settings allow.
            BrokerUnavailable: too much waits for the broker already; `wait_for_capacity` waits until it does not.
        """
        self._publish(topic, value, key, headers, partition, on_delivery, None, within)

    def _publish(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers,
        partition: int | None,
        on_delivery: OnDelivery | None,
        on_offset: OnOffset | None,
        within: float = math.inf,
    ) -> None:
        size = self.size_of(value, key=key, headers=headers)
        if size > self._settings.max_message_bytes:
            raise MessageTooLarge(len(value or b""), self._settings.max_message_bytes)
        if self._buffered and self._buffered + self._reserved + size > BUFFER_BYTES:
            raise BrokerUnavailable(f"producing to {topic}: {self._buffered} bytes wait for the broker already")
        if self._stopped or self._sender is None:
            raise BrokerUnavailable(f"producing to {topic}: the producer is not running")
        outbox = self._outboxes.get((topic, partition))
        if outbox is None:
            if _TOPIC_NAME.match(topic) is None:
                self._refuse_name(topic, on_delivery)
                return
            outbox = self._open(topic, partition)
        if not self._buffered:
            self._empty.clear()
        self._buffered += size
        now = time.monotonic()
        if not outbox.waiting:
            outbox.since = now
        outbox.waiting.append(Outgoing(key, value, list(headers), size, on_delivery, on_offset, now + within))
        self._ready[outbox] = None
        if not self._scheduled:
            # not at once: what is handed over in the same turn of the event loop goes in the same request to the broker
            self._scheduled = True
            self._loop.call_soon(self._send_scheduled)

    def _refuse_name(self, topic: str, on_delivery: OnDelivery | None) -> None:
        shown = topic if len(topic) <= _MOST_CHARACTERS else f"{topic[:_MOST_CHARACTERS]}…"
        if on_delivery is not None:
            error = TopicUnknown(f"there is no topic {shown!r}: that is no name of a topic")
            self._loop.call_soon(on_delivery, error)

    def size_of(self, value: bytes | None, *, key: bytes | None, headers: Headers = ()) -> int:
        """Return how many bytes a record counts for, at the least."""
        size = len(key or b"") + len(value or b"") + _RECORD_OVERHEAD
        if size > self._large:  # only there can what the headers weigh make a difference
            size += sum(len(name) + len(content or b"") + _HEADER_OVERHEAD for name, content in headers)
        return size

    async def publish_and_wait(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
    ) -> int:
        """Produce one record, wait without a bound for its acknowledgement, and return its offset.

        It waits, too, while too much waits for the broker.

        Raises:
            MessageTooLarge: the record is larger than the settings allow.
            BrokerError: it never will be acknowledged.
        """
        await self.wait_for_capacity(self.size_of(value, key=key, headers=headers))
        delivered: asyncio.Future[int] = self._loop.create_future()

        def on_delivery(error: BrokerError | None) -> None:
            if error is not None and not delivered.done():
                delivered.set_exception(error)

        def on_offset(offset: int) -> None:
            if not delivered.done():
                delivered.set_result(offset)

        self._publish(topic, value, key, headers, partition, on_delivery, on_offset)
        return await delivered

    async def send_and_wait(self, topic: str, value: bytes | None, *, key: bytes, timeout: float) -> int:
        """Produce one record to partition 0 and return its offset.

        Raises:
            BrokerUnavailable: it was not acknowledged within ``timeout`` seconds.
            BrokerError: it never will be.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self.publish_and_wait(topic, value, key=key, partition=0)
        except TimeoutError:
            raise BrokerUnavailable(f"producing to {topic}: the broker did not answer within {timeout:g} s") from None

    async def flush(self, timeout: float) -> None:
        """Wait until everything handed over is acknowledged, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            log.warning("records were not acknowledged within %g s", timeout)

    # capacity

    @property
    def backpressured(self) -> bool:
        """Whether so much waits for the broker that a caller who can should use `wait_for_capacity`."""
        return bool(self._capacity_waiters) or self._buffered + self._reserved > CAPACITY_BYTES

    async def wait_for_capacity(self, size: int = 0) -> None:
        """Wait until a record of ``size`` bytes will be taken; callers are let in one after the other.

        The record is to be handed over at once when this returns, without waiting for anything else before.
        """
        if not self._capacity_waiters and self._has_capacity(size):
            return
        admitted: asyncio.Future[None] = self._loop.create_future()
        self._capacity_waiters.append((size, admitted))
        try:
            await admitted
        finally:
            if admitted.done() and not admitted.cancelled():
                self._reserved -= size
            self._loop.call_soon(self._admit)  # once the record is handed over that this capacity is for

    def _has_capacity(self, size: int) -> bool:
        taken = self._buffered + self._reserved
        return not taken or taken + size <= CAPACITY_BYTES

    def _admit(self) -> None:
        """Let in those who wait, as far as there is capacity, the first first."""
        while self._capacity_waiters:
            size, admitted = self._capacity_waiters[0]
            if not admitted.done():
                if not self._has_capacity(size):
                    return
                self._reserved += size
                admitted.set_result(None)
            self._capacity_waiters.popleft()

    # outboxes

    def _open(self, topic: str, partition: int | None) -> Outbox:
        outbox = self._outboxes[topic, partition] = Outbox(
            topic, partition, self._in_flight.setdefault(topic, set()), time.monotonic()
        )
        self._topics[topic] += 1
        self._shared.link.watch(topic)
        return outbox

    def _forget(self, outbox: Outbox) -> None:
        """Let go of an outbox in which nothing is left, and with the last of its topic of the topic."""
        topic = outbox.topic
        if self._outboxes.pop((topic, outbox.partition), None) is None:
            return
        self._ready.pop(outbox, None)
        self._shared.link.unwatch(topic)
        self._topics[topic] -= 1
        if not self._topics[topic]:
            del self._topics[topic], self._in_flight[topic]
            if self._sender is not None:
                self._sender.sequences.forget_topic(topic)

    def _on_metadata(self) -> None:
        """Give up what waits in vain, and forget topics that are not used any more."""
        now = time.monotonic()
        for outbox in list(self._outboxes.values()):
            if outbox.waiting and (trouble := self._trouble_with(outbox)) is not None:
                self._fail(outbox, trouble)
            self._expire(outbox, now)
            if (
                not outbox.waiting
                and not outbox.in_flight
                and (now - outbox.used > FORGET_AFTER or self._trouble_with(outbox) is not None)
            ):
                self._forget(outbox)
        self._send_ready()

    def _expire(self, outbox: Outbox, now: float) -> None:
        """Give up what has waited too long for a leader of its partition."""
        topic, partition = outbox.topic, outbox.partition
        if partition is None or not outbox.waiting or self._shared.link.leader(topic, partition) != NO_LEADER:
            return
        self._settle(outbox.take_expired(now), DeliveryExpired(topic, partition), -1)

    def _trouble_with(self, outbox: Outbox) -> BrokerError | None:
        if self._sender is not None and self._sender.trouble is not None:
            return self._sender.trouble
        partitions = self._shared.link.partitions(outbox.topic)
        if outbox.partition is not None and 0 < partitions <= outbox.partition:
            return TopicUnknown(f"{outbox.topic} has {partitions} partitions, and no partition {outbox.partition}")
        return self._shared.link.trouble_with(outbox.topic, outbox.since)

    # sending

    def _send_scheduled(self) -> None:
        self._scheduled = False
        self._send_ready()

    def _send_ready(self) -> None:
        """Make batches of what waits, for the leaders that are free, and send them."""
        sender = self._sender
        if sender is None or self._stopped:
            return
        by_leader: dict[int, list[Batch]] = {}
        for outbox in list(self._ready):
            self._fill(sender, outbox, by_leader)
            self._ready.pop(outbox, None)
            if outbox.waiting:
                self._ready[outbox] = None  # to the end of the line: others want the same partitions
        sender.send(by_leader)

    def _fill(self, sender: Sender, outbox: Outbox, by_leader: dict[int, list[Batch]]) -> None:
        """Put what waits in an outbox in batches, one for each partition that is free."""
        link = self._shared.link
        topic = link.topic(outbox.topic)
        if topic is None or sender.trouble is not None:
            if (trouble := self._trouble_with(outbox)) is not None:
                self._fail(outbox, trouble)
                self._forget(outbox)
            return
        leaders = topic.leaders
        if outbox.partition is not None and outbox.partition >= len(leaders):
            link.request_refresh()  # it may have been added
            return
        while outbox.waiting:
            partition = outbox.next_partition(leaders, sender.is_free)
            if partition is None:
                return
            place = (outbox.topic, partition)
            numbers = sender.sequences.next(place)
            if numbers is None:
                sender.identify()
                return
            batches = by_leader.setdefault(leaders[partition], [])
            if sum(len(batch.content) for batch in batches) > REQUEST_BYTES:
                return
            batches.append(self._batch(outbox, partition, *numbers))
            sender.sequences.took(place, len(batches[-1].records))

    def _batch(self, outbox: Outbox, partition: int, identity: Identity, first: int) -> Batch:
        limit = RECORDS_PER_PARTITION if outbox.partition is None else len(outbox.waiting)
        if outbox.one_by_one:
            outbox.one_by_one -= 1
            limit = 1
        builder = BatchBuilder(BATCH_BYTES)
        records: list[Outgoing] = []
        while outbox.waiting and len(records) < limit:
            record = outbox.waiting[0]
            if not builder.add(record.key, record.value, record.headers):
                break
            records.append(outbox.waiting.popleft())
        outbox.in_flight.add(partition)
        outbox.used = time.monotonic()
        return Batch(outbox, partition, records, builder.build(*identity, first), identity, first)

    def _ended(self, batch: Batch, error: BrokerError | None, offset: int) -> None:
        """Tell what became of a batch, and send what came meanwhile."""
        batch.outbox.in_flight.discard(batch.partition)
        if batch.outbox.waiting:
            self._ready[batch.outbox] = None
        self._settle(batch.records, error, offset)

    def _too_large(self, batch: Batch) -> None:
        """Send the records of a batch again, each by itself."""
        outbox = batch.outbox
        outbox.in_flight.discard(batch.partition)
        outbox.waiting.extendleft(reversed(batch.records))
        outbox.one_by_one += len(batch.records)
        self._ready[outbox] = None

    def _fail(self, outbox: Outbox, error: BrokerError) -> None:
        waiting, outbox.waiting = outbox.waiting, deque()
        self._ready.pop(outbox, None)
        self._settle(waiting, error, -1)

    def _settle(self, records: Iterable[Outgoing], error: BrokerError | None, offset: int) -> None:
        for number, record in enumerate(records):
            self._buffered -= record.size
            if record.on_delivery is not None:
                record.on_delivery(error)
            if error is None and record.on_offset is not None:
                record.on_offset(offset + number if offset >= 0 else -1)
        if self._capacity_waiters:
            self._admit()
        if not self._buffered:
            self._empty.set()
