"""The clients on a real Kafka: what is delivered is told, what is pinned stays, what has moved on is not committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from forebay.errors import BrokerError, BrokerUnavailable, MessageTooLarge, TopicUnknown
from forebay.kafka import Admin, PinnedConsumer, Producer, Record, header
from forebay.settings import Settings
from tests.support.members import Member
from tests.support.waiting import until

BOUND = 30.0
PARTITIONS = 3


class Delivery:
    """Counts what a producer tells of each record."""

    def __init__(self) -> None:
        self.told: dict[int, list[BrokerError | None]] = {}

    def of(self, number: int) -> Callable[[BrokerError | None], None]:
        return self.told.setdefault(number, []).append

    async def all_told(self) -> None:
        await until(lambda: all(self.told.values()), BOUND, "everything handed over has come to an end")


async def read(consumer: PinnedConsumer, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(BOUND):
        while len(records) < count:
            records += await consumer.fetch(0.5)
    return records


async def reader(
    settings: Settings,
    topic: str,
    at_end: AsyncExitStack,
    offsets: dict[int, int] | None = None,
    *,
    pinned: bool = False,
) -> PinnedConsumer:
    partitions = offsets or range(PARTITIONS)
    consumer = PinnedConsumer(settings, "test", topic, partitions)
    at_end.push_async_callback(consumer.stop)
    await consumer.start(offsets, at_end=pinned)
    return consumer


# producing


async def test_every_record_is_told_once_of_its_delivery(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    delivery = Delivery()
    for number in range(500):
        producer.publish(topic, b"%d" % number, key=b"k%d" % number, on_delivery=delivery.of(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await delivery.all_told()
    assert set(map(tuple, delivery.told.values())) == {(None,)}
    records = await read(await reader(settings, topic, at_end), 500)
    assert sorted(int(record.value or b"") for record in records) == list(range(500))
    assert {record.key == b"k" + (record.value or b"") for record in records} == {True}


async def test_records_without_a_partition_are_spread_evenly(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    for number in range(300):
        producer.publish(topic, b"%d" % number, key=b"the same")
        await asyncio.sleep(0)
    await producer.flush(BOUND)
    spread = Counter(record.partition for record in await read(await reader(settings, topic, at_end), 300))
    assert set(spread) == set(range(PARTITIONS))
    assert max(spread.values()) < 2 * min(spread.values())


async def test_records_of_one_partition_stay_in_order(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    for number in range(400):
        producer.publish(topic, b"%d" % number + b"x" * (number % 7 * 9000), key=b"k", partition=1)
        if number % 3 == 0:
            await asyncio.sleep(0)
    records = await read(await reader(settings, topic, at_end, {1: 0}), 400)
    assert [int((record.value or b"").rstrip(b"x")) for record in records] == list(range(400))


async def test_records_for_any_partition_and_for_a_given_one_do_not_disturb_each_other(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    told: Counter[int] = Counter()
    errors: list[BrokerError] = []
    for number in range(1200):

        def on_delivery(error: BrokerError | None, number: int = number) -> None:
            told[number] += 1
            if error is not None:
                errors.append(error)

        given = None if number % 2 else number // 2 % PARTITIONS
        producer.publish(topic, b"%d" % number, key=b"k", partition=given, on_delivery=on_delivery)
        if number % 10 == 0:
            await asyncio.sleep(0)
    await producer.flush(BOUND)
    assert (errors, set(told.values()), len(told)) == ([], {1}, 1200)
    records = await read(await reader(settings, topic, at_end), 1200)
    assert sorted(int(record.value or b"") for record in records) == list(range(1200))


async def test_a_record_arrives_with_its_headers(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    await producer.publish_and_wait(topic, b"value", key=b"key", headers=[("a", b"1"), ("b", "ü".encode())])
    (record,) = await read(await reader(settings, topic, at_end), 1)
    assert (record.topic, record.key, record.value) == (topic, b"key", b"value")
    assert (header(record, "a"), header(record, "b"), header(record, "c")) == ("1", "ü", None)


async def test_a_tombstone_is_a_record_without_a_value(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    await producer.publish_and_wait(topic, None, key=b"key")
    (record,) = await read(await reader(settings, topic, at_end), 1)
    assert record.value is None


async def test_one_who_waits_for_a_record_gets_its_offset(topic: str, producer: Producer) -> None:
    offsets = [await producer.send_and_wait(topic, b"x", key=b"k", timeout=BOUND) for _ in range(3)]
    assert offsets == [0, 1, 2]


async def test_a_record_that_is_too_large_is_refused_at_once(
    topic: str, producer: Producer, settings: Settings
) -> None:
    delivery = Delivery()
    size = settings.max_message_bytes
    with pytest.raises(MessageTooLarge) as caught:
        producer.publish(topic, b"x" * size, key=b"k", on_delivery=delivery.of(0))
    assert (caught.value.size, caught.value.max_size) == (size, settings.max_message_bytes)
    assert delivery.told == {0: []}
    await producer.publish_and_wait(topic, b"the next one", key=b"k")


@pytest.mark.parametrize("header_bytes", [0, 100, 2000])
async def test_what_is_not_refused_the_broker_takes(
    topic: str, producer: Producer, settings: Settings, header_bytes: int
) -> None:
    """Otherwise the broker would refuse it again and again, whoever produces it."""
    headers = [("tracestate", b"x" * header_bytes)] if header_bytes else []
    delivery = Delivery()
    refused = 0
    for number, missing in enumerate((0, 60, 120, 256, 300, 400, 1000, 2500, 3000)):
        value = b"x" * (settings.max_message_bytes - missing)
        try:
            producer.publish(topic, value, key=b"k" * 40, headers=headers, on_delivery=delivery.of(number))
        except MessageTooLarge:
            refused += 1
            del delivery.told[number]
        await delivery.all_told()
    assert refused
    assert set(map(tuple, delivery.told.values())) == {(None,)}


async def test_a_topic_that_does_not_exist_is_told_as_such_while_others_go_on(
    topic: str, producer: Producer, settings: Settings
) -> None:
    delivery = Delivery()
    producer.publish(f"{settings.namespace}nowhere", b"x", key=b"k", on_delivery=delivery.of(0))
    await producer.publish_and_wait(topic, b"x", key=b"k")
    assert delivery.told[0] == []
    await delivery.all_told()
    assert [type(error) for error in delivery.told[0]] == [TopicUnknown]
    async with Admin.connect(settings) as admin:
        assert f"{settings.namespace}nowhere" not in await admin.names()


async def test_what_was_handed_over_before_the_stop_is_sent(
    settings: Settings, topic: str, at_end: AsyncExitStack
) -> None:
    producer, delivery = Producer(settings, "test"), Delivery()
    await producer.start()
    for number in range(20):
        producer.publish(topic, b"x", key=b"k", on_delivery=delivery.of(number))
    await producer.stop()
    assert set(map(tuple, delivery.told.values())) == {(None,)}
    assert len(await read(await reader(settings, topic, at_end), 20)) == 20


async def test_more_than_the_memory_holds_is_refused_and_the_rest_is_delivered(topic: str, producer: Producer) -> None:
    delivery = Delivery()
    value = b"x" * 4 * 1024 * 1024
    for number in range(15):
        producer.publish(topic, value, key=b"k", on_delivery=delivery.of(number))
    with pytest.raises(BrokerUnavailable, match="wait for the broker already"):
        producer.publish(topic, value, key=b"k")
    assert producer.backpressured
    await asyncio.wait_for(producer.wait_for_capacity(), BOUND)
    await producer.flush(BOUND)
    assert not producer.backpressured
    assert set(map(tuple, delivery.told.values())) == {(None,)}


# reading what is pinned


async def test_a_reader_at_the_end_sees_all_that_comes_after_it_and_nothing_else(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    for partition in range(PARTITIONS):
        producer.publish(topic, b"before", key=b"k", partition=partition)
    await producer.flush(BOUND)
    consumer = await reader(settings, topic, at_end, pinned=True)
    assert consumer.positions() == dict.fromkeys(range(PARTITIONS), 1)
    for partition in range(PARTITIONS):  # before anything was fetched: the position is pinned already
        producer.publish(topic, b"after", key=b"k", partition=partition)
    records = await read(consumer, PARTITIONS)
    assert {record.value for record in records} == {b"after"}
    assert consumer.positions() == await consumer.ends(BOUND) == dict.fromkeys(range(PARTITIONS), 2)


async def test_a_reader_begins_where_it_is_told_to(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    for number in range(5):
        await producer.send_and_wait(topic, b"%d" % number, key=b"k", timeout=BOUND)
    records = await read(await reader(settings, topic, at_end, {0: 3}), 2)
    assert [record.offset for record in records] == [3, 4]


async def test_a_reader_without_a_place_begins_at_the_beginning(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    await producer.send_and_wait(topic, b"first", key=b"k", timeout=BOUND)
    consumer = await reader(settings, topic, at_end)
    assert [record.value for record in await read(consumer, 1)] == [b"first"]
    assert await consumer.fetch(0.0) == []


async def test_the_first_record_is_waited_for(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    consumer = await reader(settings, topic, at_end)
    waiting = asyncio.create_task(consumer.read())
    await producer.send_and_wait(topic, b"here", key=b"k", timeout=BOUND)
    assert [record.value for record in await asyncio.wait_for(waiting, BOUND)] == [b"here"]


# sharing with a group


@pytest.fixture
def join(settings: Settings, topic: str, at_end: AsyncExitStack) -> Callable[..., Awaitable[Member]]:
    async def join(name: str, **changes: object) -> Member:
        member = Member(settings.model_copy(update=changes), topic, name)
        at_end.push_async_callback(member.stop)
        await member.start()
        return member

    return join


Join = Callable[..., Awaitable[Member]]


async def fill(producer: Producer, topic: str, each: int) -> None:
    for partition in range(PARTITIONS):
        for number in range(each):
            producer.publish(topic, b"%d" % number, key=b"k", partition=partition)
    await producer.flush(BOUND)


async def test_a_member_reads_all_and_commits_what_it_likes(topic: str, producer: Producer, join: Join) -> None:
    await fill(producer, topic, 4)
    member = await join("a")
    await member.owns(PARTITIONS)
    assert await member.committed([0]) == {0: None}
    await member.read(4)
    assert await member.commit({0: 2, 1: 0})
    assert await member.committed(range(3)) == {0: 2, 1: 0, 2: None}


async def test_the_next_member_goes_on_from_what_was_committed(topic: str, producer: Producer, join: Join) -> None:
    await fill(producer, topic, 4)
    first = await join("a")
    await first.owns(PARTITIONS)
    assert await first.commit({0: 4, 1: 3, 2: 1})
    await first.stop()
    second = await join("b")
    await second.owns(PARTITIONS)
    records = await second.read(4)
    assert sorted((record.partition, record.offset) for record in records) == [(1, 3), (2, 1), (2, 2), (2, 3)]


async def test_no_more_is_fetched_than_was_asked_for(topic: str, producer: Producer, join: Join) -> None:
    await fill(producer, topic, 5)
    member = await join("a")
    await member.owns(PARTITIONS)
    assert all([len(await member.consumer.fetch(0.2, 2)) <= 2 for _ in range(8)])


async def test_a_paused_partition_is_not_read_until_it_is_resumed_and_loses_nothing(
    topic: str, producer: Producer, join: Join
) -> None:
    member = await join("a")
    await member.owns(PARTITIONS)
    member.pause([0, 99])
    await fill(producer, topic, 3)
    records = await member.read(6)
    assert {record.partition for record in records} == {1, 2}
    assert await member.consumer.fetch(0.2, 10) == []
    member.resume([0, 99])
    assert [(record.partition, record.offset) for record in await member.read(3)] == [(0, 0), (0, 1), (0, 2)]


async def test_one_who_joins_gets_a_share_and_may_still_be_left_a_commit(
    topic: str, producer: Producer, join: Join
) -> None:
    await fill(producer, topic, 1)
    first = await join("a")
    await first.owns(PARTITIONS)
    await first.read(3)
    committed: list[bool] = []

    async def commit() -> None:
        committed.append(await first.commit(dict.fromkeys(range(PARTITIONS), 1)))

    first.before_revoked = commit
    first.busy = frozenset({2})
    second = await join("b")

    async def shared() -> bool:
        for member in (first, second):
            await member.consumer.fetch(0, 1)
        return {len(first.owned), len(second.owned)} == {1, 2}

    await until(shared, BOUND, "the two have shared the partitions")
    assert committed == [True]
    assert 2 in first.owned
    assert first.owned | second.owned == set(range(PARTITIONS))
    assert await second.committed(second.owned) == dict.fromkeys(second.owned, 1)


async def test_a_commit_after_the_group_has_moved_on_is_refused_and_changes_nothing(
    topic: str, producer: Producer, join: Join
) -> None:
    await fill(producer, topic, 3)
    silent = await join("a", poll_limit=1.0)
    await silent.owns(PARTITIONS)
    await silent.read(9)
    second = await join("b")  # while the first one does not fetch: it gives its place up
    await second.owns(PARTITIONS)
    assert await second.commit({0: 1})
    assert await silent.commit({0: 3, 1: 3}) is False
    assert await second.committed(range(2)) == {0: 1, 1: None}
