"""The reader: every record once and in order, wherever it begins and whatever happens to the topic or the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

import forebay.kafka.fetching
import forebay.kafka.reader
from forebay.errors import BrokerError, BrokerUnavailable
from forebay.kafka import Admin, Link, Partition, PinnedConsumer, Producer, Record, Start
from forebay.kafka.reader import Reader
from forebay.kafka.wire.batches import Fetched
from forebay.settings import Settings, load_settings
from tests.support.brokers import Broker
from tests.support.waiting import until

BOUND = 30.0
PARTITIONS = 3


@pytest.fixture
async def producer(settings: Settings, at_end: AsyncExitStack) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers)
    await producer.start()
    at_end.push_async_callback(producer.stop)
    return producer


async def fill(producer: AIOKafkaProducer, topic: str, count: int, partition: int = 0) -> None:
    for number in range(count):
        await producer.send_and_wait(topic, b"%d" % number, partition=partition)


Offset = TypeVar("Offset", int, int | None)
ReaderOf = Callable[..., Coroutine[Any, Any, Reader]]


@pytest.fixture
def reader_of(link: Link, settings: Settings, at_end: AsyncExitStack) -> ReaderOf:
    async def start(topic: str, **arguments: Any) -> Reader:
        reader = Reader(link, [topic], partition_bytes=settings.max_message_bytes, **arguments)
        at_end.push_async_callback(reader.stop)
        await reader.start()
        return reader

    return start


@pytest.fixture
async def reader(topic: str, reader_of: ReaderOf) -> Reader:
    return await reader_of(topic)


async def read(reader: Reader, count: int, limit: int | None = None) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(BOUND):
        while len(records) < count:
            records += await reader.next(limit)
    return records


def of(topic: str, offsets: Mapping[int, Offset]) -> dict[Partition, Offset]:
    return {(topic, partition): offset for partition, offset in offsets.items()}


def places(records: list[Record]) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) for record in records]


# where reading begins


async def test_records_before_the_offset_are_left_out_also_within_a_batch(
    topic: str, producer: AIOKafkaProducer, reader: Reader
) -> None:
    batch = producer.create_batch()
    for number in range(5):
        batch.append(key=None, value=b"%d" % number, timestamp=None)
    await (await producer.send_batch(batch, topic, partition=1))
    reader.assign(of(topic, {1: 3}))
    assert [record.value for record in await read(reader, 2)] == [b"3", b"4"]
    assert reader.positions == of(topic, {1: 5})


async def test_a_partition_without_an_offset_begins_where_it_is_resumed(
    topic: str, producer: AIOKafkaProducer, reader_of: ReaderOf
) -> None:
    asked: list[list[int]] = []

    async def resume(partitions: Collection[Partition]) -> dict[Partition, int | None]:
        asked.append(sorted(number for _, number in partitions))
        if len(asked) == 1:
            raise BrokerUnavailable("not now")
        return of(topic, {1: 2, 2: None})

    await fill(producer, topic, 3, partition=0)
    await fill(producer, topic, 3, partition=1)
    told: list[tuple[Partition, int, Start]] = []
    reader = await reader_of(topic, resume=resume, on_positioned=lambda *place: told.append(place))
    reader.assign(of(topic, {0: 3, 1: None, 2: None}))
    with pytest.raises(BrokerUnavailable, match="not now"):
        await reader.next()
    assert places(await read(reader, 1)) == [(1, 2)]
    assert asked == [[1, 2], [1, 2]]
    assert reader.positions == of(topic, {0: 3, 1: 3, 2: 0})
    assert told == [((topic, 1), 2, Start.COMMITTED), ((topic, 2), 0, Start.UNCOMMITTED)]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_found_out_for_an_assignment_of_the_past_is_dropped(
    topic: str, producer: AIOKafkaProducer, reader_of: ReaderOf, fails: bool
) -> None:
    async def resume(partitions: Collection[Partition]) -> dict[Partition, int | None]:
        late.assign(of(topic, {1: 1}))
        if fails:
            raise BrokerError("it is not ours")
        return dict.fromkeys(partitions, 0)

    await fill(producer, topic, 2, partition=0)
    await fill(producer, topic, 2, partition=1)
    late = await reader_of(topic, resume=resume)
    late.assign(of(topic, {0: None}))
    assert places(await read(late, 1)) == [(1, 1)]
    assert late.positions == of(topic, {1: 2})


async def test_a_reader_whose_place_is_gone_goes_on_at_the_beginning(
    settings: Settings, topic: str, producer: AIOKafkaProducer, at_end: AsyncExitStack
) -> None:
    await fill(producer, topic, 5)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    at_end.push_async_callback(admin.close)
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    for place in (1, 1000):  # deleted, and beyond the end: the topic may have been made anew
        consumer = PinnedConsumer(settings, "test", topic, [0])
        at_end.push_async_callback(consumer.stop)
        await consumer.start({0: place})
        records: list[Record] = []
        async with asyncio.timeout(BOUND):
            while len(records) < 2:
                records += await consumer.fetch(0.5)
        assert [record.offset for record in records] == [3, 4]


# what is in between


async def test_aborted_records_are_left_out_and_positions_reach_the_end_past_the_markers(
    settings: Settings, topic: str, reader: Reader, at_end: AsyncExitStack
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, transactional_id=f"{topic}-test")
    await producer.start()
    at_end.push_async_callback(producer.stop)
    for number in range(4):
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"%d" % number, partition=0)
        await (producer.abort_transaction() if number % 2 else producer.commit_transaction())
    reader.assign(of(topic, {0: 0}))
    records = await read(reader, 2)
    assert [(record.offset, record.value) for record in records] == [(0, b"0"), (4, b"2")]

    async def passed() -> bool:
        assert await reader.next() == []
        return reader.positions == of(topic, {0: 8})

    await until(passed, BOUND, "the last marker is passed")


async def test_records_of_a_transaction_come_when_it_is_committed(
    settings: Settings, topic: str, reader: Reader, at_end: AsyncExitStack
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, transactional_id=f"{topic}-test")
    await producer.start()
    at_end.push_async_callback(producer.stop)
    reader.assign(of(topic, {0: 0}))
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"not yet", partition=0)
    assert await reader.next() == []
    await producer.commit_transaction()
    assert places(await read(reader, 1)) == [(0, 0)]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_are_read_whatever_their_topic_or_their_producer_compresses_them_with(
    settings: Settings, namespace: str, codec: str, at_end: AsyncExitStack
) -> None:
    topic = f"{namespace}compressed"
    async with Admin.connect(settings) as admin:
        await admin.create(topic, 2, -1, {"compression.type": codec})
        await until(lambda: admin.describe([topic]), BOUND, "the topic exists")
    ours = Producer(settings, "test")
    await ours.start()
    at_end.push_async_callback(ours.stop)
    foreign = AIOKafkaProducer(bootstrap_servers=settings.brokers, compression_type=codec)
    await foreign.start()
    at_end.push_async_callback(foreign.stop)
    for number in range(5):
        await foreign.send_and_wait(topic, b"%d" % number * 1000, partition=0)
        ours.publish(topic, b"%d" % number * 1000, key=b"key", partition=1)
    await ours.flush(BOUND)
    consumer = PinnedConsumer(settings, "test", topic, [0, 1])
    at_end.push_async_callback(consumer.stop)
    await consumer.start()
    records: list[Record] = []
    async with asyncio.timeout(BOUND):
        while len(records) < 10:
            records += await consumer.fetch(0.5)
    assert sorted((record.partition, record.value) for record in records) == [
        (partition, b"%d" % number * 1000) for partition in range(2) for number in range(5)
    ]


async def test_a_batch_that_was_damaged_is_told_and_the_other_partitions_are_read_on(
    topic: str, producer: AIOKafkaProducer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker checks what it takes, so the damage is done here: as on the way, or on the broker's disk since."""

    def damaged(name: str, partition: int, offset: int, content: bytes, aborted: Any = ()) -> Fetched:
        return Fetched(name, partition, offset, content[:-1] + b"!" if partition == 0 else content, aborted)

    await fill(producer, topic, 1, partition=0)
    monkeypatch.setattr(forebay.kafka.reader, "UNREADABLE_BACK_OFF", 0.2)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(forebay.kafka.reader, "Fetched", damaged)
        reader.assign(of(topic, {0: 0, 1: 0}))
        for number in range(3):
            await fill(producer, topic, 1, partition=1)
            assert places(await read(reader, 1)) == [(1, number)]
        await until(lambda: reader.trouble, BOUND, "the damage is told")
        assert f"{topic}/0 from offset 0 cannot be read: the checksum of the batch is wrong" in str(reader.trouble)
        assert reader.positions[topic, 0] == 0, "nothing is skipped"
    assert places(await read(reader, 1)) == [(0, 0)]
    assert reader.trouble is None


