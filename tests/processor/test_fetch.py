"""The fetcher: what it reads and leaves, pauses and commits, and how it goes when the broker does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

import pytest

from forebay.errors import AuthorizationFailed, BrokerUnavailable
from forebay.kafka import Record, Start
from forebay_processor import fetch as fetch_module
from forebay_processor.fatal import Fatal
from forebay_processor.fetch import Fetcher
from forebay_processor.lease import Ending, Lease, Partition
from tests.support.records import a_record
from tests.support.waiting import until

HERE: Partition = ("topic", 0)
THERE: Partition = ("topic", 1)


class Broker:
    """A member of a group whose topic is a queue of records that the test fills."""

    def __init__(self) -> None:
        self.records: asyncio.Queue[Record] = asyncio.Queue()
        self.positions: dict[Partition, int] = {}
        self.paused: set[Partition] = set()
        self.committed: dict[Partition, int] = {}
        self.away = False
        self.calls: list[str] = []
        self.trouble: str | None = None
        self.refusal: AuthorizationFailed | None = None

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    def give_up_idle(self) -> None:
        self.calls.append("give up idle")

    async def read(self, limit: int | None) -> list[Record]:  # noqa: ARG002
        if self.refusal is not None:
            raise self.refusal
        if self.away:
            raise BrokerUnavailable("nobody answers")
        record = await self.records.get()
        self.positions[(record.topic, record.partition)] = record.offset + 1
        return [record]

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:  # noqa: ARG002
        if self.away:
            raise BrokerUnavailable("nobody answers")
        await asyncio.sleep(0)
        return []

    def pause(self, partitions: Iterable[Partition]) -> None:
        self.paused.update(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        self.paused.difference_update(partitions)

    async def commit(self, offsets: Mapping[Partition, int], timeout: float) -> bool:  # noqa: ARG002
        if self.away:
            raise BrokerUnavailable("nobody answers")
        self.committed.update(offsets)
        return True


class Basket:
    """Takes whatever is fetched."""

    window = 3
    window_bytes: int | None = None
    log_level = 20

    def __init__(self) -> None:
        self.wanted = 10
        self.leases: list[Lease] = []
        self.withdrawn: list[Collection[Partition] | None] = []
        self.in_the_way: list[Lease] = []

    def room(self) -> int:
        return self.wanted

    async def wait_for_room(self, bound: float) -> None:  # noqa: ARG002
        await asyncio.sleep(0.001)

    def take(self, leased: Sequence[tuple[Record, Lease]]) -> None:
        self.leases += [lease for _, lease in leased]

    def withdraw(self, partitions: Collection[Partition] | None = None) -> None:
        self.withdrawn.append(partitions)

    def make_way(self, lease: Lease) -> None:
        self.in_the_way.append(lease)


class Reading:
    """A fetcher with two partitions."""

    def __init__(self) -> None:
        self.broker, self.basket, self.fatal = Broker(), Basket(), Fatal(asyncio.Event())
        self.fetcher = Fetcher("tier", self.broker, self.basket, self.fatal)

    async def begin(self, *partitions: Partition) -> None:
        await self.fetcher.assigned(partitions)
        for partition in partitions:
            offset = self.broker.committed.get(partition)
            start = Start.UNCOMMITTED if offset is None else Start.COMMITTED
            self.fetcher.leases.begin(partition, offset or 0, start)

    async def fetched(self, *records: Record) -> None:
        count = len(self.basket.leases)
        for record in records:
            self.broker.records.put_nowait(record)
        await until(lambda: len(self.basket.leases) == count + len(records), 5, "they are taken")


@pytest.fixture
async def reading() -> Reading:
    reading = Reading()
    await reading.begin(HERE, THERE)
    return reading


async def test_what_is_fetched_is_taken_and_committed_when_it_is_settled(reading: Reading) -> None:
    running = asyncio.create_task(reading.fetcher.run())
    await reading.fetched(a_record(offset=0), a_record(offset=1))
    reading.basket.leases[1].done()
    await reading.fetcher.commit()
    assert reading.broker.committed == {HERE: 0}
    reading.basket.leases[0].done()
    await reading.fetcher.commit()
    assert reading.broker.committed == {HERE: 2}
    running.cancel()


async def test_a_full_partition_is_paused_until_its_first_job_is_settled(reading: Reading) -> None:
    running = asyncio.create_task(reading.fetcher.run())
    await reading.fetched(*(a_record(offset=offset) for offset in range(3)))
    await until(lambda: reading.broker.paused == {HERE}, 5, "it is paused, and the other is not")
    reading.basket.leases[1].done()
    assert reading.broker.paused == {HERE}
    reading.basket.leases[0].done()
    assert reading.broker.paused == set(), "it is read again at once"
    running.cancel()


async def test_what_keeps_a_partition_full_is_asked_to_make_way(reading: Reading) -> None:
    running = [asyncio.create_task(reading.fetcher.run()), asyncio.create_task(reading.fetcher.keep_committing())]
    await reading.fetched(*(a_record(offset=offset) for offset in range(3)))
    first, second, _ = reading.basket.leases
    await until(lambda: reading.basket.in_the_way, 5, "the first is asked")
    assert set(reading.basket.in_the_way) == {first}
    first.done()
    reading.basket.in_the_way.clear()
    await reading.fetched(a_record(offset=3))
    await until(lambda: reading.basket.in_the_way, 5, "the next is asked")
    assert set(reading.basket.in_the_way) == {second}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_nothing_is_fetched_while_nobody_wants_it(reading: Reading) -> None:
    reading.basket.wanted = 0
    running = asyncio.create_task(reading.fetcher.run())
    await until(lambda: reading.broker.paused == {HERE, THERE}, 5, "all is paused")
    reading.broker.records.put_nowait(a_record(offset=0))
    reading.basket.wanted = 1
    await until(lambda: reading.basket.leases, 5, "it is fetched once there is room")
    assert reading.broker.paused == set()
    running.cancel()


async def test_what_comes_after_the_end_was_asked_for_is_left_to_others(reading: Reading) -> None:
    reading.fetcher.stop_accepting()
    reading.fetcher.take([a_record(offset=0)])
    reading.broker.positions[HERE] = 1
    await reading.fetcher.commit()
    assert reading.basket.leases == []
    assert reading.basket.withdrawn == [None]
    assert reading.broker.committed == {}


async def test_a_fetcher_leaves_when_its_jobs_are_done_and_committed(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "GRACE", 0.0)
    reading.fetcher.take([a_record(offset=0)])
    reading.fetcher.stop_accepting()
    leaving = asyncio.create_task(reading.fetcher.leave())
    await until(lambda: "give up idle" in reading.broker.calls, 5, "others get what is idle")
    assert "stop" not in reading.broker.calls
    reading.basket.leases[0].done()
    await leaving
    assert reading.broker.committed == {HERE: 1}
    assert reading.broker.calls == ["give up idle", "stop"]


async def test_a_revoked_partition_is_committed_as_far_as_its_jobs_end_soon(reading: Reading) -> None:
    reading.fetcher.take([a_record(offset=0)])
    asyncio.get_running_loop().call_later(0.01, reading.basket.leases[0].done)
    await reading.fetcher.revoked({HERE, THERE})
    assert reading.broker.committed == {HERE: 1}
    assert reading.basket.withdrawn == [{HERE, THERE}]
    reading.fetcher.take([a_record(offset=1)])
    assert len(reading.basket.leases) == 1, "nothing of it is taken any more"


async def test_a_long_job_does_not_hold_up_a_rebalance(reading: Reading) -> None:
    reading.fetcher.take([a_record(offset=0)])
    async with asyncio.timeout(5):
        await reading.fetcher.revoked({HERE, THERE})
    assert reading.basket.leases[0].is_open
    await reading.begin(HERE)
    reading.fetcher.take([a_record(offset=0)])
    assert len(reading.basket.leases) == 1, "it still runs here"
    reading.basket.leases[0].done()
    await reading.fetcher.commit()
    assert reading.broker.committed == {HERE: 1}
    assert reading.basket.leases[0].ending is Ending.DONE


async def test_a_broker_that_is_away_is_trouble_until_it_answers_again(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetch_module, "_BACK_OFF", 0.001)
    caplog.set_level("INFO")
    reading.broker.away = True
    running = asyncio.create_task(reading.fetcher.run())
    await until(lambda: reading.fetcher.trouble, 5, "it is in trouble")
    assert reading.fetcher.trouble == "nobody answers"
    await asyncio.sleep(0.01)
    reading.broker.away = False
    await until(lambda: reading.fetcher.trouble is None, 5, "all is well, although nothing has arrived")
    said = [record.getMessage() for record in caplog.records if "reading" in record.getMessage()]
    assert said == ["tier: reading: nobody answers; it is tried again", "tier: reading: it works again"]
    running.cancel()


async def test_records_that_cannot_be_read_are_trouble(reading: Reading) -> None:
    reading.broker.trouble = "the records of topic/0 from offset 7 cannot be read: an unknown codec"
    assert reading.fetcher.trouble == reading.broker.trouble


async def test_a_fetcher_that_may_not_read_ends_the_process(reading: Reading) -> None:
    reading.broker.refusal = AuthorizationFailed("group", "app.tier", "Read")
    async with asyncio.timeout(5):
        await reading.fetcher.run()
    assert reading.fatal.error is reading.broker.refusal


async def test_a_fetcher_that_has_not_joined_is_in_trouble() -> None:
    reading = Reading()
    assert reading.fetcher.trouble == "it has not joined its group yet"
    await reading.begin()
    assert reading.fetcher.trouble is None
    await reading.fetcher.until_joined()
