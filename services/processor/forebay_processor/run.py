"""run: call the handler where it belongs: on the loop, in a thread, or in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from opentelemetry import context
from opentelemetry.trace import Span, set_span_in_context, use_span
from pebble import ProcessPool, ThreadPool

from forebay import failures
from forebay.app import ExecutionMode, Forebay, Operation
from forebay.catalog import Catalog
from forebay.codec import Schema
from forebay.errors import CodecError, Problem
from forebay.job import Job
from forebay.kafka import header
from forebay.messages import ProblemMessage
from forebay_processor.call import (
    Call,
    Failure,
    begin_process,
    call,
    call_in_process,
    encode,
    failure_of,
    now,
    unfit,
    warm_up,
)
from forebay_processor.work import Result, Work
from forebay_schemas.headers import REPLAY_ID

log = logging.getLogger(__name__)

CATALOG_LAG = 2.0
"""Seconds to wait for the catalog to bring a schema that a job was written with."""


class Runner:
    """ExecutionMode jobs.

    Args:
        app: declares the operations.
        reference: names the app to the processes that run CPU work.
        app_dir: where they look for it.
        catalog: knows the schemas that payloads were written with.
        slots: how many jobs run at once.
    """

    def __init__(self, app: Forebay, reference: str, app_dir: Path | None, catalog: Catalog, slots: int) -> None:
        self._operations = app.operations
        self._catalog = catalog
        self._in_threads: dict[Work, asyncio.Future[Call]] = {}
        kinds = {operation.mode for operation in self._operations.values()}
        self._threads = ThreadPool(max_workers=slots) if ExecutionMode.IN_THREAD in kinds else None
        self._processes = (
            ProcessPool(
                max_workers=min(slots, os.cpu_count() or 1),
                initializer=begin_process,
                initargs=(reference, app_dir),
                context=multiprocessing.get_context("spawn"),
            )
            if ExecutionMode.IN_PROCESS in kinds
            else None
        )
        if self._processes is not None:
            self._processes.schedule(warm_up)  # the processes start now, and not when a caller waits for the first job

    def stop(self) -> None:
        """End what runs in processes at once; a thread that does not return ends with this process."""
        if self._threads is not None:
            self._threads.stop()  # type: ignore[no-untyped-call]
        if self._processes is not None:
            self._processes.stop()  # type: ignore[no-untyped-call]
            self._processes.join()

    async def run(self, work: Work, span: Span) -> Result:
        """Run a job's handler to its end, whatever that is, with ``span`` as the current one.

        Cancelling this stops a handler on the loop or in a process. One in a thread cannot be stopped:
        ``job.cancelled`` tells it, and `vacated` waits for it.
        """
        try:
            operation, writer = await self._resolve(work)
        except CodecError as error:
            return unreadable(str(error))
        if operation.mode is ExecutionMode.IN_PROCESS:
            return _result(operation, work, await self._in_process(operation, work, writer))
        try:
            request = operation.request.decode(work.job["payload"], writer)
        except CodecError as error:
            return unreadable(str(error))
        except Exception as error:  # of the request type's own checks
            return _result(operation, work, Call(now(), now(), failure=unfit(error)))
        if operation.mode is ExecutionMode.ON_LOOP:
            done = await self._on_loop(operation, request, work, span)
        else:
            done = await self._in_thread(operation, request, work, span)
        return _result(operation, work, done)

    def occupies(self, work: Work) -> bool:
        """Whether a job's handler was started in a thread, and so may go on after it was cancelled."""
        return work in self._in_threads

    async def vacated(self, work: Work) -> None:
        """Wait until a job's handler, which may be in a thread that outlives its deadline, is out of its slot."""
        thread = self._in_threads.pop(work, None)
        if thread is not None:
            await asyncio.wait([thread])

    async def _resolve(self, work: Work) -> tuple[Operation, Schema | None]:
        """Find the operation, and the schema that wrote the payload; None where it is the operation's own.

        Raises:
            CodecError: there is no such operation here, or no such schema.
        """
        name, fingerprint = work.job["operation"], work.job["payload_schema"]
        operation = self._operations.get(name)
        if operation is None:
            raise CodecError(f"no operation '{name}' is declared here")
        own = operation.request.schema
        if (own.fingerprint if own else None) == fingerprint:
            return operation, None
        if own is None or fingerprint is None:
            raise CodecError(f"operation '{name}' and its payload disagree on whether there is a schema")
        if not self._catalog.has_request_schema(name, fingerprint):
            await self._catalog.wait_for_request_schema(name, fingerprint, CATALOG_LAG)
        entry = self._catalog.entries.get(name)
        if entry is None or entry.requests is None:
            raise CodecError(f"the catalog has no schema of operation '{name}'")
        return operation, entry.requests.writer(fingerprint)

    async def _on_loop(self, operation: Operation, request: Any, work: Work, span: Span) -> Call:
        started = now()
        try:
            context.attach(set_span_in_context(span))  # this task's context ends with it: there is nothing to detach
            value = await operation.call(request, _job(work))
            finished = now()
            return Call(started, finished, encode(operation, value))
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return Call(started, now(), failure=failure_of(error))  # it waited for something that was cancelled
        except (Exception, SystemExit) as error:
            return Call(started, now(), failure=failure_of(error))

    async def _in_thread(self, operation: Operation, request: Any, work: Work, span: Span) -> Call:
        job = _job(work)

        def in_span() -> Call:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                return call(operation, request, job)

        assert self._threads is not None  # noqa: S101 - made where an operation needs it
        scheduled: Future[Call] = self._threads.schedule(in_span)
        thread = self._in_threads[work] = asyncio.wrap_future(scheduled)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            job.cancel()
            raise

    async def _in_process(self, operation: Operation, work: Work, writer: Schema | None) -> Call:
        assert self._processes is not None  # noqa: S101 - made where an operation needs it
        arguments = (operation.name, work.job["payload"], writer.text if writer else None, _job(work))
        started = now()
        try:
            return await asyncio.wrap_future(self._processes.schedule(call_in_process, args=arguments))
        except Exception as error:  # not the handler's, which come in a Call: the process itself died under the job
            log.error("operation %s: the process of job %s ended: %s", operation.name, work.job["request_id"], error)
            problem = Problem(failures.HANDLER_FAILED, "The handler failed", "the process that ran it ended")
            return Call(started, now(), failure=Failure(problem))


