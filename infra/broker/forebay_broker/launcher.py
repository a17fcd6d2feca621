"""Becomes a command that Linux kills when its parent ends: ``launcher.py PARENT_PID COMMAND…``.

A program of its own, run by a fresh interpreter: code between fork and exec of a process with threads, which is the
other way, can deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, make sure that the parent did not end before that, and become the command."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == int(sys.argv[1]):
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command is the caller's own


if __name__ == "__main__":
    main()
