"""Topics on a real Kafka: what there is against what should be, and making up the difference."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from forebay import topics
from forebay.errors import BrokerError, BrokerUnavailable, TopicMismatch
from forebay.kafka import Admin, Producer
from forebay.settings import Settings, load_settings
from forebay.topics import DAY_MS, HOUR_MS, TopicSpec, TopicState
from tests.support.brokers import Kafka
from tests.support.ports import free_ports
from tests.support.waiting import until

APP = "shop"
JOBS = [f"jobs.shop.{tier}" for tier in ("interactive", "standard", "bulk")]
RETRIES = [f"retries.shop.{delay}" for delay in ("200ms", "1s", "5s", "30s", "5m")]
NEEDED = [*JOBS, *RETRIES, "dead.shop", "catalog"]
"""What a processor of the app needs."""


@pytest.fixture
def settings(kafka: Kafka, namespace: str) -> Settings:
    return load_settings(bootstrap_servers=kafka.bootstrap_servers, namespace=namespace, partitions=4)


async def create(settings: Settings, spec: TopicSpec, partitions: int | None = None, **config: str) -> None:
    async with Admin.connect(settings) as admin:
        wanted = spec.config | {name.replace("_", "."): value for name, value in config.items()}
        await admin.create(spec.name, partitions or spec.partitions, -1, wanted)
        await until(lambda: admin.describe([spec.name]), 30.0, f"{spec.name} exists")


def needed(settings: Settings) -> list[TopicSpec]:
    return topics.of_processor(settings, APP)


def spec(settings: Settings, name: str) -> TopicSpec:
    (found,) = (each for each in needed(settings) if each.name == settings.namespace + name)
    return found


async def states(settings: Settings) -> dict[str, TopicState]:
    return {
        status.spec.name.removeprefix(settings.namespace): status.state
        for status in await topics.inspect(settings, needed(settings))
    }


async def existing(settings: Settings) -> set[str]:
    async with Admin.connect(settings) as admin:
        return {name for name in await admin.names() if name.startswith(settings.namespace)}


def test_the_topics_are_those_of_the_contract(settings: Settings) -> None:
    assert {
        each.name.removeprefix(settings.namespace): (each.partitions, each.exact, set(each.cleanup), each.retention_ms)
        for each in needed(settings)
    } == {
        **{name: (4, False, {"delete"}, DAY_MS) for name in JOBS},
        **{name: (3, False, {"delete"}, DAY_MS) for name in RETRIES},
        "dead.shop": (1, False, {"delete"}, 14 * DAY_MS),
        "catalog": (1, True, {"compact"}, DAY_MS),
    }
    catalog, replies = topics.of_gateway(replace_instance(settings, "gw"))
    assert catalog == spec(settings, "catalog")
    assert (replies.name, replies.partitions, replies.exact) == (f"{settings.namespace}replies.gw", 2, True)
    assert (set(replies.cleanup), replies.retention_ms) == ({"delete"}, HOUR_MS)


def replace_instance(settings: Settings, instance: str) -> Settings:
    return settings.model_copy(update={"instance": instance})


async def test_looking_shows_what_is_missing_and_creates_nothing(settings: Settings) -> None:
    for _ in range(2):
        assert await states(settings) == dict.fromkeys(NEEDED, TopicState.MISSING)
    assert await existing(settings) == set()


async def test_applying_creates_what_is_missing_as_it_should_be(settings: Settings) -> None:
    applied = await topics.apply(settings, needed(settings))
    assert [status.problems for status in applied] == [()] * len(NEEDED)
    assert await states(settings) == dict.fromkeys(NEEDED, TopicState.OK)
    for status in await topics.inspect(settings, needed(settings)):
        assert status.found is not None
        assert status.found.partitions == status.spec.partitions
        assert set(status.spec.config.items()) <= set(status.found.config.items())


async def test_applying_again_changes_nothing(settings: Settings) -> None:
    first = await topics.apply(settings, needed(settings))
    assert await topics.apply(settings, needed(settings)) == first
    assert await existing(settings) == {settings.namespace + name for name in NEEDED}


async def test_several_may_apply_at_once(settings: Settings) -> None:
    gateways = [replace_instance(settings, f"gw{number}") for number in range(3)]
    results = await asyncio.gather(
        *(topics.apply(settings, needed(settings)) for _ in range(3)),
        *(topics.ensure(gateway, topics.of_gateway(gateway)) for gateway in gateways),
    )
    for statuses in results[:3]:
        assert statuses is not None
        assert {status.state for status in statuses} == {TopicState.OK}
    assert await existing(settings) == {
        *(settings.namespace + name for name in NEEDED),
        *(topics.replies(gateway).name for gateway in gateways),
    }


WRONG: dict[str, tuple[str, int | None, dict[str, str], str]] = {
    "too few partitions": ("jobs.shop.bulk", 2, {}, "has 2 partitions, needs 4"),
    "a policy that would drop jobs": (
        "jobs.shop.bulk",
        None,
        {"cleanup_policy": "compact"},
        "cleanup.policy is compact, must be delete",
    ),
    "a policy that would drop operations": (
        "catalog",
        None,
        {"cleanup_policy": "compact,delete"},
        "cleanup.policy is compact,delete, must be compact",
    ),
    "jobs are kept too briefly": (
        "jobs.shop.bulk",
        None,
        {"retention_ms": "1000"},
        f"retention.ms is 1000, needs {DAY_MS}",
    ),
    "messages are kept small": (
        "dead.shop",
        None,
        {"max_message_bytes": "1000000"},
        "max.message.bytes is 1000000, needs 8388608",
    ),
    "a catalog in parts": ("catalog", 2, {}, "has 2 partitions, must have exactly 1"),
}


@pytest.mark.parametrize(("name", "partitions", "config", "problem"), WRONG.values(), ids=list(WRONG))
async def test_a_topic_in_another_shape_is_reported_and_never_used(
    settings: Settings, name: str, partitions: int | None, config: dict[str, str], problem: str
) -> None:
    await create(settings, spec(settings, name), partitions, **config)
    found = {status.spec.name: status for status in await topics.inspect(settings, needed(settings))}
    assert found[settings.namespace + name].state is TopicState.MISMATCH
    assert found[settings.namespace + name].problems == (problem,)
    with pytest.raises(TopicMismatch) as caught:
        await topics.ensure(settings, needed(settings))
    assert str(caught.value) == f"topic {settings.namespace}{name} {problem}"
    again = {status.spec.name: status for status in await topics.apply(settings, needed(settings))}
    assert again[settings.namespace + name].problems == (problem,), "it was left as it is"


async def test_everything_that_is_wrong_is_named_at_once(settings: Settings) -> None:
    await create(settings, spec(settings, "jobs.shop.bulk"), 1, retention_ms="1000")
    await create(settings, spec(settings, "dead.shop"), cleanup_policy="compact")
    with pytest.raises(TopicMismatch) as caught:
        await topics.ensure(settings, needed(settings))
    for part in ("jobs.shop.bulk has 1 partitions", "retention.ms is 1000", "dead.shop cleanup.policy is compact"):
        assert part in str(caught.value)


async def test_more_than_is_needed_will_do(settings: Settings) -> None:
    await create(settings, spec(settings, "jobs.shop.bulk"), 5, retention_ms="-1", max_message_bytes="20000000")
    await create(settings, spec(settings, "dead.shop"), retention_ms=str(30 * DAY_MS))
    await topics.ensure(settings, needed(settings))
    assert (await states(settings))["jobs.shop.bulk"] is TopicState.OK


async def test_only_the_topics_that_are_named_are_looked_at(settings: Settings) -> None:
    only = topics.replies(settings)
    await topics.ensure(settings, [only])
    assert await existing(settings) == {only.name}
    assert await topics.inspect(settings, []) == []


async def test_a_topic_that_the_cluster_refuses_is_told_with_its_reason(settings: Settings) -> None:
    refused = replace(spec(settings, "dead.shop"), name=f"{settings.namespace}bad name")
    with pytest.raises(BrokerError, match=r"creating topic .*bad name: "):
        await topics.apply(settings, [refused])


async def test_a_cluster_that_does_not_answer_is_told_as_such() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BrokerUnavailable, match=str(port)):
        await topics.inspect(
            settings := load_settings(bootstrap_servers=f"127.0.0.1:{port}"), topics.of_gateway(settings)
        )


async def test_nothing_is_left_to_a_cluster_that_creates_topics_by_itself(kafka: Kafka, namespace: str) -> None:
    """It would create them in its own shape, just by being asked whether they are there."""
    settings = load_settings(bootstrap_servers=kafka.bootstrap_servers, namespace=namespace, partitions=3)
    for _ in range(2):
        assert set((await states(settings)).values()) == {TopicState.MISSING}
    assert await existing(settings) == set()
    await topics.ensure(settings, needed(settings))
    assert set((await states(settings)).values()) == {TopicState.OK}
    producer = Producer(settings, "test")
    await producer.start()
    try:
        await producer.send_and_wait(f"{namespace}jobs.shop.bulk", b"job", key=b"k", timeout=30)
    finally:
        await producer.stop()
    assert await existing(settings) == {namespace + name for name in NEEDED}
