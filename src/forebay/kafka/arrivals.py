"""When the next fetch is made: once a record that came alone is answered, and under load after a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from forebay.kafka.records import Record

SINGLE_RECORDS = 16
"""Records in a row that came alone, after which they are taken to come one at a time."""

GATHER_PER_RECORD = 0.00005
GATHER_AT_MOST = 0.002


def pause_after(records: int) -> float:
    """Return how many seconds to wait before the next fetch, after one that brought so many records.

    Under load it is requests to the broker that cost. What waits a little comes in a larger batch, and a reader that
    just took a batch has work to do in the meantime. After a few the next fetch follows at once, so that an idle system
    answers as fast as it can; an event loop that counts in whole milliseconds rounds their wait to none.
    """
    return min(GATHER_AT_MOST, records * GATHER_PER_RECORD)


class Source(Protocol):
    """Where records come from."""

    async def read(self, limit: int | None) -> list[Record]:
        """Return up to ``limit`` records; waits without a bound for one."""


class Arrivals:
    """Takes records in as soon as they arrive, in a rhythm that fits the load.

    While records come one at a time, the next fetch waits until the answer to the record is on its way: each fetch
    request costs CPU in the broker and in this process, which the answer would have to wait for. Otherwise a pause lets
    some records gather, so that they are fetched together, and what follows from them goes together, too.

    Args:
        take: is given the records.
        wait_for_answer: is awaited after a record that came alone, before the next fetch.
    """

    def __init__(self, take: Callable[[list[Record]], None], wait_for_answer: Callable[[], Awaitable[None]]) -> None:
        self._take = take
        self._wait_for_answer = wait_for_answer
        self._alone = 0

    async def next(self, consumer: Source, limit: int | None = None) -> None:
        """Wait, without a bound, for something to arrive, and take it in; at most ``limit`` records."""
        records = await consumer.read(limit)
        self._alone = self._alone + 1 if len(records) == 1 else 0
        self._take(records)
        if self._alone > SINGLE_RECORDS:
            await self._wait_for_answer()
        else:
            await asyncio.sleep(pause_after(len(records)))


class BoundedEvent:
    """Something to wait for, with a bound in case it does not come; what comes while nobody waits is not kept.

    Args:
        bound: seconds that a wait may last.
    """

    __slots__ = ("_bound", "_loop", "_waiting")

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait until `set` is called, or for as long as the bound says."""
        self._waiting = self._loop.create_future()
        timer = self._loop.call_later(self._bound, self.set)
        try:
            await self._waiting
        finally:
            self._waiting = None
            timer.cancel()

    def set(self) -> None:
        """End the wait, if there is one."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
