"""Handlers that run on the processor's event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from opentelemetry import context
from opentelemetry.trace import Span, set_span_in_context

from forebay.app import Operation
from forebay.job import Job
from forebay_processor.run.call import HandlerResult, encode, failure_of, now


async def on_loop(operation: Operation, request: Any, job: Job, span: Span) -> HandlerResult:
    """Call an ``async def`` handler; whatever it raises is its result, unless the job itself is called off."""
    started, task = now(), asyncio.current_task()
    try:
        context.attach(set_span_in_context(span))  # this task's context ends with it: there is nothing to detach
        value = await operation.call(request, job)
        finished = now()
        return HandlerResult(started, finished, encode(operation, value))
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling():
            raise  # the job is called off, at its deadline or at the end of a drain
        return HandlerResult(started, now(), failure=failure_of(error))  # it waited for something that was cancelled
    except GeneratorExit as error:
        if asyncio.current_task() is not task:
            raise  # the processor ends, and closes what would not be cancelled
        return HandlerResult(started, now(), failure=failure_of(error))
    except BaseException as error:  # sys.exit() in a handler ends the handler, not what runs it
        return HandlerResult(started, now(), failure=failure_of(error))
