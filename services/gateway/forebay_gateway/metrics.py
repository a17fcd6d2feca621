"""The gateway's numbers, unsampled, for Prometheus."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram

STAGES = ("validate", "produce", "queue", "run", "reply")
"""What the wall time of a request is made of, in order."""

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)


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
        stages = Histogram(
            "forebay_stage_seconds",
            "Seconds that requests spend in each stage",
            ["tier", "stage"],
            registry=self.registry,
            buckets=_BUCKETS,
        )
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
        self.stages = lru_cache(maxsize=64)(lambda tier: tuple(stages.labels(tier, stage) for stage in STAGES))
