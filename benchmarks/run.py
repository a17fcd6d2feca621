"""The run itself: a broker, every contender side by side, and the rounds in which they take turns."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import psutil

from benchmarks.children import HOST, BenchmarkError, Child, Children, cpu_seconds, free_port
from benchmarks.contenders import Contender, Running, Site
from benchmarks.driver import Order
from benchmarks.figures import Sample
from forebay.errors import ForebayError
from forebay.kafka import Admin, probe
from forebay.settings import Settings, load_settings

BROKER_SECONDS = 600.0
"""How long the broker has to answer; the first time its jars are downloaded."""
IDLE_SECONDS = 2.0
REHEARSAL_SECONDS = 3.0
"""How long each contender runs before the rounds: what is compiled or cached on first use is not measured."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        contenders: in the order in which they take turns.
        clients: how many clients there are at a time, one window each.
        rounds: how often everything is repeated.
        warmup, seconds: of each window.
    """

    contenders: tuple[Contender, ...]
    clients: tuple[int, ...]
    rounds: int
    warmup: float
    seconds: float

    @property
    def windows(self) -> list[tuple[int, int, Contender]]:
        """Round, clients and contender of every window, in order.

        Within a round the contenders alternate at each number of clients, and each round begins with another one, so
        that none always runs in the wake of the same.
        """
        found = []
        for number in range(self.rounds):
            turn = number % len(self.contenders)
            order = self.contenders[turn:] + self.contenders[:turn]
            found += [(number, clients, contender) for clients in self.clients for contender in order]
        return found

    @property
    def total_seconds(self) -> float:
        """How long the windows take, with the rehearsal and the look at idle processes."""
        rehearsal = len(self.contenders) * REHEARSAL_SECONDS
        return rehearsal + IDLE_SECONDS + len(self.windows) * (self.warmup + self.seconds)


@dataclass
class Outcome:
    """What was measured.

    Attributes:
        samples: every window.
        idle: share of a core that the processes of each contender, and the broker, use while nobody asks them anything.
        others: cores that processes which are not of the run use meanwhile.
        spans: how many spans arrived from each contender that exports them.
    """

    samples: list[Sample] = field(default_factory=list)
    idle: dict[str, float] = field(default_factory=dict)
    others: float = 0.0
    spans: dict[str, int] = field(default_factory=dict)


def run(plan: Plan, directory: Path, outcome: Outcome, note: Note, advance: Callable[[float], None]) -> None:
    """Measure everything, and leave no process, topic or file of the broker behind.

    Args:
        plan: what to measure.
        directory: for the logs of the processes, and the broker's data while it runs.
        outcome: filled as the run goes on, so that an interrupted run can still be looked at.
        note: told what is going on.
        advance: told how many of the plan's seconds have passed.

    Raises:
        BenchmarkError: a process does not start, or ends.
    """
    logs = directory / "logs"
    with _broker(logs, directory / "kafka", note) as (settings, broker), Children(logs) as children:
        load = children.start_driver("load", "-m", "benchmarks.load")
        site = Site(children, settings.brokers, settings.namespace, load, lambda topics: _create(settings, topics))
        running = {}
        for contender in plan.contenders:
            note(f"starting {contender.name}")
            running[contender.name] = contender.start(site)

        def play(contender: Contender, order: Order) -> Sample:
            return _window(contender, running[contender.name], order, broker, advance)

        for contender in plan.contenders:
            note(f"warming up {contender.name}")
            rehearsed = play(contender, Order(max(plan.clients), REHEARSAL_SECONDS - 1.0, 1.0)).window
            if not rehearsed.answered:
                raise BenchmarkError(f"{contender.name} gives no right answer: {rehearsed.errors}")
        note("looking at idle processes")
        outcome.idle, outcome.others = _idle(running, broker)
        advance(IDLE_SECONDS)
        for number, clients, contender in plan.windows:
            note(f"round {number + 1}/{plan.rounds}, {clients} client{'s' if clients > 1 else ''}: {contender.name}")
            sample = play(contender, Order(clients, plan.warmup, plan.seconds))
            outcome.samples.append(Sample(contender.name, clients, number, sample.window, sample.cpu))
        outcome.spans = {name: each.spans() for name, each in running.items() if each.spans is not None}
        note("stopping")


@contextmanager
def _broker(logs: Path, data: Path, note: Note) -> Iterator[tuple[Settings, Child | None]]:
    """Give the settings of a Kafka for this run: the one that is set, or our own, whose process comes with it."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}."
    given = os.environ.get("FOREBAY_BOOTSTRAP_SERVERS")
    if given:
        note(f"looking for Kafka at {given}")
        settings = load_settings(namespace=namespace)
        _wait_for_broker(settings, None, 15.0)
        try:
            yield settings, None
        finally:
            asyncio.run(_remove(settings))
        return
    note("starting Kafka (the first time it is downloaded)")
    shutil.rmtree(data, ignore_errors=True)
    port = free_port()
    settings = load_settings(namespace=namespace, bootstrap_servers=f"{HOST}:{port}")
    env = {"FOREBAY_BROKER_PORT": str(port), "FOREBAY_DATA_DIR": str(data.resolve())}
    try:
        with Children(logs) as children:
            broker = children.start("broker", "-m", "forebay_cli", "broker", env=env)
            _wait_for_broker(settings, broker, BROKER_SECONDS)
            yield settings, broker
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _wait_for_broker(settings: Settings, broker: Child | None, seconds: float) -> None:
    limit = monotonic() + seconds
    while True:
        if broker is not None:
            broker.check()
        try:
            asyncio.run(probe(settings, 2.0 if broker else seconds))
        except ForebayError as error:
            if monotonic() > limit:
                raise BenchmarkError(f"there is no Kafka to measure with: {error}") from error
            sleep(0.2)
        else:
            return