# who comes first


async def test_a_response_too_small_for_all_serves_the_partitions_in_turn(
    topic: str, producer: AIOKafkaProducer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forebay.kafka.fetching, "RESPONSE_BYTES", 1)
    for partition in range(PARTITIONS):
        await fill(producer, topic, 3, partition)
    reader.assign(of(topic, dict.fromkeys(range(PARTITIONS), 0)))
    order = [(await read(reader, 1))[0].partition for _ in range(3 * PARTITIONS)]
    assert [set(order[turn : turn + 3]) for turn in (0, 3, 6)] == [{0, 1, 2}] * 3


async def test_no_more_is_returned_than_was_asked_for_and_nothing_is_lost(
    topic: str, producer: AIOKafkaProducer, reader: Reader
) -> None:
    for partition in range(PARTITIONS):
        await fill(producer, topic, 4, partition)
    reader.assign(of(topic, dict.fromkeys(range(PARTITIONS), 0)))
    records: list[Record] = []
    while len(records) < 4 * PARTITIONS:
        some = await reader.next(5)
        assert len(some) <= 5
        records += some
    for partition in range(PARTITIONS):
        assert [record.offset for record in records if record.partition == partition] == [0, 1, 2, 3]


# while somebody waits


async def waits(reader: Reader) -> asyncio.Task[list[Record]]:
    """A wait for records that has had time to send its request."""
    while True:
        waiting = asyncio.create_task(reader.next())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        if not done:
            return waiting
        assert waiting.result() == []


