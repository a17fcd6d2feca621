"""A cluster and a namespace of the test's own, and clients that are stopped at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from forebay.settings import Settings, load_settings
from tests.support.brokers import Kafka


@pytest.fixture
def settings(kafka: Kafka, namespace: str) -> Settings:
    return load_settings(bootstrap_servers=kafka.bootstrap_servers, namespace=namespace, partitions=3)


@pytest.fixture
async def at_end() -> AsyncIterator[AsyncExitStack]:
    """What is pushed here is done when the test ends, the last first."""
    async with AsyncExitStack() as stack:
        yield stack
