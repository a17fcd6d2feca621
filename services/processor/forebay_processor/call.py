"""One call of a handler, and what it raised or returned, in a form that crosses threads and processes.

The functions at the end run in a process of their own, for operations with ``cpu=True``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from forebay import failures
from forebay.app import Operation, load_app
from forebay.codec import Schema
from forebay.errors import CodecError, Problem, Reject, RetryAfter
from forebay.job import Job


@dataclass(frozen=True, slots=True)
class Failure:
    """What a handler raised.

    Attributes:
        problem: for the caller; it holds no traceback.
        retry_after: seconds, where the handler raised `RetryAfter`.
        traceback: for the log; None where the handler meant it.
    """

    problem: Problem
    retry_after: float | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call. Instants are in microseconds since the epoch.

    Attributes:
        started: when the handler was called.
        finished: when it was done.
        payload: its result, encoded; empty where it failed.
        failure: what it raised; None where it returned.
    """

    started: int
    finished: int
    payload: bytes = b""
    failure: Failure | None = None


def call(operation: Operation, request: Any, job: Job) -> Call:
    """Call a plain handler."""
    started = now()
    try:
        value = operation.call(request, job)
        finished = now()
        return Call(started, finished, encode(operation, value))
    except BaseException as error:  # sys.exit() in a handler ends the handler, not what runs it
        return Call(started, now(), failure=failure_of(error))


def now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class UnusableResult(Exception):
    """The handler returned what its declared type cannot hold."""


def encode(operation: Operation, value: Any) -> bytes:
    """Encode a handler's result; raises `UnusableResult`."""
    try:
        return operation.result.encode(value)
    except Exception as error:  # fastavro and msgspec raise bare errors of many types for a value that does not fit
        raise UnusableResult(f"{type(error).__name__}: {error}") from error


def failure_of(error: BaseException) -> Failure:
    """Say what an exception means for the job.

    The text of one that is a surprise may hold secrets, so the caller is told its type only.
    """
    if isinstance(error, Reject):
        problem = error.problem
        detail = None if problem.detail is None else _plain(problem.detail)
        return Failure(Problem(_plain(problem.type), _plain(problem.title), detail))
    if isinstance(error, RetryAfter):
        problem = Problem(failures.RETRY_LATER, "The job could not be done now", _plain(error.reason))
        return Failure(problem, retry_after=error.seconds)
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, UnusableResult):
        problem = Problem(
            failures.UNUSABLE_RESULT, "The handler returned something unusable", "the processor's log says what"
        )
        return Failure(problem, traceback=trace)
    problem = Problem(failures.HANDLER_FAILED, "The handler failed", f"it raised {type(error).__name__}")
    return Failure(problem, traceback=trace)


def unfit(error: Exception) -> Failure:
    """Say what it means for the job that its payload, which fits the schema, does not become the request's type.

    A value that the type refuses is the caller's mistake, and the text that says so is meant for the caller.
    """
    if not isinstance(error, msgspec.ValidationError):
        return failure_of(error)
    reason, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").removeprefix(".")
    detail = _plain(f"{field}: {reason}" if field else reason)
    return Failure(Problem(failures.INVALID, "The request does not fit the operation's schema", detail))


def _plain(text: object) -> str:
    """Make of what a handler says something that can be sent, whatever it is."""
    return str(text).encode("utf-8", "replace").decode()


_operations: dict[str, Operation] = {}
"""The app's operations, in a process of its own; filled once, when it begins."""


def begin_process(reference: str, app_dir: Path | None) -> None:
    """Load the app; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    _operations.update(load_app(reference, app_dir).operations)


def _end_with_parent() -> None:
    """End this process with its processor, even one that was killed: nobody would stop the handler at its deadline."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def warm_up() -> None:
    """Do nothing, in a process that has loaded the app by then."""


def call_in_process(name: str, payload: bytes, writer: str | None, job: Job) -> Call:
    """Decode a payload and call the handler, both away from the processor's loop."""
    operation = _operations[name]
    try:
        request = operation.request.decode(payload, Schema(writer) if writer else None)
    except CodecError as error:
        problem = Problem(failures.UNREADABLE_JOB, "The job cannot be read", str(error))
        return Call(now(), now(), failure=Failure(problem))
    except Exception as error:  # of the request type's own checks
        return Call(now(), now(), failure=unfit(error))
    return call(operation, request, job)
