"""A job in hand, and what came of it: what the steps of the processor pass on to each other."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.trace import SpanContext

from forebay.kafka import Record
from forebay.messages import JobMessage, Outcome, ProblemMessage
from forebay_processor.lease import Lease
from forebay_processor.run.resolve import Resolved


@dataclass(slots=True, eq=False)
class Work:
    """A job in hand. Instants are in microseconds since the epoch.

    Attributes:
        lease: the hold on it.
        job: the message.
        resolved: the operation that it is for, and the schema of its payload.
        record: as it was fetched.
        tier: the lane that it came by.
        attempt: which run this is, from 1.
        sender: the span that sent it.
        enqueued: when it was produced.
        fetched: when it was taken in here.
    """

    lease: Lease
    job: JobMessage
    resolved: Resolved
    record: Record
    tier: str
    attempt: int
    sender: SpanContext
    enqueued: int
    fetched: int

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, nearly all of them the payload's."""
        return len(self.job["payload"])


@dataclass(slots=True, frozen=True)
class JobOutcome:
    """What came of a job. Instants are in microseconds since the epoch.

    Attributes:
        outcome: as in the reply.
        started: when the handler was called, or would have been.
        finished: when it was done.
        payload: of the result; empty where there is none.
        payload_schema: fingerprint of the schema that wrote it.
        content_type: of the result.
        problem: why there is no result.
        not_before: milliseconds since the epoch before which another run is not worth it; None where that is not known.
        dead: whether the job can never run, and is kept among the dead letters.
    """

    outcome: Outcome
    started: int
    finished: int
    payload: bytes = b""
    payload_schema: bytes | None = None
    content_type: str = ""
    problem: ProblemMessage | None = None
    not_before: int | None = None
    dead: bool = False
