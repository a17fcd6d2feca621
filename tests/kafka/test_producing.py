"""The producer under strain: brokers that have forgotten it, more than it may hold, and topics by the thousand."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sized
from contextlib import AsyncExitStack

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import forebay.kafka.capacity
import forebay.kafka.outboxes
from forebay.errors import BrokerError, BrokerUnavailable, MessageTooLarge, TopicUnknown
from forebay.kafka import Admin, PinnedConsumer, Producer, Record
from forebay.kafka.outboxes import Outboxes
from forebay.kafka.sender import Sender
from forebay.kafka.sequences import Identity
from forebay.settings import Settings
from tests.support.waiting import until

BOUND = 30.0
MIB = 1024 * 1024


async def read_all(settings: Settings, topic: str, partition: int) -> list[Record]:
    consumer = PinnedConsumer(settings, "test", topic, [partition])
    try:
        await consumer.start()
        end = (await consumer.ends(BOUND))[partition]
        records: list[Record] = []
        while consumer.positions()[partition] < end:
            records += await consumer.fetch(0.5)
        return records
    finally:
        await consumer.stop()


# who produces


def outboxes_of(producer: Producer) -> Outboxes:
    assert producer._outboxes is not None
    return producer._outboxes


def sender_of(producer: Producer) -> Sender:
    return outboxes_of(producer).sender


async def test_numbers_that_a_broker_does_not_expect_are_begun_anew_and_nothing_is_lost_or_doubled(
    settings: Settings, topic: str, producer: Producer
) -> None:
    """As after a broker has lost what it knew of the producer's numbers."""
    values = [b"%d" % number for number in range(40)]
    for number, value in enumerate(values):
        await producer.publish_and_wait(topic, value, key=b"k", partition=0)
        await producer.publish_and_wait(topic, value, key=b"k", partition=1)
        if number % 10 == 5:
            sequences = sender_of(producer).sequences
            sequences.took((topic, 0), 7)
    assert [record.value for record in await read_all(settings, topic, 0)] == values
    assert [record.value for record in await read_all(settings, topic, 1)] == values
    assert producer.usable


@pytest.mark.parametrize("identity", [Identity(2**40, 3), Identity(2**40, 0)])
async def test_an_identity_that_no_broker_gave_is_replaced_if_it_is_not_taken(
    settings: Settings, topic: str, producer: Producer, identity: Identity
) -> None:
    sender_of(producer).sequences.fresh = identity
    for number in range(5):
        await producer.publish_and_wait(topic, b"%d" % number, key=b"k", partition=0)
    assert [record.value for record in await read_all(settings, topic, 0)] == [b"0", b"1", b"2", b"3", b"4"]


# what is produced


async def test_headers_are_passed_on_as_they_came_also_names_that_are_not_utf8(
    settings: Settings, topic: str, producer: Producer
) -> None:
    headers = [
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), b"value"),
        ("plain", None),
        ("plain", b""),
        ("", b"\xff"),
        ("ü", b"x" * 1000),
    ]
    for number in range(3):
        producer.publish(topic, b"%d" % number, key=None, partition=0, headers=headers if number == 1 else ())
    await producer.flush(BOUND)
    records = await read_all(settings, topic, 0)
    assert [record.value for record in records] == [b"0", b"1", b"2"]
    assert [record.key for record in records] == [None] * 3
    assert list(records[1].headers) == headers
    await producer.publish_and_wait(topic, None, key=None, headers=records[1].headers, partition=1)
    [again] = await read_all(settings, topic, 1)
    assert (again.key, again.value, list(again.headers)) == (None, None, headers)


async def test_records_that_are_too_large_for_their_topic_are_told_apart_from_those_that_are_not(
    settings: Settings, topic: str, producer: Producer, at_end: AsyncExitStack
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    at_end.push_async_callback(admin.close)
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "2000"})])

    async def is_lower() -> bool:
        try:
            await producer.publish_and_wait(topic, b"x" * 5000, key=b"k", partition=2)
        except MessageTooLarge:
            return True
        return False

    await until(is_lower, BOUND, "the topic takes less")
    told: list[BrokerError | None] = []
    for number in range(20):
        value = b"x" * (5000 if number == 10 else 300)
        producer.publish(topic, value, key=b"%d" % number, partition=0, on_delivery=told.append)
    await producer.flush(BOUND)
    assert [type(error) for error in told if error is not None] == [MessageTooLarge]
    records = await read_all(settings, topic, 0)
    assert [record.key for record in records] == [b"%d" % number for number in range(20) if number != 10]


