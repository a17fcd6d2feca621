"""What every test may ask for; above all a real Kafka."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from forebay_broker import EmbeddedCluster
from tests.support.brokers import Broker, GivenKafka, Kafka, a_broker, a_cluster

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A Kafka for the whole run: the one of FOREBAY_TEST_BOOTSTRAP_SERVERS, or Docker's, or the embedded one.

    It creates the topics that it is asked for, as Kafka does by default: nobody may ask for one that is not there.
    """
    given = os.environ.get("FOREBAY_TEST_BOOTSTRAP_SERVERS")
    if given:
        yield GivenKafka(given)
        return
    with a_broker(tmp_path_factory.mktemp("kafka"), auto_create_topics_enable="true") as broker:
        broker.start()
        yield broker


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Callable[[], Broker]]:
    """Starts a broker that the test may stop, kill, pause and start again; each call starts another."""
    with ExitStack() as brokers:

        def start() -> Broker:
            broker = brokers.enter_context(a_broker(tmp_path / f"broker-{uuid.uuid4().hex[:8]}"))
            broker.start()
            return broker

        yield start


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A cluster of three, of which a module's tests may stop, kill, pause and start nodes; each leaves all running."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def namespace() -> str:
    """A topic prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}."
