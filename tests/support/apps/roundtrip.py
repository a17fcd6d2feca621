"""The app of the round-trip tests: a handler of every kind, each of which notes down that it was run."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from opentelemetry import trace

from forebay import DecimalMeta, Forebay, Job, Problem, Reject, RetryAfter

app = Forebay("roundtrip")
tracer = trace.get_tracer("roundtrip")


def note(event: str, operation: str, tag: str, job: Job) -> None:
    """Append a line to the file of runs; one short write, so that processes do not mix theirs."""
    line = "\t".join((event, operation, tag, job.id, str(job.attempt), str(os.getpid()))) + "\n"
    descriptor = os.open(os.environ["ROUNDTRIP_RUNS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def may_end(tag: str) -> bool:
    """Whether the test lets the long job of a tag, or one in a thread or process, end before its time."""
    return os.path.exists(f"{os.environ['ROUNDTRIP_RUNS']}.{tag}")  # noqa: PTH110 - a Path costs more than the question


class Colour(enum.Enum):
    """An enum."""

    RED = "RED"
    BLUE = "BLUE"


@dataclass
class Point:
    """A nested record, with a default."""

    x: float
    y: float = 0.0


@dataclass
class Everything:
    """A field of every type that an app can declare."""

    integer: int
    number: float
    text: str
    flag: bool
    blob: bytes
    colour: Colour
    point: Point
    points: list[Point]
    counts: dict[str, int]
    day: date
    moment: time_of_day
    instant: datetime
    identity: UUID
    amount: Annotated[Decimal, DecimalMeta(precision=9, scale=2)]
    either: int | str | bool
    number_or_points: float | list[Point]
    nickname: str | None = None
    favourite: Colour = Colour.BLUE
    place: Point | None = None
    retries: int = 7
    tags: list[str] = field(default_factory=list)


@dataclass
class Task:
    """What to do: say a word, after a while.

    Attributes:
        tag: tells the run apart from others.
        seconds: how long the handler takes.
    """

    tag: str
    seconds: float = 0.0


@dataclass
class Choice:
    """What a type asks for beyond its schema.

    Attributes:
        way: one of two words, which are any string in the schema.
        share: at most 1, which no schema says.
    """

    way: Literal["left", "right"]
    share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is too much."""
        if self.share > 1:
            raise ValueError("a share is at most 1")


@dataclass
class Done:
    """What came of a `Task`."""

    tag: str
    pid: int


@app.operation(tier="interactive", deadline=20.0)
async def echo(request: Everything) -> Everything:
    """Give back what was asked."""
    return request


@app.operation(tier="interactive", deadline=20.0)
async def choose(request: Choice) -> Choice:
    """Give back what was chosen."""
    return request


@app.operation(tier="standard", deadline=20.0, cpu=True)
def choose_in_process(request: Choice) -> Choice:
    """Give back what was chosen."""
    return request


@app.operation(tier="interactive", deadline=20.0, accepts="image/*", returns="application/x-reversed")
async def turn_round(data: bytes) -> bytes:
    """Give back the bytes from the last to the first."""
    return data[::-1]


async def _wait(operation: str, request: Task, job: Job) -> Done:
    note("begin", operation, request.tag, job)
    await asyncio.sleep(request.seconds)
    note("end", operation, request.tag, job)
    return Done(request.tag, os.getpid())


def _block(operation: str, request: Task, job: Job) -> Done:
    note("begin", operation, request.tag, job)
    until = time.monotonic() + request.seconds
    while time.monotonic() < until and not job.cancelled and not may_end(request.tag):
        time.sleep(0.01)
    note("cancelled" if job.cancelled else "end", operation, request.tag, job)
    return Done(request.tag, os.getpid())


@app.operation(tier="interactive", deadline=30.0)
async def on_loop(request: Task, job: Job) -> Done:
    """Wait on the loop."""
    return await _wait("on_loop", request, job)


@app.operation(tier="standard", deadline=30.0)
def in_thread(request: Task, job: Job) -> Done:
    """Wait in a thread."""
    return _block("in_thread", request, job)


@app.operation(tier="standard", deadline=30.0, cpu=True)
def in_process(request: Task, job: Job) -> Done:
    """Wait in a process."""
    return _block("in_process", request, job)


@app.operation(tier="interactive", deadline=1.0)
async def stubborn(request: Task, job: Job) -> Done:
    """Be wanted for a second only, and go on all the same."""
    note("begin", "stubborn", request.tag, job)
    until = time.monotonic() + request.seconds
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)
    return Done(request.tag, os.getpid())


@app.operation(tier="interactive", deadline=1.0)
async def brief_on_loop(request: Task, job: Job) -> Done:
    """Wait on the loop, for a second at the most."""
    return await _wait("brief_on_loop", request, job)


@app.operation(tier="standard", deadline=1.0)
def brief_in_thread(request: Task, job: Job) -> Done:
    """Wait in a thread, for a second at the most."""
    return _block("brief_in_thread", request, job)


