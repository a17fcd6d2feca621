"""The messages on the wire: each comes back as it was, whichever released version wrote it, and none changes badly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forebay_schemas
from forebay import compatibility, messages
from forebay.codec import HEADER_SIZE, MARKER, Schema
from forebay.errors import TruncatedMessage, UnknownFingerprint, UnreadableBody, WrongMarker
from forebay.messages import JobMessage, OperationMessage, ReplyMessage
from tests.contracts.avro_rules import canonical, crc_64_avro, number, text

# What was released, for good: never change a line, only add one for each new version.
RELEASED = {
    ("job", 1): ("f2af3a05d2434f82", "2ff8b7bcdcb2bfe0f512d40cb50e47c1cc170be8d1046f16807e55804b996478"),
    ("job", 2): ("0a4b65da5310b511", "654e855b8a244e347d5da66cd7f1266e67d14d21b40cf5638e709b04efc5154a"),
    ("operation", 1): ("4fd56bfe70a7ded0", "70944cad2f74f86b51e09cdc0ee27716547e87db00dcf37a0c958c20f16f6301"),
    ("operation", 2): ("437692b0d509d627", "d84d99f9626cfc1b6c34be30151ebaa360aa43f27f7e4c3b207de611764b1b95"),
    ("reply", 1): ("b123522743e03a0f", "8879241a57977677ae07b07d3288c9887fb42f4e55ef43df92d2db4334e96172"),
}

LONGS = st.integers(-(2**63), 2**63 - 1)
FINGERPRINTS = st.none() | st.binary(min_size=8, max_size=8)
OPTIONAL_TEXT = st.none() | st.text()

JOBS = st.fixed_dictionaries(
    {
        **{name: st.text() for name in ("request_id", "operation", "tenant", "tier", "content_type", "reply_topic")},
        "payload": st.binary(max_size=2000),
        "payload_schema": FINGERPRINTS,
        "reply_partition": st.integers(-(2**31), 2**31 - 1),
        "created_at": LONGS,
        "deadline": LONGS,
        "ordering_key": OPTIONAL_TEXT,
        "idempotency_key": OPTIONAL_TEXT,
    }
)
PROBLEMS = st.fixed_dictionaries({"type": st.text(), "title": st.text(), "detail": OPTIONAL_TEXT})
REPLIES = st.fixed_dictionaries(
    {
        **{name: st.text() for name in ("request_id", "tenant", "content_type", "processor")},
        "outcome": st.sampled_from(["COMPLETED", "FAILED", "EXPIRED", "CANCELLED", "PROGRESS"]),
        "payload": st.binary(max_size=2000),
        "payload_schema": FINGERPRINTS,
        "problem": st.none() | PROBLEMS,
        "attempt": st.integers(0, 2**31 - 1),
        **dict.fromkeys(("enqueued", "fetched", "started", "finished"), LONGS),
    }
)
OPERATIONS = st.fixed_dictionaries(
    {
        **{name: st.text() for name in ("name", "app", "description", "tier", "accepts", "returns", "announced_by")},
        "deadline_ms": LONGS,
        "request_schemas": st.lists(st.text(), max_size=4),
        "result_schemas": st.lists(st.text(), max_size=4),
        "announced_at": LONGS,
        "term": LONGS,
    }
)

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
CODECS: dict[str, tuple[Encode, Decode, st.SearchStrategy[Any], type]] = {
    "job": (messages.encode_job, messages.decode_job, JOBS, JobMessage),
    "reply": (messages.encode_reply, messages.decode_reply, REPLIES, ReplyMessage),
    "operation": (messages.encode_operation, messages.decode_operation, OPERATIONS, OperationMessage),
}
EVERY = pytest.mark.parametrize("name", forebay_schemas.NAMES)

A_JOB = JobMessage(
    request_id="gw-1",
    operation="thumbnail",
    tenant="t",
    tier="bulk",
    content_type="image/png",
    payload=b"\x00\xff",
    payload_schema=b"12345678",
    reply_topic="forebay.replies.gw",
    reply_partition=1,
    created_at=1_700_000_000_123,
    deadline=1_700_000_002_123,
    ordering_key=None,
    idempotency_key="again",
)

A_REPLY = ReplyMessage(
    request_id="gw-1",
    tenant="t",
    outcome="FAILED",
    content_type="",
    payload=b"",
    payload_schema=None,
    problem={"type": "rejected", "title": "No", "detail": None},
    attempt=1,
    processor="p",
    enqueued=1,
    fetched=2,
    started=3,
    finished=4,
)
AN_OPERATION = OperationMessage(
    name="thumbnail",
    app="imaging",
    description="",
    tier="bulk",
    deadline_ms=1000,
    accepts="image/png",
    returns="image/png",
    request_schemas=[],
    result_schemas=[],
    announced_at=1,
    announced_by="p",
    term=0,
)
EXAMPLES: dict[str, Any] = {"job": A_JOB, "reply": A_REPLY, "operation": AN_OPERATION}


def test_every_message_has_a_codec_here() -> None:
    assert set(CODECS) == set(forebay_schemas.NAMES)


@EVERY
@given(data=st.data())
def test_a_message_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    encode, decode, strategy, _ = CODECS[name]
    message = data.draw(strategy)
    assert decode(encode(message)) == message


@EVERY
def test_a_message_is_typed_as_its_schema_has_it(name: str) -> None:
    fields = [field["name"] for field in json.loads(forebay_schemas.current(name))["fields"]]
    assert list(get_type_hints(CODECS[name][3])) == fields


@EVERY
def test_every_field_says_what_it_means(name: str) -> None:
    schema = json.loads(forebay_schemas.current(name))
    assert schema["doc"]
    assert all("doc" in field or "doc" in field["type"] for field in schema["fields"])


def test_a_job_is_written_byte_for_byte_as_specified() -> None:
    written = [
        text("gw-1"),
        text("thumbnail"),
        text("t"),
        text("bulk"),
        text("image/png"),
        text(b"\x00\xff"),
        number(1) + b"12345678",
        text("forebay.replies.gw"),
        number(1),
        number(1_700_000_000_123),
        number(1_700_000_002_123),
        number(0),
        number(1) + text("again"),
    ]
    header = MARKER + crc_64_avro(canonical(json.loads(forebay_schemas.current("job"))).encode())
    assert messages.encode_job(A_JOB) == header + b"".join(written)


@EVERY
@given(data=st.data())
def test_whatever_a_released_version_wrote_is_read(name: str, data: st.DataObject) -> None:
    _, decode, strategy, _ = CODECS[name]
    message = data.draw(strategy)
    for version in forebay_schemas.released(name):
        read = decode(Schema(version, logical=False).encode(message))
        written = {field["name"] for field in json.loads(version)["fields"]}
        assert {field: value for field, value in read.items() if field in written} == {
            field: value for field, value in message.items() if field in read and field in written
        }


@EVERY
def test_broken_messages_are_refused_by_name(name: str) -> None:
    encode, decode, _, _ = CODECS[name]
    whole = encode(EXAMPLES[name])
    other = messages.encode_reply(A_REPLY) if name == "job" else messages.encode_job(A_JOB)
    for broken, error, said in (
        (b"", TruncatedMessage, "0 bytes"),
        (whole[: HEADER_SIZE - 1], TruncatedMessage, "9 bytes"),
        (b"PK" + whole[2:], WrongMarker, "50 4B"),
        (other, UnknownFingerprint, other[2:HEADER_SIZE].hex()),
        (whole[:-1], UnreadableBody, "ends too early"),
        (whole + b"\x00", UnreadableBody, "1 bytes are left over"),
    ):
        with pytest.raises(error, match=said):
            decode(broken)


def test_what_was_released_is_what_is_recorded_here() -> None:
    found = {
        (name, number): (Schema(version).fingerprint.hex(), hashlib.sha256(version.encode()).hexdigest())
        for name in forebay_schemas.NAMES
        for number, version in enumerate(forebay_schemas.released(name), start=1)
    }
    assert found == RELEASED


@EVERY
def test_the_version_in_use_fits_every_released_one_both_ways(name: str) -> None:
    current = forebay_schemas.current(name)
    for version in forebay_schemas.released(name):
        assert compatibility.check(version, current) is None


@EVERY
def test_the_version_in_use_is_a_released_one_or_waits_to_be(name: str) -> None:
    """Its own fingerprint must be known to every reader before anybody writes it."""
    current = Schema(forebay_schemas.current(name))
    known = {Schema(version).fingerprint for version in forebay_schemas.released(name)}
    assert current.fingerprint in known, f"copy {name}.avsc to released/ as its next version, and record it here"


def changed(name: str, field: str, change: Callable[[dict[str, Any]], Any]) -> str:
    """The version in use with one field changed."""
    schema = json.loads(forebay_schemas.current(name))
    (found,) = (each for each in schema["fields"] if each["name"] == field)
    change(found)
    return json.dumps(schema)


def without(name: str, field: str) -> str:
    schema = json.loads(forebay_schemas.current(name))
    schema["fields"] = [each for each in schema["fields"] if each["name"] != field]
    return json.dumps(schema)


def with_another(message: str, /, **field: Any) -> str:
    schema = json.loads(forebay_schemas.current(message))
    schema["fields"].append(field)
    return json.dumps(schema)


BAD_CHANGES = {
    "a field without a default goes": ("job", "tenant", without("job", "tenant")),
    "a field without a default comes": ("job", "urgency", with_another("job", name="urgency", type="int")),
    "a number becomes text": ("reply", "attempt", changed("reply", "attempt", lambda f: f.update(type="string"))),
    "a number is widened": ("reply", "attempt", changed("reply", "attempt", lambda f: f.update(type="long"))),
    "text may be left out": ("job", "tenant", changed("job", "tenant", lambda f: f.update(type=["null", "string"]))),
    "text may not be left out any more": (
        "job",
        "ordering_key",
        changed("job", "ordering_key", lambda f: f.update(type="string", default="")),
    ),
    "an outcome comes": (
        "reply",
        "outcome",
        changed("reply", "outcome", lambda f: f["type"]["symbols"].append("RETRYING")),
    ),
    "an outcome goes": ("reply", "outcome", changed("reply", "outcome", lambda f: f["type"]["symbols"].pop())),
    "instants get finer": (
        "job",
        "deadline",
        changed("job", "deadline", lambda f: f["type"].update(logicalType="timestamp-micros")),
    ),
    "instants become numbers": ("job", "deadline", changed("job", "deadline", lambda f: f.update(type="long"))),
    "a fingerprint grows": (
        "job",
        "payload_schema",
        changed("job", "payload_schema", lambda f: f["type"][1].update(size=16)),
    ),
    "a nested field without a default goes": (
        "reply",
        "problem.title",
        changed("reply", "problem", lambda f: f["type"][1]["fields"].pop(1)),
    ),
    "a field is called otherwise": ("job", "lane", changed("job", "tier", lambda f: f.update(name="lane"))),
    "items change": (
        "operation",
        "request_schemas[]",
        changed("operation", "request_schemas", lambda f: f["type"].update(items="int")),
    ),
}


@pytest.mark.parametrize(("name", "field", "bad"), BAD_CHANGES.values(), ids=list(BAD_CHANGES))
def test_a_bad_change_is_refused_by_the_name_of_its_field(name: str, field: str, bad: str) -> None:
    for version in forebay_schemas.released(name):
        conflict = compatibility.check(version, bad)
        assert conflict is not None
        assert conflict.field == field


def test_a_good_change_is_accepted() -> None:
    for good in (
        with_another("job", name="urgency", type="int", default=3),
        with_another("job", name="note", type=["null", "string"], default=None),
        without("job", "ordering_key"),
        changed("job", "tenant", lambda f: f.update(doc="Said better.")),
    ):
        assert compatibility.check(forebay_schemas.current("job"), good) is None
