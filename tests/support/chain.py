"""A whole processor without Kafka: its real parts, and stand-ins where they produce, commit, fetch and run handlers.

Nothing happens by itself: a test says what is fetched, acknowledged, finished, committed, and what time it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from forebay import Forebay, Job
from forebay.errors import BrokerError, BrokerUnavailable, MessageTooLarge
from forebay.kafka import Headers, Record, Start
from forebay.settings import TIERS
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.fatal import Fatal
from forebay_processor.fetch import Fetcher
from forebay_processor.intake import JobReader, TierIntake
from forebay_processor.lease import Partition
from forebay_processor.metrics import Metrics
from forebay_processor.pauses import Pauses
from forebay_processor.processor import Processor
from forebay_processor.run.call import HandlerResult
from forebay_processor.run.handlers import Handlers
from forebay_processor.run.resolve import Resolver
from forebay_processor.schedule import Scheduler, reserves
from forebay_processor.settle import Settler
from forebay_processor.spans import Spans

NAMESPACE = "forebay."
APP = "chain"
SLOTS = 4
WINDOW = 6
PAUSE_LIMIT = 3.0
"""Seconds for which the process may stand still."""


@dataclass
class Sent:
    """A record that was handed to the producer and is neither acknowledged nor refused yet."""

    topic: str
    value: bytes | None
    key: bytes
    headers: Headers
    partition: int | None
    on_delivery: Callable[[BrokerError | None], None]
    within: float = math.inf


class HeldProducer:
    """Holds what is produced until the test says what becomes of it; refuses at once what is too large, or all."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.most_bytes: int | None = None
        self.refuses = False
        self.made_way: list[Partition] = []
        self.capacity = asyncio.Event()
        self.capacity.set()

    def size_of(self, value: bytes | None, *, key: bytes | None, headers: Headers = ()) -> int:  # noqa: ARG002
        return len(value or b"")

    @property
    def backpressured(self) -> bool:
        return not self.capacity.is_set()

    async def wait_for_capacity(self, size: int = 0) -> None:  # noqa: ARG002
        await self.capacity.wait()

    def make_way(self, topic: str, partition: int) -> None:
        self.made_way.append((topic, partition))

    async def publish_and_wait(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Headers = ()
    ) -> int:
        await self.wait_for_capacity()
        delivered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_delivery(error: BrokerError | None) -> None:
            if not delivered.done():
                delivered.set_exception(error) if error else delivered.set_result(0)

        self.publish(topic, value, key=key, headers=headers, on_delivery=on_delivery)
        return await delivered

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        on_delivery: Callable[[BrokerError | None], None] | None = None,
        within: float = math.inf,
    ) -> None:
        assert on_delivery is not None
        if self.refuses:
            raise BrokerUnavailable("too much waits for the broker")
        if self.most_bytes is not None and len(value or b"") > self.most_bytes:
            raise MessageTooLarge(len(value or b""), self.most_bytes)
        self.sent.append(Sent(topic, value, key or b"", headers, partition, on_delivery, within))


class HeldMember:
    """A member of a group whose commits do what the test says: work, come too late, or fail."""

    def __init__(self, group: dict[Partition, int]) -> None:
        self.group = group
        self.positions: dict[Partition, int] = {}
        self.commits_work: bool | None = True
        self.trouble: str | None = None

    async def commit(self, offsets: Mapping[Partition, int], timeout: float) -> bool:  # noqa: ARG002
        await asyncio.sleep(0)
        if self.commits_work is None:
            raise BrokerUnavailable("the broker is away")
        if self.commits_work:
            self.group.update(offsets)
        return self.commits_work

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def give_up_idle(self) -> None: ...
    def pause(self, partitions: Iterable[Partition]) -> None: ...
    def resume(self, partitions: Iterable[Partition]) -> None: ...

    async def read(self, limit: int | None) -> list[Record]:
        raise AssertionError(f"the test fetches by hand, not {limit}")

    async def fetch(self, timeout: float, limit: int | None) -> list[Record]:
        raise AssertionError(f"the test fetches by hand, not {limit} within {timeout}")


@dataclass(eq=False)
class Held:
    """A call in a thread or a process that the test lets end."""

    future: Future[HandlerResult]
    function: Callable[[], HandlerResult]


