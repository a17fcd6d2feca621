"""Records that nobody should be hurt by, as Hypothesis strategies: noise, damaged messages, and messages that lie."""

from __future__ import annotations

import time

from hypothesis import strategies as st

from forebay.messages import JobMessage, OperationMessage, ReplyMessage, encode_job, encode_operation, encode_reply
from forebay_schemas import topics as topic_names
from tests.support.raw import RawRecord

LONG = st.sampled_from([-(2**63), -(2**31), -1, 0, 1, 2**31, 2**62, 2**63 - 1])
TEXT = st.sampled_from(
    ["", "\0", "²", "🌊", "a\nb", "../..", "x" * 5000, "null", "forebay.jobs.x.interactive"]
) | st.text(max_size=12)
NOISE = st.binary(max_size=40)

NUMBERS = st.sampled_from(
    [
        None,
        b"",
        b"\xb2",
        "²".encode(),
        "\u0661".encode(),
        b"5" * 5000,
        b"9" * 20,
        b"-1",
        b"+1",
        b" 1",
        b"1_0",
        b"1e9",
        b"0",
    ]
)
TRACES = st.sampled_from(
    [
        b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00",
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"00-" + b"-" * 32 + b"-" + b"+" * 16 + b"-0 ",
        b"00-" + b"\xff" * 32 + b"-" + b"b" * 16 + b"-zz",
        b"ff-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01-more",
    ]
)
OURS = st.sampled_from(
    [
        b"traceparent",
        b"tracestate",
        b"fb-attempt",
        b"fb-not-before",
        b"fb-first-failure",
        b"fb-error-type",
        b"fb-error-detail",
        b"fb-origin",
        b"fb-handed-on",
        b"fb-outcome",
        b"fb-replay-id",
    ]
)
ORIGINS = st.sampled_from([b"a/b/c", b"//", b"t/0/-1", b"t/99999999999999999999/0", b"t/0/" + b"1" * 5000])
HEADERS = st.lists(
    st.tuples(OURS | NOISE | st.just(b"\xff\xfe"), NUMBERS | TRACES | ORIGINS | NOISE | st.none()), max_size=4
)
TIMESTAMPS = st.sampled_from([-(2**62), -2, -1, 0, 1, 253_402_300_800_000, 2**62, 2**63 - 1]) | st.integers(0, 2**41)


def _deadlines() -> st.SearchStrategy[int]:
    # one that is far away but possible would only keep a test waiting, for as long as any good job's may
    now = time.time_ns() // 1_000_000
    return LONG | st.integers(now - 1000, now + 1500)


def _jobs(namespace: str, instance: str) -> st.SearchStrategy[bytes]:
    replies = topic_names.replies(namespace, instance)
    elsewhere = [f"{namespace}replies.gone", f"{namespace}replies.", f"{namespace}catalog", "__consumer_offsets", "."]
    return st.builds(
        JobMessage,
        request_id=TEXT | st.uuids().map(lambda name: f"{instance}-{name}"),
        operation=TEXT | st.sampled_from(["on_loop", "turn_round", "unheard-of"]),
        tenant=TEXT,
        tier=TEXT | st.just("interactive"),
        content_type=TEXT,
        payload=NOISE,
        payload_schema=st.none() | st.binary(min_size=8, max_size=8),
        reply_topic=TEXT | st.sampled_from([replies, *elsewhere]),
        reply_partition=st.sampled_from([0, 1, 2, -1, 2**31 - 1, -(2**31)]),
        created_at=LONG,
        deadline=_deadlines(),
        ordering_key=st.none() | TEXT,
        idempotency_key=st.none() | TEXT,
    ).map(encode_job)


REPLIES = st.builds(
    ReplyMessage,
    request_id=TEXT,
    tenant=TEXT,
    outcome=st.sampled_from(["COMPLETED", "FAILED", "EXPIRED", "CANCELLED", "PROGRESS"]),
    content_type=TEXT,
    payload=NOISE,
    payload_schema=st.none() | st.binary(min_size=8, max_size=8),
    problem=st.none(),
    attempt=st.sampled_from([-(2**31), 0, 2**31 - 1]),
    processor=TEXT,
    enqueued=LONG,
    fetched=LONG,
    started=LONG,
    finished=LONG,
).map(encode_reply)

SCHEMAS = st.lists(
    st.sampled_from(["", "{", "null", '"int"', "[]", '{"type": "record"}', '{"type":"nonsense"}', "3"]), max_size=2
)
OPERATIONS = st.builds(
    OperationMessage,
    name=TEXT,
    app=TEXT,
    description=TEXT,
    tier=TEXT,
    deadline_ms=LONG,
    accepts=TEXT,
    returns=TEXT,
    request_schemas=SCHEMAS,
    result_schemas=SCHEMAS,
    announced_at=LONG,
    announced_by=TEXT,
).map(encode_operation)


@st.composite
def damaged(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message with something cut off, put in or changed."""
    message = draw(messages)
    place = draw(st.integers(0, len(message)))
    return message[:place] + draw(st.binary(max_size=3)) + message[place + draw(st.integers(0, 3)) :]


def records(namespace: str, instance: str) -> st.SearchStrategy[RawRecord]:
    """Any of it; a gateway's instance makes some of the jobs and keys look like its own."""
    messages = _jobs(namespace, instance) | REPLIES | OPERATIONS
    jobs = _jobs(namespace, instance)
    keys = st.none() | NOISE | st.uuids().map(lambda name: f"{instance}-{name}".encode())
    values = jobs | messages | damaged(messages) | NOISE | NOISE.map(lambda body: b"\xc3\x01" + body) | st.none()
    return st.builds(RawRecord, keys, values, HEADERS, TIMESTAMPS)
