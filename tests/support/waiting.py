"""Waiting for a condition with a deadline, in place of sleeping for a while and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

_LOOK_EVERY = 0.02


def wait_until(condition: Callable[[], Any], within: float, what: str) -> Any:
    """Return the first true value of the condition; fails, naming ``what``, after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(_LOOK_EVERY)
    return value


async def until(condition: Callable[[], Any], within: float, what: str) -> Any:
    """The same on an event loop; the condition may be a coroutine function."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(_LOOK_EVERY)
