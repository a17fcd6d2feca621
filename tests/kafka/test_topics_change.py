"""Topics that change under those who use them: added partitions, deleted, and deleted and created again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

import forebay.kafka.group
from forebay.errors import BrokerError, BrokerUnavailable, TopicUnknown
from forebay.kafka import Admin, PinnedConsumer, Producer, Record, Start
from forebay.settings import Settings
from tests.support.members import Member
from tests.support.waiting import until

BOUND = 30.0
IN_USE_WITHIN = 10.0
"""Seconds within which partitions that were added must be in use; Kafka's own clients take 300."""
GIVEN_UP_WITHIN = 5.0
"""Seconds within which records are given up whose topic is gone; others wait for ever."""

Join = Callable[..., Awaitable[Member]]


@pytest.fixture
def join(settings: Settings, topic: str, at_end: AsyncExitStack) -> Join:
    async def join(name: str = topic, within: Settings = settings) -> Member:
        member = Member(within, name)
        at_end.push_async_callback(member.stop)
        await member.start()
        member.keep_reading()
        return member

    return join


async def created(settings: Settings, name: str, partitions: int) -> None:
    async with Admin.connect(settings) as admin:
        await until(lambda: admin.create(name, partitions, -1, {}), BOUND, f"{name} is created")
        await until(lambda: admin.describe([name]), BOUND, f"{name} exists")


async def deleted(settings: Settings, name: str) -> None:
    async with Admin.connect(settings) as admin:
        await admin.delete(name)

        async def gone() -> bool:
            return not await admin.describe([name])

        await until(gone, BOUND, f"{name} is gone")


async def fill(producer: Producer, topic: str, counts: Mapping[int, int], value: bytes = b"value") -> None:
    for partition, count in counts.items():
        for number in range(count):
            producer.publish(topic, value + b"-%d" % number, key=b"k", partition=partition)
    await producer.flush(BOUND)


async def test_added_partitions_are_produced_to_and_read(
    settings: Settings, topic: str, producer: Producer, join: Join, at_end: AsyncExitStack
) -> None:
    members = [await join(), await join()]
    await until(lambda: sum(len(member.owned) for member in members) == 3, BOUND, "the group has all partitions")
    await fill(producer, topic, {0: 1, 1: 1, 2: 1})
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    at_end.push_async_callback(admin.close)
    await admin.create_partitions({topic: NewPartitions(total_count=8)})

    def used() -> bool:
        producer.publish(topic, b"anywhere", key=b"k")
        return {record.partition for member in members for record in member.records} == set(range(8))

    await until(used, IN_USE_WITHIN, "all eight partitions are produced to and read")


async def test_a_topic_created_again_is_read_from_its_beginning_by_one_who_went_on_reading(
    settings: Settings, topic: str, producer: Producer, join: Join
) -> None:
    member = await join()
    await fill(producer, topic, {0: 5}, b"old")
    await until(lambda: len(member.records) == 5, BOUND, "the old records are read")
    assert await member.commit(member.positions)
    await deleted(settings, topic)
    await created(settings, topic, 3)
    await fill(producer, topic, {0: 20, 1: 2}, b"new")  # more than there were: the old position lies within
    await until(lambda: len(member.records) == 27, BOUND, "all new records are read")
    values = [record.value for record in member.records if record.partition == 0]
    assert values == [b"old-%d" % number for number in range(5)] + [b"new-%d" % number for number in range(20)]
    assert [place for place in member.positioned if place[0] == 0][-1] == (0, 0, Start.RESET)
    assert await member.commit(member.positions)
    assert await member.committed(range(3)) == {0: 20, 1: 2, 2: 0}


async def test_a_topic_created_again_while_nobody_read_it_is_read_from_its_beginning(
    settings: Settings, topic: str, producer: Producer, join: Join
) -> None:
    """Also where what was committed of the one before outlived it."""
    first = await join()
    await fill(producer, topic, {0: 5}, b"old")
    await until(lambda: len(first.records) == 5, BOUND, "the old records are read")
    assert await first.commit(first.positions)
    offsets = dict(first.positions)
    await first.stop()
    await deleted(settings, topic)
    await created(settings, topic, 3)
    await fill(producer, topic, {0: 10}, b"new")
    await commit_late(settings, topic, offsets)
    second = await join()
    await until(lambda: len(second.records) == 10, BOUND, "the new records are read")
    assert second.records[0].offset == 0
    assert (0, 0, Start.RESET) in second.positioned


