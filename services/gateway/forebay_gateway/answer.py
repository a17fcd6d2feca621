"""answer: turn the reply into the response, with the wall time split by stage."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise

from forebay import failures
from forebay.errors import CodecError
from forebay.kafka import Record, header
from forebay.messages import ReplyMessage, decode_reply
from forebay_gateway import problems
from forebay_gateway.dispatch import Trip
from forebay_gateway.problems import HttpProblem
from forebay_gateway.route import Route
from forebay_schemas.headers import NOT_BEFORE

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client.

    Attributes:
        status: HTTP status code.
        content_type: of the body.
        body: the result as the client reads it.
    """

    status: int
    content_type: bytes
    body: bytes


def read(record: Record) -> ReplyMessage:
    """Read a reply.

    Raises:
        HttpProblem: 502 when it cannot be read; no other caller is concerned.
    """
    try:
        return decode_reply(record.value or b"")
    except CodecError as error:
        raise problems.unreadable_reply(str(error)) from error


def answer(route: Route, reply: ReplyMessage, record: Record) -> Answer:
    """Return what the client is told.

    Raises:
        HttpProblem: the job did not complete, or its result cannot be read (502).
    """
    if reply["outcome"] != "COMPLETED":
        raise _problem(route, reply, record)
    fingerprint = reply["payload_schema"]
    if fingerprint is None:
        return Answer(200, reply["content_type"].encode("latin-1"), reply["payload"])
    codec = route.results.get(fingerprint)
    if codec is None:
        raise problems.unreadable_reply(f"no known schema of a result of {route.operation} wrote it")
    try:
        return Answer(200, b"application/json", codec.decode(reply["payload"]))
    except CodecError as error:
        raise problems.unreadable_reply(str(error)) from error


def _problem(route: Route, reply: ReplyMessage, record: Record) -> HttpProblem:
    problem = reply["problem"]
    if reply["outcome"] == "EXPIRED":
        return problems.deadline_passed(route.deadline, problem and problem["detail"])
    if problem is None:
        return problems.unreadable_reply(f"its outcome is {reply['outcome']}, and it says no more")
    if reply["outcome"] == "CANCELLED":
        return HttpProblem(409, problem["type"], problem["title"], problem["detail"])
    headers = []
    if problem["type"] == failures.RETRY_LATER and (not_before := header(record, NOT_BEFORE) or "").isdigit():
        seconds = max(1, math.ceil(int(not_before) / 1000 - time.time()))
        headers.append((b"retry-after", str(seconds).encode()))
    status = _STATUS.get(problem["type"])
    told = HttpProblem(status or 422, problem["type"], problem["title"], problem["detail"], headers=headers)
    if status is None:
        told.outcome = "rejected"
    return told


def stages(received: int, trip: Trip, reply: ReplyMessage, answered: int) -> list[int]:
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
