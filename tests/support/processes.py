"""Whether processes have ended, also those that end while they are looked at."""

from __future__ import annotations

import psutil


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or only waits for its parent to take note of its end."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_alive(pid: int) -> bool:
    """Whether a process of this number has not ended."""
    try:
        return not has_ended(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