async def commit_late(settings: Settings, topic: str, offsets: Mapping[int, int]) -> None:
    """Commit what a member of before would have, had it been slower."""
    note = f"topic-id:{uuid.uuid4().hex}"
    await commit_as_operator(
        settings,
        {TopicPartition(topic, number): OffsetAndMetadata(offset, note) for number, offset in offsets.items()},
    )


async def commit_as_operator(settings: Settings, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Commit for the group from outside of it."""
    operator = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers,
        group_id=f"{settings.namespace}group",
        enable_auto_commit=False,  # on its end it would commit where it began, which may have been before this
    )
    await operator.start()
    operator.assign(list(offsets))
    await operator.commit(dict(offsets))
    await operator.stop()


async def test_an_offset_that_somebody_else_set_is_heeded(
    settings: Settings, topic: str, producer: Producer, join: Join
) -> None:
    """As an operator does with Kafka's own tools: without a note."""
    await fill(producer, topic, {0: 5})
    await commit_as_operator(settings, {TopicPartition(topic, 0): OffsetAndMetadata(3, "")})
    member = await join()
    await until(lambda: len(member.records) == 2, BOUND, "the last two are read")
    assert [record.offset for record in member.records] == [3, 4]
    assert (0, 3, Start.COMMITTED) in member.positioned


async def test_partitions_without_a_record_have_a_position_to_commit(join: Join) -> None:
    member = await join()
    await until(lambda: len(member.positions) == 3, BOUND, "all partitions are positioned")
    assert sorted(member.positioned) == [(partition, 0, Start.UNCOMMITTED) for partition in range(3)]
    assert await member.commit(member.positions)
    assert await member.committed(range(3)) == {0: 0, 1: 0, 2: 0}


async def test_records_deleted_before_they_were_read_are_stepped_over(
    settings: Settings, topic: str, producer: Producer, join: Join, at_end: AsyncExitStack
) -> None:
    member = await join()
    await fill(producer, topic, {0: 3})
    await until(lambda: len(member.records) == 3, BOUND, "the first records are read")
    assert await member.commit(member.positions)
    await member.stop()
    await fill(producer, topic, {0: 5})
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    at_end.push_async_callback(admin.close)
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=6)})
    second = await join()
    await until(lambda: len(second.records) == 2, BOUND, "what is left is read")
    assert [record.offset for record in second.records] == [6, 7]
    assert [place for place in second.positioned if place[0] == 0] == [(0, 3, Start.COMMITTED), (0, 6, Start.RESET)]


async def test_a_topic_that_is_gone_is_told_to_its_readers_and_read_again_once_it_is_back(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    consumer = PinnedConsumer(settings, "test", topic, [0])
    at_end.push_async_callback(consumer.stop)
    await consumer.start()
    await fill(producer, topic, {0: 2}, b"old")
    old: list[Record] = []
    while len(old) < 2:
        old += await consumer.read()
    await deleted(settings, topic)
    with pytest.raises(TopicUnknown, match=topic):
        await asyncio.wait_for(consumer.read(), BOUND)
    with pytest.raises(TopicUnknown):
        await consumer.ends(BOUND)
    await created(settings, topic, 1)
    await fill(producer, topic, {0: 3}, b"new")
    values: list[bytes | None] = []

    async def read() -> bool:
        try:
            values.extend(record.value for record in await consumer.fetch(0.5))
        except TopicUnknown:
            return False
        return len(values) >= 3

    await until(read, BOUND, "the new records are read")
    assert values == [b"new-0", b"new-1", b"new-2"]


async def test_records_for_a_topic_that_was_deleted_are_given_up_within_seconds(
    settings: Settings, topic: str, producer: Producer
) -> None:
    await fill(producer, topic, {0: 1})
    await deleted(settings, topic)
    told: list[BrokerError | None] = []
    for partition in (0, None):
        producer.publish(topic, b"late", key=b"k", partition=partition, on_delivery=told.append)
    await until(lambda: len(told) == 2, GIVEN_UP_WITHIN, "both are given up")
    assert [type(error) for error in told] == [TopicUnknown, TopicUnknown]
    await created(settings, topic, 1)
    await producer.publish_and_wait(topic, b"again", key=b"k")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "with space", "slash/ed", "ümläut", "\ud800", "x" * 250, "x" * 100_000, "new\nline", "\0"]
)
async def test_what_is_no_name_of_a_topic_is_refused_at_once(producer: Producer, name: str) -> None:
    told: list[BrokerError | None] = []
    producer.publish(name, b"x", key=b"k", on_delivery=told.append)
    await asyncio.sleep(0)
    assert [type(error) for error in told] == [TopicUnknown]
    assert len(str(told[0])) < 400
    with pytest.raises(TopicUnknown):
        await producer.publish_and_wait(name, b"x", key=b"k")


