"""What waiting does not mend: what the cluster does not allow, and groups that take no such member, is told by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from forebay.errors import AuthorizationFailed, BrokerError, GroupRefused
from forebay.kafka import Admin, PinnedConsumer, Producer
from forebay.settings import Settings, load_settings
from forebay_schemas import topics as topic_names
from tests.support.access import (
    AUTHORIZER,
    CLUSTER,
    CREATE,
    DESCRIBE,
    GROUP,
    IDEMPOTENT_WRITE,
    READ,
    TOPIC,
    WRITE,
    allow,
    deny,
)
from tests.support.brokers import Kafka, a_broker
from tests.support.members import Member
from tests.support.services import Site
from tests.support.waiting import until

BOUND = 30.0
MOST_LINES = 4
"""Lines of a log that may name a topic: each part that uses it says once what is wrong with it."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that checks access, and lets a group have two members."""
    with a_broker(tmp_path_factory.mktemp("checked"), group_max_size=2, **AUTHORIZER) as broker:
        broker.start()
        yield broker


@pytest.fixture
def site(kafka: Kafka, namespace: str, tmp_path: Path) -> Iterator[Site]:
    with closing(Site(kafka.bootstrap_servers, namespace, tmp_path)) as site:
        yield site


async def told(act: Callable[[], Awaitable[object]]) -> BrokerError:
    """Return the first error of something done again and again, until it is none that passes."""
    async with asyncio.timeout(BOUND):
        while True:
            try:
                await act()
            except BrokerError as error:
                if not error.retriable:
                    return error
            await asyncio.sleep(0.05)


def refusal(error: BaseException, resource: str, name: str, operation: str) -> None:
    assert isinstance(error, AuthorizationFailed)
    assert (error.resource, error.name) == (resource, name)
    assert operation in error.operations
    assert str(error).startswith(f"the cluster does not allow this client to use {resource} {name}: ")
    assert not error.retriable


async def test_a_topic_that_may_not_be_read(settings: Settings, topic: str, at_end: AsyncExitStack) -> None:
    await deny(settings.brokers, TOPIC, topic, READ)
    consumer = PinnedConsumer(settings, "test", topic)
    at_end.push_async_callback(consumer.stop)
    await consumer.start()
    refusal(await told(consumer.read), "topic", topic, "Read")


@pytest.mark.parametrize("rule", [READ, DESCRIBE])
async def test_a_gateway_that_may_not_read_its_replies_or_the_catalog_is_not_ready_until_it_may(
    site: Site, rule: int
) -> None:
    gateway = await asyncio.to_thread(site.gateway)
    servers = site.settings.brokers
    for topic in (topic_names.replies(site.namespace, gateway.instance), topic_names.catalog(site.namespace)):
        await deny(servers, TOPIC, topic, rule)
        await until(lambda: not gateway.is_ready(), BOUND, "the gateway is not ready")
        for _ in range(30):
            assert not gateway.is_ready(), "it is not now and then"
            await asyncio.sleep(0.1)
        assert gateway.output.count(f"to use topic {topic}") <= MOST_LINES
        await allow(servers, TOPIC, topic)
        await until(gateway.is_ready, BOUND, "the gateway is ready again")


async def test_a_topic_that_may_not_be_looked_at(settings: Settings, topic: str, producer: Producer) -> None:
    await deny(settings.brokers, TOPIC, topic, DESCRIBE)
    async with Admin.connect(settings) as admin:
        refusal(await told(lambda: admin.describe([topic])), "topic", topic, "Describe")
    refusal(await told(lambda: producer.publish_and_wait(topic, b"x", key=b"k")), "topic", topic, "Describe")
    consumer = PinnedConsumer(settings, "test", topic)
    try:
        refusal(await told(consumer.start), "topic", topic, "Describe")
    finally:
        await consumer.stop()


