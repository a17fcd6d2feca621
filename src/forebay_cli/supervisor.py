"""Runs the programs of ``forebay up`` together: starts them in order, keeps them running, stops them in order.

A `Child` owns one program, the `Supervisor` owns the children. Every task belongs to a task group, so nothing that was
started is left behind whichever way the supervisor ends; only SIGKILL runs none of this, which is why the programs
watch their parent themselves (`forebay_cli.lifetime`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from forebay.errors import ForebayError
from forebay_cli.child import SUPERVISOR, Child, Program, Say

Step = Callable[[], Awaitable[None]]
"""Something to do at a point of the start."""


class Pace(Enum):
    """How the programs are being stopped; the value says it to a person."""

    IN_ORDER = "stopping; again to hurry"
    HURRIED = "hurrying; again to kill what is left"
    KILLED = "killing what is left"


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
        self._pace: Pace | None = None
        self._failure: ForebayError | None = None

    def stop(self) -> Pace:
        """Stop everything in order; asked again, hurry; asked once more, kill what is left. Returns which it is now."""
        self._over.set()
        match self._pace:
            case None:
                self._pace = Pace.IN_ORDER
            case Pace.IN_ORDER:
                self._pace = Pace.HURRIED
                for child in self._children.values():
                    child.hurry()
            case _:
                self._pace = Pace.KILLED
                for child in self._children.values():
                    child.kill()
        return self._pace

    def fail(self, error: ForebayError) -> None:
        """Stop everything in order, and have `run` raise the first error that was given."""
        self._failure = self._failure or error
        self._over.set()

    async def run(self, before: Step, when_ready: Step) -> None:
        """Start everything and keep it running until `stop`.

        Args:
            before: done before the first program is started.
            when_ready: done once every program is ready.

        Raises:
            ForebayError: one of those raised it, a program cannot be kept running, or `fail` was called; everything has
                been stopped in order.
        """
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(self._start(tasks, before, when_ready))
            await self._over.wait()
            starting.cancel()
            for programs in self._plan.stop_order:
                async with asyncio.TaskGroup() as stopping:
                    for program in programs:
                        if (child := self._children.get(program.name)) is not None:
                            stopping.create_task(child.stop())
        if self._failure is not None:
            raise self._failure

    async def _start(self, tasks: asyncio.TaskGroup, before: Step, when_ready: Step) -> None:
        try:
            await before()
            for programs in self._plan.start_order:
                if not programs:
                    continue
                step = [Child(program, self._say) for program in programs]
                self._say(SUPERVISOR, f"starting {', '.join(program.name for program in programs)}")
                for child in step:
                    self._children[child.program.name] = child
                    tasks.create_task(self._keep(child))
                while not all(child.ready for child in step):
                    for child in step:
                        await child.until_ready()
            await when_ready()
        except ForebayError as error:
            self.fail(error)

    async def _keep(self, child: Child) -> None:
        try:
            await child.keep()
        except ForebayError as error:
            self.fail(error)
