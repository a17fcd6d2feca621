"""The processor: takes each job from the scheduler through run and settle, within its slot and its deadline.

Each job that is taken up has a task. Whatever becomes of the task, even if it never takes its first step, its end gives
the slot back and sees to it that the lease ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any, Protocol

from opentelemetry.trace import Span

from forebay.deadlines import Deadlines
from forebay_processor.fatal import Fatal
from forebay_processor.held import HeldSlots
from forebay_processor.lease import Lease, LeaseError, Partition
from forebay_processor.metrics import Metrics
from forebay_processor.outcome import crashed, expired
from forebay_processor.pauses import Pauses
from forebay_processor.run.call import now
from forebay_processor.schedule import Scheduler
from forebay_processor.settle import Settler
from forebay_processor.spans import JobSpans, Spans
from forebay_processor.work import JobOutcome, Work

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds by which a deadline may be noticed late."""

CANCELLATION_BOUND = 1.0
"""Seconds that a handler has to end after it was cancelled, when the processor ends."""


class Calls(Protocol):
    """Calls the handlers."""

    async def call(self, work: Work, span: Span) -> JobOutcome:
        """Run a job's handler to its end; cancelling this stops it, where it can be stopped."""

    def occupant(self, work: Work) -> asyncio.Future[Any] | None:
        """Return what still runs of a job that nobody waits for any more."""


