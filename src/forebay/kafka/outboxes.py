"""The outboxes of a producer: keep records by partition, make batches of them, and tell what became of each."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable

from forebay.errors import BrokerError, BrokerUnavailable, DeliveryExpired
from forebay.kafka.capacity import Capacity
from forebay.kafka.link import Link
from forebay.kafka.outbox import Batch, Outbox, Outgoing
from forebay.kafka.sender import Sender
from forebay.kafka.sequences import Identity
from forebay.kafka.wire.building import BatchBuilder
from forebay.kafka.wire.metadata import NO_LEADER

RECORDS_PER_PARTITION = 8
"""Records at most that go to one partition together where any will do: a batch each would be slow, and all in one batch
would give a burst to a single consumer."""
BATCH_BYTES = 512 * 1024
"""Bytes at most of a batch, unless a single record has more."""
REQUEST_BYTES = 32 * 1024 * 1024
"""Bytes of records after which no further batch is added to a request."""
FORGET_AFTER = 300.0
"""Seconds after which a topic is forgotten to which nothing was produced."""
MAKE_WAY_AFTER = 10.0
"""Seconds for which a partition may take nothing before what waits for it has to make way for others."""

_LATEST = sys.float_info.max
"""An instant at which everything has expired that ever will."""


class Outboxes:
    """Keeps what is produced, by topic and partition, until the sender takes it in batches.

    Args:
        link: to the cluster; started by the caller.
        capacity: keeps account of what waits.

    Attributes:
        sender: takes the batches to the brokers.
    """

    def __init__(self, link: Link, capacity: Capacity) -> None:
        self.sender = Sender(link, self._ended, self._too_large, self._send_ready)
        self._link = link
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._outboxes: dict[tuple[str, int | None], Outbox] = {}
        self._topics: Counter[str] = Counter()
        self._in_flight: dict[str, set[int]] = {}
        self._ready: dict[Outbox, None] = {}
        self._scheduled = False
        self._stopped = False
        link.listen(self._on_metadata)

    def __len__(self) -> int:
        return len(self._outboxes)

    def __contains__(self, place: tuple[str, int | None]) -> bool:
        return place in self._outboxes

    def put(self, topic: str, partition: int | None, record: Outgoing) -> None:
        """Add a record; it is sent in the next turn of the event loop, if its partition is free."""
        outbox = self._outboxes.get((topic, partition))
        if outbox is None:
            outbox = self._open(topic, partition)
        self._capacity.acquire(record.size)
        if not outbox.waiting:
            outbox.since = time.monotonic()
        outbox.waiting.append(record)
        self._ready[outbox] = None
        if not self._scheduled:
            # not at once: what is handed over in the same turn of the event loop goes in the same request to the broker
            self._scheduled = True
            self._loop.call_soon(self._send_scheduled)

    def make_way(self, topic: str, partition: int) -> None:
        """Give up now what waits for a partition that takes nothing, where it was to be given up some time.

        That is one that was without a leader, or enough replicas, when this was called `MAKE_WAY_AFTER` seconds ago or
        earlier, and still is: a broker that starts again leads nothing at first. Elsewhere nothing happens.
        """
        outbox, now = self._outboxes.get((topic, partition)), time.monotonic()
        if outbox is None:
            return
        if outbox.stuck_since is None and self.sender.takes_nothing((topic, partition)):
            outbox.stuck_since = now
        if outbox.stuck_since is not None and now - outbox.stuck_since >= MAKE_WAY_AFTER:
            self.sender.give_up((topic, partition), _LATEST)
            self._expire(outbox, _LATEST)

    def make_room(self) -> None:
        """Give up what waits for partitions that take nothing: it keeps everything else waiting."""
        for topic, partition in list(self._outboxes):
            if partition is not None:
                self.make_way(topic, partition)

    async def stop(self, reason: str) -> None:
        """Send nothing more; records that were not acknowledged end with a `BrokerUnavailable` and the reason."""
        self._stopped = True
        self._link.stop_listening(self._on_metadata)
        for batch in await self.sender.stop():
            self._ended(batch, BrokerUnavailable(f"producing to {batch.outbox.topic}: {reason}"), -1)
        for outbox in list(self._outboxes.values()):
            self._fail(outbox, BrokerUnavailable(f"producing to {outbox.topic}: {reason}"))
            self._forget(outbox)

    def _open(self, topic: str, partition: int | None) -> Outbox:
        outbox = self._outboxes[topic, partition] = Outbox(
            topic, partition, self._in_flight.setdefault(topic, set()), time.monotonic()
        )
        self._topics[topic] += 1
        self._link.watch(topic)
        return outbox

    def _forget(self, outbox: Outbox) -> None:
        """Let go of an outbox in which nothing is left, and with the last of its topic of the topic."""
        topic = outbox.topic
        if self._outboxes.pop((topic, outbox.partition), None) is None:
            return
        self._ready.pop(outbox, None)
        self._link.unwatch(topic)
        self._topics[topic] -= 1
        if not self._topics[topic]:
            del self._topics[topic], self._in_flight[topic]
            self.sender.sequences.forget_topic(topic)

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
        if partition is None or not outbox.waiting or self._link.leader(topic, partition) != NO_LEADER:
            return
        self._settle(outbox.take_expired(now), DeliveryExpired(topic, partition), -1)

    def _trouble_with(self, outbox: Outbox) -> BrokerError | None:
        if self.sender.trouble is not None:
            return self.sender.trouble
        if outbox.partition is not None:
            missing = self._link.missing_partition(outbox.topic, outbox.partition)
            if missing is not None:
                return missing
        return self._link.trouble_with(outbox.topic, outbox.since)

    # sending

    def _send_scheduled(self) -> None:
        self._scheduled = False
        self._send_ready()

    def _send_ready(self) -> None:
        """Make batches of what waits, for the leaders that are free, and send them."""
        if self._stopped:
            return
        if self._capacity.awaited:
            self.make_room()
        by_leader: dict[int, list[Batch]] = {}
        for outbox in list(self._ready):
            self._fill(outbox, by_leader)
            self._ready.pop(outbox, None)
            if outbox.waiting:
                self._ready[outbox] = None  # to the end of the line: others want the same partitions
        self.sender.send(by_leader)

    def _fill(self, outbox: Outbox, by_leader: dict[int, list[Batch]]) -> None:
        """Put what waits in an outbox in batches, one for each partition that is free."""
        link = self._link
        topic = link.topic(outbox.topic)
        if topic is None or self.sender.trouble is not None:
            if (trouble := self._trouble_with(outbox)) is not None:
                self._fail(outbox, trouble)
                self._forget(outbox)
            return
        leaders = topic.leaders
        if outbox.partition is not None and outbox.partition >= len(leaders):
            link.request_refresh()  # it may have been added
            return
        while outbox.waiting:
            partition = outbox.next_partition(leaders, self.sender.is_free)
            if partition is None:
                return
            place = (outbox.topic, partition)
            numbers = self.sender.sequences.next(place)
            if numbers is None:
                self.sender.identify()
                return
            batches = by_leader.setdefault(leaders[partition], [])
            if sum(len(batch.content) for batch in batches) > REQUEST_BYTES:
                return
            batches.append(self._batch(outbox, partition, *numbers))
            self.sender.sequences.took(place, len(batches[-1].records))

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
        if error is None:
            batch.outbox.stuck_since = None
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
        size = 0
        for number, record in enumerate(records):
            size += record.size
            if record.on_delivery is not None:
                record.on_delivery(error)
            if error is None and record.on_offset is not None:
                record.on_offset(offset + number if offset >= 0 else -1)
        self._capacity.release(size)
