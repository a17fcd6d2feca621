"""Kafka, for the rest of Forebay: a producer, two kinds of consumer, and what an administrator does.

This is the only module that imports aiokafka. It adds types, the settings that Forebay relies on, a bound on every
wait, and Forebay's own errors; it decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from forebay.errors import BrokerError, BrokerUnavailable, MessageTooLarge
from forebay.settings import Settings

log = logging.getLogger(__name__)

Headers = Sequence[tuple[str, bytes]]

PACE = 0.002
"""Seconds for which a reader that just took several records lets the next ones gather, so that a request to the broker
brings a batch and not a handful: under load requests are what costs. One that took a single record goes on at once."""

ADMIN_TIMEOUT = 15.0
"""Seconds that an administrative request may take in all."""


class Record(Protocol):
    """One record as it was fetched."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since the epoch
    key: bytes | None
    value: bytes | None
    headers: Headers


def header(record: Record, name: str) -> str | None:
    """Return the value of a record's header, or None where it has none."""
    for key, value in record.headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return None


def _connection(settings: Settings, client: str) -> dict[str, Any]:
    password = settings.sasl_password
    context: ssl.SSLContext | None = None
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        context = create_ssl_context(
            cafile=_text(settings.ssl_cafile),
            certfile=_text(settings.ssl_certfile),
            keyfile=_text(settings.ssl_keyfile),
        )
    return {
        "bootstrap_servers": settings.brokers,
        "client_id": f"forebay-{client}",
        "security_protocol": settings.security_protocol,
        "ssl_context": context,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password.get_secret_value() if password else None,
    }


def _text(path: object | None) -> str | None:
    return None if path is None else str(path)


async def _within(seconds: float, what: str, awaitable: Awaitable[Any]) -> Any:
    """Await under a bound; whatever Kafka says comes out as one of Forebay's errors."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        raise BrokerUnavailable(f"{what}: the broker did not answer within {seconds:g} s") from None
    except KafkaError as error:
        kind = BrokerUnavailable if getattr(error, "retriable", False) else BrokerError
        raise kind(f"{what}: {error or type(error).__name__}") from error


class Producer:
    """An idempotent producer: acknowledged by all in-sync replicas, in order, each record once.

    With idempotence a batch never expires while the broker is away, so whoever waits for an acknowledgement brings a
    bound.
    """

    def __init__(self, settings: Settings, client: str) -> None:
        self._settings = settings
        self._producer = AIOKafkaProducer(
            **_connection(settings, client),
            acks="all",
            enable_idempotence=True,
            max_request_size=settings.max_message_bytes,
            max_batch_size=512 * 1024,
            linger_ms=0,
        )
        self._turns: dict[str, _Turn] = {}

    async def start(self) -> None:
        """Connect; raises `BrokerUnavailable` when nobody answers."""
        await _within(ADMIN_TIMEOUT, f"connecting to {self._settings.brokers}", self._producer.start())

    async def stop(self, timeout: float = 5.0) -> None:
        """Send what is still buffered, for ``timeout`` seconds at the most, then disconnect."""
        try:
            async with asyncio.timeout(timeout):
                await self._producer.stop()
        except TimeoutError:
            log.warning("gave up after %g s on records that the broker did not acknowledge", timeout)

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes,
        headers: Headers = (),
        partition: int | None = None,
        on_delivery: Callable[[BrokerError | None], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Hand a record over; return the future of its acknowledgement.

        Without a partition the record goes to one in turn, whatever its key (see `_Turn`). It waits only while the
        topic's metadata is unknown or the buffer is full; cancelling that wait takes the record back, cancelling the
        returned future does not.

        ``on_delivery`` is called once: with None when the broker has acknowledged the record, or with the error for
        which it never will.

        Raises:
            MessageTooLarge: the record is larger than the topics take.
            BrokerUnavailable: the topic's metadata or room in the buffer could not be had.
        """
        if partition is None:
            partition = await self._next_partition(topic)
        try:
            sent: asyncio.Future[Any] = await self._producer.send(
                topic, value, key=key, headers=headers, partition=partition
            )
        except MessageSizeTooLargeError as error:
            raise MessageTooLarge(len(value or b""), self._settings.max_message_bytes) from error
        except KafkaError as error:
            raise BrokerUnavailable(f"producing to {topic}: {error or type(error).__name__}") from error
        if on_delivery is not None:

            def delivered(sent: asyncio.Future[Any]) -> None:
                error = None if sent.cancelled() else sent.exception()
                if error is None and not sent.cancelled():
                    on_delivery(None)
                else:
                    on_delivery(BrokerUnavailable(f"producing to {topic}: {error or 'the producer stopped'}"))

            sent.add_done_callback(delivered)
        return sent

    async def send_and_wait(
        self, topic: str, value: bytes | None, *, key: bytes, headers: Headers = (), partition: int = 0, timeout: float
    ) -> int:
        """Produce one record and return its offset; raises `BrokerUnavailable` without an acknowledgement in time."""

        async def produce() -> int:
            acknowledged = await self.send(topic, value, key=key, headers=headers, partition=partition)
            return int((await acknowledged).offset)

        return cast(int, await _within(timeout, f"producing to {topic}", produce()))

    async def flush(self, timeout: float) -> None:
        """Wait until everything handed over is acknowledged, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._producer.flush()
        except TimeoutError:
            log.warning("records were not acknowledged within %g s", timeout)

    def knows(self, topic: str) -> bool:
        """Whether the topic's metadata is at hand, so that a send to it does not wait for the broker."""
        return bool(self._producer.client.cluster.partitions_for_topic(topic))

    async def _next_partition(self, topic: str) -> int:
        turn = self._turns.get(topic)
        if turn is None:
            turn = self._turns[topic] = _Turn()
        if turn.over(time.monotonic()):
            partitions = self._producer.client.cluster.partitions_for_topic(topic)
            if not partitions:
                try:
                    partitions = await self._producer.partitions_for(topic)
                except KafkaError as error:
                    raise BrokerUnavailable(f"metadata of {topic}: {error or type(error).__name__}") from error
            turn.move_on(len(partitions))
        return turn.partition


