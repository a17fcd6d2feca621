"""One program of ``forebay up``: its lines are passed on, and it is started again when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from forebay.errors import ConfigurationError, ForebayError
from forebay.lifecycle import NOTIFY_VARIABLE
from forebay_cli import exit_codes
from forebay_cli.lifetime import PARENT_VARIABLE, kill_group
from forebay_cli.notifications import News, listening
from forebay_cli.restart import GiveUp, RestartPolicy

Say = Callable[[str, str], None]
"""Takes a line: whose it is, and its text without the end of line."""

SUPERVISOR = "forebay"
"""Whose the supervisor's own lines are."""

SENTENCE = "forebay: "
"""What a command's own error begins with."""

WARNING = "forebay: warning: "
"""What a command's warning begins with, which is not why it ends."""

REMIND_AFTER = 5.0
"""Seconds after which a program that is not ready is mentioned for the first time."""
REMIND_EVERY = 15.0
"""Seconds between two mentions after that."""

_BETWEEN_SIGNALS = 0.25
"""Seconds between two signals that a program must tell apart."""

LAST_LINES = 1.0
"""Seconds that the last lines of a program that has ended may take to arrive."""
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """One command to keep running. It says by systemd's notification protocol when it is ready.

    Attributes:
        name: stands before each of its lines; different for each program.
        command: the executable and its arguments.
        stop_within: seconds between SIGTERM and SIGKILL.
        hurry_within: the same once it was asked to hurry, by a second SIGTERM.
        policy: when it is started again.
    """

    name: str
    command: Sequence[str]
    stop_within: float
    hurry_within: float
    policy: RestartPolicy = field(default_factory=RestartPolicy)


class Child:
    """One program, kept running until it is asked to stop.

    Args:
        program: what to run.
        say: gets each line it writes, and what happens to it.
    """

    def __init__(self, program: Program, say: Say) -> None:
        self.program = program
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._sentence = ""
        self._status = ""
        self._ready = asyncio.Event()
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._patience = program.stop_within
        self._limit: asyncio.Timeout | None = None

    @property
    def ready(self) -> bool:
        """Whether it runs now and has said that it is ready."""
        return self._ready.is_set()

    async def keep(self) -> None:
        """Run the program until `stop`, again and again as its policy says.

        Raises:
            ConfigurationError: it was never ready, because of a user's mistake; the message is its own.
            ForebayError: it was never ready, and ended too often; or it cannot be run at all.
        """
        policy = self.program.policy
        try:
            while not self._stopping.is_set():
                policy.started()
                code = await self._run()
                if self._stopping.is_set():
                    return
                verdict = policy.ended(code)
                if isinstance(verdict, GiveUp):
                    raise self._failure(code, verdict)
                self._say(SUPERVISOR, f"{self._how_it_ended(code)}; starting it again in {verdict.delay:g} s")
                await self._pause(verdict.delay)
        finally:
            self._ended.set()

    async def until_ready(self) -> None:
        """Wait until the program says that it is ready, and say now and then what is being waited for."""
        loop = asyncio.get_running_loop()
        began, patience = loop.time(), REMIND_AFTER
        while not self._ready.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._ready.wait()
            except TimeoutError:
                doing = f" ({self._status})" if self._status else ""
                waited = loop.time() - began
                self._say(SUPERVISOR, f"waiting for {self.program.name}{doing}; {waited:.0f} s so far")
                patience = REMIND_EVERY

    async def stop(self) -> None:
        """Ask the program to end and wait; kill it, with all that it started, when its time is over."""
        self._stopping.set()
        self._terminate()
        if self._patience < self.program.stop_within:  # it has to hurry from the beginning
            asyncio.get_running_loop().call_later(_BETWEEN_SIGNALS, self._terminate)
        try:
            async with asyncio.timeout(self._patience) as self._limit:
                await self._ended.wait()
        except TimeoutError:
            self._say(SUPERVISOR, f"{self.program.name} has not ended within {self._patience:g} s; killing it")
            if self._process is not None:
                kill_group(self._process.pid)
            await self._ended.wait()

    def hurry(self) -> None:
        """Leave the program less time to end, from now on; if it is ending, tell it by a second SIGTERM."""
        self._shorten(self.program.hurry_within)
        if self._stopping.is_set():
            self._terminate()

    def kill(self) -> None:
        """Leave the program no time to end."""
        self._shorten(0.0)

    def _shorten(self, patience: float) -> None:
        if patience >= self._patience:
            return
        self._patience = patience
        if self._limit is not None and not self._limit.expired() and not self._ended.is_set():
            self._limit.reschedule(asyncio.get_running_loop().time() + patience)

    async def _run(self) -> int:
        self._sentence = self._status = ""
        async with listening(self._take_news) as address:
            process, output = await self._start(address)
            self._process = process
            if self._stopping.is_set():
                self._terminate()
            async with asyncio.TaskGroup() as tasks:
                lines = tasks.create_task(self._pass_on(output))
                try:
                    code = await process.wait()
                finally:
                    self._ready.clear()
                    kill_group(process.pid)
                await asyncio.wait([lines], timeout=LAST_LINES)
                lines.cancel()
        self._ready.clear()  # its last words may have been that it is ready
        return code

    async def _start(self, notify_address: str) -> tuple[asyncio.subprocess.Process, int]:
        """Start the program; returns it and the end of a pipe from which to read what it writes."""
        variables = {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid()), NOTIFY_VARIABLE: notify_address}
        # The pipe is ours and not asyncio's, whose `wait` also waits for everybody who holds the other end: a
        # grandchild that survives the program would hide its death.
        ours, theirs = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                env=os.environ | variables,
            )
        except OSError as error:
            os.close(ours)
            raise ForebayError(f"{self.program.name} cannot be run: {error.strerror}") from error
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return process, ours

    def _take_news(self, news: News) -> None:
        self._status = news.get("STATUS", self._status)
        if news.get("READY") == "1" and not self._ready.is_set():
            self.program.policy.ready()
            self._ready.set()
            if self._was_ready:
                self._say(SUPERVISOR, f"{self.program.name} is ready again")
            self._was_ready = True

    async def _pass_on(self, pipe: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        try:
            rest = b""
            while chunk := await reader.read(_LONGEST_LINE):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._line(line)
                if len(rest) >= _LONGEST_LINE:
                    self._line(rest)
                    rest = b""
            if rest:
                self._line(rest)
        finally:
            transport.close()

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if text.startswith(SENTENCE) and not text.startswith(WARNING):
            self._sentence = text.removeprefix(SENTENCE)
        self._say(self.program.name, text)

    def _terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _how_it_ended(self, code: int) -> str:
        return f"{self.program.name} " + ("cannot start" if code == exit_codes.USAGE else _ending(code))

    def _failure(self, code: int, verdict: GiveUp) -> ForebayError:
        name, cause = self.program.name, self._sentence
        if code == exit_codes.USAGE:
            return ConfigurationError(f"{name} cannot start: {cause or 'see its last lines above'}")
        times = "" if verdict.attempts == 1 else f", {verdict.attempts} times in a row"
        because = f": {cause}" if cause else "; its last lines above may say why"
        return ForebayError(f"{name} {_ending(code)} before it was ready{times}{because}")


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def forebay_command(*arguments: str) -> Sequence[str]:
    """Return the command line of a ``forebay`` command under this Python, for a `Program`.

    ``-P`` keeps the current folder off the module path: a ``queue.py`` there is no business of a broker's or gateway's.
    """
    return [sys.executable, "-P", "-m", "forebay_cli", *arguments]
