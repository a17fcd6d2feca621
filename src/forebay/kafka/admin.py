"""What an administrator does: list, describe, create and delete topics, and see whether the cluster works at all."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from forebay.errors import BrokerError, BrokerUnavailable
from forebay.kafka.connection import ADMIN_TIMEOUT, connect, connection, within
from forebay.kafka.producer import Producer
from forebay.settings import Settings


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
        client = AIOKafkaAdminClient(**connection(settings, "admin"), request_timeout_ms=int(ADMIN_TIMEOUT * 1000))
        try:
            await connect(settings, client.start())
            yield cls(client)
        finally:
            await client.close()

    async def names(self) -> frozenset[str]:
        """Return the names of all topics."""
        return frozenset(await within(ADMIN_TIMEOUT, "listing topics", self._client.list_topics()))

    async def describe(self, names: Iterable[str]) -> dict[str, TopicDescription]:
        """Describe those of the topics that exist; one that is being created may not be known everywhere yet."""
        # a cluster that creates topics by itself, as Kafka does by default, would create those it is asked for
        wanted = sorted((await self.names()).intersection(names))
        if not wanted:
            return {}
        found = await within(ADMIN_TIMEOUT, "describing topics", self._client.describe_topics(wanted))
        partitions = {
            topic["topic"]: len(topic["partitions"])
            for topic in found
            if not topic["error_code"] and topic["partitions"]
        }
        if not partitions:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions]
        answers = await within(ADMIN_TIMEOUT, "describing topics", self._client.describe_configs(resources))
        configs: dict[str, dict[str, str]] = {}
        for answer in answers:
            for code, message, _kind, name, entries in answer.resources:
                if code == UnknownTopicOrPartitionError.errno:
                    continue  # it was created a moment ago, and the node that was asked has not heard of it
                if code:
                    raise BrokerError(f"describing topic {name}: {message or for_code(code).__name__}")
                configs[name] = {entry[0]: entry[1] for entry in entries}
        return {name: TopicDescription(name, partitions[name], config) for name, config in configs.items()}

    async def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        """Create a topic.

        Returns:
            False when it exists already: somebody else was quicker.

        Raises:
            BrokerError: the broker refuses; the message says why.
        """
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=dict(config))
        topic.replication_factor = replication  # the constructor refuses the protocol's -1, the cluster's default
        answer = await within(ADMIN_TIMEOUT, f"creating topic {name}", self._client.create_topics([topic]))
        for _, code, *message in answer.topic_errors:
            if code == TopicAlreadyExistsError.errno:
                return False
            if code:
                raise BrokerError(
                    f"creating topic {name}: {next(filter(None, message), None) or for_code(code).__name__}"
                )
        return True

    async def delete(self, name: str) -> None:
        """Delete a topic; one that is gone already is as good."""
        await within(ADMIN_TIMEOUT, f"deleting topic {name}", self._client.delete_topics([name]))


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
