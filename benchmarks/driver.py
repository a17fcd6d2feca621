"""A driver: a process that plays the clients, one window at a time.

An `Order` comes on a line of its standard input, the `Window` goes out on a line of its standard output. It stays up
between windows and ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable

import msgspec

from benchmarks.figures import Window

DRAIN_SECONDS = 15.0
"""How long after its end a window waits for the answers under way; one that is missing then is an error."""


class Order(msgspec.Struct, frozen=True):
    """What to play.

    Attributes:
        clients: how many there are; each sends its next request when it has the answer to the last.
        warmup: seconds before the measurement begins.
        seconds: seconds to measure.
        port, path: where the requests go, for HTTP.
    """

    clients: int
    warmup: float
    seconds: float
    port: int = 0
    path: str = ""


async def serve(measure: Callable[[Order], Awaitable[Window]]) -> None:
    """Carry out the orders on standard input, one after the other, until it ends."""
    loop = asyncio.get_running_loop()
    gc.disable()  # a pause of the collector would show as a latency of the contender; what a window leaves is little
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        window = await measure(msgspec.json.decode(line, type=Order))
        gc.collect()
        sys.stdout.write(msgspec.json.encode(window).decode() + "\n")
        sys.stdout.flush()
