"""How a command ends together with the process that started it, even when that one is killed with SIGKILL."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress

PARENT_VARIABLE = "FOREBAY_PARENT_PID"
"""Environment variable with the parent's process id.

A command that asks for its parent only after its imports would, had the parent died during them, take the process
that adopted it for its parent.
"""

_LOOK_EVERY = 0.25
"""Seconds between two looks at the parent."""


def end_with_parent(grace: float = 5.0) -> None:
    """End this process once its parent is gone: first as SIGTERM ends it, after ``grace`` seconds by force.

    It looks from a thread, because an event loop that is kept busy by a handler must not keep an orphan alive.

    Args:
        grace: seconds left to the ordinary shutdown.
    """
    given = os.environ.get(PARENT_VARIABLE, "")
    parent = int(given) if given.isdigit() else os.getppid()
    threading.Thread(target=_watch, args=(parent, grace), name="end-with-parent", daemon=True).start()


def _watch(parent: int, grace: float) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    kill_group(os.getpid())
    os._exit(1)


def kill_group(leader: int) -> None:
    """Kill the process group that ``leader`` leads, if it leads one and any of it is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_in_spite_of_threads(code: int, grace: float = 1.0) -> None:
    """End this process with ``code`` after ``grace`` seconds where threads of others would keep it.

    An app may have started some when it was imported, for which Python waits at its end.
    """
    kept = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    if kept:
        threading.Thread(target=_end_at_last, args=(code, grace), name="end-at-last", daemon=True).start()


def _end_at_last(code: int, grace: float) -> None:
    time.sleep(grace)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
