"""One call of a handler, and what it raised or returned, in a form that crosses threads and processes.

`pool` has what runs in a process of its own.
"""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import dataclass
from typing import Any

import msgspec

from forebay import failures
from forebay.app import Operation
from forebay.errors import Problem, Reject, RetryAfter
from forebay.job import Job

_LOCATED = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
"""How a `msgspec.ValidationError` says where; the text before it may look alike."""


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
class HandlerResult:
    """What a call of a handler came to. Instants are in microseconds since the epoch.

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


def call(operation: Operation, request: Any, job: Job) -> HandlerResult:
    """Call a plain handler."""
    started = now()
    try:
        value = operation.call(request, job)
        finished = now()
        return HandlerResult(started, finished, encode(operation, value))
    except BaseException as error:  # sys.exit() in a handler ends the handler, not what runs it
        return HandlerResult(started, now(), failure=failure_of(error))


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
        detail = None if problem.detail is None else _sendable(problem.detail)
        return Failure(Problem(_sendable(problem.type), _sendable(problem.title), detail))
    if isinstance(error, RetryAfter):
        problem = Problem(failures.RETRY_LATER, "The job could not be done now", _sendable(error.reason))
        return Failure(problem, retry_after=error.seconds)
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, UnusableResult):
        problem = Problem(
            failures.UNUSABLE_RESULT, "The handler returned something unusable", "the processor's log says what"
        )
        return Failure(problem, traceback=trace)
    problem = Problem(failures.HANDLER_FAILED, "The handler failed", f"it raised {type(error).__name__}")
    return Failure(problem, traceback=trace)


def invalid_request(error: Exception) -> Failure:
    """Say what it means for the job that its payload, which fits the schema, does not become the request's type.

    A value that the type refuses is the caller's mistake, and the text that says so is meant for the caller.
    """
    if not isinstance(error, msgspec.ValidationError):
        return failure_of(error)
    located = _LOCATED.fullmatch(str(error))
    reason, field = located.groups() if located else (str(error), "")
    reason = reason or type(error.__cause__).__name__  # the type's own code may raise an error without a text
    detail = _sendable(f"{field}: {reason}" if field else reason)
    return Failure(Problem(failures.INVALID, "The request does not fit the operation's schema", detail))


def _sendable(text: object) -> str:
    """Make of what a handler says something that can be sent, whatever it is."""
    try:
        return str(text).encode("utf-8", "replace").decode()
    except Exception:  # of a __str__ of the app's own
        return f"<{type(text).__name__}>"
