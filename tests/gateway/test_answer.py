"""What a client is told of each kind of reply, and how the wall time is split into stages."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay import failures
from forebay.errors import Problem, Reject
from forebay.kafka import Headers
from forebay.messages import Outcome, ProblemMessage, ReplyMessage, encode_reply
from forebay_gateway.answer import answer, read_reply, split_into_stages
from forebay_gateway.dispatch import RoundTrip
from forebay_gateway.metrics import STAGES
from forebay_gateway.payloads import PayloadCodec
from forebay_gateway.problems import HttpProblem
from forebay_gateway.route import Route
from forebay_schemas.headers import NOT_BEFORE
from tests.support.records import a_record
from tests.support.replies import a_reply


def greeting(*extra: dict[str, Any]) -> PayloadCodec:
    fields = [{"name": "text", "type": "string"}, *extra]
    return PayloadCodec({"type": "record", "name": "Greeting", "fields": fields})


OLDER, NEWER = greeting(), greeting({"name": "tone", "type": "string", "default": "warm"})
ROUTE = Route(
    operation="greet",
    path="/v1/greet",
    tier="interactive",
    topic="forebay.jobs.shop.interactive",
    deadline=2.5,
    accepts="application/json",
    request=None,
    results={codec.fingerprint: codec for codec in (NEWER, OLDER)},
)


def failed(kind: str, detail: str | None = "It did not work.", outcome: Outcome = "FAILED") -> ReplyMessage:
    return a_reply(outcome=outcome, problem=ProblemMessage(type=kind, title="In a few words", detail=detail))


def refusal(message: ReplyMessage, headers: Headers = ()) -> HttpProblem:
    with pytest.raises(HttpProblem) as caught:
        answer(ROUTE, message, a_record(headers=headers))
    return caught.value


def test_opaque_bytes_go_back_as_they_are() -> None:
    told = answer(ROUTE, a_reply(content_type="image/png", payload=b"\x89PNG"), a_record())
    assert told == (b"image/png", b"\x89PNG")


@pytest.mark.parametrize(
    ("codec", "body"), [(NEWER, {"text": "hi", "tone": "dry"}), (OLDER, {"text": "hi"})], ids=["newer", "older"]
)
def test_a_result_goes_back_as_json_whichever_version_wrote_it(codec: PayloadCodec, body: dict[str, str]) -> None:
    written = codec.encode(json.dumps(body).encode())
    content_type, told = answer(ROUTE, a_reply(payload=written, payload_schema=codec.fingerprint), a_record())
    assert (content_type, json.loads(told)) == (b"application/json", body)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (failures.HANDLER_FAILED, 500),
        (failures.UNREADABLE_JOB, 500),
        (failures.INVALID, 422),
        (failures.UNUSABLE_RESULT, 500),
        (failures.RETRY_LATER, 503),
        (failures.DEADLINE_PASSED, 504),
        ("rejected", 422),
        ("picture-too-dark", 422),
    ],
)
def test_each_kind_of_problem_has_its_status(kind: str, status: int) -> None:
    problem = refusal(failed(kind))
    assert problem.status == status
    assert json.loads(problem.body()) == {
        "type": f"urn:forebay:problem:{kind}",
        "title": "In a few words",
        "status": status,
        "detail": "It did not work.",
    }


def test_every_kind_of_forebays_own_has_a_status_of_its_own() -> None:
    assert {kind for kind in failures.OWN if refusal(failed(kind)).status == 422} == {failures.INVALID}
    assert {kind for kind in failures.OWN if refusal(failed(kind)).outcome == "rejected"} == set()


@pytest.mark.parametrize("kind", sorted(failures.OWN))
def test_no_handler_can_pass_for_forebay(kind: str) -> None:
    with pytest.raises(ValueError, match="Forebay's own"):
        Reject(Problem(kind, "Not mine to say"))


def test_a_problem_without_detail_has_none() -> None:
    assert "detail" not in json.loads(refusal(failed("rejected", detail=None)).body())


def test_a_job_that_expired_is_a_deadline_passed() -> None:
    problem = refusal(failed(failures.DEADLINE_PASSED, outcome="EXPIRED"))
    assert (problem.status, problem.kind) == (504, "deadline-passed")
    assert str(problem) == "no answer came within 2.5 s; It did not work."


def test_of_a_job_that_expired_without_a_word_nothing_is_known() -> None:
    problem = refusal(a_reply(outcome="EXPIRED"))
    assert str(problem) == "no answer came within 2.5 s; the job may still be run"


def test_a_job_that_was_called_off_is_a_conflict() -> None:
    assert refusal(failed("cancelled", outcome="CANCELLED")).status == 409


@pytest.mark.parametrize(("ahead", "least", "most"), [(10.0, 9, 10), (0.2, 1, 1), (-60.0, 1, 1)])
def test_retry_later_says_when(ahead: float, least: int, most: int) -> None:
    not_before = int((time.time() + ahead) * 1000)
    problem = refusal(failed(failures.RETRY_LATER), [(NOT_BEFORE, str(not_before).encode())])
    (header,) = problem.headers
    assert header[0] == b"retry-after"
    assert least <= int(header[1]) <= most


@pytest.mark.parametrize(
    "headers", [[], *([(NOT_BEFORE, text)] for text in (b"soon", b"", b"-1", "\u00b2".encode(), b"9" * 5000))]
)
def test_retry_later_without_an_instant_says_only_that(headers: Headers) -> None:
    problem = refusal(failed(failures.RETRY_LATER), headers)
    assert (problem.status, list(problem.headers)) == (503, [])


def test_only_retry_later_says_when() -> None:
    assert list(refusal(failed("rejected"), [(NOT_BEFORE, b"99999999999999")]).headers) == []


@pytest.mark.parametrize("outcome", ["FAILED", "CANCELLED", "PROGRESS"])
def test_a_failure_that_gives_no_reason_cannot_be_read(outcome: Outcome) -> None:
    problem = refusal(a_reply(outcome=outcome))
    assert (problem.status, problem.kind) == (502, "unreadable-reply")
    assert outcome in str(problem)


def test_a_result_that_an_unknown_schema_wrote_cannot_be_read() -> None:
    problem = refusal(a_reply(payload=b"?", payload_schema=b"12345678"))
    assert (problem.status, problem.kind) == (502, "unreadable-reply")


@pytest.mark.parametrize("payload", [b"", b"\x06ab", b"nothing of the kind"])
def test_a_result_that_does_not_fit_its_schema_cannot_be_read(payload: bytes) -> None:
    problem = refusal(a_reply(payload=payload, payload_schema=OLDER.fingerprint))
    assert (problem.status, problem.kind) == (502, "unreadable-reply")


@pytest.mark.parametrize(
    "value", [None, b"", b"{}", encode_reply(a_reply())[:-1]], ids=["none", "empty", "json", "cut"]
)
def test_a_record_that_is_no_reply_cannot_be_read(value: bytes | None) -> None:
    with pytest.raises(HttpProblem) as caught:
        read_reply(a_record(value), "gw-1")
    assert caught.value.status == 502


def test_a_record_is_read_as_it_was_written() -> None:
    message = failed("rejected")
    assert read_reply(a_record(encode_reply(message)), "gw-1") == message


@pytest.mark.parametrize(
    "message",
    [
        a_reply(request_id="gw-2"),
        a_reply(tenant="another"),
        a_reply(tenant=""),
        a_reply(outcome="PROGRESS", tenant="another"),
        a_reply(outcome="FAILED", tenant="another"),
    ],
    ids=["request", "tenant", "no tenant", "progress", "failure"],
)
def test_a_reply_to_somebody_else_cannot_be_used(message: ReplyMessage) -> None:
    with pytest.raises(HttpProblem) as caught:
        read_reply(a_record(encode_reply(message)), "gw-1")
    assert (caught.value.status, caught.value.kind) == (502, "unreadable-reply")


def test_of_a_job_that_could_not_be_read_nobody_knows_the_tenant() -> None:
    message = failed(failures.UNREADABLE_JOB)
    message["tenant"] = ""
    assert read_reply(a_record(encode_reply(message)), "gw-1") == message


@pytest.mark.parametrize(
    "content_type", ["", "text/plain\r\nx: y", "text/plain\n", "\x00", "text/\u2026", "\x7f", "\x85"]
)
def test_a_media_type_that_is_no_field_cannot_be_used(content_type: str) -> None:
    problem = refusal(a_reply(content_type=content_type, payload=b"x"))
    assert (problem.status, problem.kind) == (502, "unreadable-reply")


@pytest.mark.parametrize("kind", ["a b", "\r\nx: y", "\x00", "\u2026", "a" * 100_000, "%", "<script>"])
def test_whatever_a_problem_is_called_its_type_is_a_uri(kind: str) -> None:
    problem = refusal(failed(kind))
    assert (problem.status, problem.outcome) == (422, "rejected")
    told = json.loads(problem.body())["type"]
    assert re.fullmatch(r"urn:forebay:problem:[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*", told)
    assert unquote(told) == f"urn:forebay:problem:{kind}"


def test_a_call_that_was_called_off_is_counted_under_one_name_whatever_the_problem() -> None:
    assert refusal(failed("whatever", outcome="CANCELLED")).outcome == "cancelled"


@given(
    fields=st.fixed_dictionaries(
        {name: st.integers(-(2**63), 2**63 - 1) for name in ("enqueued", "fetched", "started", "finished")}
    )
)
def test_absurd_instants_are_clamped(fields: dict[str, Any]) -> None:
    split = split_into_stages(100, trip(150, 200), a_reply(**fields), 1000)
    assert sum(split) == 900
    assert min(split) >= 0


INSTANT = st.integers(0, 100) | st.integers(0, 2**50)


def trip(published: int, acknowledged: int) -> RoundTrip:
    made = RoundTrip("gw-1")
    made.published, made.acknowledged = published, acknowledged
    return made


@given(
    received=INSTANT,
    answered=INSTANT,
    published=INSTANT,
    acknowledged=INSTANT,
    fetched=INSTANT,
    started=INSTANT,
    finished=INSTANT,
)
@example(received=10, answered=5, published=7, acknowledged=0, fetched=3, started=2, finished=1)
def test_the_stages_always_add_up_and_none_is_negative(
    received: int, answered: int, published: int, acknowledged: int, fetched: int, started: int, finished: int
) -> None:
    message = a_reply(fetched=fetched, started=started, finished=finished)
    split = split_into_stages(received, trip(published, acknowledged), message, answered)
    assert len(split) == len(STAGES)
    assert sum(split) == max(0, answered - received)
    assert min(split) >= 0


def split_of(*, fetched: int = 500, started: int = 600, finished: int = 800, acknowledged: int = 300) -> dict[str, int]:
    message = a_reply(fetched=fetched, started=started, finished=finished)
    return dict(zip(STAGES, split_into_stages(0, trip(100, acknowledged), message, 1000), strict=True))


def test_each_stage_ends_where_the_next_begins() -> None:
    assert split_of() == {"validate": 100, "produce": 200, "queue": 300, "run": 200, "reply": 200}


def test_a_job_that_is_fetched_before_its_acknowledgement_was_heard_of_was_produced_by_then() -> None:
    assert split_of(acknowledged=900)["produce"] == 400
    assert split_of(acknowledged=0)["produce"] == 400


@pytest.mark.parametrize("skew", [-(10**9), -450, 450, 10**9])
def test_a_processors_clock_that_is_off_takes_nothing_from_the_gateways_own_stages(skew: int) -> None:
    split = split_of(fetched=500 + skew, started=600 + skew, finished=800 + skew)
    assert split["validate"] == 100
    assert sum(split.values()) == 1000
    assert all(0 <= duration <= 1000 for duration in split.values())


def test_a_processors_clock_that_is_a_little_off_leaves_the_run_as_long_as_it_was() -> None:
    assert split_of(fetched=600, started=700, finished=900)["run"] == 200
