"""Jobs in hand, for tests without Kafka."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import INVALID_SPAN_CONTEXT

from forebay import Forebay
from forebay.messages import JobMessage
from forebay_processor.lease import Lease, Partition
from forebay_processor.run.resolve import Resolved
from forebay_processor.work import Work
from tests.support.records import a_record

NEVER = 2**47
"""Milliseconds since the epoch of a deadline that does not come."""

app = Forebay("tests")


@app.operation(name="op")
async def _op(request: bytes) -> bytes:
    return request


RESOLVED = Resolved(app.operations["op"], None)


def a_message(**changes: Any) -> JobMessage:
    """A job of which only what is said here matters."""
    message = JobMessage(
        request_id="gw-00000000-0000-7000-8000-000000000000",
        operation="op",
        tenant="t",
        tier="interactive",
        content_type="",
        payload=b"",
        payload_schema=None,
        reply_topic="forebay.replies.gw",
        reply_partition=0,
        created_at=0,
        deadline=NEVER,
        ordering_key=None,
        idempotency_key=None,
    )
    message.update(changes)  # type: ignore[typeddict-item] # any field may be said
    return message


class Ended:
    """Holds leases and remembers how they ended."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []

    def ended(self, lease: Lease) -> None:
        self.leases.append(lease)

    def lease(self, partition: Partition = ("jobs", 0), offset: int = 0) -> Lease:
        """A lease that ends here."""
        return Lease(self, partition, offset)


def a_work(tier: str = "interactive", *, partition: int = 0, offset: int = 0, **changes: Any) -> Work:
    """A job in hand, with these fields of its message."""
    message = a_message(tier=tier, **changes)
    record = a_record(topic=f"jobs.{tier}", partition=partition, offset=offset)
    lease = Ended().lease((record.topic, partition), offset)
    return Work(lease, message, RESOLVED, record, tier, 1, INVALID_SPAN_CONTEXT, enqueued=0, fetched=0)
