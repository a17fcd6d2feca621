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

from forebay.errors import BrokerError, BrokerUnavailable, MessageTooLarge, TopicUnknown
from forebay.kafka.capacity import Capacity
from forebay.kafka.link import Link
from forebay.kafka.outbox import OnDelivery, OnOffset, Outgoing
from forebay.kafka.outboxes import Outboxes
from forebay.kafka.shared_link import SharedLink
from forebay.settings import Settings
from forebay_schemas.headers import Headers

log = logging.getLogger(__name__)

START_BOUND = 15.0
"""Seconds that the producer may take to be known to the cluster."""

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
        self._shared = SharedLink(settings, client, link)
        self._loop = asyncio.get_running_loop()
        self._large = settings.max_message_bytes // 2
        self._capacity = Capacity()
        self._outboxes: Outboxes | None = None
        self._stopped = False

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: no broker answers in time.
            AuthorizationFailed: the cluster lets this client produce nothing.
        """
        link = await self._shared.start()
        self._outboxes = Outboxes(link, self._capacity)
        sender = self._outboxes.sender
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
        if self._outboxes is not None:
            await self._outboxes.stop("the producer stopped")
        await self._shared.stop()

    @property
    def usable(self) -> bool:
        """Whether records can be produced, as far as the cluster's rules go; an outage of the broker is no matter."""
        return not self._stopped and self._outboxes is not None and self._outboxes.sender.trouble is None

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
        """Hand a record over; it is sent in the next turn of the event loop, and this never waits.

        Without a partition the record goes to one in turn, whatever its key: that balances better than hashing ids and
        costs nothing. ``on_delivery`` is called once: with None when the broker has acknowledged the record, or with
        the error for which it never will: `TopicUnknown` where there is no such topic, `AuthorizationFailed` where the
        cluster does not allow it, `MessageTooLarge` where the topic takes less than Forebay's settings say,
        `RecordRefused` where another setting of the topic forbids it. A record for a given partition that has no
        leader, or too few replicas, is given up with `DeliveryExpired` once ``within`` seconds are over; before, unless
        they are infinite, where others wait for the memory that it takes.

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
        if not self._capacity.accepts(size):
            raise BrokerUnavailable(f"producing to {topic}: {self._capacity.used} bytes wait for the broker already")
        if self._stopped or self._outboxes is None:
            raise BrokerUnavailable(f"producing to {topic}: the producer is not running")
        if (topic, partition) not in self._outboxes and _TOPIC_NAME.match(topic) is None:
            self._refuse_name(topic, on_delivery)
            return
        expires = time.monotonic() + within
        self._outboxes.put(topic, partition, Outgoing(key, value, list(headers), size, on_delivery, on_offset, expires))

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

    def make_way(self, topic: str, partition: int) -> None:
        """Give up now what waits for a partition that takes nothing, where it was to be given up some time.

        That is one that has been without a leader, or enough replicas, for a while; elsewhere nothing happens.
        """
        if self._outboxes is not None:
            self._outboxes.make_way(topic, partition)

    async def flush(self, timeout: float) -> None:
        """Wait until everything handed over is acknowledged, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._capacity.empty.wait()
        except TimeoutError:
            log.warning("records were not acknowledged within %g s", timeout)

    @property
    def backpressured(self) -> bool:
        """Whether so much waits for the broker that a caller who can should use `wait_for_capacity`."""
        return self._capacity.backpressured

    async def wait_for_capacity(self, size: int = 0) -> None:
        """Wait until a record of ``size`` bytes will be taken; callers are let in one after the other.

        The record is to be handed over at once when this returns, without waiting for anything else before.
        """
        if self._outboxes is not None and not self._capacity.admits(size):
            self._outboxes.make_room()
        await self._capacity.wait_for(size)
