"""answer: turn the reply into the response, with the wall time split by stage."""

from __future__ import annotations

import logging
import math
import re
import time
from itertools import pairwise

from forebay import failures
from forebay.errors import CodecError
from forebay.kafka import Record, header_number
from forebay.messages import ReplyMessage, decode_reply
from forebay_gateway import problems
from forebay_gateway.dispatch import DEFAULT_TENANT, RoundTrip
from forebay_gateway.problems import HttpProblem
from forebay_gateway.route import Route
from forebay_schemas.headers import NOT_BEFORE

log = logging.getLogger(__name__)

_STATUS = {
    failures.HANDLER_FAILED: 500,
    failures.RETRY_LATER: 503,
    failures.UNREADABLE_JOB: 500,
    failures.INVALID: 422,
    failures.UNUSABLE_RESULT: 500,
    failures.DEADLINE_PASSED: 504,
    failures.NO_PROCESSOR: 503,
}
"""A kind of problem that is not Forebay's own is a handler's `Reject`: 422."""


_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]+")


def read_reply(record: Record, request_id: str) -> ReplyMessage:
    """Read the reply to a request.

    Raises:
        HttpProblem: 502 when it cannot be read, or is another request's or tenant's; no other caller is concerned.
    """
    try:
        reply = decode_reply(record.value or b"")
    except CodecError as error:
        raise problems.unreadable_reply(str(error)) from error
    if reply["request_id"] != request_id:
        raise problems.unreadable_reply("it is about another request")
    known = reply["tenant"] == DEFAULT_TENANT
    if not known and (
        reply["tenant"] or reply["outcome"] == "COMPLETED"
    ):  # of a job that cannot be read nobody knows it
        raise problems.unreadable_reply("it is about another tenant's request")
    return reply


def answer(route: Route, reply: ReplyMessage, record: Record) -> tuple[bytes, bytes]:
    """Return what the client gets: the media type of the result, and the result as the client reads it.

    Raises:
        HttpProblem: the job did not complete, or its result cannot be read (502).
    """
    if reply["outcome"] != "COMPLETED":
        raise _problem(route, reply, record)
    fingerprint = reply["payload_schema"]
    if fingerprint is None:
        if _FIELD_VALUE.fullmatch(reply["content_type"]) is None:
            raise problems.unreadable_reply(f"its media type is {reply['content_type'][:100]!r}")
        return reply["content_type"].encode("latin-1"), reply["payload"]
    codec = route.results.get(fingerprint)
    if codec is None:
        raise problems.unreadable_reply(f"no known schema of a result of {route.operation} wrote it")
    try:
        return b"application/json", codec.decode(reply["payload"])
    except CodecError as error:
        raise problems.unreadable_reply(str(error)) from error
    except Exception as error:  # what the bytes say may be beyond what Python, or JSON, has a value for
        log.exception("a result of %s cannot be read", route.operation)
        raise problems.unreadable_reply(f"its result cannot be read: {type(error).__name__}") from error


def _problem(route: Route, reply: ReplyMessage, record: Record) -> HttpProblem:
    problem = reply["problem"]
    if reply["outcome"] == "EXPIRED":
        return problems.deadline_passed(route.deadline, problem and problem["detail"])
    if problem is None or reply["outcome"] not in ("FAILED", "CANCELLED"):
        return problems.unreadable_reply(f"its outcome is {reply['outcome']}, and it says no more")
    if reply["outcome"] == "CANCELLED":
        told = HttpProblem(409, problem["type"], problem["title"], problem["detail"])
        told.outcome = "cancelled"
        return told
    headers = []
    if problem["type"] == failures.RETRY_LATER and (not_before := header_number(record, NOT_BEFORE)) is not None:
        seconds = max(1, math.ceil(not_before / 1000 - time.time()))
        headers.append((b"retry-after", str(seconds).encode()))
    status = _STATUS.get(problem["type"])
    told = HttpProblem(status or 422, problem["type"], problem["title"], problem["detail"], headers=headers)
    if status is None:
        told.outcome = "rejected"
    return told


def split_into_stages(received: int, trip: RoundTrip, reply: ReplyMessage, answered: int) -> list[int]:
    """Split the time from ``received`` to ``answered`` into the stages of `metrics.STAGES`, in microseconds.

    Each stage ends where the next begins, so they always add up to the whole. The clocks of two machines differ: an
    instant that would lie before the stage's beginning, or after the answer, is taken as that; and so is an answer
    that would lie before the request.
    """
    answered = max(answered, received)
    edges = [received]
    produced = min(
        trip.acknowledged or reply["fetched"], reply["fetched"]
    )  # the job can be run before we hear of the ack
    for instant in (trip.published, produced, reply["started"], reply["finished"]):
        edges.append(min(max(instant, edges[-1]), answered))
    edges.append(answered)
    return [end - begin for begin, end in pairwise(edges)]
