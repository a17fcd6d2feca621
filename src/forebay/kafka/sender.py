"""The sender: takes batches to the leaders of their partitions, until it is known what became of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from forebay.errors import (
    AuthorizationFailed,
    BrokerError,
    BrokerUnavailable,
    DeliveryExpired,
    MessageTooLarge,
    RecordRefused,
    TopicUnknown,
)
from forebay.kafka.link import REQUEST_BOUND, Link
from forebay.kafka.outbox import Batch
from forebay.kafka.records import Partition
from forebay.kafka.sequences import Identity, Sequences
from forebay.kafka.wire import codes
from forebay.kafka.wire.building import renumbered
from forebay.kafka.wire.connections import SHARED, Unreachable
from forebay.kafka.wire.metadata import NO_LEADER
from forebay.kafka.wire.requests import (
    Produced,
    produce_request,
    produced,
    producer_id_of,
    producer_id_request,
)

log = logging.getLogger(__name__)

BACK_OFF = 0.1
"""Seconds before a batch is sent again."""
REFUSED_BACK_OFF = 1.0
"""Seconds before an identity is asked for again that was refused."""
REPLICAS_BOUND = 10.0
"""Seconds that a broker waits for the replicas in sync."""

_TRY_AGAIN = frozenset(
    {
        codes.CORRUPT_MESSAGE,
        codes.UNKNOWN_TOPIC,
        codes.LEADER_NOT_AVAILABLE,
        codes.NOT_LEADER,
        codes.REQUEST_TIMED_OUT,
        codes.NOT_ENOUGH_REPLICAS,
        codes.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        codes.KAFKA_STORAGE_ERROR,
        codes.FENCED_LEADER_EPOCH,
        codes.UNKNOWN_LEADER_EPOCH,
        codes.THROTTLING_QUOTA_EXCEEDED,
        codes.UNKNOWN_TOPIC_ID,
        codes.INCONSISTENT_TOPIC_ID,
    }
)
_NOT_APPENDED = frozenset(
    {
        codes.CORRUPT_MESSAGE,
        codes.LEADER_NOT_AVAILABLE,
        codes.NOT_ENOUGH_REPLICAS,
        codes.THROTTLING_QUOTA_EXCEEDED,
        codes.UNKNOWN_TOPIC_ID,
        codes.INCONSISTENT_TOPIC_ID,
    }
)
"""Those of them that a leader answers before it writes. The others also come from one that has written the batch and
then lost the partition while it waited for the replicas."""
_IDENTITY_IS_VOID = frozenset(
    {
        codes.DUPLICATE_SEQUENCE,  # of a batch that no broker has had before: its numbers were another one's
        codes.OUT_OF_ORDER_SEQUENCE,
        codes.INVALID_PRODUCER_EPOCH,
        codes.INVALID_PRODUCER_ID_MAPPING,
        codes.UNKNOWN_PRODUCER_ID,
        codes.PRODUCER_FENCED,
    }
)

_LACKS_REPLICAS = frozenset({codes.NOT_ENOUGH_REPLICAS, codes.NOT_ENOUGH_REPLICAS_AFTER_APPEND})
_RECORD_IS_REFUSED = frozenset(
    {
        codes.INVALID_TIMESTAMP,
        codes.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        codes.POLICY_VIOLATION,
        codes.UNSUPPORTED_COMPRESSION_TYPE,
        codes.INVALID_RECORD,
    }
)


OnEnd = Callable[[Batch, BrokerError | None, int], None]
OnTooLarge = Callable[[Batch], None]


class Sender:
    """Makes one request to each leader at a time.

    Args:
        link: to the cluster.
        on_end: called once with each batch: with None and the offset of its first record, or with the error for which
            it will not be tried any more.
        on_too_large: called in place of that with a batch of several records that is larger than its topic takes.
        on_free: called when there may be something new to send: a leader has answered, or an identity is there.

    Attributes:
        sequences: the numbers of the batches.
        trouble: why nothing can be sent at all, though brokers answer; None while that is not so.
    """

    def __init__(self, link: Link, on_end: OnEnd, on_too_large: OnTooLarge, on_free: Callable[[], None]) -> None:
        self.sequences = Sequences()
        self.trouble: BrokerError | None = None
        self._link = link
        self._on_end = on_end
        self._on_too_large = on_too_large
        self._on_free = on_free
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, tuple[asyncio.Task[None], list[Batch]]] = {}
        self._again: dict[Partition, Batch] = {}
        self._identifying: asyncio.Task[None] | None = None
        link.listen(self._on_metadata)

    async def stop(self) -> list[Batch]:
        """Send nothing more; return the batches of which it is not known what became of them."""
        self._link.stop_listening(self._on_metadata)
        tasks = [task for task, _ in self._requests.values()]
        left = [batch for _, batches in self._requests.values() for batch in batches]
        if self._identifying is not None:
            tasks.append(self._identifying)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left += self._again.values()
        self._again.clear()
        return list({id(batch): batch for batch in left}.values())

    def is_free(self, leader: int) -> bool:
        """Whether a request can be made to a node now."""
        return leader != NO_LEADER and leader not in self._requests

    def send(self, by_leader: dict[int, list[Batch]]) -> None:
        """Send batches, together with those of the same leaders that are to be sent again; each leader is free."""
        for place, batch in list(self._again.items()):
            leader = self._link.leader(*place)
            if self.is_free(leader) and self._number_again(batch):
                del self._again[place]
                by_leader.setdefault(leader, []).append(batch)
        for leader, batches in by_leader.items():
            self._requests[leader] = (self._loop.create_task(self._request(leader, batches)), batches)

    def _number_again(self, batch: Batch) -> bool:
        """Give a batch new numbers if its identity is void; return False while there is none."""
        if batch.first >= 0:
            return True
        numbers = self.sequences.next(batch.place)
        if numbers is None:
            self.identify()
            return False
        self.sequences.took(batch.place, len(batch.records))
        batch.identity, batch.first = numbers
        batch.content = renumbered(batch.content, *batch.identity, batch.first)
        return True

    # an identity

    def identify(self) -> None:
        """Ask for an identity, unless that is being done."""
        if self._identifying is None:
            self._identifying = self._loop.create_task(self._identify())

    async def _identify(self) -> None:
        try:
            while self.sequences.fresh is None:
                code, identity, epoch = await self._ask_for_identity()
                if code == codes.NONE:
                    self.sequences.fresh = Identity(identity, epoch)
                    self.trouble = None
                    break
                if code == codes.CLUSTER_AUTHORIZATION_FAILED:
                    self.trouble = AuthorizationFailed("cluster", "", "IdempotentWrite of it, or Write of a topic")
                    self._on_free()
                await asyncio.sleep(BACK_OFF if self.trouble is None else REFUSED_BACK_OFF)
        finally:
            self._identifying = None
        self._on_free()

    async def _ask_for_identity(self) -> tuple[int, int, int]:
        try:
            return producer_id_of(await self._link.send_to_any(producer_id_request()))
        except Unreachable:
            self._link.request_refresh()
            return codes.REQUEST_TIMED_OUT, -1, -1

    # requests

    async def _request(self, leader: int, batches: list[Batch]) -> None:
        """Make one request, and see to each batch as its leader answers."""
        unanswered = {batch.place: batch for batch in batches}
        try:
            by_topic: dict[str, list[tuple[int, bytes]]] = {}
            for batch in batches:
                by_topic.setdefault(batch.outbox.topic, []).append((batch.partition, batch.content))
            request = produce_request(by_topic, REPLICAS_BOUND)
            for answer in produced(await self._link.send(leader, request, SHARED, REQUEST_BOUND)):
                batch = unanswered.pop((answer.topic, answer.partition))
                self._see_to(batch, answer)
        except Unreachable as error:
            log.debug("producing: %s", error)
            self._link.request_refresh()
        finally:
            if self._is_under_way(leader, batches):
                self._end_request(leader, unanswered.values())
        self._on_free()

    def _is_under_way(self, leader: int, batches: list[Batch]) -> bool:
        """Whether the request with these batches was not given up."""
        request = self._requests.get(leader)
        return request is not None and request[1] is batches

    def _end_request(self, leader: int, unanswered: Iterable[Batch]) -> None:
        del self._requests[leader]
        for batch in unanswered:
            batch.doubtful = True
            self._send_again(batch)

    def _see_to(self, batch: Batch, answer: Produced) -> None:
        code = answer.code
        if code == codes.NONE or (code == codes.DUPLICATE_SEQUENCE and batch.doubtful):
            self._on_end(batch, None, answer.offset)
        elif code in _TRY_AGAIN:
            batch.doubtful |= code not in _NOT_APPENDED
            batch.lacks_replicas = code in _LACKS_REPLICAS
            self._link.request_refresh()
            self._send_again(batch)
        elif code in _IDENTITY_IS_VOID:
            self._begin_anew(batch, code)
        else:
            self._refuse(batch, code)

    def _begin_anew(self, batch: Batch, code: int) -> None:
        """Begin a partition under another identity, since the broker does not accept this one any more."""
        log.warning("%s/%d: %s; its batches are numbered anew", *batch.place, codes.name_of(code))
        self.sequences.forget(batch.place)
        self.sequences.fresh = None
        self.identify()
        if batch.doubtful:
            reason = f"{codes.name_of(code)}, after an attempt without an answer"
            self._on_end(batch, BrokerUnavailable(f"producing to {batch.outbox.topic}: {reason}"), -1)
        else:
            batch.first = -1
            self._send_again(batch)

    def _refuse(self, batch: Batch, code: int) -> None:
        """Give a batch up that the broker has not taken, and will not."""
        self._drop_numbers(batch)
        if code == codes.MESSAGE_TOO_LARGE and len(batch.records) > 1:
            self._on_too_large(batch)
        else:
            self._on_end(batch, _error(batch, code), -1)

    def _drop_numbers(self, batch: Batch) -> None:
        if batch.doubtful:
            self.sequences.forget(batch.place)
        elif batch.first >= 0:
            self.sequences.give_back(batch.place, batch.identity, batch.first)

    def _send_again(self, batch: Batch) -> None:
        """Send a batch again after a while, unless it is known that it will be in vain."""
        self._again[batch.place] = batch
        self._loop.call_later(BACK_OFF, self._on_free)

    def _on_metadata(self) -> None:
        """Give up what is in vain, and requests to whoever leads none of their partitions any more."""
        for place in list(self._again):
            trouble = self._link.trouble_with(place[0]) or self._link.missing_partition(*place)
            if trouble is not None:
                self._end_in_vain(place, trouble)
            else:
                self.give_up(place, time.monotonic())
        for leader, (task, batches) in list(self._requests.items()):
            if all(self._link.leader(*batch.place) not in (leader, NO_LEADER) for batch in batches):
                task.cancel()
                # here and not in the task: one that is cancelled before its first step does nothing any more
                self._end_request(leader, batches)
        self._on_free()

    def takes_nothing(self, place: Partition) -> bool:
        """Whether a partition has no leader, or too few replicas, as was said of what is to be sent to it again."""
        batch = self._again.get(place)
        return self._link.leader(*place) == NO_LEADER or (batch is not None and batch.lacks_replicas)

    def give_up(self, place: Partition, now: float) -> None:
        """Give up the batch that is to be sent again to a partition that takes nothing, if all its records expired."""
        batch = self._again.get(place)
        if batch is not None and self.takes_nothing(place) and all(record.expires <= now for record in batch.records):
            self._end_in_vain(place, DeliveryExpired(*place))

    def _end_in_vain(self, place: Partition, error: BrokerError) -> None:
        batch = self._again.pop(place)
        self._drop_numbers(batch)
        self._on_end(batch, error, -1)


def _error(batch: Batch, code: int) -> BrokerError:
    topic = batch.outbox.topic
    if code == codes.MESSAGE_TOO_LARGE:
        return MessageTooLarge(len(batch.records[0].value or b""), None, f"topic {topic}")
    if code == codes.TOPIC_AUTHORIZATION_FAILED:
        return AuthorizationFailed("topic", topic, "Write")
    if code == codes.INVALID_TOPIC:
        return TopicUnknown(f"there is no topic '{topic}': that is no name of a topic")
    if code in _RECORD_IS_REFUSED:
        return RecordRefused(topic, codes.name_of(code))
    return BrokerError(f"producing to {topic}: {codes.name_of(code)}")
