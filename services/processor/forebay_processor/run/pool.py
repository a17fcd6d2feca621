"""Handlers that keep a core busy: each runs in a process of its own, which is killed at the job's deadline."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from pebble import ProcessPool

from forebay import failures
from forebay.app import Operation, load_app
from forebay.codec import Schema
from forebay.errors import AppError, CodecError, Problem
from forebay.job import Job
from forebay_processor.run.call import Failure, HandlerResult, call, invalid_request, now

log = logging.getLogger(__name__)


class Processes(Protocol):
    """Runs calls in processes; cancelling the future of one kills its process."""

    def schedule(self, name: str, payload: bytes, writer: str | None, job: Job) -> Future[HandlerResult]:
        """Have a handler called in a process that is free, or will be."""

    def stop(self) -> None:
        """End all processes at once."""


class Pool:
    """As many processes as there are cores, or slots if they are fewer, each with the app loaded.

    Args:
        reference: the app, as ``module:attribute``.
        app_dir: where to look for it first.
        slots: how many jobs run at once.
    """

    def __init__(self, reference: str, app_dir: Path | None, slots: int) -> None:
        self._app = (reference, app_dir)
        self._workers = min(slots, os.cpu_count() or 1)
        self._pool = self._start()

    def _start(self) -> ProcessPool:
        handlers = logging.getLogger().handlers
        logs = (logging.getLogger().getEffectiveLevel(), _portable(handlers[0].formatter) if handlers else None)
        pool = ProcessPool(
            max_workers=self._workers,
            initializer=begin_process,
            initargs=(*self._app, *logs),
            context=multiprocessing.get_context("spawn"),
        )
        pool.schedule(warm_up)  # the processes start now, and not when a caller waits for the first job
        return pool

    def schedule(self, name: str, payload: bytes, writer: str | None, job: Job) -> Future[HandlerResult]:
        """Have a handler called in a process that is free, or will be."""
        arguments = (name, payload, writer, job)
        try:
            return self._pool.schedule(call_in_process, args=arguments)
        except RuntimeError as error:  # for one, an idle process was killed: the pool takes no more from then on
            log.warning("the processes for CPU work are started anew: %s", error)
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool = self._start()
            return self._pool.schedule(call_in_process, args=arguments)

    def stop(self) -> None:
        """End all processes at once."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _portable(formatter: logging.Formatter | None) -> logging.Formatter | None:
    """Return a formatter if it can go to another process: an app may have set one that cannot."""
    try:
        pickle.dumps(formatter)
    except Exception:  # pickling raises errors of many types
        return None
    return formatter


async def in_process(
    processes: Processes, operation: Operation, payload: bytes, writer: Schema | None, job: Job
) -> HandlerResult:
    """Decode a payload and call a handler in a process; cancelling this kills the process."""
    started = now()
    try:
        running = processes.schedule(operation.name, payload, writer.text if writer else None, job)
        return await asyncio.wrap_future(running)
    except Exception as error:  # not the handler's, which is in its result: the process itself died under the job
        log.error("operation %s: the process of job %s ended: %s", operation.name, job.id, error)
        problem = Problem(failures.HANDLER_FAILED, "The handler failed", "the process that ran it ended")
        return HandlerResult(started, now(), failure=Failure(problem))


_operations: dict[str, Operation] = {}
"""The app's operations, in a process of its own; filled once, when it begins."""


def begin_process(reference: str, app_dir: Path | None, level: int, formatter: logging.Formatter | None) -> None:
    """Log as the processor does and load the app; Ctrl-C is the processor's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
    try:
        _operations.update(load_app(reference, app_dir).operations)
    except AppError as error:  # each call says so, too: a process that ended here would be started again for ever
        log.error("a process for CPU work: %s", error)


def _end_with_parent() -> None:
    """End this process with its processor, even one that was killed: nobody would stop the handler at its deadline."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def warm_up() -> None:
    """Do nothing, in a process that has loaded the app by then."""


def call_in_process(name: str, payload: bytes, writer: str | None, job: Job) -> HandlerResult:
    """Decode a payload and call the handler, both away from the processor's loop."""
    operation = _operations.get(name)
    if operation is None:
        problem = Problem(failures.HANDLER_FAILED, "The handler failed", "its process could not load the app")
        return HandlerResult(now(), now(), failure=Failure(problem))
    try:
        request = operation.request.decode(payload, Schema(writer) if writer else None)
    except CodecError as error:
        problem = Problem(failures.UNREADABLE_JOB, "The job cannot be read", str(error))
        return HandlerResult(now(), now(), failure=Failure(problem))
    except Exception as error:  # of the request type's own checks
        return HandlerResult(now(), now(), failure=invalid_request(error))
    return call(operation, request, job)
