"""The fixtures that give every other test its Kafka: the same in Docker as embedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forebay.errors import BrokerUnavailable
from forebay.kafka import probe
from forebay.settings import Settings, load_settings
from forebay_broker import EmbeddedCluster
from tests.support.brokers import Broker, Kafka


def settings_of(kafka: Kafka, **more: Any) -> Settings:
    return load_settings(bootstrap_servers=kafka.bootstrap_servers, **more)


async def test_the_shared_kafka_acknowledges_a_produce(kafka: Kafka, namespace: str) -> None:
    assert await probe(settings_of(kafka, namespace=namespace), timeout=30.0) > 0


async def test_a_broker_of_ones_own_can_be_paused_killed_and_started_again(own_broker: Callable[[], Broker]) -> None:
    broker = own_broker()
    settings = settings_of(broker)
    broker.pause()
    with pytest.raises(BrokerUnavailable):
        await probe(settings, timeout=0.5)
    broker.resume()
    await probe(settings, timeout=30.0)
    for end in (broker.kill, broker.stop):
        end()
        with pytest.raises(BrokerUnavailable):
            await probe(settings, timeout=0.5)
        broker.start()
        await probe(settings, timeout=30.0)


async def test_the_nodes_of_a_cluster_can_be_stopped_killed_and_paused_one_at_a_time(cluster: EmbeddedCluster) -> None:
    settings = settings_of(cluster)
    for node, (away, back) in zip(
        cluster.nodes, [("stop", "start"), ("kill", "start"), ("pause", "resume")], strict=True
    ):
        getattr(node, away)()
        assert await probe(settings, timeout=60.0) > 0
        getattr(node, back)()
        await probe(settings_of(node), timeout=60.0)
