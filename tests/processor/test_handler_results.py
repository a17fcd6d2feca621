"""What came of a handler's call: whatever it returns or raises can be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
import pytest

from forebay import Forebay, Job, Problem, Reject, RetryAfter, failures
from forebay.messages import ProblemMessage, decode_reply, encode_reply
from forebay_processor.run.call import HandlerResult, call, invalid_request
from tests.support.replies import a_reply

JOB = Job(id="gw-1", key="gw-1", tenant="t", attempt=1, deadline_ms=2**62, is_replay=False)


@dataclass
class Size:
    width: int


def outcome(handle: Callable[[], Any]) -> HandlerResult:
    app = Forebay("shop")

    @app.operation()
    def measure(request: bytes) -> Size:  # noqa: ARG001
        return cast(Size, handle())

    return call(app.operations["measure"], b"", JOB)


def raised(error: BaseException) -> Problem:
    def handle() -> None:
        raise error

    failure = outcome(handle).failure
    assert failure is not None
    return failure.problem


def sent(problem: Problem) -> ProblemMessage:
    """The problem as it comes out of a reply."""
    message = a_reply(
        outcome="FAILED", problem=ProblemMessage(type=problem.type, title=problem.title, detail=problem.detail)
    )
    returned = decode_reply(encode_reply(message))["problem"]
    assert returned is not None
    return returned


def test_a_result_is_encoded_and_timed() -> None:
    done = outcome(lambda: Size(7))
    assert done.failure is None
    assert done.payload == b"\x0e"
    assert 0 < done.started <= done.finished


@pytest.mark.parametrize("value", [None, 7, b"", {"width": 7}, Size(cast(int, "wide")), Size(2**70)], ids=repr)
def test_a_result_of_another_type_is_unusable(value: object) -> None:
    failure = outcome(lambda: value).failure
    assert failure is not None
    assert failure.problem.type == failures.UNUSABLE_RESULT
    assert failure.traceback is not None


def test_a_surprise_is_named_by_its_type_alone() -> None:
    problem = raised(ValueError("the secret of the database"))
    assert problem.type == failures.HANDLER_FAILED
    assert problem.detail == "it raised ValueError"


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("No such picture.", "No such picture."),
        (ValueError("no such picture"), "no such picture"),
        (404, "404"),
        (None, "None"),
        ("half a \ud83d pair", "half a ? pair"),
    ],
)
def test_whatever_a_job_is_rejected_with_reaches_the_caller(reason: Any, detail: str) -> None:
    told = sent(raised(Reject(reason)))
    assert (told["type"], told["detail"]) == ("rejected", detail)


@pytest.mark.parametrize(
    "problem",
    [
        Problem("too-dark", "Too dark"),
        Problem(cast(str, 3), cast(str, None), cast(str, 0)),
        Problem("\udcff", "\udcff"),
    ],
    ids=["plain", "of other types", "not UTF-8"],
)
def test_whatever_problem_a_job_is_rejected_with_can_be_sent(problem: Problem) -> None:
    assert all(isinstance(text, str | None) for text in sent(raised(Reject(problem))).values())


@pytest.mark.parametrize("reason", ["busy", OSError(16, "busy"), "\udcff"])
def test_whatever_a_job_is_put_off_with_can_be_sent(reason: Any) -> None:
    assert sent(raised(RetryAfter(2.5, reason)))["type"] == failures.RETRY_LATER


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_job_is_put_off_for_a_time_that_comes(seconds: float) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds"):
        RetryAfter(seconds)


@dataclass
class Order:
    mode: Literal["fast", "slow"]
    sizes: list[Size]

    def __post_init__(self) -> None:
        if len(self.sizes) > 2:
            raise ValueError("two sizes at most")
        if self.mode == "slow" and self.sizes:
            raise ValueError("" if len(self.sizes) == 1 else "slow - at `$.sizes` twice")


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ({"mode": "odd", "sizes": []}, "mode: Invalid enum value 'odd'"),
        ({"mode": "fast", "sizes": [{"width": "3"}]}, "sizes[0].width: Expected `int`, got `str`"),
        ({"mode": "fast", "sizes": [{"width": 1}] * 3}, "two sizes at most"),
        ({"mode": "slow", "sizes": [{"width": 1}]}, "ValueError"),
        ({"mode": "slow", "sizes": [{"width": 1}] * 2}, "slow - at `$.sizes` twice"),
    ],
)
def test_a_value_that_the_type_refuses_is_the_callers_mistake(value: Any, detail: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Order)
    failure = invalid_request(caught.value)
    assert (failure.problem.type, failure.problem.detail) == (failures.INVALID, detail)
    assert failure.traceback is None, "nobody need look into it"


def test_an_error_in_the_types_own_code_is_a_failure_like_a_handlers() -> None:
    failure = invalid_request(KeyError("swordfish"))
    assert failure.problem.type == failures.HANDLER_FAILED
    assert "swordfish" not in str(failure.problem)
    assert invalid_request(Reject("why")).problem.type == "rejected"
