"""What every service does to begin and to end: heed the signals, own its background work, and say when it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any


def stop_on_signals(stop: asyncio.Event) -> None:
    """Have SIGTERM and SIGINT set ``stop``, for as long as the event loop lives."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


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
