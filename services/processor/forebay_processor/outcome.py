"""What came of a job, where no handler says so, and where one does."""

from __future__ import annotations

import logging

from forebay import failures
from forebay.app import Operation
from forebay.messages import ProblemMessage
from forebay_processor.run.call import HandlerResult, now
from forebay_processor.work import JobOutcome, Work

log = logging.getLogger(__name__)

LONGEST_DETAIL = 2000
"""Characters at most of a reason that quotes what somebody else wrote."""


def unreadable(reason: str, *, kept: bool = True) -> JobOutcome:
    """Return the outcome of a job that cannot be read, and so never run; ``kept`` says whether its bytes are there."""
    where = "it is kept among the dead letters" if kept else "this is all that is kept"
    return _failed(
        failures.UNREADABLE_JOB,
        "The job cannot be read",
        f"{reason[:LONGEST_DETAIL]}; {where}",
        dead=True,
    )


def unmovable(reason: str) -> JobOutcome:
    """Return the outcome of a job that cannot be brought back from a retry topic, and so never run."""
    return _failed(
        failures.UNREADABLE_JOB,
        "The job cannot be run",
        f"it cannot be moved to {reason[:LONGEST_DETAIL]}; it is kept among the dead letters",
        dead=True,
    )


def no_processor(operation: str) -> JobOutcome:
    """Return the outcome of a job that nobody could run by its deadline."""
    return _failed(
        failures.NO_PROCESSOR,
        "No processor runs this operation",
        f"until the deadline, none was found that knows operation {operation[:100]!r} and every field of the request",
    )


def crashed(started: int) -> JobOutcome:
    """Return the outcome of a job whose handler neither returned nor raised anything of its own."""
    problem = ProblemMessage(
        type=failures.HANDLER_FAILED, title="The handler failed", detail="it ended in an unusual way: see the log"
    )
    return JobOutcome("FAILED", started, now(), problem=problem)


def too_large(outcome: JobOutcome, reason: str) -> JobOutcome:
    """Return what to say in place of an outcome that is too large to send."""
    problem = ProblemMessage(
        type=failures.UNUSABLE_RESULT, title="The handler returned something unusable", detail=reason
    )
    return JobOutcome("FAILED", outcome.started, outcome.finished, problem=problem)


def expired(started: int | None = None) -> JobOutcome:
    """Return the outcome of a job whose deadline passed, before its handler was called or while it ran."""
    instant = now()
    detail = "it passed before the job was run" if started is None else "it passed while the job ran"
    problem = ProblemMessage(type=failures.DEADLINE_PASSED, title="The deadline passed", detail=detail)
    return JobOutcome("EXPIRED", started or instant, instant, problem=problem)


def of_handler(operation: Operation, work: Work, result: HandlerResult) -> JobOutcome:
    """Return the outcome of a job whose handler was called; the log gets what the caller must not see."""
    failure = result.failure
    if failure is None:
        schema = operation.result.schema
        return JobOutcome(
            "COMPLETED",
            result.started,
            result.finished,
            payload=result.payload,
            payload_schema=schema.fingerprint if schema else None,
            content_type=operation.result.media_type,
        )
    if failure.traceback is not None:
        log.error("operation %s failed on job %s\n%s", operation.name, work.job["request_id"], failure.traceback)
    problem = failure.problem
    return JobOutcome(
        "FAILED",
        result.started,
        result.finished,
        problem=ProblemMessage(type=problem.type, title=problem.title, detail=problem.detail),
        not_before=result.finished // 1000 + round(failure.retry_after * 1000) if failure.retry_after else None,
        dead=problem.type == failures.UNREADABLE_JOB,
    )


def _failed(kind: str, title: str, detail: str, *, dead: bool = False) -> JobOutcome:
    instant = now()
    problem = ProblemMessage(type=kind, title=title, detail=detail)
    return JobOutcome("FAILED", instant, instant, problem=problem, dead=dead)
