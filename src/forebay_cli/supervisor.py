"""Runs the programs of ``forebay up``: passes their lines on, starts again what dies, stops everything in order.

A `Child` owns one program, the `Supervisor` owns the children. Every task belongs to a task group, so nothing that was
started is left behind whichever way the supervisor ends; only SIGKILL runs none of this, which is why the programs
watch their parent themselves (`forebay_cli.lifetime`).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from forebay.errors import ConfigurationError, ForebayError
from forebay_cli.lifetime import PARENT_VARIABLE, kill_group
from forebay_cli.restart import USER_MISTAKE, GiveUp, RestartPolicy

Say = Callable[[str, str], None]
"""Takes a line: whose it is, and its text without the end of line."""

Probe = Callable[[], Awaitable[bool]]
"""Says whether a program is ready now; takes a second at most."""

NAME = "forebay"
"""Whose the supervisor's own lines are."""

SENTENCE = "forebay: "
"""What a command's own error begins with."""

HURRIED = 1.0
"""Seconds that a program gets to end once it has to hurry."""

_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """One command to keep running.

    Attributes:
        name: stands before each of its lines; different for each program.
        command: the executable and its arguments.
        stop_within: seconds between SIGTERM and SIGKILL.
        ready: says whether it is ready; asked again and again.
        ready_line: is found in the line with which it says itself that it is ready. A program that has neither this
            nor ``ready`` counts as ready from the start.
        policy: when it is started again.
    """

    name: str
    command: Sequence[str]
    stop_within: float
    ready: Probe | None = None
    ready_line: re.Pattern[str] | None = None
    policy: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs, and in which order it starts and stops.

    Attributes:
        broker: absent when a cluster was given.
        processors: started when the broker is ready.
        gateways: started together with the processors; stopped before them, so that what they hold is still answered.
    """

    broker: Program | None
    processors: Sequence[Program]
    gateways: Sequence[Program]

    @property
    def start_order(self) -> Sequence[Sequence[Program]]:
        """The programs of each step; a step starts when the one before it is ready."""
        return [self._brokers, [*self.processors, *self.gateways]]

    @property
    def stop_order(self) -> Sequence[Sequence[Program]]:
        """The programs of each step; a step stops when the one before it has ended."""
        return [self.gateways, self.processors, self._brokers]

    @property
    def names(self) -> Sequence[str]:
        """The names of all programs, in the order of their start."""
        return [program.name for program in chain.from_iterable(self.start_order)]

    @property
    def _brokers(self) -> Sequence[Program]:
        return [] if self.broker is None else [self.broker]


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
        self._said_ready = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._patience = program.stop_within
        self._limit: asyncio.Timeout | None = None

    async def keep(self) -> None:
        """Run the program until `stop`, again and again as its policy says.

        Raises:
            ConfigurationError: it ended because of a user's mistake; the message is its own.
            ForebayError: it ended too often right after its start.
        """
        name, policy = self.program.name, self.program.policy
        try:
            while not self._stopping.is_set():
                policy.started()
                code = await self._run()
                if self._stopping.is_set():
                    return
                verdict = policy.ended(code)
                if isinstance(verdict, GiveUp):
                    raise self._failure(code, verdict)
                self._say(NAME, f"{name} {_ending(code)}; starting it again in {verdict.delay:g} s")
                await self._pause(verdict.delay)
        finally:
            self._ended.set()

    async def until_ready(self, look_every: float = 0.1, remind_every: float = 15.0) -> None:
        """Wait until the program says that it is ready, and say now and then that it is still being waited for."""
        loop = asyncio.get_running_loop()
        began = reminded = loop.time()
        while not await self._is_ready():
            await asyncio.sleep(look_every)
            if loop.time() - reminded >= remind_every:
                reminded = loop.time()
                self._say(NAME, f"{self.program.name} is not ready after {reminded - began:.0f} s; still waiting")

    async def stop(self) -> None:
        """Ask the program to end and wait; kill it, with all that it started, when its time is over."""
        self._stopping.set()
        self._terminate()
        try:
            async with asyncio.timeout(self._patience) as self._limit:
                await self._ended.wait()
        except TimeoutError:
            self._say(NAME, f"{self.program.name} has not ended within {self._patience:g} s; killing it")
            if self._process is not None:
                kill_group(self._process.pid)
            await self._ended.wait()

    def hurry(self) -> None:
        """Leave the program no more than `HURRIED` seconds to end, from now or from when it is asked to."""
        self._patience = min(self._patience, HURRIED)
        if self._limit is not None and not self._limit.expired() and not self._ended.is_set():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._patience)

    async def _run(self) -> int:
        # The pipe is ours and not asyncio's, whose `wait` also waits for everybody who holds the other end: a
        # grandchild that survives the program would hide its death.
        ours, theirs = os.pipe()
        try:
            self._sentence, self._said_ready = "", False
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())},
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._process = process
        if self._stopping.is_set():
            self._terminate()
        async with asyncio.TaskGroup() as tasks:
            lines = tasks.create_task(self._pass_on(ours))
            try:
                code = await process.wait()
            finally:
                kill_group(process.pid)
            await asyncio.wait([lines], timeout=HURRIED)
            lines.cancel()
        return code

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

    async def _is_ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            return False
        said = self._said_ready or self.program.ready_line is None
        return said and (self.program.ready is None or await self.program.ready())

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if text.startswith(SENTENCE):
            self._sentence = text.removeprefix(SENTENCE)
        if self.program.ready_line is not None and self.program.ready_line.search(text):
            self._said_ready = True
        self._say(self.program.name, text)

    def _terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _failure(self, code: int, verdict: GiveUp) -> ForebayError:
        name, last = self.program.name, self._sentence
        if code == USER_MISTAKE:
            return ConfigurationError(f"{name} cannot start: {last or 'see its last lines above'}")
        if verdict.quick_ends == 1:
            return ForebayError(f"{name} {_ending(code)} right after its start" + (f": {last}" if last else ""))
        return ForebayError(
            f"{name} {_ending(code)} right after its start, {verdict.quick_ends} times in a row"
            + (f": {last}" if last else "; its last lines above may say why")
        )


class Supervisor:
    """Runs the programs of a plan until it is told to stop or one of them cannot be kept running.

    Args:
        plan: the programs.
        say: gets every line of theirs, and what happens to them.
    """

    def __init__(self, plan: Plan, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._children: dict[str, Child] = {}
        self._over = asyncio.Event()
        self._failure: ForebayError | None = None

    def stop(self) -> bool:
        """Stop everything in order; asked again, hurry, and return True."""
        hurry = self._over.is_set()
        if hurry:
            for child in self._children.values():
                child.hurry()
        self._over.set()
        return hurry

    def fail(self, error: ForebayError) -> None:
        """Stop everything in order, and have `run` raise the first error that was given."""
        self._failure = self._failure or error
        self._over.set()

    async def run(self, when_ready: Callable[[], Awaitable[None]]) -> None:
        """Start everything, call ``when_ready`` once it is ready, and keep it running until `stop`.

        Raises:
            ForebayError: a program cannot be kept running, or `fail` was called; everything has been stopped in order.
        """
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(self._start(tasks, when_ready))
            await self._over.wait()
            starting.cancel()
            for programs in self._plan.stop_order:
                async with asyncio.TaskGroup() as stopping:
                    for program in programs:
                        if (child := self._children.get(program.name)) is not None:
                            stopping.create_task(child.stop())
        if self._failure is not None:
            raise self._failure

    async def _start(self, tasks: asyncio.TaskGroup, when_ready: Callable[[], Awaitable[None]]) -> None:
        for programs in self._plan.start_order:
            step = [Child(program, self._say) for program in programs]
            for child in step:
                self._children[child.program.name] = child
                tasks.create_task(self._keep(child))
            for child in step:
                await child.until_ready()
        await when_ready()

    async def _keep(self, child: Child) -> None:
        try:
            await child.keep()
        except ForebayError as error:
            self.fail(error)


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
