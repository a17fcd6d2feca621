"""The handlers of an app, each called where its operation says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from opentelemetry.trace import Span

from forebay.app import ExecutionMode, Forebay
from forebay.errors import CodecError
from forebay.job import Job
from forebay.kafka import header
from forebay_processor.outcome import of_handler, unreadable
from forebay_processor.run.call import HandlerResult, invalid_request, now
from forebay_processor.run.loop import on_loop
from forebay_processor.run.pool import Pool, Processes, in_process
from forebay_processor.run.threads import Threads, make_threads, start_in_thread
from forebay_processor.work import JobOutcome, Work
from forebay_schemas.headers import REPLAY_ID


class Handlers:
    """Calls handlers.

    Args:
        threads: for handlers that run in one; None where the app has none.
        processes: for handlers that run in one, likewise.
    """

    def __init__(self, threads: Threads | None, processes: Processes | None) -> None:
        self._threads = threads
        self._processes = processes
        self._in_threads: dict[Work, asyncio.Future[HandlerResult]] = {}

    @classmethod
    def of(cls, app: Forebay, reference: str, app_dir: Path | None, slots: int) -> Handlers:
        """Start the threads and processes that an app needs.

        Args:
            app: declares the operations.
            reference: names the app to the processes, as ``module:attribute``.
            app_dir: where they look for it first.
            slots: how many jobs run at once.
        """
        modes = {operation.mode for operation in app.operations.values()}
        return cls(
            make_threads(slots) if ExecutionMode.IN_THREAD in modes else None,
            Pool(reference, app_dir, slots) if ExecutionMode.IN_PROCESS in modes else None,
        )

    def stop(self) -> None:
        """End what runs in processes at once; a thread that does not return ends with this process."""
        if self._threads is not None:
            self._threads.stop()
        if self._processes is not None:
            self._processes.stop()

    async def call(self, work: Work, span: Span) -> JobOutcome:
        """Run a job's handler to its end, whatever that is, with ``span`` as the current one.

        Cancelling this stops a handler on the loop or in a process. One in a thread cannot be stopped:
        ``job.cancelled`` tells it, and `occupant` is what it still occupies.
        """
        operation, writer, job = work.resolved.operation, work.resolved.writer, _job(work)
        if operation.mode is ExecutionMode.IN_PROCESS:
            assert self._processes is not None  # noqa: S101 - made where an operation needs it
            result = await in_process(self._processes, operation, work.job["payload"], writer, job)
            return of_handler(operation, work, result)
        try:
            request = operation.request.decode(work.job["payload"], writer)
        except CodecError as error:
            return unreadable(str(error))
        except Exception as error:  # of the request type's own checks
            return of_handler(operation, work, HandlerResult(now(), now(), failure=invalid_request(error)))
        if operation.mode is ExecutionMode.ON_LOOP:
            return of_handler(operation, work, await on_loop(operation, request, job, span))
        assert self._threads is not None  # noqa: S101 - made where an operation needs it
        thread = self._in_threads[work] = start_in_thread(self._threads, operation, request, job, span)
        try:
            return of_handler(operation, work, await asyncio.shield(thread))
        except asyncio.CancelledError:
            job.cancel()
            raise

    def occupant(self, work: Work) -> asyncio.Future[HandlerResult] | None:
        """Return the thread in which a job's handler still runs, although nobody waits for it; None where none does.

        To be called once for each job, when it is done with.
        """
        thread = self._in_threads.pop(work, None) if self._in_threads else None
        return None if thread is None or thread.done() else thread


def _job(work: Work) -> Job:
    job = work.job
    return Job(
        id=job["request_id"],
        key=job["idempotency_key"] or job["request_id"],
        tenant=job["tenant"],
        attempt=work.attempt,
        deadline_ms=job["deadline"],
        is_replay=header(work.record, REPLAY_ID) is not None,
    )