def _is_being_cancelled() -> bool:
    """Whether the job itself is called off, at its deadline or at the end of a drain."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def unreadable(reason: str) -> Result:
    """Return the result of a job that cannot be read, and so never run."""
    instant = now()
    problem = ProblemMessage(
        type=failures.UNREADABLE_JOB,
        title="The job cannot be read",
        detail=f"{reason}; it is kept among the dead letters",
    )
    return Result("FAILED", instant, instant, problem=problem, dead=True)


def expired(started: int | None = None) -> Result:
    """Return the result of a job whose deadline passed, before its handler was called or while it ran."""
    instant = now()
    detail = "it passed before the job was run" if started is None else "it passed while the job ran"
    problem = ProblemMessage(type=failures.DEADLINE_PASSED, title="The deadline passed", detail=detail)
    return Result("EXPIRED", started or instant, instant, problem=problem)


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


def _result(operation: Operation, work: Work, done: Call) -> Result:
    if done.failure is None:
        schema = operation.result.schema
        return Result(
            "COMPLETED",
            done.started,
            done.finished,
            payload=done.payload,
            payload_schema=schema.fingerprint if schema else None,
            content_type=operation.result.media_type,
        )
    failure = done.failure
    if failure.traceback is not None:
        log.error("operation %s failed on job %s\n%s", operation.name, work.job["request_id"], failure.traceback)
    problem = failure.problem
    return Result(
        "FAILED",
        done.started,
        done.finished,
        problem=ProblemMessage(type=problem.type, title=problem.title, detail=problem.detail),
        not_before=done.finished // 1000 + round(failure.retry_after * 1000) if failure.retry_after else None,
        dead=problem.type == failures.UNREADABLE_JOB,
    )