# how much


async def test_many_large_records_at_once_are_let_in_one_after_the_other(
    settings: Settings, topic: str, producer: Producer
) -> None:
    value = b"x" * (settings.max_message_bytes - 1024)
    offsets = await asyncio.gather(*(producer.publish_and_wait(topic, value, key=b"k", partition=0) for _ in range(16)))
    assert sorted(offsets) == list(range(16))
    assert not producer.backpressured


async def test_those_who_wait_for_capacity_are_let_in_in_turn_and_may_give_up(
    topic: str, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forebay.kafka.capacity, "BUFFER_BYTES", 4 * MIB)
    monkeypatch.setattr(forebay.kafka.capacity, "CAPACITY_BYTES", 2 * MIB)
    order: list[int] = []

    async def put(number: int) -> None:
        await producer.wait_for_capacity(MIB)
        order.append(number)
        producer.publish(topic, b"x" * MIB, key=b"k")

    waiting = [asyncio.create_task(put(number)) for number in range(12)]
    await asyncio.sleep(0)
    waiting[3].cancel()
    waiting[7].cancel()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), BOUND)
    await producer.flush(BOUND)
    assert order == [number for number in range(12) if number not in (3, 7)]
    await asyncio.wait_for(producer.wait_for_capacity(MIB), BOUND)


async def test_whoever_is_let_in_and_has_nothing_to_say_leaves_its_place_to_the_next(
    topic: str, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forebay.kafka.capacity, "CAPACITY_BYTES", MIB)
    producer.publish(topic, b"x" * MIB, key=b"k")
    waiting = [asyncio.create_task(producer.wait_for_capacity(MIB)) for _ in range(5)]
    await asyncio.wait_for(asyncio.gather(*waiting), BOUND)


async def test_what_cannot_wait_is_refused_where_too_much_waits(
    topic: str, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forebay.kafka.capacity, "BUFFER_BYTES", MIB)
    producer.publish(topic, b"x" * MIB, key=b"k")  # alone, a record is taken however large it is
    with pytest.raises(BrokerUnavailable, match="wait for the broker already"):
        producer.publish(topic, b"x", key=b"k")


# how many topics


async def test_topics_that_are_gone_leave_nothing_behind(settings: Settings, producer: Producer) -> None:
    """As reply topics of gateways that come and go under names of their own."""
    names = [f"{settings.namespace}replies.{uuid.uuid4().hex}" for _ in range(1000)]
    told: list[BrokerError | None] = []
    for name in names:
        producer.publish(name, b"x", key=b"k", partition=0, on_delivery=told.append)
    await until(lambda: len(told) == len(names), BOUND, "all are given up")
    assert {type(error) for error in told} == {TopicUnknown}
    real = [f"{settings.namespace}replies.{number}" for number in range(10)]
    async with Admin.connect(settings) as admin:
        for name in real:
            await admin.create(name, 2, -1, {})
        await asyncio.gather(*(producer.publish_and_wait(name, b"x", key=b"k", partition=0) for name in real))
        for name in real:
            await admin.delete(name)
    for name in real:
        producer.publish(name, b"x", key=b"k", partition=0)
    link, sender = producer._shared.link, sender_of(producer)

    def forgotten() -> bool:
        outboxes = outboxes_of(producer)
        held: list[Sized] = [outboxes, outboxes._topics, outboxes._in_flight, outboxes._ready]
        held += [sender._again, sender.sequences]
        return link._topics.empty and not any(len(part) for part in held)

    await until(forgotten, BOUND, "nothing of them is left")


async def test_a_topic_that_is_not_used_any_more_is_forgotten_and_used_again_without_a_gap(
    settings: Settings, topic: str, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.publish_and_wait(topic, b"0", key=b"k", partition=0)
    identity = sender_of(producer).sequences.fresh
    monkeypatch.setattr(forebay.kafka.outboxes, "FORGET_AFTER", 0.0)
    await producer._shared.link.refresh()
    assert not len(outboxes_of(producer))
    assert not len(sender_of(producer).sequences)
    monkeypatch.undo()
    await producer.publish_and_wait(topic, b"1", key=b"k", partition=0)
    assert sender_of(producer).sequences.fresh != identity, "number 0 again would be taken for a repetition"
    assert [record.value for record in await read_all(settings, topic, 0)] == [b"0", b"1"]