async def test_a_topic_that_may_not_be_written_to_while_others_go_on(
    settings: Settings, topic: str, producer: Producer
) -> None:
    await deny(settings.brokers, TOPIC, topic, WRITE)
    other = f"{settings.namespace}other"
    async with Admin.connect(settings) as admin:
        await admin.create(other, 1, -1, {})
    for _ in range(3):
        error = await told(lambda: producer.publish_and_wait(topic, b"x", key=b"k", partition=1))
        refusal(error, "topic", topic, "Write")
        await producer.publish_and_wait(other, b"x", key=b"k")
    assert producer.usable


async def test_a_group_that_may_not_be_joined(settings: Settings, topic: str, at_end: AsyncExitStack) -> None:
    group = f"{settings.namespace}group"
    await deny(settings.brokers, GROUP, group, READ)
    member = Member(settings, topic)
    at_end.push_async_callback(member.stop)
    await member.start()
    refusal(await told(lambda: member.consumer.read(None)), "group", group, "Read")


async def test_a_member_whose_topic_may_not_be_read(settings: Settings, topic: str, at_end: AsyncExitStack) -> None:
    await deny(settings.brokers, TOPIC, topic, READ)
    member = Member(settings, topic)
    at_end.push_async_callback(member.stop)
    await member.start()
    refusal(await told(lambda: member.consumer.read(None)), "topic", topic, "Read")


async def test_a_session_timeout_that_the_broker_does_not_allow(
    settings: Settings, topic: str, at_end: AsyncExitStack
) -> None:
    member = Member(settings.model_copy(update={"session_timeout": 1.0}), topic)
    at_end.push_async_callback(member.stop)
    await member.start()
    error = await told(lambda: member.consumer.read(None))
    assert isinstance(error, GroupRefused)
    assert str(error).startswith(
        f"group {settings.namespace}group: session_timeout = 1 s is not within what the broker"
    )


async def test_a_group_whose_name_something_else_uses(settings: Settings, topic: str, at_end: AsyncExitStack) -> None:
    foreign = AIOKafkaConsumer(topic, bootstrap_servers=settings.brokers, group_id=f"{settings.namespace}group")
    at_end.push_async_callback(foreign.stop)
    await foreign.start()
    member = Member(settings, topic)
    at_end.push_async_callback(member.stop)
    await member.start()
    error = await told(lambda: member.consumer.read(None))
    assert isinstance(error, GroupRefused)
    assert "something else uses its name" in str(error)


async def test_a_group_that_has_as_many_members_as_it_may(
    settings: Settings, topic: str, at_end: AsyncExitStack
) -> None:
    members = [Member(settings, topic) for _ in range(3)]
    for member in members[:2]:
        at_end.push_async_callback(member.stop)
        await member.start()
        member.keep_reading()
    await until(lambda: all(member.owned for member in members[:2]), BOUND, "both have partitions")
    at_end.push_async_callback(members[2].stop)
    await members[2].start()
    error = await told(lambda: members[2].consumer.read(None))
    assert isinstance(error, GroupRefused)
    assert "as many members as the broker allows" in str(error)


async def test_a_client_that_may_create_nothing_and_produce_nothing(tmp_path: Path, namespace: str) -> None:
    with a_broker(tmp_path / "strict", **AUTHORIZER) as broker:
        await asyncio.to_thread(broker.start)
        settings = load_settings(bootstrap_servers=broker.bootstrap_servers, namespace=namespace)
        name = f"{namespace}new"
        await deny(settings.brokers, CLUSTER, "kafka-cluster", CREATE)
        await deny(settings.brokers, TOPIC, "*", CREATE)
        async with Admin.connect(settings) as admin:
            refusal(await told(lambda: admin.create(name, 1, -1, {})), "topic", name, "Create")
        await deny(settings.brokers, CLUSTER, "kafka-cluster", IDEMPOTENT_WRITE)
        await deny(settings.brokers, TOPIC, "*", WRITE)

        async def begin() -> None:
            producer = Producer(settings, "test")
            try:
                await producer.start()
            except AuthorizationFailed:
                assert not producer.usable
                raise
            finally:
                await producer.stop()

        error = await told(begin)
        assert isinstance(error, AuthorizationFailed)
        assert "IdempotentWrite" in error.operations
