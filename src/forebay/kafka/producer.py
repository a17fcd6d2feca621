"""The producer: hands records over without waiting, sends them in batches, and tells when each one is safe.

aiokafka's ``send`` costs a future and a coroutine a record, and scatters what comes at once over all partitions, each a
batch of its own. Here whatever is handed over in one turn of the event loop is put in as few batches as balance allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, cast

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from forebay.errors import BrokerError, BrokerUnavailable, MessageTooLarge, TopicUnknown
from forebay.kafka.connection import connect, connection, disconnect, within
from forebay.kafka.records import NAME_ERRORS, Headers
from forebay.settings import Settings

log = logging.getLogger(__name__)

OnDelivery = Callable[[BrokerError | None], None]

TOGETHER = 8
"""Records at most that stay together where any partition will do: a batch each would be slow, and all in one batch
would give a burst to a single consumer."""

BATCH_BYTES = 512 * 1024
"""Bytes at most of a batch, unless a single record has more."""

BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes of records that may wait for the broker; beyond that nothing more is taken."""

METADATA_BOUND = 10.0
"""Seconds after which a topic that the cluster answers nothing about counts as unknown."""

_RECORD_OVERHEAD = 256
_HEADER_OVERHEAD = 8


def _as_utf8(name: str) -> str:
    return name.encode("utf-8", NAME_ERRORS).decode("utf-8", "replace")


class _Outgoing(NamedTuple):
    """A record that was handed over, with its size in bytes."""

    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    on_delivery: OnDelivery | None
    size: int


class _Lane:
    """What is produced to a topic: to one partition of it, or to any.

    A partition carries one batch at a time; what is handed over meanwhile makes the next one.

    Attributes:
        waiting: records that no batch has taken yet.
        in_flight: partitions with a batch under way.
        scheduled: whether what waits is about to be sent, or the cluster is being asked for the topic.
    """

    __slots__ = ("_last", "in_flight", "partition", "scheduled", "topic", "waiting")

    def __init__(self, topic: str, partition: int | None) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[_Outgoing] = deque()
        self.in_flight: set[int] = set()
        self.scheduled = False
        self._last = 0

    def free_partition(self, partitions: int) -> int | None:
        """Return the partition whose turn it is among those without a batch under way; None while all have one."""
        if self.partition is not None:
            return None if self.partition in self.in_flight else self.partition
        for step in range(1, partitions + 1):
            candidate = (self._last + step) % partitions
            if candidate not in self.in_flight:
                self._last = candidate
                return candidate
        return None


