"""The rhythm of reading: what comes alone has its rest, what comes together does not, and a rest ends soon."""

from __future__ import annotations

import asyncio

import pytest

from forebay.kafka import Arrivals, BoundedEvent, Record
from forebay.kafka.arrivals import SINGLE_RECORDS, pause_after
from tests.support.records import a_record

NEVER = 3600.0


class Diary:
    """A source that brings so many records each time, and notes what becomes of them."""

    def __init__(self, *counts: int) -> None:
        self.counts = iter(counts)
        self.entries: list[str] = []
        self.arrivals = Arrivals(self._take, self._wait_for_answer)

    async def read(self, limit: int | None) -> list[Record]:
        count = next(self.counts)
        self.entries.append(f"read {limit}")
        return [a_record(offset=offset) for offset in range(count)]

    def _take(self, records: list[Record]) -> None:
        self.entries.append(f"take {len(records)}")

    async def _wait_for_answer(self) -> None:
        self.entries.append("rest")


async def test_records_that_come_one_at_a_time_are_taken_in_and_then_have_time_for_their_answer() -> None:
    diary = Diary(*[1] * (SINGLE_RECORDS + 2))
    for _ in range(SINGLE_RECORDS):
        await diary.arrivals.next(diary)
    assert "rest" not in diary.entries
    diary.entries.clear()
    for _ in range(2):
        await diary.arrivals.next(diary, 5)
    assert diary.entries == ["read 5", "take 1", "rest"] * 2


async def test_records_that_come_together_end_the_waiting_for_answers() -> None:
    diary = Diary(*[1] * (SINGLE_RECORDS + 1), 2, *[1] * SINGLE_RECORDS)
    for _ in range(SINGLE_RECORDS + 1):
        await diary.arrivals.next(diary)
    assert diary.entries.count("rest") == 1
    for _ in range(1 + SINGLE_RECORDS):
        await diary.arrivals.next(diary)
    assert diary.entries.count("rest") == 1


@pytest.mark.parametrize(("few", "more"), [(1, 20), (20, 60)])
def test_the_more_came_the_longer_the_next_ones_may_gather(few: int, more: int) -> None:
    assert pause_after(few) < pause_after(more) <= pause_after(10_000) < 0.01


async def test_a_wait_ends_when_the_event_is_set() -> None:
    event = BoundedEvent(NEVER)
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    event.set()
    async with asyncio.timeout(5):
        await waiting


async def test_a_wait_ends_by_itself() -> None:
    async with asyncio.timeout(5):
        await BoundedEvent(0.001).wait()


async def test_an_event_that_nobody_waits_for_is_not_kept() -> None:
    event = BoundedEvent(NEVER)
    event.set()
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    async with asyncio.timeout(5):
        await waiting


async def test_a_wait_that_is_cancelled_leaves_no_timer() -> None:
    event = BoundedEvent(0.001)
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    async with asyncio.timeout(5):
        await event.wait()
