"""What every service does to begin and to end: handle signals, own its background tasks, and say when it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


def stop_on_signals(stop: asyncio.Event, hurry: asyncio.Event | None = None) -> None:
    """Have SIGTERM and SIGINT set ``stop``, for as long as the event loop lives; a second one also sets ``hurry``."""

    def on_signal() -> None:
        if stop.is_set() and hurry is not None:
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


class OwnedTasks:
    """Tasks that somebody owns: kept from the garbage collector until they end, and ended with their owner.

    Args:
        on_failure: called with the exception of a task that raised one; a task that was cancelled did not fail.
    """

    __slots__ = ("_on_failure", "_tasks")

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self, timeout: float) -> bool:
        """Wait until no task is left, or for ``timeout`` seconds; returns whether none is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        return not self._tasks

    async def cancel(self) -> None:
        """Cancel what still runs, and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)


@contextlib.asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run background work for the length of the block; a failure in it ends the block, and reaches its owner."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


NOTIFY_VARIABLE = "NOTIFY_SOCKET"
"""Environment variable that names the socket on which a process manager waits for news, as systemd's does."""


def notify(**news: str) -> None:
    """Send news of this process to the process manager that started it, by systemd's protocol (``sd_notify``).

    It does nothing where no manager asked for news, or where the one that did is gone.

    Args:
        news: ``READY="1"`` once it works, ``STOPPING="1"`` once it is about to end, ``STATUS`` with what it is doing
            in a few words.
    """
    address = os.environ.get(NOTIFY_VARIABLE, "")
    if not address.startswith(("@", "/")):
        return
    text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in news.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1.0)
        # An address that begins with @ is one of Linux's own names, which belong to no file.
        manager.sendto(text.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