class _Turn:
    """The partition whose turn it is: the next one after each record, but a few that come at once stay together.

    Records that are produced within a millisecond travel in one request anyway. Spread over every partition each would
    be a batch of its own, with its own header, checksum and log append; a few together cost a fraction of that. Few, so
    that one burst does not fall on one consumer.
    """

    __slots__ = ("_left", "_until", "partition")

    TOGETHER = 4
    WITHIN = 0.001

    def __init__(self) -> None:
        self.partition = 0
        self._left = 0
        self._until = 0.0

    def over(self, now: float) -> bool:
        """Whether the next record belongs to another partition."""
        if self._left and now < self._until:
            self._left -= 1
            return False
        self._left = self.TOGETHER - 1
        self._until = now + self.WITHIN
        return True

    def move_on(self, partitions: int) -> None:
        """Give the turn to the next of so many partitions."""
        self.partition = (self.partition + 1) % partitions


class PinnedConsumer:
    """Reads given partitions of one topic by ``assign()``: no group, so no rebalance can move it."""

    def __init__(self, settings: Settings, client: str, topic: str, partitions: Iterable[int] = (0,)) -> None:
        self._consumer = AIOKafkaConsumer(
            **_connection(settings, client),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=settings.max_message_bytes,
        )
        self.topic = topic
        self._partitions = [TopicPartition(topic, partition) for partition in partitions]

    async def start(self, offsets: Mapping[int, int] | None = None, *, at_end: bool = False) -> None:
        """Connect and take up the position: the given offsets, else the end or the beginning of each partition.

        The position is pinned when this returns: every record produced afterwards will be fetched.
        """
        await _within(ADMIN_TIMEOUT, f"connecting to read {self.topic}", self._consumer.start())
        self._consumer.assign(self._partitions)
        if offsets is None:
            pick = self._consumer.end_offsets if at_end else self._consumer.beginning_offsets
            found = await _within(ADMIN_TIMEOUT, f"offsets of {self.topic}", pick(self._partitions))
            offsets = {partition.partition: offset for partition, offset in found.items()}
        for partition in self._partitions:
            self._consumer.seek(partition, offsets[partition.partition])

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def fetch(self, timeout: float) -> list[Record]:
        """Return what has arrived, in order within each partition; waits up to ``timeout`` seconds for something."""
        try:
            batches = await self._consumer.getmany(timeout_ms=int(timeout * 1000))
        except KafkaError as error:
            raise BrokerUnavailable(f"reading {self.topic}: {error or type(error).__name__}") from error
        if len(batches) == 1:
            return cast("list[Record]", next(iter(batches.values())))
        return [record for records in batches.values() for record in records]

    async def positions(self) -> dict[int, int]:
        """Return the offset that each partition is read from next."""
        return {partition.partition: await self._consumer.position(partition) for partition in self._partitions}

    async def ends(self, timeout: float) -> dict[int, int]:
        """Ask the broker where each partition ends; raises `BrokerUnavailable` after ``timeout`` seconds."""
        found = await _within(timeout, f"end of {self.topic}", self._consumer.end_offsets(self._partitions))
        return {partition.partition: offset for partition, offset in found.items()}


