"""Single-object encoding, byte for byte as the Avro specification has it, and what is said of bytes that are not."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forebay_schemas
from forebay.codec import HEADER_SIZE, MARKER, Schema, SchemaSet
from forebay.errors import CodecError, TruncatedMessage, UnknownFingerprint, UnreadableBody, WrongMarker
from tests.contracts.avro_rules import canonical, crc_64_avro, number, text

PAIR = {
    "type": "record",
    "name": "Pair",
    "namespace": "forebay.test",
    "doc": "Not part of what is fingerprinted.",
    "fields": [
        {"name": "name", "type": "string", "doc": "nor this"},
        {"name": "count", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
    ],
}
PAIR_SCHEMA = Schema(json.dumps(PAIR), logical=False)
VALUE = {"name": "Ångström", "count": -3}
ENCODED = PAIR_SCHEMA.encode(VALUE)


@pytest.mark.parametrize(
    ("schema", "fingerprint"),
    [
        ('"int"', "8f5c393f1ad57572"),
        ('{"type": "int"}', "8f5c393f1ad57572"),
        ('"null"', "8a8f25cce724dd63"),
        ('"boolean"', "64f7d4a478fc429f"),
        ('"string"', "c70345637248018f"),
    ],
)
def test_fingerprints_are_those_that_the_specification_gives(schema: str, fingerprint: str) -> None:
    assert Schema(schema).fingerprint.hex() == fingerprint


def test_a_single_object_is_marker_fingerprint_and_body() -> None:
    assert Schema('"int"').encode(42) == bytes.fromhex("c301 8f5c393f1ad57572 54")
    assert (MARKER, HEADER_SIZE) == (b"\xc3\x01", 10)


def test_a_record_is_written_byte_for_byte_as_specified() -> None:
    plain = (
        '{"name":"forebay.test.Pair","type":"record",'
        '"fields":[{"name":"name","type":"string"},{"name":"count","type":"long"}]}'
    )
    assert canonical(PAIR) == plain
    assert b"\xc3\x01" + crc_64_avro(plain.encode()) + text("Ångström") + number(-3) == ENCODED


@pytest.mark.parametrize("name", forebay_schemas.NAMES)
def test_messages_carry_the_fingerprint_of_their_canonical_form(name: str) -> None:
    """Logical types, documentation and defaults are no part of it."""
    source = forebay_schemas.current(name)
    assert Schema(source).fingerprint == crc_64_avro(canonical(json.loads(source)).encode())


def test_with_and_without_logical_types_the_bytes_are_the_same() -> None:
    plain, logical = Schema(json.dumps(PAIR), logical=False), Schema(json.dumps(PAIR))
    instant = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
    milliseconds = int(instant.timestamp() * 1000)
    assert logical.fingerprint == plain.fingerprint
    assert logical.encode({"name": "", "count": instant}) == plain.encode({"name": "", "count": milliseconds})


def test_a_bare_body_is_what_follows_the_header() -> None:
    assert PAIR_SCHEMA.encode_body(VALUE) == ENCODED[HEADER_SIZE:]
    assert PAIR_SCHEMA.decode_body(ENCODED, offset=HEADER_SIZE) == VALUE


NUMBERS = SchemaSet(PAIR_SCHEMA)


@pytest.mark.parametrize("size", range(HEADER_SIZE))
def test_bytes_that_end_within_the_header_are_truncated(size: int) -> None:
    with pytest.raises(TruncatedMessage) as caught:
        NUMBERS.decode(ENCODED[:size])
    assert (caught.value.size, caught.value.needed) == (size, HEADER_SIZE)
    assert f"message of {size} bytes is truncated" in str(caught.value)


@pytest.mark.parametrize("size", range(HEADER_SIZE, len(ENCODED)))
def test_bytes_that_end_within_the_body_are_told_so(size: int) -> None:
    with pytest.raises(UnreadableBody) as caught:
        NUMBERS.decode(ENCODED[:size])
    assert f"body of {size - HEADER_SIZE} bytes" in str(caught.value)
    assert "ends too early" in str(caught.value)
    assert "forebay.test.Pair" in str(caught.value)


@pytest.mark.parametrize("start", [b"\xc3\x00", b"\x01\xc3", b'{"', b"Ob"])
def test_another_marker_is_shown(start: bytes) -> None:
    with pytest.raises(WrongMarker) as caught:
        NUMBERS.decode(start + ENCODED[2:])
    assert caught.value.found == start
    assert start.hex(" ").upper() in str(caught.value)
    assert "C3 01" in str(caught.value)


def test_a_fingerprint_that_nobody_knows_is_shown() -> None:
    with pytest.raises(UnknownFingerprint) as caught:
        NUMBERS.decode(Schema('"int"').encode(42))
    assert caught.value.fingerprint.hex() == "8f5c393f1ad57572"
    assert "8f5c393f1ad57572" in str(caught.value)
    assert "forebay.test.Pair" in str(caught.value)


def test_bytes_after_the_body_are_counted() -> None:
    with pytest.raises(UnreadableBody, match="3 bytes are left over"):
        NUMBERS.decode(ENCODED + b"abc")


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ('"string"', b"\x02\xff"),
        ('"bytes"', b"\x01"),
        ('"bytes"', b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ('["null", "int"]', b"\x08\x00"),
        ('{"type": "enum", "name": "E", "symbols": ["A"]}', b"\x08"),
        ('{"type": "array", "items": "int"}', b"\x04\x02"),
        ('{"type": "fixed", "name": "F", "size": 4}', b"abc"),
    ],
)
def test_a_body_that_does_not_fit_its_schema_is_refused(schema: str, body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        Schema(schema).decode_body(body)


@pytest.mark.parametrize("value", [{"name": 3, "count": 1}, {"name": "a", "count": "b"}, {"count": 1}, None, 7])
def test_a_value_that_does_not_fit_is_not_written(value: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        PAIR_SCHEMA.encode(value)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_codec_error(data: bytes) -> None:
    for sample in (data, MARKER + data, ENCODED[:HEADER_SIZE] + data):
        said = ""
        try:
            assert set(NUMBERS.decode(sample)) == {"name", "count"}
        except CodecError as error:
            said = str(error)
        assert "\n" not in said


@given(st.lists(st.floats(allow_nan=False)), st.text(), st.integers(-(2**63), 2**63 - 1))
def test_what_is_written_is_read(numbers: list[float], words: str, count: int) -> None:
    fields = [
        {"name": "numbers", "type": {"type": "array", "items": "double"}},
        {"name": "words", "type": ["null", "string"]},
        {"name": "count", "type": "long"},
    ]
    schema = Schema(json.dumps({"type": "record", "name": "R", "fields": fields}))
    value = {"numbers": numbers, "words": words, "count": count}
    assert SchemaSet(schema).decode(schema.encode(value)) == value
    blocks = number(len(numbers)) + b"".join(struct.pack("<d", each) for each in numbers) if numbers else b""
    assert schema.encode_body(value) == blocks + number(0) + number(1) + text(words) + number(count)


OLDER = {**PAIR, "fields": PAIR["fields"][:1]}
NEWER = {**PAIR, "fields": [*PAIR["fields"], {"name": "tag", "type": ["null", "string"], "default": None}]}


@pytest.mark.parametrize(
    ("writer", "value", "read"),
    [
        (OLDER, {"name": "a"}, {"name": "a", "count": 0}),
        (PAIR, {"name": "a", "count": 5}, {"name": "a", "count": 5}),
        (NEWER, {"name": "a", "count": 5, "tag": "b"}, {"name": "a", "count": 5}),
    ],
    ids=["older", "same", "newer"],
)
def test_any_known_version_is_read_as_the_current_one(
    writer: dict[str, Any], value: dict[str, Any], read: dict[str, Any]
) -> None:
    writers = [Schema(json.dumps(each), logical=False) for each in (OLDER, NEWER)]
    schemas = SchemaSet(PAIR_SCHEMA, writers)
    assert schemas.decode(Schema(json.dumps(writer), logical=False).encode(value)) == read
    assert all(schemas.has_writer(each.fingerprint) for each in (*writers, PAIR_SCHEMA))
    assert not schemas.has_writer(Schema('"int"').fingerprint)
