"""The messages on the wire as Python sees them: plain dictionaries, typed, so that nothing is copied on the hot path.

The meaning of each field stands in its schema. Instants are integers as on the wire: ``_at`` and ``deadline`` in
milliseconds since the epoch, the four instants of a reply in microseconds.
"""

from __future__ import annotations

from typing import Literal, TypedDict, cast

import forebay_schemas
from forebay.codec import Schema, SchemaSet

Outcome = Literal["COMPLETED", "FAILED", "EXPIRED", "CANCELLED", "PROGRESS"]


class JobMessage(TypedDict):
    """The value of ``forebay.jobs.<app>.<tier>``."""

    request_id: str
    operation: str
    tenant: str
    tier: str
    content_type: str
    payload: bytes
    payload_schema: bytes | None
    reply_topic: str
    reply_partition: int
    created_at: int
    deadline: int
    ordering_key: str | None
    idempotency_key: str | None


class ProblemMessage(TypedDict):
    """Why a job has no result."""

    type: str
    title: str
    detail: str | None


class ReplyMessage(TypedDict):
    """The value of ``forebay.replies.<instance>``."""

    request_id: str
    tenant: str
    outcome: Outcome
    content_type: str
    payload: bytes
    payload_schema: bytes | None
    problem: ProblemMessage | None
    attempt: int
    processor: str
    enqueued: int
    fetched: int
    started: int
    finished: int


class OperationMessage(TypedDict):
    """The value of ``forebay.catalog``."""

    name: str
    app: str
    description: str
    tier: str
    deadline_ms: int
    accepts: str
    returns: str
    request_schemas: list[str]
    result_schemas: list[str]
    announced_at: int
    announced_by: str
    term: int


def _schemas(name: str) -> SchemaSet:
    return SchemaSet(
        Schema(forebay_schemas.current(name), logical=False),
        [Schema(text, logical=False) for text in forebay_schemas.released(name)],
    )


_JOBS = _schemas("job")
_REPLIES = _schemas("reply")
_OPERATIONS = _schemas("operation")


def encode_job(job: JobMessage) -> bytes:
    """Return the bytes of a job."""
    return _JOBS.reader.encode(job)


def decode_job(data: bytes) -> JobMessage:
    """Read a job; raises a `CodecError` that says what was found instead."""
    return cast(JobMessage, _JOBS.decode(data))


def encode_reply(reply: ReplyMessage) -> bytes:
    """Return the bytes of a reply."""
    return _REPLIES.reader.encode(reply)


def decode_reply(data: bytes) -> ReplyMessage:
    """Read a reply; raises a `CodecError` that says what was found instead."""
    return cast(ReplyMessage, _REPLIES.decode(data))


def encode_operation(operation: OperationMessage) -> bytes:
    """Return the bytes of an operation."""
    return _OPERATIONS.reader.encode(operation)


def decode_operation(data: bytes) -> OperationMessage:
    """Read an operation; raises a `CodecError` that says what was found instead."""
    return cast(OperationMessage, _OPERATIONS.decode(data))