class GroupConsumer:
    """A member of a consumer group that reads one topic and commits by hand.

    Args:
        settings: where the cluster is, and the group's limits.
        client: name of this client, for the broker's logs.
        topic: what to read.
        group: consumer group.
        on_revoked: called with the partitions that are about to be taken away; it may still commit.
        on_assigned: called with the partitions that are ours from now on.
    """

    def __init__(
        self,
        settings: Settings,
        client: str,
        topic: str,
        group: str,
        *,
        on_revoked: Callable[[frozenset[int]], Awaitable[None]],
        on_assigned: Callable[[frozenset[int]], Awaitable[None]],
    ) -> None:
        self.topic = topic
        self._consumer = AIOKafkaConsumer(
            **_connection(settings, client),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 4),
            max_poll_interval_ms=int(settings.poll_limit * 1000),
            max_partition_fetch_bytes=settings.max_message_bytes,
        )
        self._listener = _Listener(on_revoked, on_assigned)

    async def start(self) -> None:
        """Connect and join the group; partitions come by ``on_assigned``."""
        await _within(ADMIN_TIMEOUT, f"connecting to read {self.topic}", self._consumer.start())
        self._consumer.subscribe([self.topic], listener=self._listener)

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        await self._consumer.stop()

    async def fetch(self, timeout: float, limit: int) -> list[Record]:
        """Return up to ``limit`` records of the partitions that are not paused; waits up to ``timeout`` seconds."""
        try:
            batches = await self._consumer.getmany(timeout_ms=int(timeout * 1000), max_records=limit)
        except KafkaError as error:
            raise BrokerUnavailable(f"reading {self.topic}: {error or type(error).__name__}") from error
        return [record for records in batches.values() for record in records]

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing more of these partitions until they are resumed; those not ours are passed over."""
        assigned = self._consumer.assignment()
        self._consumer.pause(*(tp for tp in assigned if tp.partition in set(partitions)))

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch these partitions again; those not ours are passed over."""
        assigned = self._consumer.assignment()
        self._consumer.resume(*(tp for tp in assigned if tp.partition in set(partitions)))

    async def commit(self, offsets: Mapping[int, int], timeout: float) -> bool:
        """Commit the offset to read next of each partition.

        Returns:
            False when the group has moved on without us: the partitions are another member's, and so is what follows.
        """
        commits = {TopicPartition(self.topic, partition): offset for partition, offset in offsets.items()}
        try:
            async with asyncio.timeout(timeout):
                await self._consumer.commit(commits)
        except (CommitFailedError, IllegalStateError):
            return False
        except TimeoutError:
            raise BrokerUnavailable(f"committing {self.topic}: no answer within {timeout:g} s") from None
        except KafkaError as error:
            raise BrokerUnavailable(f"committing {self.topic}: {error or type(error).__name__}") from error
        return True

    async def committed(self, partition: int) -> int | None:
        """Return the offset that the group has committed, or None where it has committed nothing."""
        offset = await _within(
            ADMIN_TIMEOUT, f"offsets of {self.topic}", self._consumer.committed(TopicPartition(self.topic, partition))
        )
        return None if offset is None else int(offset)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(
        self,
        on_revoked: Callable[[frozenset[int]], Awaitable[None]],
        on_assigned: Callable[[frozenset[int]], Awaitable[None]],
    ) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked(frozenset(tp.partition for tp in revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._on_assigned(frozenset(tp.partition for tp in assigned))


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as it exists.

    Attributes:
        partitions: how many it has.
        config: its configuration, defaults of the cluster included.
    """

    name: str
    partitions: int
    config: Mapping[str, str]


class Admin:
    """What an administrator does: list, describe, create and delete topics."""

    def __init__(self, client: AIOKafkaAdminClient) -> None:
        self._client = client

    @classmethod
    def connect(cls, settings: Settings) -> AbstractAsyncContextManager[Self]:
        """Connect for the length of a ``with`` block; raises `BrokerUnavailable` when nobody answers."""
        return cls._connect(settings)

    @classmethod
    @asynccontextmanager
    async def _connect(cls, settings: Settings) -> Any:
        client = AIOKafkaAdminClient(**_connection(settings, "admin"), request_timeout_ms=int(ADMIN_TIMEOUT * 1000))
        try:
            await _within(ADMIN_TIMEOUT, f"connecting to {settings.brokers}", client.start())
            yield cls(client)
        finally:
            await client.close()

    async def names(self) -> frozenset[str]:
        """Return the names of all topics."""
        return frozenset(await _within(ADMIN_TIMEOUT, "listing topics", self._client.list_topics()))

    async def describe(self, names: Iterable[str]) -> dict[str, TopicDescription]:
        """Describe those of the topics that exist."""
        wanted = list(names)
        if not wanted:
            return {}
        found = await _within(ADMIN_TIMEOUT, "describing topics", self._client.describe_topics(wanted))
        partitions = {
            topic["topic"]: len(topic["partitions"])
            for topic in found
            if not topic["error_code"] and topic["partitions"]
        }
        if not partitions:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions]
        answers = await _within(ADMIN_TIMEOUT, "describing topics", self._client.describe_configs(resources))
        configs: dict[str, dict[str, str]] = {}
        for answer in answers:
            for code, message, _kind, name, entries in answer.resources:
                if code:
                    raise BrokerError(f"describing topic {name}: {message or for_code(code).__name__}")
                configs[name] = {entry[0]: entry[1] for entry in entries}
        return {name: TopicDescription(name, count, configs[name]) for name, count in partitions.items()}

    async def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        """Create a topic.

        Returns:
            False when it exists already: somebody else was quicker.

        Raises:
            BrokerError: the broker refuses; the message says why.
        """
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=dict(config))
        topic.replication_factor = replication  # the constructor refuses the protocol's -1, the cluster's default
        answer = await _within(ADMIN_TIMEOUT, f"creating topic {name}", self._client.create_topics([topic]))
        for _, code, *message in answer.topic_errors:
            if code == 36:  # TOPIC_ALREADY_EXISTS
                return False
            if code:
                raise BrokerError(
                    f"creating topic {name}: {next(filter(None, message), None) or for_code(code).__name__}"
                )
        return True

    async def delete(self, name: str) -> None:
        """Delete a topic; one that is gone already is as good."""
        await _within(ADMIN_TIMEOUT, f"deleting topic {name}", self._client.delete_topics([name]))


async def probe(settings: Settings, timeout: float) -> float:
    """Wait until the cluster acknowledges a produce, to a topic made for the purpose and removed again.

    Returns:
        Seconds from the call to the acknowledgement.

    Raises:
        BrokerUnavailable: it did not within ``timeout`` seconds; the message carries what was last seen.
    """
    begun = time.monotonic()
    name = f"{settings.namespace}probe.{uuid.uuid4().hex[:12]}"
    last: BrokerError | None = None
    while (left := timeout - (time.monotonic() - begun)) > 0:
        try:
            async with asyncio.timeout(left), Admin.connect(settings) as admin:
                await admin.create(name, 1, settings.replication_factor, {})
                producer = Producer(settings, "probe")
                try:
                    await producer.start()
                    await producer.send_and_wait(name, b"probe", key=b"probe", timeout=left)
                    taken = time.monotonic() - begun
                finally:
                    await producer.stop()
                await admin.delete(name)
                return taken
        except BrokerError as error:
            last = error
            await asyncio.sleep(0.05)
        except TimeoutError:
            break
    raise BrokerUnavailable(f"{settings.brokers} acknowledged nothing within {timeout:g} s (last seen: {last})")
