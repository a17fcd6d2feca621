"""The gateway's metrics, unsampled, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

STAGES = ("validate", "produce", "queue", "run", "reply")
"""What the wall time of a request is made of, in order."""

_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    600.0,
)
_BUCKETS_US = tuple(round(bound * 1_000_000) for bound in _BUCKETS)


class Metrics:
    """The counters and histograms of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter(
            "forebay_requests_total",
            "Requests answered, by operation and outcome",
            ["operation", "outcome"],
            registry=self.registry,
        )
        self.stages = Stages()
        self.registry.register(self.stages)
        rejected = Counter(
            "forebay_rejected_total", "Requests refused before they were produced", ["reason"], registry=self.registry
        )
        self.late = Counter(
            "forebay_late_replies_total", "Replies that nobody waited for any more", registry=self.registry
        )
        self.duplicate = Counter(
            "forebay_duplicate_replies_total", "Replies to a request that had its answer", registry=self.registry
        )
        # the label look-ups of the client library take a lock and build a tuple each time: done once a combination
        self.answered = lru_cache(maxsize=4096)(requests.labels)
        self.rejected = lru_cache(maxsize=64)(rejected.labels)


class Stages(Collector):
    """The histogram of seconds that requests spend in each stage.

    The client library's own takes a lock for each observation, five a request; here one thread writes, plain lists
    hold, and the library reads them when it is asked.
    """

    def __init__(self) -> None:
        self._tiers: dict[str, tuple[list[list[int]], list[float]]] = {}

    def observe(self, tier: str, durations: Sequence[int]) -> None:
        """Count the durations of one request's stages, in microseconds."""
        found = self._tiers.get(tier)
        if found is None:
            found = self._tiers[tier] = ([[0] * (len(_BUCKETS) + 1) for _ in STAGES], [0.0] * len(STAGES))
        counts, sums = found
        for place, duration in enumerate(durations):
            counts[place][bisect_left(_BUCKETS_US, duration)] += 1
            sums[place] += duration

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the histogram as the client library knows it."""
        family = HistogramMetricFamily(
            "forebay_stage_seconds", "Seconds that requests spend in each stage", labels=["tier", "stage"]
        )
        for tier, (counts, sums) in self._tiers.items():
            for stage, count, total in zip(STAGES, counts, sums, strict=True):
                cumulated = zip((*map(str, _BUCKETS), "+Inf"), accumulate(count), strict=True)
                family.add_metric([tier, stage], list(cumulated), total / 1_000_000)
        yield family