@app.operation(tier="standard", deadline=2.0, cpu=True)
def brief_in_process(request: Task, job: Job) -> Done:
    """Keep a core busy, deaf to everything, for two seconds at the most."""
    note("begin", "brief_in_process", request.tag, job)
    until = time.monotonic() + request.seconds
    while time.monotonic() < until:
        sum(range(1000))
    note("end", "brief_in_process", request.tag, job)
    return Done(request.tag, os.getpid())


@app.operation(tier="bulk", deadline=300.0)
async def long_on_loop(request: Task, job: Job) -> Done:
    """Wait on the loop for long, at most until the test lets it end."""
    note("begin", "long_on_loop", request.tag, job)
    until = time.monotonic() + request.seconds
    while time.monotonic() < until and not may_end(request.tag):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.05)
    note("end", "long_on_loop", request.tag, job)
    return Done(request.tag, os.getpid())


@app.operation(tier="bulk", deadline=300.0)
def long_in_thread(request: Task, job: Job) -> Done:
    """Wait in a thread for long."""
    return _block("long_in_thread", request, job)


@app.operation(tier="bulk", deadline=300.0, cpu=True)
def long_in_process(request: Task, job: Job) -> Done:
    """Wait in a process for long."""
    return _block("long_in_process", request, job)


@app.operation(tier="bulk", deadline=300.0)
async def quick_in_bulk(request: Task, job: Job) -> Done:
    """Answer at once, from among the long ones."""
    return await _wait("quick_in_bulk", request, job)


@app.operation(tier="bulk", deadline=2.0)
async def brief_in_bulk(request: Task, job: Job) -> Done:
    """Be wanted for two seconds only, from among the long ones."""
    return await _wait("brief_in_bulk", request, job)


@app.operation(tier="interactive", deadline=20.0)
async def fail_on_loop(request: Task, job: Job) -> Done:
    """Fail with a secret in the message."""
    note("begin", "fail_on_loop", request.tag, job)
    raise RuntimeError("password=swordfish")


@app.operation(tier="interactive", deadline=20.0)
def fail_in_thread(request: Task, job: Job) -> Done:
    """Fail in a thread."""
    note("begin", "fail_in_thread", request.tag, job)
    raise RuntimeError("password=swordfish")


@app.operation(tier="interactive", deadline=20.0, cpu=True)
def fail_in_process(request: Task, job: Job) -> Done:
    """Fail in a process."""
    note("begin", "fail_in_process", request.tag, job)
    raise RuntimeError("password=swordfish")


@app.operation(tier="interactive", deadline=20.0)
async def exit_on_loop(request: Task, job: Job) -> Done:
    """Ask the interpreter to exit."""
    note("begin", "exit_on_loop", request.tag, job)
    sys.exit("password=swordfish")


@app.operation(tier="interactive", deadline=20.0)
def exit_in_thread(request: Task, job: Job) -> Done:
    """Ask the interpreter to exit, in a thread."""
    note("begin", "exit_in_thread", request.tag, job)
    sys.exit("password=swordfish")


@app.operation(tier="interactive", deadline=20.0, cpu=True)
def exit_in_process(request: Task, job: Job) -> Done:
    """End the process that it runs in, without a word."""
    note("begin", "exit_in_process", request.tag, job)
    os._exit(3)


@app.operation(tier="interactive", deadline=20.0)
async def cancel_itself(request: Task, job: Job) -> Done:
    """Wait for a task that somebody cancels."""
    note("begin", "cancel_itself", request.tag, job)
    part = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(part.cancel)
    await part
    return Done(request.tag, os.getpid())


@app.operation(tier="interactive", deadline=20.0)
async def reject(request: Task, job: Job) -> Done:
    """Refuse a request that fits the schema."""
    note("begin", "reject", request.tag, job)
    if request.tag == "own":
        raise Reject(Problem("sold-out", "There is nothing left", "the last one went yesterday"))
    raise Reject("the picture shows nothing")


@app.operation(tier="interactive", deadline=20.0)
async def ask_again(request: Task, job: Job) -> Done:
    """Ask for another run later."""
    note("begin", "ask_again", request.tag, job)
    raise RetryAfter(30, "the archive is being moved")


@app.operation(tier="interactive", deadline=20.0)
async def misreport(request: Task) -> Done:
    """Return something that is not what was declared."""
    return request.tag  # type: ignore[return-value] # the point of it


@app.operation(tier="interactive", deadline=20.0, accepts="*/*", returns="application/octet-stream")
async def inflate(data: bytes) -> bytes:
    """Return more than a message can hold."""
    return data + bytes(20 * 1024 * 1024)


@app.operation(tier="interactive", deadline=60.0, accepts="text/plain", returns="application/octet-stream")
async def swell(size: bytes) -> bytes:
    """Return as many bytes as one is asked for, after a moment, so that several do so at once."""
    await asyncio.sleep(0.5)
    return bytes(int(size))


@app.operation(tier="interactive", deadline=20.0)
async def traced_on_loop(request: Task) -> Done:
    """Begin a span of the handler's own."""
    with tracer.start_as_current_span("own step"):
        return Done(request.tag, os.getpid())


@app.operation(tier="interactive", deadline=20.0)
def traced_in_thread(request: Task) -> Done:
    """Begin a span of the handler's own, in a thread."""
    with tracer.start_as_current_span("own step"):
        return Done(request.tag, os.getpid())