def _create(settings: Settings, topics: dict[str, int]) -> None:
    async def create() -> None:
        async with Admin.connect(settings) as admin:
            for name, partitions in topics.items():
                await admin.create(name, partitions, settings.replication_factor, {})

    asyncio.run(create())


async def _remove(settings: Settings) -> None:
    """Delete the topics of this run."""
    async with Admin.connect(settings) as admin:
        for name in await admin.names():
            if name.startswith(settings.namespace):
                await admin.delete(name)


def _window(
    contender: Contender, running: Running, order: Order, broker: Child | None, advance: Callable[[float], None]
) -> Sample:
    """Play one window and say what each process spent on it."""
    for process in running.processes:
        process.check()
    processes: Sequence[Child] = (running.driver, *running.processes, *((broker,) if broker else ()))
    before = [process.cpu_seconds() for process in processes]
    planned = order.warmup + order.seconds
    begin = monotonic()
    told = 0.0

    def tick() -> None:
        nonlocal told
        passed = min(monotonic() - begin, planned)
        advance(passed - told)
        told = passed

    window = running.driver.measure(Order(order.clients, order.warmup, order.seconds, running.port, running.path), tick)
    advance(planned - told)
    cpu = {process.name: process.cpu_seconds() - spent for process, spent in zip(processes, before, strict=True)}
    return Sample(contender.name, order.clients, 0, window, cpu)


def _idle(running: dict[str, Running], broker: Child | None) -> tuple[dict[str, float], float]:
    """Return the cores that each contender and the broker use while idle, and those that all other processes use."""

    def busy() -> float:
        times = psutil.cpu_times()
        return float(times.user + times.system)

    def used() -> dict[str, float]:
        found = {name: sum(process.cpu_seconds() for process in each.processes) for name, each in running.items()}
        if broker is not None:
            found["broker"] = cpu_seconds(broker.process.pid)
        return found

    before, busy_before = used(), busy()
    begin = monotonic()
    sleep(IDLE_SECONDS)
    passed = monotonic() - begin
    shares = {name: (seconds - before[name]) / passed for name, seconds in used().items()}
    return shares, max(0.0, (busy() - busy_before) / passed - sum(shares.values()))
