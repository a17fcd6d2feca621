"""The topics that Forebay needs: what they should be, what they are, and how to make up the difference.

Nothing relies on the broker creating topics by itself, and a topic that exists in another shape is reported, never
used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forebay.errors import BrokerError, BrokerUnavailable, TopicMismatch
from forebay.kafka import Admin, TopicDescription
from forebay.settings import TIERS, Settings
from forebay_schemas import topics as topic_names

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

RETRY_PARTITIONS = 3
"""Partitions at most of each retry topic."""

CREATION_BOUND = 60.0
"""Seconds until every node must know another one of the topics that were just created: a busy cluster, or one with
a slow disk, takes tens for many partitions."""
_LOOK_AGAIN = 0.02


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    Attributes:
        partitions: how many it has when it is created.
        exact: whether more than that are wrong too, because what is read is partition 0 and no other.
        cleanup: the cleanup policies, as Kafka names them.
        retention_ms: milliseconds that a record is kept at least.
        max_message_bytes: how large a record it must take.
    """

    name: str
    partitions: int
    exact: bool
    cleanup: frozenset[str]
    retention_ms: int
    max_message_bytes: int

    @property
    def config(self) -> dict[str, str]:
        """The configuration to create it with."""
        return {
            "cleanup.policy": ",".join(sorted(self.cleanup)),
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
        }

    def compare(self, found: TopicDescription) -> tuple[str, ...]:
        """Say in which respects a topic is not as it should be; empty when it will do."""
        problems = []
        if found.partitions < self.partitions:
            problems.append(f"has {found.partitions} partitions, needs {self.partitions}")
        elif self.exact and found.partitions != self.partitions:
            problems.append(f"has {found.partitions} partitions, must have exactly {self.partitions}")
        cleanup = frozenset(found.config.get("cleanup.policy", "").split(","))
        if cleanup != self.cleanup:
            problems.append(f"cleanup.policy is {','.join(sorted(cleanup))}, must be {','.join(sorted(self.cleanup))}")
        retention = int(found.config.get("retention.ms", "-1"))
        if "delete" in self.cleanup and 0 <= retention < self.retention_ms:
            problems.append(f"retention.ms is {retention}, needs {self.retention_ms}")
        size = int(found.config.get("max.message.bytes", "0"))
        if size < self.max_message_bytes:
            problems.append(f"max.message.bytes is {size}, needs {self.max_message_bytes}")
        return tuple(problems)


class TopicState(StrEnum):
    """What there is of a topic."""

    OK = "ok"
    MISSING = "missing"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic as it should be beside what there is.

    Attributes:
        spec: as it should be.
        found: as it is; None where there is none.
        problems: in which respects it will not do.
    """

    spec: TopicSpec
    found: TopicDescription | None
    problems: tuple[str, ...]

    @property
    def state(self) -> TopicState:
        """Whether it will do."""
        if self.found is None:
            return TopicState.MISSING
        return TopicState.MISMATCH if self.problems else TopicState.OK


def catalog(settings: Settings) -> TopicSpec:
    """Return the topic of the operations that exist: one partition, so that everybody reads it in the same order."""
    name = topic_names.catalog(settings.namespace)
    return TopicSpec(name, 1, True, frozenset({"compact"}), DAY_MS, settings.max_message_bytes)


def replies(settings: Settings) -> TopicSpec:
    """Return this instance's reply topic: partition 0 for held requests, 1 for those asked for later."""
    name, partitions = topic_names.replies(settings.namespace, settings.instance), topic_names.REPLY_PARTITIONS
    return TopicSpec(name, partitions, True, frozenset({"delete"}), HOUR_MS, settings.max_message_bytes)


def of_app(settings: Settings, app: str) -> list[TopicSpec]:
    """Return the topics of an app: its jobs, a topic a tier; those that run again later, a topic a delay; the dead.

    Few partitions will do for what runs again later, since it is only copied there and back, and more than one lets
    the app's processors share that. Dead letters are rare, and in one partition they are in order.
    """
    namespace, size, delete = settings.namespace, settings.max_message_bytes, frozenset({"delete"})
    retrying = min(RETRY_PARTITIONS, settings.partitions)
    jobs = [topic_names.jobs(namespace, app, tier) for tier in TIERS]
    retries = [topic_names.retries(namespace, app, delay) for delay in topic_names.RETRY_DELAYS_MS]
    return [
        *(TopicSpec(name, settings.partitions, False, delete, DAY_MS, size) for name in jobs),
        *(TopicSpec(name, retrying, False, delete, DAY_MS, size) for name in retries),
        TopicSpec(topic_names.dead(namespace, app), 1, False, delete, 14 * DAY_MS, size),
    ]


def of_gateway(settings: Settings) -> list[TopicSpec]:
    """Return what a gateway needs: the catalog and its reply topic. The apps' topics are their processors' to make."""
    return [catalog(settings), replies(settings)]


def of_processor(settings: Settings, app: str) -> list[TopicSpec]:
    """Return what a processor of an app needs: the catalog and the app's topics."""
    return [catalog(settings), *of_app(settings, app)]


async def inspect(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicStatus]:
    """Compare topics as they should be with what the cluster has.

    Raises:
        BrokerUnavailable: the cluster does not answer.
    """
    specs = list(specs)
    async with Admin.connect(settings) as admin:
        return _compare(specs, await admin.describe(spec.name for spec in specs))


async def apply(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicStatus]:
    """Create the topics that are missing, change none that exists, and return how all of them are then.

    Several may do so at once: whoever comes second finds the topic there.

    Raises:
        BrokerUnavailable: the cluster does not answer, or a new topic does not show up in time.
        BrokerError: the cluster refuses to create one; the others were created.
    """
    specs = list(specs)
    async with Admin.connect(settings) as admin:
        found: Mapping[str, TopicDescription] = await admin.describe(spec.name for spec in specs)
        refused: list[BrokerError] = []
        for spec in specs:
            if spec.name not in found:
                try:
                    await admin.create(spec.name, spec.partitions, settings.replication_factor, spec.config)
                except BrokerUnavailable:
                    raise
                except BrokerError as error:  # the others are created nevertheless
                    refused.append(error)
        if refused:
            raise refused[0]
        try:
            async with asyncio.timeout(CREATION_BOUND) as bound:
                while missing := [spec.name for spec in specs if spec.name not in found]:
                    await asyncio.sleep(_LOOK_AGAIN)
                    known, found = len(found), await admin.describe(spec.name for spec in specs)
                    if len(found) > known:
                        bound.reschedule(asyncio.get_running_loop().time() + CREATION_BOUND)
        except TimeoutError:
            raise BrokerUnavailable(
                f"topics {', '.join(missing)} were created but did not show up within {CREATION_BOUND:g} s"
            ) from None
        return _compare(specs, found)


async def ensure(settings: Settings, specs: Iterable[TopicSpec]) -> None:
    """Have the topics there as they should be, or say why not.

    Raises:
        TopicMismatch: one exists in another shape; the message says in which respects.
        BrokerError: as `apply`.
    """
    wrong = [status for status in await apply(settings, specs) if status.state is not TopicState.OK]
    if wrong:
        raise TopicMismatch("; ".join(f"topic {status.spec.name} {', '.join(status.problems)}" for status in wrong))


def _compare(specs: Sequence[TopicSpec], found: Mapping[str, Any]) -> list[TopicStatus]:
    return [
        TopicStatus(spec, found.get(spec.name), spec.compare(found[spec.name]) if spec.name in found else ())
        for spec in specs
    ]