async def test_another_assignment_ends_a_wait_and_what_the_old_one_brings_is_dropped(
    topic: str, producer: AIOKafkaProducer, reader: Reader
) -> None:
    await fill(producer, topic, 3, partition=1)
    reader.assign(of(topic, {0: 0}))
    waiting = await waits(reader)
    reader.assign(of(topic, {1: 1}))
    assert await asyncio.wait_for(waiting, BOUND) == []
    await fill(producer, topic, 1, partition=0)
    assert places(await read(reader, 2)) == [(1, 1), (1, 2)]


async def test_a_paused_partition_keeps_what_has_arrived(
    topic: str, producer: AIOKafkaProducer, reader: Reader
) -> None:
    await fill(producer, topic, 3)
    reader.assign(of(topic, {0: 0, 1: 0}))
    assert places(await read(reader, 1, limit=1)) == [(0, 0)]
    reader.pause([(topic, 0)])
    assert await reader.next() == []
    reader.resume([(topic, 0)])
    assert places(await reader.next()) == [(0, 1), (0, 2)] or places(await read(reader, 2)) == [(0, 1), (0, 2)]


async def test_a_wait_without_anything_to_read_ends_by_itself(reader: Reader) -> None:
    assert await asyncio.wait_for(reader.next(), BOUND) == []


async def test_a_wait_that_is_called_off_loses_nothing(topic: str, producer: AIOKafkaProducer, reader: Reader) -> None:
    reader.assign(of(topic, {0: 0}))
    records: list[Record] = []
    for number in range(50):
        waiting = asyncio.create_task(reader.next())
        await producer.send_and_wait(topic, b"%d" % number, partition=0)
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            records += waiting.result()
    records += await read(reader, 50 - len(records))
    assert [record.offset for record in records] == list(range(50))


async def test_a_reader_that_stops_tells_whoever_waits(topic: str, reader: Reader) -> None:
    reader.assign(of(topic, {0: 0}))
    waiting = await waits(reader)
    await reader.stop()
    with pytest.raises(BrokerUnavailable, match="stopped"):
        await asyncio.wait_for(waiting, BOUND)
    with pytest.raises(BrokerError, match="stopped"):
        await reader.next()


async def test_reading_goes_on_when_a_broker_is_back(
    own_broker: Callable[[], Broker], at_end: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    broker = await asyncio.to_thread(own_broker)
    settings = load_settings(bootstrap_servers=broker.bootstrap_servers, replication_factor=1)
    async with Admin.connect(settings) as admin:
        await admin.create("kept", 1, 1, {})

    async def produce(value: bytes) -> None:
        producer = Producer(settings, "test")
        await producer.start()
        await producer.send_and_wait("kept", value, key=b"k", timeout=BOUND)
        await producer.stop()

    consumer = PinnedConsumer(settings, "test", "kept")
    at_end.push_async_callback(consumer.stop)
    await produce(b"before")
    await consumer.start()
    assert [record.value for record in await consumer.read()] == [b"before"]
    waiting = asyncio.create_task(consumer.read())
    await asyncio.to_thread(broker.kill)
    await until(lambda: "cannot be read, and is tried again" in caplog.text, BOUND, "the reader has noticed")
    await asyncio.to_thread(broker.start)
    await produce(b"after")
    assert [record.value for record in await asyncio.wait_for(waiting, BOUND)] == [b"after"]
    logged = [record.getMessage() for record in caplog.records if record.name == "forebay.kafka.fetching"]
    assert 1 <= len([text for text in logged if "cannot be read" in text]) <= 2, "logged once, not at every try"


async def test_a_topic_that_is_created_just_now_is_read_once_it_is_known(
    settings: Settings, producer: AIOKafkaProducer, reader_of: ReaderOf
) -> None:
    name = f"{settings.namespace}later"

    starting = asyncio.create_task(reader_of(name))
    async with Admin.connect(settings) as admin:
        await admin.create(name, 1, -1, {})
    reader = await asyncio.wait_for(starting, BOUND)
    reader.assign(of(name, {0: 0}))
    await producer.send_and_wait(name, b"at last", partition=0)
    assert [record.value for record in await read(reader, 1)] == [b"at last"]
