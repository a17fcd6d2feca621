"""What has happened to a job, read from headers that come from anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given

from forebay import headers, tracing
from forebay.kafka import LATEST_TIMESTAMP, Headers, Record
from forebay.kafka.records import NAME_ERRORS
from tests.support.hostile import HEADERS
from tests.support.records import a_record

QUEUES = {"forebay.jobs.app.bulk"}
NUMBER_HEADERS = ("fb-attempt", "fb-handed-on", "fb-not-before")


def decoded(raw: list[tuple[bytes, bytes | None]]) -> Headers:
    """Headers as the reader gives them."""
    return [(name.decode("utf-8", NAME_ERRORS), value) for name, value in raw]


@given(HEADERS)
def test_reading_headers_never_fails(raw: list[tuple[bytes, bytes | None]]) -> None:
    record = a_record(headers=decoded(raw))
    assert 1 <= headers.attempt(record) <= headers.MOST
    assert 0 <= headers.handed_on(record) <= headers.MOST
    assert 0 <= (headers.not_before(record) or 0) <= LATEST_TIMESTAMP
    assert headers.origin(record, QUEUES) is None
    context = tracing.from_headers(record.headers)
    assert 0 <= context.trace_id < 2**128
    for name, value in tracing.to_headers(context):
        assert isinstance(name, str)
        assert isinstance(value, bytes)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xb2", "²".encode(), "\u0661".encode(), b"5" * 5000, b"9" * 20, b"-1", b"+1", b" 1", b"1_0", b"1.0"],
)
@pytest.mark.parametrize("name", NUMBER_HEADERS)
def test_what_is_no_number_counts_as_absent(name: str, value: bytes | None) -> None:
    record = a_record(headers=[(name, value)])
    assert (headers.attempt(record), headers.handed_on(record), headers.not_before(record)) == (1, 0, None)


@pytest.mark.parametrize(
    ("value", "attempt", "handed_on"),
    [(b"0", 1, 0), (b"7", 7, 7), (b"2147483647", 2**31 - 1, 2**31 - 1), (b"2147483648", 1, 0), (b"9" * 18, 1, 0)],
)
def test_a_number_beyond_what_it_can_be_counts_as_absent(value: bytes, attempt: int, handed_on: int) -> None:
    record = a_record(headers=[("fb-attempt", value), ("fb-handed-on", value)])
    assert (headers.attempt(record), headers.handed_on(record)) == (attempt, handed_on)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        (b"forebay.jobs.app.bulk/3/17", ("forebay.jobs.app.bulk", 3, 17)),
        (b"somewhere.else/3/17", None),
        (b"forebay.jobs.app.bulk/3", None),
        (b"forebay.jobs.app.bulk/3/17/1", None),
        (b"forebay.jobs.app.bulk/-3/17", None),
        (b"forebay.jobs.app.bulk/3/" + b"1" * 5000, None),
        (b"forebay.jobs.app.bulk/4294967296/1", None),
        (None, None),
    ],
)
def test_an_origin_is_one_of_the_queues(text: bytes | None, origin: tuple[str, int, int] | None) -> None:
    assert headers.origin(a_record(headers=[("fb-origin", text)]), QUEUES) == origin


def test_an_origin_reads_as_it_was_written() -> None:
    record = Record("forebay.jobs.app.bulk", 4, 2**40, 0, None, None, ())
    written = a_record(headers=[("fb-origin", headers.Origin.of(record).text)])
    assert headers.origin(written, QUEUES) == headers.Origin.of(record)


def test_headers_are_replaced_and_never_appended() -> None:
    before: Headers = [("a", b"1"), ("fb-attempt", b"1"), ("b", None), ("fb-attempt", b"2")]
    assert headers.replaced(before, {"fb-attempt": b"3"}) == [("a", b"1"), ("b", None), ("fb-attempt", b"3")]


@pytest.mark.parametrize("flags", [b"00", b"01"])
def test_a_trace_goes_on_whatever_stands_beside_it(flags: bytes) -> None:
    parent = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-" + flags
    for beside in ([], [("fb-attempt", b"1")], [("\udcff", None)]):
        context = tracing.from_headers([("traceparent", parent), *beside])
        assert context.trace_id == int("a" * 32, 16)
        assert context.span_id == int("b" * 16, 16)
        assert context.trace_flags.sampled is (flags == b"01")
