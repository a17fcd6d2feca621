"""intake: what becomes of a fetched record: a job in hand, a job for another processor, or a dead letter."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from forebay import headers, tracing
from forebay.errors import CodecError, UnusableJob
from forebay.kafka import LATEST_TIMESTAMP, Record
from forebay.messages import JobMessage, decode_job
from forebay_processor.lease import Lease, Partition
from forebay_processor.processor import Processor
from forebay_processor.run.resolve import Resolver
from forebay_processor.settle import Settler
from forebay_processor.work import Work
from forebay_schemas import request_ids

WINDOW = 1000
"""Offsets of a partition that may be outstanding: so many jobs at most run twice after a crash."""
LONGEST_NAME = 255
"""Characters at most of a name in a job."""

_REMEMBERED = 1000


class Intake(Protocol):
    """Takes what a fetcher brings.

    Attributes:
        window: how many offsets of a partition may be outstanding.
        window_bytes: how many bytes of it may be in hand; None: any number.
        log_level: at which the log says how many partitions are read.
    """

    window: int
    window_bytes: int | None
    log_level: int

    def room(self) -> int:
        """Return how many more records are wanted now."""

    async def wait_for_room(self, bound: float) -> None:
        """Wait until more are wanted, or for ``bound`` seconds."""

    def take(self, leased: Sequence[tuple[Record, Lease]]) -> None:
        """Take in records, each with the lease on it; it never waits."""

    def withdraw(self, partitions: Collection[Partition] | None = None) -> None:
        """Hand back what was not begun, of these partitions or of all."""

    def make_way(self, lease: Lease) -> None:
        """Have a lease end soon whose partition is full because of it, if nothing but its reply is missing."""


class JobReader:
    """Reads jobs from records, whatever is in them.

    Args:
        namespace: prefix of topics; a reply goes to a gateway's topic of the same one and nowhere else.
    """

    def __init__(self, namespace: str) -> None:
        self._known: set[str] = set()
        self._reply_topic = re.compile(rf"{re.escape(namespace)}replies\.{request_ids.INSTANCE_PATTERN}", re.ASCII)

    def read(self, record: Record) -> JobMessage:
        """Read a job.

        Raises:
            CodecError: it does not decode, or says what no job can.
        """
        if record.unreadable is not None:
            raise UnusableJob(record.unreadable)
        job = decode_job(record.value or b"")
        if request_ids.instance_of(job["request_id"]) is None:
            raise UnusableJob(f"its request_id is none: {job['request_id'][:LONGEST_NAME]!r}")
        if max(len(job["operation"]), len(job["tenant"])) > LONGEST_NAME:
            raise UnusableJob(f"its operation or tenant is longer than {LONGEST_NAME} characters")
        created, deadline = job["created_at"], job["deadline"]
        if not (0 <= created <= LATEST_TIMESTAMP and 0 <= deadline <= LATEST_TIMESTAMP):
            raise UnusableJob(f"its created_at {created} or deadline {deadline} is no instant of a date")
        if job["reply_topic"] not in self._known:
            self._check_reply_topic(job["reply_topic"])
        return job

    def _check_reply_topic(self, topic: str) -> None:
        if not self._reply_topic.fullmatch(topic):
            raise UnusableJob(f"its reply_topic is not a gateway's: {topic[:LONGEST_NAME]!r}")
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.add(topic)


class TierIntake:
    """Takes the jobs of one tier.

    Args:
        tier: the lane they come by.
        reader: reads them.
        resolver: knows what this version of the app can run.
        processor: runs them.
        settler: settles those that are not run.
        clock: seconds since the epoch.
        window: how many offsets of a partition may be outstanding.
    """

    window_bytes: int | None = None  # the scheduler bounds what waits, and the slots what runs
    log_level = logging.INFO

    def __init__(
        self,
        tier: str,
        reader: JobReader,
        resolver: Resolver,
        processor: Processor,
        settler: Settler,
        clock: Callable[[], float] = time.time,
        window: int = WINDOW,
    ) -> None:
        self.window = window
        self._tier = tier
        self._reader = reader
        self._resolver = resolver
        self._processor = processor
        self._settler = settler
        self._clock = clock

    def room(self) -> int:
        """Return how many more jobs are wanted now."""
        return self._processor.room(self._tier)

    async def wait_for_room(self, bound: float) -> None:
        """Wait until more are wanted, or for ``bound`` seconds."""
        await self._processor.wait_for_room(bound)

    def take(self, leased: Sequence[tuple[Record, Lease]]) -> None:
        """Take in records, each with the lease on it, and start what there are slots for."""
        fetched = int(self._clock() * 1_000_000)
        for record, lease in leased:
            try:
                job = self._reader.read(record)
                resolved = self._resolver.resolve(job)
            except CodecError as error:
                self._processor.see_to(lease, self._settler.settle_unreadable(record, lease, error))
                continue
            if resolved is None:
                self._processor.see_to(lease, self._settler.hand_on(record, lease, job))
                continue
            self._processor.offer(
                Work(
                    lease=lease,
                    job=job,
                    resolved=resolved,
                    record=record,
                    tier=self._tier,
                    attempt=headers.attempt(record),
                    sender=tracing.from_headers(record.headers),
                    enqueued=record.timestamp * 1000,
                    fetched=fetched,
                )
            )
        self._processor.pump()

    def withdraw(self, partitions: Collection[Partition] | None = None) -> None:
        """Hand back what was not begun, of these partitions or of all."""
        self._processor.withdraw(self._tier, partitions)

    def make_way(self, lease: Lease) -> None:
        """Have a lease end soon whose partition is full because of it, if nothing but its reply is missing."""
        self._settler.make_way(lease)
