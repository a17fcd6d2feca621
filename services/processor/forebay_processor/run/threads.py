"""Handlers that run in a thread, which nothing can stop: one that outlives its job's deadline keeps its slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from opentelemetry.trace import Span, use_span
from pebble import ThreadPool

from forebay.app import Operation
from forebay.job import Job
from forebay_processor.run.call import HandlerResult, call


class Threads(Protocol):
    """Runs calls in threads."""

    def schedule(self, function: Callable[[], HandlerResult]) -> Future[HandlerResult]:
        """Call a function in a thread that is free."""

    def stop(self) -> None:
        """Start nothing more; a thread that does not return ends with this process."""


def make_threads(slots: int) -> Threads:
    """Return a thread for each slot, started when it is first needed."""
    threads: Threads = ThreadPool(max_workers=slots)
    return threads


def start_in_thread(
    threads: Threads, operation: Operation, request: Any, job: Job, span: Span
) -> asyncio.Future[HandlerResult]:
    """Call a handler in a thread; the future is done when the handler is, whoever still waits for it."""

    def in_span() -> HandlerResult:
        with use_span(span, record_exception=False, set_status_on_exception=False):
            return call(operation, request, job)

    return asyncio.wrap_future(threads.schedule(in_span))
