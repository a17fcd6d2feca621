"""What is computed from the measurements: percentiles, medians over rounds, ratios, verdicts. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median

import msgspec


class Window(msgspec.Struct, frozen=True):
    """What was seen while the clients of one contender ran.

    Attributes:
        seconds: how long was measured, without the warm-up.
        answered: right answers that arrived meanwhile.
        handled: right answers in all, with those of the warm-up: what the CPU time of the window was spent on.
        p50_ms, p90_ms, p99_ms, max_ms: latency of the requests begun while it was measured; 0 where there were none.
        errors: how often each thing went wrong, the warm-up included.
    """

    seconds: float
    answered: int
    handled: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.answered / self.seconds


@dataclass(frozen=True)
class Sample:
    """One window of one contender.

    Attributes:
        cpu: seconds of CPU that each process spent over the window and its warm-up, by the process's name.
    """

    contender: str
    clients: int
    round: int
    window: Window
    cpu: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest value beside it."""

    median: float
    low: float
    high: float


Measure = Callable[[Window], float]


class Recorder:
    """Collects what the clients of one window see.

    Args:
        begin: the instant at which the clients start.
        warmup: seconds from then on that do not count.
        seconds: seconds after those that do.
    """

    def __init__(self, begin: float, warmup: float, seconds: float) -> None:
        self.opens = begin + warmup
        self.closes = self.opens + seconds
        self._seconds = seconds
        self._latencies: list[float] = []
        self._answered = 0
        self._handled = 0
        self._errors: dict[str, int] = {}

    def answer(self, sent: float, now: float) -> None:
        """Note a right answer to what was sent at ``sent``."""
        self._handled += 1
        if self.opens <= now < self.closes:
            self._answered += 1
        if self.opens <= sent < self.closes:
            self._latencies.append(now - sent)

    def fail(self, what: str, times: int = 1) -> None:
        """Note something that went wrong, at any time."""
        self._errors[what] = self._errors.get(what, 0) + times

    def window(self) -> Window:
        """Return the figures."""
        ordered = sorted(self._latencies)
        if not ordered and not self._errors:
            self.fail("no answer in the whole window")

        def at(share: float) -> float:
            return percentile(ordered, share) * 1000 if ordered else 0.0

        return Window(
            seconds=self._seconds,
            answered=self._answered,
            handled=self._handled,
            p50_ms=at(0.5),
            p90_ms=at(0.9),
            p99_ms=at(0.99),
            max_ms=at(1.0),
            errors=self._errors,
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the sorted values do not exceed (nearest rank)."""
    return ordered[max(0, ceil(len(ordered) * share) - 1)]


def spread(values: Iterable[float]) -> Spread:
    """Return median, least and greatest of at least one value."""
    kept = list(values)
    return Spread(median(kept), min(kept), max(kept))


def rate(window: Window) -> float:
    """Right answers a second."""
    return window.rate


def p50(window: Window) -> float:
    """Median latency in milliseconds."""
    return window.p50_ms


def p99(window: Window) -> float:
    """99th percentile of the latency in milliseconds."""
    return window.p99_ms


def select(samples: Iterable[Sample], contender: str, clients: int) -> list[Sample]:
    """Return the samples of one contender at one number of clients, by round."""
    return sorted(
        (sample for sample in samples if sample.contender == contender and sample.clients == clients),
        key=lambda sample: sample.round,
    )


def errors(samples: Iterable[Sample]) -> dict[str, int]:
    """Return how often each thing went wrong."""
    found: dict[str, int] = {}
    for sample in samples:
        for what, times in sample.window.errors.items():
            found[what] = found.get(what, 0) + times
    return found


def ratio(samples: Sequence[Sample], contender: str, base: str, clients: int, measure: Measure) -> Spread | None:
    """Compare two contenders round by round, as the machine's speed changes between rounds more than within one.

    Returns:
        The spread of the rounds' ratios; nothing where no round has both, or where the base has no figure.
    """
    bases = {sample.round: measure(sample.window) for sample in select(samples, base, clients)}
    ratios = [
        measure(sample.window) / bases[sample.round]
        for sample in select(samples, contender, clients)
        if bases.get(sample.round)
    ]
    return spread(ratios) if ratios else None


@dataclass(frozen=True)
class Target:
    """What Forebay is to reach against another contender.

    Attributes:
        limit: the ratio of ``measure`` to reach.
        at_least: whether the ratio is to be at least or at most the limit.
    """

    text: str
    base: str
    clients: int
    measure: Measure
    limit: float
    at_least: bool


TARGETS = (
    Target("rate at 1 client ≥ 0.9 x naive", "naive", 1, rate, 0.9, at_least=True),
    Target("rate at 64 clients ≥ 0.9 x naive", "naive", 64, rate, 0.9, at_least=True),
    Target("rate at 256 clients ≥ 1.1 x naive", "naive", 256, rate, 1.1, at_least=True),
    Target("p50 at 1 client ≤ 1.25 x two hops", "two hops", 1, p50, 1.25, at_least=False),
)
CODEC_LIMIT_US = 25.0


@dataclass(frozen=True)
class Verdict:
    """Whether a target is met, by the median; a target whose windows had errors is not."""

    text: str
    found: Spread
    met: bool
    errors: dict[str, int]


def verdicts(samples: Sequence[Sample], codec: Spread | None) -> list[Verdict]:
    """Judge every target that the samples allow to judge.

    Args:
        samples: the measurements.
        codec: µs for encoding and decoding a job, where that was measured.
    """
    found = []
    for target in TARGETS:
        value = ratio(samples, "forebay", target.base, target.clients, target.measure)
        if value is None:
            continue
        wrong = errors(
            select(samples, "forebay", target.clients) + select(samples, target.base, target.clients),
        )
        reached = value.median >= target.limit if target.at_least else value.median <= target.limit
        found.append(Verdict(target.text, value, reached and not wrong, wrong))
    if codec is not None:
        text = f"encode and decode a 1 KiB job < {CODEC_LIMIT_US:g} µs"
        found.append(Verdict(text, codec, codec.median < CODEC_LIMIT_US, {}))
    return found