async def test_a_partition_that_does_not_exist_is_told_as_such(topic: str, producer: Producer) -> None:
    await fill(producer, topic, {0: 1})
    with pytest.raises(TopicUnknown, match="has 3 partitions, and no partition 7"):
        await producer.publish_and_wait(topic, b"x", key=b"k", partition=7)


async def test_nothing_creates_a_topic_by_asking_for_it(
    settings: Settings, namespace: str, at_end: AsyncExitStack
) -> None:
    name = f"{namespace}never"
    producer = Producer(settings, "test")
    at_end.push_async_callback(producer.stop)
    await producer.start()
    with pytest.raises(TopicUnknown):
        await producer.publish_and_wait(name, b"x", key=b"k")
    for consumer in (PinnedConsumer(settings, "test", name), Member(settings, name).consumer):
        at_end.push_async_callback(consumer.stop)
        with pytest.raises(TopicUnknown):
            await consumer.start()
    async with Admin.connect(settings) as admin:
        assert await admin.describe([name]) == {}
        assert name not in await admin.names()


async def test_a_topic_deleted_under_all_who_use_it_stays_deleted(
    settings: Settings, namespace: str, at_end: AsyncExitStack, join: Join
) -> None:
    name = f"{namespace}removed"
    await created(settings, name, 2)
    producer = Producer(settings, "test")
    at_end.push_async_callback(producer.stop)
    await producer.start()
    member = await join(name, settings)
    pinned = PinnedConsumer(settings, "test", name)
    at_end.push_async_callback(pinned.stop)
    await pinned.start()
    await producer.publish_and_wait(name, b"x", key=b"k", partition=0)
    await until(lambda: member.records, BOUND, "it is read")
    await deleted(settings, name)

    async def everybody_knows() -> bool:
        unknown = 0
        for using in (pinned.fetch(0.2), producer.publish_and_wait(name, b"x", key=b"k"), pinned.ends(5.0)):
            try:
                await using
            except (TopicUnknown, BrokerUnavailable):
                unknown += 1
        return unknown == 3

    await until(everybody_knows, BOUND, "everybody knows that it is gone")
    async with Admin.connect(settings) as admin:
        assert name not in await admin.names()


async def test_a_membership_that_stalls_is_made_anew(
    topic: str, producer: Producer, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await join()
    await until(lambda: len(member.owned) == 3, BOUND, "the group has its partitions")
    membership = member.consumer._membership
    assert membership is not None
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(forebay.kafka.group, "STALLED_AFTER", 0.5)
        membership._subscription.begin_reassignment()  # as where the coordinator's answer is waited for in vain
        await until(lambda: member.consumer._membership not in (None, membership), BOUND, "there is another membership")
    await fill(producer, topic, {0: 1})
    await until(lambda: member.records, BOUND, "reading goes on")


async def test_a_membership_that_breaks_is_made_anew(topic: str, producer: Producer, join: Join) -> None:
    member = await join()
    await until(lambda: len(member.owned) == 3, BOUND, "the group has its partitions")
    membership = member.consumer._membership
    assert membership is not None
    membership._coordinator._coordination_task.cancel()
    await until(lambda: member.consumer._membership not in (None, membership), BOUND, "there is another membership")
    await fill(producer, topic, {0: 1})
    await until(lambda: member.records, BOUND, "reading goes on")