class Producer:
    """An idempotent producer: acknowledged by all in-sync replicas, in order, each record once.

    With idempotence a batch never expires while the broker is away, so whoever waits for an acknowledgement brings a
    bound.
    """

    def __init__(self, settings: Settings, client: str) -> None:
        self._settings = settings
        self._producer = AIOKafkaProducer(
            **connection(settings, client),
            acks="all",
            enable_idempotence=True,
            max_request_size=settings.max_message_bytes,
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
        )
        self._loop = asyncio.get_running_loop()
        self._large = settings.max_message_bytes // 2
        self._lanes: dict[tuple[str, int | None], _Lane] = {}
        self._buffered = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect; raises `BrokerUnavailable` when nobody answers."""
        await connect(self._settings, self._producer.start())

    async def stop(self, timeout: float = 5.0) -> None:
        """Send what was handed over, for ``timeout`` seconds at the most, then disconnect."""
        await self.flush(timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            self._fail(lane, BrokerUnavailable(f"producing to {lane.topic}: the producer stopped"))
        await disconnect("the producer", self._producer.stop())

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes,
        headers: Headers = (),
        partition: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Hand a record over; it is on its way when the event loop comes round again, and this never waits.

        Without a partition the record goes to one in turn, whatever its key: that balances better than hashing ids and
        costs nothing. ``on_delivery`` is called once: with None when the broker has acknowledged the record, or with
        the error for which it never will; `TopicUnknown` is one.

        Raises:
            MessageTooLarge: the record is larger than the topics take.
            BrokerUnavailable: too much waits for the broker already.
        """
        size = len(key) + len(value or b"") + _RECORD_OVERHEAD
        if size > self._large:  # only there can what the headers weigh make a difference
            size += sum(len(name) + len(content or b"") + _HEADER_OVERHEAD for name, content in headers)
        if size > self._settings.max_message_bytes:
            raise MessageTooLarge(len(value or b""), self._settings.max_message_bytes)
        if self._buffered + size > BUFFER_BYTES:
            raise BrokerUnavailable(f"producing to {topic}: {self._buffered} bytes wait for the broker already")
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(topic, partition)
        if not self._buffered:
            self._empty.clear()
        self._buffered += size
        if self._buffered > BUFFER_BYTES // 2:
            self._room.clear()
        if any(not name.isascii() for name, _ in headers):
            headers = [(_as_utf8(name), content) for name, content in headers]
        lane.waiting.append(_Outgoing(key, value, list(headers), on_delivery, size))
        if not lane.scheduled:
            # not at once: what is handed over in the same turn of the event loop goes in the same request to the broker
            lane.scheduled = True
            self._loop.call_soon(self._send_scheduled, lane)

    async def publish_and_wait(self, topic: str, value: bytes | None, *, key: bytes, headers: Headers = ()) -> None:
        """Produce one record and wait, without a bound, for its acknowledgement.

        Raises:
            BrokerError: it never will be acknowledged.
        """
        delivered: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: BrokerError | None) -> None:
            if not delivered.done():
                delivered.set_exception(error) if error else delivered.set_result(None)

        self.publish(topic, value, key=key, headers=headers, on_delivery=on_delivery)
        await delivered

    async def send_and_wait(self, topic: str, value: bytes | None, *, key: bytes, timeout: float) -> int:
        """Produce one record to partition 0 and return its offset.

        Raises:
            BrokerUnavailable: it was not acknowledged within ``timeout`` seconds.
        """
        sending = self._producer.send_and_wait(topic, value, key=key, partition=0)
        return cast(int, (await within(timeout, f"producing to {topic}", sending)).offset)

    async def flush(self, timeout: float) -> None:
        """Wait until everything handed over is acknowledged, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            log.warning("records were not acknowledged within %g s", timeout)

    def has_topic(self, topic: str) -> bool:
        """Whether the topic's metadata is at hand."""
        return self._partitions(topic) > 0

    @property
    def backpressured(self) -> bool:
        """Whether so much waits for the broker that a caller who can should use `wait_for_capacity`."""
        return not self._room.is_set()

    async def wait_for_capacity(self) -> None:
        """Wait until less than half of what may wait for the broker does."""
        await self._room.wait()

    def _partitions(self, topic: str) -> int:
        return len(self._producer.client.cluster.partitions_for_topic(topic) or ())

    def _own(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send_scheduled(self, lane: _Lane) -> None:
        lane.scheduled = False
        self._send(lane)

    def _send(self, lane: _Lane) -> None:
        """Send what waits, in as many batches as there are partitions free for one."""
        partitions = self._partitions(lane.topic)
        if not partitions:
            lane.scheduled = True
            self._own(self._look_up(lane))
            return
        limit = TOGETHER if lane.partition is None else None
        while lane.waiting and (partition := lane.free_partition(partitions)) is not None:
            batch = self._producer.create_batch()
            records: list[_Outgoing] = []
            while lane.waiting and len(records) != limit:
                record = lane.waiting[0]
                if batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
                    break
                records.append(lane.waiting.popleft())
            batch.close()
            lane.in_flight.add(partition)
            self._submit(lane, partition, batch, records)

    async def _look_up(self, lane: _Lane) -> None:
        """Ask the cluster for a topic, while the other lanes go on; while the cluster is away, go on asking."""
        while not self._partitions(lane.topic):
            try:
                async with asyncio.timeout(METADATA_BOUND):
                    await self._producer.partitions_for(lane.topic)
            except (TimeoutError, KafkaError) as error:
                if await self._producer.client.force_metadata_update():
                    lane.scheduled = False
                    self._fail(lane, TopicUnknown(f"there is no topic {lane.topic} ({error or 'no answer'})"))
                    return
        self._send_scheduled(lane)

    def _submit(self, lane: _Lane, partition: int, batch: Any, records: list[_Outgoing]) -> None:
        """Hand a batch to the client, which sends it in the next turn of the event loop.

        The client's coroutine has nothing to wait for: the topic is known, and no other batch of the partition is under
        way. So one step takes it to its end, and a task, with its turn of the event loop, is spared.
        """
        submitting = self._producer.send_batch(batch, lane.topic, partition=partition)
        try:
            submitting.send(None)
        except StopIteration as submitted:
            sent: asyncio.Future[Any] = submitted.value
            sent.add_done_callback(partial(self._delivered, lane, partition, records))
        except KafkaError as error:
            self._end(lane, partition, records, f"{error or type(error).__name__}")
        else:
            submitting.close()
            self._own(self._submit_later(lane, partition, batch, records))

    async def _submit_later(self, lane: _Lane, partition: int, batch: Any, records: list[_Outgoing]) -> None:
        """Hand a batch to the client where it has to wait after all: the topic was lost from its metadata just now."""
        try:
            async with asyncio.timeout(METADATA_BOUND):
                sent = await self._producer.send_batch(batch, lane.topic, partition=partition)
        except (TimeoutError, KafkaError) as error:
            self._end(lane, partition, records, f"{error or 'no answer'}")
        else:
            sent.add_done_callback(partial(self._delivered, lane, partition, records))

    def _delivered(self, lane: _Lane, partition: int, records: list[_Outgoing], sent: asyncio.Future[Any]) -> None:
        if sent.cancelled():
            self._end(lane, partition, records, "the producer stopped")
        else:
            error = sent.exception()
            self._end(lane, partition, records, f"{error or type(error).__name__}" if error is not None else None)

    def _end(self, lane: _Lane, partition: int, records: list[_Outgoing], failure: str | None) -> None:
        """Tell what became of a batch, and send what came meanwhile."""
        lane.in_flight.discard(partition)
        self._settle(records, BrokerUnavailable(f"producing to {lane.topic}: {failure}") if failure else None)
        if lane.waiting and not lane.scheduled:
            self._send(lane)

    def _fail(self, lane: _Lane, error: BrokerError) -> None:
        waiting, lane.waiting = lane.waiting, deque()
        self._settle(waiting, error)

    def _settle(self, records: Iterable[_Outgoing], error: BrokerError | None) -> None:
        for record in records:
            self._buffered -= record.size
            if record.on_delivery is not None:
                record.on_delivery(error)
        if self._buffered <= BUFFER_BYTES // 2:
            self._room.set()
        if not self._buffered:
            self._empty.set()
