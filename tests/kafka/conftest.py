"""A cluster and a namespace of the test's own, and clients that are stopped at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from forebay.kafka import Admin, Link, Producer
from forebay.settings import Settings, load_settings
from tests.support.brokers import Kafka
from tests.support.waiting import until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here: all of it rests on parts of aiokafka that are not documented."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.compat)


@pytest.fixture
def settings(kafka: Kafka, namespace: str) -> Settings:
    return load_settings(bootstrap_servers=kafka.bootstrap_servers, namespace=namespace, partitions=3)


@pytest.fixture
async def topic(settings: Settings) -> str:
    """A topic with three partitions and nothing in it."""
    name = f"{settings.namespace}things"
    async with Admin.connect(settings) as admin:
        await admin.create(name, settings.partitions, -1, {"max.message.bytes": str(settings.max_message_bytes)})
        await until(lambda: admin.describe([name]), 30.0, f"{name} exists")
    return name


@pytest.fixture
async def link(settings: Settings, at_end: AsyncExitStack) -> Link:
    """A link that is started, and stopped after whatever else the test makes."""
    link = Link(settings, "test")
    at_end.push_async_callback(link.stop)
    return await link.start()


@pytest.fixture
async def producer(settings: Settings, at_end: AsyncExitStack) -> Producer:
    """A producer that is started."""
    producer = Producer(settings, "test")
    at_end.push_async_callback(producer.stop)
    await producer.start()
    return producer


@pytest.fixture
async def at_end() -> AsyncIterator[AsyncExitStack]:
    """What is pushed here is done when the test ends, the last first."""
    async with AsyncExitStack() as stack:
        yield stack
