"""Runs the command line as a person would: in a folder of its own, without the settings of whoever runs the tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from types import TracebackType
from typing import Self

import psutil

BOUND = 60.0
"""Seconds that anything may take before a test gives up."""

APP = """
from dataclasses import dataclass
from forebay import Forebay

app = Forebay("greetings")

@dataclass
class Hello:
    name: str

@dataclass
class Greeting:
    text: str

@app.operation(tier="interactive", deadline=30.0)
async def greet(request: Hello) -> Greeting:
    '''Greet somebody.'''
    return Greeting(f"hello {request.name}")

@app.operation(tier="bulk", deadline=60.0, accepts="image/jpeg", returns="image/png")
async def convert(image: bytes) -> bytes:
    '''Convert a picture.'''
    return image
"""


def environment() -> dict[str, str]:
    """The variables of this process without Forebay's, and with a wide screen."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")} | {"COLUMNS": "200"}


class Shell:
    """Runs commands in a folder and waits for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def forebay(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "forebay_cli", *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment() | variables,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )

    def on_terminal(self, columns: int, *arguments: str, **variables: str) -> str:
        """What a command writes to standard output where that is a terminal of so many columns."""
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        variables = {name: value for name, value in environment().items() if name != "COLUMNS"} | variables
        with subprocess.Popen(
            [sys.executable, "-m", "forebay_cli", *arguments], cwd=self.folder, env=variables, stdout=theirs
        ) as process:
            os.close(theirs)
            written = b""
            while select([ours], [], [], BOUND)[0]:
                try:
                    written += os.read(ours, 4096)
                except OSError:  # it has ended
                    break
            process.wait(BOUND)
        os.close(ours)
        return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")


class Up:
    """A ``forebay up`` with its output in a file; ends, with all it started, with the block that it is used in."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = folder / "up.log"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forebay_cli", "up", *arguments],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        descendants = self.descendants()
        self.process.kill()
        self.process.wait()
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def output(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def count(self, pattern: str) -> int:
        """How many lines the pattern is found in."""
        return len(re.findall(pattern, self.output, re.MULTILINE))

    def until(self, condition: Callable[[], object], seconds: float = BOUND) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s; it said:\n{self.output}"
            time.sleep(0.05)

    def until_ready(self) -> None:
        self.until(lambda: self.count(r"\| ready;") or self.process.poll() is not None)
        assert self.process.poll() is None, self.output

    def child(self, command: str) -> psutil.Process:
        """The first child that runs a command."""
        return next(process for process in psutil.Process(self.process.pid).children() if command in process.cmdline())

    def descendants(self) -> list[psutil.Process]:
        if self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(BOUND)