class HeldCalls:
    """Threads and processes that run nothing until the test says so."""

    def __init__(self) -> None:
        self.threads: list[Held] = []
        self.processes: list[Future[HandlerResult]] = []

    def schedule(self, *arguments: Any) -> Future[HandlerResult]:
        future: Future[HandlerResult] = Future()
        if len(arguments) == 1:
            future.set_running_or_notify_cancel()  # a thread cannot be cancelled
            self.threads.append(Held(future, arguments[0]))
        else:
            self.processes.append(future)
        return future

    def stop(self) -> None: ...


class NoCatalog:
    """A catalog that knows nothing: operations of bytes need none."""

    entries: Mapping[str, Any] = {}


@dataclass
class Script:
    """What handlers do, and what they did.

    Attributes:
        held: the handlers on the loop that have begun and not ended, by the id of their job.
        begun: the ids of jobs whose handler was called, in order.
        act: what a handler in a thread does at its end.
        on_loop: what a handler on the loop does in place of waiting; None: it waits.
    """

    held: dict[str, asyncio.Future[bytes]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    act: Callable[[], bytes] = bytes
    on_loop: Callable[[], bytes] | None = None


def an_app(script: Script) -> Forebay:
    """An app with a handler of each kind, which do as the script says."""
    app = Forebay(APP)

    @app.operation(tier="interactive")
    async def on_loop(request: bytes, job: Job) -> bytes:  # noqa: ARG001
        script.begun.append(job.id)
        if script.on_loop is not None:
            return script.on_loop()
        future = script.held[job.id] = asyncio.get_running_loop().create_future()
        try:
            result: bytes = await future
            return result
        finally:
            script.held.pop(job.id, None)

    @app.operation(tier="interactive")
    async def deaf(request: bytes, job: Job) -> bytes:  # noqa: ARG001
        script.begun.append(job.id)
        future = script.held[job.id] = asyncio.get_running_loop().create_future()
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                continue
        script.held.pop(job.id, None)
        return b"late"

    @app.operation(tier="standard")
    def in_thread(request: bytes, job: Job) -> bytes:  # noqa: ARG001
        return script.act()

    @app.operation(tier="bulk", cpu=True)
    def in_process(request: bytes, job: Job) -> bytes:  # noqa: ARG001
        return b""

    return app


class Chain:
    """One processor of `an_app`.

    Args:
        group: what the groups of its tiers have committed.
        clock: seconds since the epoch.
    """

    def __init__(self, group: dict[Partition, int], clock: Callable[[], float]) -> None:
        self.awake = 0.0
        self.script = Script()
        app = an_app(self.script)
        self.producer, self.calls, self.member = HeldProducer(), HeldCalls(), HeldMember(group)
        self.stopped = asyncio.Event()
        self.fatal = Fatal(self.stopped)
        self.metrics = metrics = Metrics(APP)
        self.scheduler = Scheduler(SLOTS, reserves(SLOTS, TIERS), backlog=5, backlog_bytes=1000)
        dead = DeadLetters(NAMESPACE, APP, self.producer, metrics)
        settler = Settler(NAMESPACE, APP, self.producer, dead, "processor", self.fatal, metrics, clock)
        self.handlers = Handlers(self.calls, self.calls)
        spans = Spans(TracerProvider(), NAMESPACE, APP)
        self.pauses = Pauses(PAUSE_LIMIT, lambda: self.awake)
        self.processor = Processor(
            self.scheduler, self.handlers, settler, spans, self.fatal, metrics, self.pauses, clock
        )
        reader, resolver = JobReader(NAMESPACE), Resolver(app.operations, NoCatalog())
        self.fetchers = {
            tier: Fetcher(
                tier,
                self.member,
                TierIntake(tier, reader, resolver, self.processor, settler, clock, WINDOW),
                self.fatal,
            )
            for tier in TIERS
        }

    def begin(self, tier: str, partition: Partition, offset: int, start: Start) -> None:
        """Begin to read a partition."""
        self.member.positions[partition] = offset
        self.fetchers[tier].leases.begin(partition, offset, start)

    def finish(self, result: bytes) -> None:
        """Let the handler on the loop return that was called first."""
        self.script.held.pop(next(iter(self.script.held))).set_result(result)

    def gauge(self, name: str) -> float | None:
        """What the metrics say."""
        return self.metrics.registry.get_sample_value(name, {"app": APP})