class Processor:
    """Runs what the scheduler says is next.

    Args:
        scheduler: decides.
        calls: calls the handlers.
        settler: says what came of it.
        spans: traces it.
        fatal: takes the error for which the lease of a job cannot end.
        metrics: counts it.
        pauses: says of which tiers nothing is to be begun.
        clock: seconds since the epoch.

    """

    def __init__(
        self,
        scheduler: Scheduler,
        calls: Calls,
        settler: Settler,
        spans: Spans,
        fatal: Fatal,
        metrics: Metrics,
        pauses: Pauses,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scheduler = scheduler
        self._calls = calls
        self._settler = settler
        self._spans = spans
        self._fatal = fatal
        self._metrics = metrics
        self._pauses = pauses
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[Work, asyncio.Task[None]] = {}
        self._overdue: set[Work] = set()
        self._held = HeldSlots(scheduler, fatal, clock)
        self._cut_off: set[asyncio.Task[None]] = set()
        self._deadlines: Deadlines[Work] = Deadlines(TICK, clock())
        self._accepting = True
        self._moved = asyncio.Event()
        metrics.watch(scheduler)

    @property
    def trouble(self) -> str | None:
        """Why jobs of some tier cannot be run at present; None while they can."""
        return self._held.trouble

    def room(self, tier: str) -> int:
        """Return how many more jobs of a tier are wanted."""
        return self._scheduler.room(tier) if self._accepting else 0

    async def wait_for_room(self, bound: float) -> None:
        """Wait until jobs have left the scheduler, or for ``bound`` seconds."""
        self._moved.clear()
        try:
            async with asyncio.timeout(bound):
                await self._moved.wait()
        except TimeoutError:
            return

    def offer(self, work: Work) -> None:
        """Take a job in; `pump` starts it as soon as there is a slot."""
        self._scheduler.offer(work)

    def pump(self) -> None:
        """Start as many jobs as there are slots for; answer those whose deadline has passed. It never waits."""
        if not self._accepting:
            return
        now_ms = int(self._clock() * 1000)
        moved = self._drop_expired(now_ms)
        in_doubt = self._pauses.in_doubt()
        while (work := self._scheduler.take(in_doubt)) is not None:
            self._start(work)
            self._drop_expired(now_ms)  # it may have stood before one that nobody waits for
            moved = True
        if moved and not self._moved.is_set():
            self._moved.set()

    def see_to(self, lease: Lease, settling: Coroutine[Any, Any, None]) -> None:
        """Settle a job that needs no slot, as a task of its own."""
        task = self._own(settling)
        task.add_done_callback(partial(self._settled, lease))

    def withdraw(self, tier: str, partitions: Collection[Partition] | None = None) -> None:
        """Hand back the jobs of a tier that wait here, of these partitions or of all; what runs goes on."""
        for work in self._scheduler.withdraw(
            lambda work: work.tier == tier and (partitions is None or work.lease.partition in partitions)
        ):
            work.lease.hand_back()

    async def keep_deadlines(self) -> None:
        """Stop each handler at its job's deadline, until cancelled; run it as a task."""
        while True:
            await asyncio.sleep(TICK)
            self.expire()

    def expire(self) -> None:
        """Stop the handlers whose job's deadline has passed, and answer the jobs that wait until theirs has."""
        for work in self._deadlines.due(self._clock()):
            task = self._running.get(work)
            if task is not None:
                self._overdue.add(work)
                self._held.hold(work)
                task.cancel()
        self._held.check()
        self.pump()

    def stop_accepting(self) -> None:
        """Start nothing more."""
        self._accepting = False
        self._moved.set()

    async def drain(self, bound: float, hurry: asyncio.Event) -> None:
        """Give what runs ``bound`` seconds to finish, or until ``hurry`` is set; what does not is handed back.

        Call `stop_accepting` before.
        """
        if not self._tasks:
            return
        log.info("%d jobs are finishing", len(self._tasks))
        finishing = self._loop.create_task(asyncio.wait(self._tasks, timeout=bound))
        hurried = self._loop.create_task(hurry.wait())
        await asyncio.wait([finishing, hurried], return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        hurried.cancel()
        unfinished = list(self._tasks)
        if not unfinished:
            return
        log.warning("%d jobs did not finish in time and are handed back", len(unfinished))
        for task in unfinished:
            task.cancel()
        _, going_on = await asyncio.wait(unfinished, timeout=CANCELLATION_BOUND)
        if going_on:
            log.warning("%d handlers go on although they were cancelled, and are cut off", len(going_on))
            self._cut_off = going_on
            for task in going_on:
                with contextlib.suppress(RuntimeError):  # it goes on after that, too
                    task.get_coro().close()  # the loop would wait for it when it ends
                task.cancel()
            await asyncio.wait(going_on, timeout=CANCELLATION_BOUND)

    def _start(self, work: Work) -> None:
        task = self._running[work] = self._own(self._work(work))
        task.add_done_callback(partial(self._ended, work))
        self._deadlines.add(work, work.job["deadline"] / 1000)

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        return task

    def _drop_expired(self, now_ms: int) -> bool:
        gone = self._scheduler.expired(now_ms)
        for work in gone:
            self.see_to(work.lease, self._expire(work))
        return bool(gone)

    async def _work(self, work: Work) -> None:
        spans = self._spans.begin(work)
        outcome = await self._call(work, spans)
        spans.ran(outcome)
        await self._settler.settle(work, outcome, spans)

    async def _call(self, work: Work, spans: JobSpans) -> JobOutcome:
        begun = now()
        try:
            return await self._calls.call(work, spans.handler)
        except asyncio.CancelledError:
            if work in self._overdue:
                self._uncancel()
                self._say(work, "was stopped at its deadline")
                self._metrics.expired.inc()
                return expired(begun)
            if not self._accepting:
                raise  # the processor ends: the job is handed back
            self._uncancel()
            self._say(work, "was cancelled by its own handler")
            return crashed(begun)
        except Exception:
            log.exception("operation %s: job %s could not be run", work.job["operation"], work.job["request_id"])
            return crashed(begun)
        finally:
            self._forget(work)

    async def _expire(self, work: Work) -> None:
        self._say(work, "was not run: its deadline had passed")
        self._metrics.expired.inc()
        spans = self._spans.begin(work)
        outcome = expired()
        spans.ran(outcome)
        await self._settler.settle(work, outcome, spans)

    def _say(self, work: Work, what: str) -> None:
        log.warning("operation %s: job %s %s", work.job["operation"], work.job["request_id"], what)

    def _uncancel(self) -> None:
        """Let what comes after a cancellation that was heeded wait as if there had been none."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()

    def _forget(self, work: Work) -> None:
        if self._running.pop(work, None) is not None:
            self._overdue.discard(work)
            self._deadlines.discard(work, work.job["deadline"] / 1000)

    def _ended(self, work: Work, task: asyncio.Task[None]) -> None:
        """Give back the slot of a job whose task is over, now or when its thread is; see to its lease."""
        self._forget(work)
        occupant = self._calls.occupant(work)
        if occupant is None:
            self._release(work)
        else:
            self._say(work, "is done with, but its thread goes on and keeps a slot")
            self._metrics.overdue.inc()
            occupant.add_done_callback(partial(self._vacated, work))
        if task.cancelled() and work.lease.is_open and not work.lease.promised and self._accepting:
            self._tasks.discard(task)
            self._scheduler.offer(work)  # it was cancelled before its first step, most likely at its deadline
            self.pump()
            return
        self._settled(work.lease, task)

    def _vacated(self, work: Work, thread: asyncio.Future[Any]) -> None:  # noqa: ARG002 - the signature is asyncio's
        self._say(work, "has left its thread")
        self._metrics.overdue.dec()
        self._release(work)

    def _release(self, work: Work) -> None:
        self._held.release(work)
        self._scheduler.release(work.tier)
        if self._scheduler.waiting:
            self.pump()

    def _settled(self, lease: Lease, task: asyncio.Task[None]) -> None:
        """See to it that the lease of a job whose task is over has ended, is about to, or ends the process."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if not lease.is_open or lease.promised:
            if error is not None:
                log.error("a job that is settled went wrong afterwards", exc_info=error)
        elif not self._accepting and (task.cancelled() or task in self._cut_off):
            lease.hand_back()
        else:
            self._fatal.report(error or LeaseError(f"the task of {lease} ended without settling it"))
