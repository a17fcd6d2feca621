"""Names of the topics and of the consumer groups.

The namespace, ``forebay.`` by default, lets several Forebays share a cluster; within it each app has its own queues.
"""

from __future__ import annotations

RETRY_DELAYS_MS = {"200ms": 200, "1s": 1_000, "5s": 5_000, "30s": 30_000, "5m": 300_000}
"""The delays of the retry topics, the shortest first: their names in a topic's, and their milliseconds."""

REPLY_PARTITIONS = 2
"""Partitions of a reply topic: one for held requests, one for those whose reply is asked for later."""
HELD_PARTITION = 0
"""Partition of a reply topic that answers held requests."""


def jobs(namespace: str, app: str, tier: str) -> str:
    """Return the topic that carries an app's jobs of a tier."""
    return f"{namespace}jobs.{app}.{tier}"


def retries(namespace: str, app: str, delay: str) -> str:
    """Return the topic of an app's jobs that run again after a delay, which is one of `RETRY_DELAYS_MS`."""
    return f"{namespace}retries.{app}.{delay}"


def dead(namespace: str, app: str) -> str:
    """Return the topic of an app's dead letters."""
    return f"{namespace}dead.{app}"


def replies(namespace: str, instance: str) -> str:
    """Return the reply topic of a gateway instance."""
    return f"{namespace}replies.{instance}"


def catalog(namespace: str) -> str:
    """Return the compacted topic of the operations that exist."""
    return f"{namespace}catalog"


def group(namespace: str, app: str, tier: str) -> str:
    """Return the consumer group of an app's processors that read its jobs of a tier."""
    return f"{namespace}{app}.{tier}"


def retries_group(namespace: str, app: str) -> str:
    """Return the consumer group of an app's processors that move jobs back from its retry topics when they are due."""
    return f"{namespace}{app}.retries"
