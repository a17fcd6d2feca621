"""The processor's numbers, unsampled, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Slots(Protocol):
    """Who uses how many slots."""

    @property
    def used(self) -> dict[str, int]:
        """Slots taken, by tier."""

    @property
    def free(self) -> int:
        """Slots that are not."""


class Metrics:
    """The counters and gauges of one processor.

    Args:
        app: whose jobs it runs.
    """

    def __init__(self, app: str) -> None:
        self.registry = CollectorRegistry()
        self._app = app

        def counter(name: str, description: str) -> Counter:
            return Counter(name, description, ["app"], registry=self.registry).labels(app)

        self.expired = counter("forebay_expired_total", "Jobs whose deadline passed before their handler was done")
        self.dead = counter("forebay_dead_total", "Dead letters")
        self.handed_on = counter("forebay_handed_on_total", "Jobs passed on to a processor of another version")
        self.moved = counter("forebay_moved_total", "Jobs moved from a retry topic back to their queue")
        self.undeliverable = counter("forebay_undeliverable_replies_total", "Replies whose gateway is gone")
        self.overdue = Gauge(
            "forebay_worker_slots_overdue",
            "Slots kept by threads that run on after their job's deadline",
            ["app"],
            registry=self.registry,
        ).labels(app)

    def watch(self, slots: Slots) -> None:
        """Show how many slots are taken and free whenever somebody looks."""
        self.registry.register(_SlotGauges(self._app, slots))


class _SlotGauges(Collector):
    """Reads the scheduler when it is asked, so that a job costs nothing."""

    def __init__(self, app: str, slots: Slots) -> None:
        self._app = app
        self._slots = slots

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges as the client library knows them."""
        used = GaugeMetricFamily("forebay_worker_slots_used", "Slots taken", labels=["app", "tier"])
        for tier, count in self._slots.used.items():
            used.add_metric([self._app, tier], count)
        yield used
        free = GaugeMetricFamily("forebay_worker_slots_available", "Slots that are free", labels=["app"])
        free.add_metric([self._app], self._slots.free)
        yield free
