"""A Java process that never outlives the Python process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_LAUNCHER = Path(__file__).parent / "launcher.py"


class Jvm:
    """A running Java process.

    On Linux the kernel kills it when this process ends, however that happens. Elsewhere there is no such thing: there
    a parent killed with SIGKILL leaves it running, unless the whole process group is killed.

    The kernel ties that promise to the *thread* that starts the child, so a thread of its own starts it and stays until
    it ends.
    """

    def __init__(self, command: Sequence[str], cwd: Path, output: IO[bytes], pass_fds: Sequence[int] = ()) -> None:
        self._command = list(command)
        self._linux = sys.platform == "linux"
        if self._linux:
            self._command[:0] = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
        self._cwd = cwd
        self._output = output
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._keeper = threading.Thread(target=self._keep, name="jvm-keeper", daemon=True)
        self._started = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Start it. Whoever is interrupted in here, by Ctrl-C, has to `kill` it all the same."""
        self._keeper.start()
        self._started.wait()
        if self._failure:
            raise self._failure

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is this package's own
                self._command,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=self._pass_fds,
                # Out of reach of the terminal's Ctrl-C: whoever uses Kafka stops first. Where the kernel does not end
                # it with its parent, being killed together with the parent's group matters more.
                start_new_session=self._linux,
            )
        except OSError as error:
            self._failure = error
            self._ended.set()
            return
        finally:
            self._started.set()
        self._process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """Its process id; to be asked once it was started."""
        if self._process is None:
            raise RuntimeError("it was not started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, a signal's number negative; None while it runs."""
        return None if self._process is None else self._process.returncode

    @property
    def running(self) -> bool:
        """Whether it has not ended yet; a paused one is running."""
        return not self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, for ``timeout`` seconds at the most; returns whether it has."""
        return self._ended.wait(timeout)

    def stop(self, timeout: float) -> None:
        """Let it shut down in order; after ``timeout`` seconds kill it."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a paused one could not act on the other
        if not self.wait(timeout):
            self.kill()

    def kill(self) -> None:
        """Kill it, as a crash would, and wait until it is gone; nothing happens if it was never started."""
        if self._keeper.ident is None:
            return
        self._started.wait()
        self.signal(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """Stop it with SIGSTOP; on Linux this returns when the last of its threads stands still, elsewhere at once."""
        self.signal(signal.SIGSTOP)
        if self._linux and self.running:
            with suppress(ChildProcessError):  # it ended just now
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended already."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
