"""The processor: takes each job from the scheduler through run and settle, within its slot and its deadline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from forebay.deadlines import Deadlines
from forebay.errors import CodecError
from forebay.kafka import Record
from forebay_processor.call import now
from forebay_processor.fetch import TierFetcher
from forebay_processor.run import Runner, expired
from forebay_processor.schedule import Scheduler
from forebay_processor.settle import Settler
from forebay_processor.spans import JobSpans, Spans
from forebay_processor.work import Result, Work

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds by which a deadline may be noticed late."""


class Processor:
    """Runs what the scheduler says is next.

    Args:
        scheduler: decides.
        runner: calls the handlers.
        settler: says what came of it.
        spans: traces it.
    """

    def __init__(self, scheduler: Scheduler, runner: Runner, settler: Settler, spans: Spans) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._settler = settler
        self._spans = spans
        self._fetchers: dict[str, TierFetcher] = {}
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[Work, asyncio.Task[None]] = {}
        self._overdue: set[Work] = set()
        self._deadlines: Deadlines[Work] = Deadlines(TICK, time.time())
        self._accepting = True

    def serve(self, fetcher: TierFetcher) -> None:
        """Settle the jobs of a tier with the fetcher that brings them."""
        self._fetchers[fetcher.tier] = fetcher

    def pump(self) -> None:
        """Start as many jobs as there are slots for; answer those whose deadline has passed. It never waits."""
        if not self._accepting:
            return
        now_ms = time.time_ns() // 1_000_000
        moved = self._drop_expired(now_ms)
        while (next_work := self._scheduler.take()) is not None:
            self._running[next_work] = self._own(self._work(next_work))
            self._deadlines.add(next_work, next_work.job["deadline"] / 1000)
            self._drop_expired(now_ms)  # it may have stood before one that nobody waits for
            moved = True
        if moved:
            for fetcher in self._fetchers.values():
                fetcher.wake()

    def _drop_expired(self, now_ms: int) -> bool:
        gone = self._scheduler.expired(now_ms)
        for work in gone:
            self._own(self._expire(work))
        return bool(gone)

    def undecodable(self, fetcher: TierFetcher, record: Record, error: CodecError) -> None:
        """Take care of a record that is no job, while the partition goes on."""
        self._own(self._settler.settle_undecodable(record, error, lambda: fetcher.settle(record)))

    async def keep_deadlines(self) -> None:
        """Stop each handler at its job's deadline, until cancelled; run it as a task."""
        while True:
            await asyncio.sleep(TICK)
            for work in self._deadlines.due(time.time()):
                task = self._running.get(work)
                if task is not None:
                    self._overdue.add(work)
                    task.cancel()
            self.pump()

    def stop_accepting(self) -> None:
        """Start nothing more; jobs that wait here are handed back: not committed, so the next owner fetches them."""
        self._accepting = False
        for fetcher in self._fetchers.values():
            fetcher.stop_accepting()

    async def drain(self, bound: float) -> None:
        """Give what runs ``bound`` seconds to finish; what does not is handed back. Call `stop_accepting` before."""
        if self._tasks:
            log.info("%d jobs are finishing", len(self._tasks))
            _, unfinished = await asyncio.wait(self._tasks, timeout=bound)
            if unfinished:
                log.warning("%d jobs did not finish within %g s and are handed back", len(unfinished), bound)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a job could not be settled: it is run again once this processor is restarted", exc_info=error)

    async def _work(self, work: Work) -> None:
        try:
            spans = self._spans.begin(work)
            result = await self._run(work, spans)
            spans.ran(result)
            fetcher = self._fetchers[work.tier]
            await self._settler.settle(work, result, spans, lambda: fetcher.settle(work.record))
            if self._runner.occupies(work):
                await self._runner.vacated(work)
        finally:
            self._scheduler.release(work.tier)
            if self._scheduler.waiting:
                self.pump()
            else:
                self._fetchers[work.tier].wake()

    async def _run(self, work: Work, spans: JobSpans) -> Result:
        begun = now()
        try:
            return await self._runner.run(work, spans.handler)
        except asyncio.CancelledError:
            if work not in self._overdue:
                raise
            return expired(begun)
        finally:
            self._running.pop(work, None)
            self._overdue.discard(work)
            self._deadlines.discard(work, work.job["deadline"] / 1000)

    async def _expire(self, work: Work) -> None:
        spans = self._spans.begin(work)
        result = expired()
        spans.ran(result)
        fetcher = self._fetchers[work.tier]
        await self._settler.settle(work, result, spans, lambda: fetcher.settle(work.record))
