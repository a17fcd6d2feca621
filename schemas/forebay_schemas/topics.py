"""Names of the topics. The namespace, ``forebay.`` by default, lets several Forebays share a cluster."""

from __future__ import annotations

HELD_PARTITION = 0
"""Partition of a reply topic that answers held requests."""


def jobs(namespace: str, tier: str) -> str:
    """Return the topic that carries the jobs of a tier."""
    return f"{namespace}jobs.{tier}"


def replies(namespace: str, instance: str) -> str:
    """Return the reply topic of a gateway instance."""
    return f"{namespace}replies.{instance}"


def dead(namespace: str) -> str:
    """Return the topic of dead letters."""
    return f"{namespace}dead"


def catalog(namespace: str) -> str:
    """Return the compacted topic of the operations that exist."""
    return f"{namespace}catalog"


def group(namespace: str, tier: str) -> str:
    """Return the consumer group of the processors that serve a tier."""
    return f"{namespace}{tier}"
