"""What is measured: one module a contender, each with the code of its processes and a ``start`` that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.children import Child, Children, Driver

PARTITIONS = 12
"""Of every topic that carries jobs: Forebay's default, so that all contenders could share the work among as many."""


@dataclass(frozen=True)
class Site:
    """What a contender is started with.

    Attributes:
        children: starts its processes and stops them at the end of the run.
        brokers: host:port of Kafka.
        prefix: begins the name of every topic and group of this run; ends with a dot.
        load: the HTTP load generator, which the HTTP contenders share.
        create_topics: creates topics, given their partitions by name.
    """

    children: Children
    brokers: str
    prefix: str
    load: Driver
    create_topics: Callable[[dict[str, int]], None]


@dataclass(frozen=True)
class Running:
    """A contender that is ready to be measured.

    Attributes:
        driver: plays its clients.
        processes: what it consists of, besides the driver and the broker.
        port, path: where its requests go, for HTTP.
        spans: says how many spans of its traces have arrived so far, where it exports any.
    """

    driver: Driver
    processes: tuple[Child, ...]
    port: int = 0
    path: str = ""
    spans: Callable[[], int] | None = None


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Attributes:
        name: as on the command line and in the report.
        summary: what it is, in a few words.
    """

    name: str
    summary: str
    start: Callable[[Site], Running]
