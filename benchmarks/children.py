"""The processes of a run: started, waited for, their CPU time read, and all of them stopped at its end."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType

import msgspec
import psutil

from benchmarks import payload
from benchmarks.driver import DRAIN_SECONDS, Order
from benchmarks.figures import Window

HOST = "127.0.0.1"
STOP_SECONDS = 15.0
"""How long a process has to stop after SIGTERM before it is killed."""
START_SECONDS = 60.0
"""How long a process has to get ready."""


class BenchmarkError(Exception):
    """The run cannot go on; the text is a sentence for whoever started it."""


class Child:
    """A process of this run, with its output in a file.

    Attributes:
        name: what it is called in the report.
        log: file with what it printed.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path, *, driver: bool) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *argv],
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                stdin=subprocess.PIPE if driver else subprocess.DEVNULL,
                stdout=subprocess.PIPE if driver else output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the run, which then stops its processes in order
            )

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and its own processes have used."""
        return cpu_seconds(self.process.pid)

    def check(self) -> None:
        """Raise a `BenchmarkError` with the end of its output if it is no longer running."""
        code = self.process.poll()
        if code is not None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-15:]
            said = "\n  ".join(tail) or "(nothing)"
            raise BenchmarkError(f"{self.name} ended with exit code {code}; it said:\n  {said}")

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Poll until ``ready`` says yes; raises a `BenchmarkError` if the process ends or takes too long."""
        limit = monotonic() + START_SECONDS
        while not ready():
            self.check()
            if monotonic() > limit:
                raise BenchmarkError(
                    f"{self.name}: {what} not seen within {START_SECONDS:g} s; its output is in {self.log}"
                )
            sleep(0.05)

    def wait_for_answer(self, ask: Callable[[], int], what: str) -> None:
        """Poll until ``ask`` gives the status 200; raises a `BenchmarkError` that says what it gave last."""
        last = 0

        def answers() -> bool:
            nonlocal last
            last = ask()
            return last == 200

        try:
            self.wait_until(answers, what)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error} (last status: {last or 'none'})") from None


class Driver(Child):
    """A process that plays clients; see `benchmarks.driver`."""

    def __init__(self, name: str, argv: Sequence[str], log: Path) -> None:
        super().__init__(name, argv, {}, log, driver=True)

    def wait_ready(self) -> None:
        """Wait until it takes orders."""
        self._line(START_SECONDS, lambda: None)

    def measure(self, order: Order, tick: Callable[[], None]) -> Window:
        """Play one window and return what was seen; ``tick`` is called several times a second meanwhile."""
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        self.process.stdin.flush()
        limit = order.warmup + order.seconds + DRAIN_SECONDS + STOP_SECONDS
        return msgspec.json.decode(self._line(limit, tick), type=Window)

    def _line(self, seconds: float, tick: Callable[[], None]) -> bytes:
        """Return its next line of output, of which there is never more than one to read."""
        assert self.process.stdout is not None
        limit = monotonic() + seconds
        while not select.select([self.process.stdout], [], [], 0.2)[0]:
            tick()
            if monotonic() > limit:
                raise BenchmarkError(f"{self.name} said nothing for {seconds:g} s; its output is in {self.log}")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(STOP_SECONDS)
            self.check()
        return line


class Children:
    """All processes of a run; leaving the context stops them, the last started first.

    Args:
        logs: directory for their output.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._all: list[Child] = []

    def __enter__(self) -> Children:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, *argv: str, env: Mapping[str, str] | None = None) -> Child:
        """Start ``python <argv>``."""
        child = Child(name, argv, env or {}, self._log(name), driver=False)
        self._all.append(child)
        return child

    def start_driver(self, name: str, *argv: str) -> Driver:
        """Start ``python <argv>`` as a driver, and wait until it is ready."""
        child = Driver(name, argv, self._log(name))
        self._all.append(child)
        child.wait_ready()
        return child

    def stop(self) -> None:
        """Stop all that still run: SIGTERM, time to end, then SIGKILL. Interrupted, it kills at once.

        One after the other, the last started first: what a process needs while it ends is still there.
        """
        running = [child for child in reversed(self._all) if child.process.poll() is None]
        try:
            for child in running:
                child.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(STOP_SECONDS)
        finally:
            for child in running:
                if child.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.process.pid, signal.SIGKILL)  # its own session: only what it started itself
                    child.process.wait()
            self._all.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name.replace(' ', '-')}.log"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and those it started have used; 0 if it is gone."""
    used = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
    return used


def free_port() -> int:
    """Return a port that nobody uses at the moment, and that systems do not give to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def status(port: int, path: str, *, post: bool, timeout: float) -> int:
    """Send one request, with the benchmark's body if it is a POST; returns its status, 0 if there was no answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        if post:
            connection.request("POST", path, payload.body(0), {"Content-Type": "application/json"})
        else:
            connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
