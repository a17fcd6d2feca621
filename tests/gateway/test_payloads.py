from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.codec import Schema
from forebay.errors import (
    InvalidSchema,
    PayloadInvalid,
    PayloadMalformed,
    UnreadableBody,
)
from forebay.recursion import MAX_DEPTH
from forebay_gateway.payloads import PayloadCodec

Json = Any
NODE = {
    "type": "record",
    "name": "Node",
    "fields": [
        {"name": "value", "type": "int"},
        {"name": "next", "type": ["null", "Node"], "default": None},
    ],
}
CROP = {
    "type": "record",
    "name": "forebay.Crop",
    "fields": [
        {"name": "width", "type": "int"},
        {"name": "height", "type": "int", "default": 100},
        {
            "name": "points",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Point",
                    "fields": [{"name": "x", "type": "double"}, {"name": "y", "type": "double"}],
                },
            },
            "default": [],
        },
        {"name": "labels", "type": {"type": "map", "values": ["null", "Point"]}, "default": {}},
    ],
}
REQUEST = {
    "type": "record",
    "name": "Request",
    "fields": [{"name": "title", "type": "string"}, {"name": "crop", "type": CROP}],
}
CIRCLE = {"type": "record", "name": "shapes.Circle", "fields": [{"name": "radius", "type": "double"}]}
SQUARE = {"type": "record", "name": "shapes.Square", "fields": [{"name": "side", "type": "double"}]}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN"]}
CHAIN = {"value": 1, "next": {"value": 2, "next": None}}
PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
FIXED_PRICE = {**PRICE, "type": "fixed", "name": "Price", "size": 4}
A_PRICE = "expected a decimal number, as a number or a string, of at most 4 digits before the point and 2 after it"
A_DOUBLE = "expected a whole number that a double can hold"
A_TIME = "expected a time of day without a time zone, such as 08:30:00"
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
UUID_TEXT = "01234567-89ab-cdef-0123-456789abcdef"


def long(logical: str) -> Json:
    return {"type": "long", "logicalType": logical}


def fixed(size: int, **more: Json) -> Json:
    return {"type": "fixed", "name": f"Fixed{size}", "size": size, **more}


def in_field(schema: Json, **more: Json) -> Json:
    return {"type": "record", "name": "Holder", "fields": [{"name": "it", "type": schema, **more}]}


def round_trip(schema: Json, body: str | bytes) -> Json:
    codec = PayloadCodec(json.dumps(schema))
    return json.loads(codec.decode(codec.encode(body.encode() if isinstance(body, str) else body)))


def as_the_handler_reads_it(schema: Json, payload: bytes) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(payload), fastavro.parse_schema(schema), None)


# --- what fits --------------------------------------------------------------------------------------------------------

FITS: list[tuple[Json, Json, Any, Json]] = [
    # schema, JSON in, what the handler reads, JSON out
    ("null", None, None, None),
    ("boolean", True, True, True),
    ("int", -(2**31), -(2**31), -(2**31)),
    ("int", 2**31 - 1, 2**31 - 1, 2**31 - 1),
    ("long", -(2**63), -(2**63), -(2**63)),
    ("long", 2**63 - 1, 2**63 - 1, 2**63 - 1),
    ("float", 1, 1.0, 1.0),
    ("float", 0.5, 0.5, 0.5),
    ("double", 3, 3.0, 3.0),
    ("double", 10**30, 1e30, 1e30),
    ("double", 2**53 + 2, 2.0**53 + 2, 2.0**53 + 2),
    ("double", 1152921504606847000, 2.0**60, 2.0**60),
    ({"type": "array", "items": "double"}, [2**60, 0.5], [2.0**60, 0.5], [2.0**60, 0.5]),
    ("double", -2.5e-300, -2.5e-300, -2.5e-300),
    ("string", "Grüße 🌊\x00", "Grüße 🌊\x00", "Grüße 🌊\x00"),
    ("bytes", "AP/+", b"\x00\xff\xfe", "AP/+"),
    ("bytes", "", b"", ""),
    (fixed(3), "AAEC", b"\x00\x01\x02", "AAEC"),
    (fixed(12, logicalType="duration"), "A" * 16, bytes(12), "A" * 16),
    (COLOUR, "GREEN", "GREEN", "GREEN"),
    ({"type": "array", "items": "int"}, [], [], []),
    ({"type": "array", "items": ["null", "int"]}, [1, None], [1, None], [1, None]),
    ({"type": "map", "values": "bytes"}, {"a.b": "AA=="}, {"a.b": b"\x00"}, {"a.b": "AA=="}),
    ({"type": "map", "values": INSTANT}, {}, {}, {}),
    (
        INSTANT,
        "2026-01-31T08:30:00.123000+02:00",
        datetime(2026, 1, 31, 6, 30, 0, 123000, UTC),
        "2026-01-31T06:30:00.123000Z",
    ),
    (
        INSTANT,
        "1969-12-31T23:59:59.999Z",
        datetime(1969, 12, 31, 23, 59, 59, 999000, UTC),
        "1969-12-31T23:59:59.999000Z",
    ),
    (
        long("timestamp-micros"),
        "0001-01-01T00:00:00.000001Z",
        datetime(1, 1, 1, 0, 0, 0, 1, UTC),
        "0001-01-01T00:00:00.000001Z",
    ),
    (long("local-timestamp-millis"), "2026-01-31T08:30:00", datetime(2026, 1, 31, 8, 30), "2026-01-31T08:30:00"),  # noqa: DTZ001
    (
        long("local-timestamp-micros"),
        "2026-01-31T08:30:00.000001",
        datetime(2026, 1, 31, 8, 30, 0, 1),  # noqa: DTZ001
        "2026-01-31T08:30:00.000001",
    ),
    ({"type": "int", "logicalType": "date"}, "1815-12-10", date(1815, 12, 10), "1815-12-10"),
    ({"type": "int", "logicalType": "time-millis"}, "08:30:00.5", time(8, 30, 0, 500000), "08:30:00.500000"),
    (long("time-micros"), "23:59:59.999999000", time(23, 59, 59, 999999), "23:59:59.999999"),
    ({"type": "string", "logicalType": "uuid"}, UUID_TEXT.upper(), UUID(UUID_TEXT), UUID_TEXT),
    (fixed(16, logicalType="uuid"), UUID_TEXT, UUID(UUID_TEXT), UUID_TEXT),
    (fixed(2, logicalType="uuid"), "AAA=", bytes(2), "AAA="),
    (PRICE, "1234.5", Decimal("1234.50"), "1234.50"),
    (PRICE, 1234.56, Decimal("1234.56"), "1234.56"),
    (PRICE, -7, Decimal("-7.00"), "-7.00"),
    (PRICE, "1.5000", Decimal("1.50"), "1.50"),
    (PRICE, "1e3", Decimal("1000.00"), "1000.00"),
    (PRICE, "0e999999999", Decimal("0.00"), "0.00"),
    (FIXED_PRICE, "-9999.99", Decimal("-9999.99"), "-9999.99"),
    (FIXED_PRICE, "-0", Decimal("0.00"), "0.00"),
    (FIXED_PRICE, "1.28", Decimal("1.28"), "1.28"),
    ({"type": "long", "logicalType": "unheard-of"}, 5, 5, 5),
    (["null", "string"], None, None, None),
    (["null", "string"], "x", "x", "x"),
    (["null", INSTANT], "2026-01-31T08:30:00Z", datetime(2026, 1, 31, 8, 30, tzinfo=UTC), "2026-01-31T08:30:00Z"),
    (["null", PRICE], 5, Decimal("5.00"), "5.00"),
    (["null", {"type": "map", "values": "string"}], {"-type": "x"}, {"-type": "x"}, {"-type": "x"}),
    (NODE, {"value": 1, "next": {"value": 2}}, CHAIN, CHAIN),
    (
        {"type": "record", "name": "R", "fields": [{"name": n, "type": "int"} for n in ("class", "__init__", "mro")]},
        {"class": 1, "__init__": 2, "mro": 3},
        {"class": 1, "__init__": 2, "mro": 3},
        {"class": 1, "__init__": 2, "mro": 3},
    ),
    ({"type": "record", "name": "Empty", "fields": []}, {}, {}, {}),
]


@pytest.mark.parametrize(("schema", "given_json", "read", "returned"), FITS, ids=lambda value: str(value)[:40])
def test_json_becomes_what_the_handler_expects_and_comes_back(
    schema: Json, given_json: Json, read: Any, returned: Json
) -> None:
    codec = PayloadCodec(json.dumps(schema))
    payload = codec.encode(json.dumps(given_json).encode())
    value = as_the_handler_reads_it(schema, payload)
    assert value == read
    assert type(value) is type(read)
    assert json.loads(codec.decode(payload)) == returned


def test_a_number_keeps_every_digit_on_its_way_into_a_decimal() -> None:
    schema = {**PRICE, "precision": 40, "scale": 20}
    number = "12345678901234567890.12345678901234567891"
    assert round_trip(schema, number) == number
    assert round_trip(["double", schema], f'"{number}"') == number


def test_numbers_that_are_no_numbers_are_null_in_a_reply() -> None:
    schema = {"type": "array", "items": "double"}
    codec = PayloadCodec(json.dumps(schema))
    payload = Schema(json.dumps(schema)).encode_body([float("nan"), float("inf"), 1.0])
    assert codec.decode(payload) == b"[null,null,1.0]"


def test_of_two_equal_keys_the_last_counts() -> None:
    assert round_trip({"type": "map", "values": "int"}, '{"a": 1, "a": 2}') == {"a": 2}
    assert round_trip(CIRCLE, '{"radius": 1, "radius": 2}') == {"radius": 2.0}


# --- defaults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "default", "read"),
    [
        ("int", 5, 5),
        ("double", 5, 5.0),
        ("boolean", False, False),
        ("string", "x", "x"),
        ("bytes", "\u00ff\u0000", b"\xff\x00"),
        (fixed(2), "\u00ff\u0000", b"\xff\x00"),
        (COLOUR, "GREEN", "GREEN"),
        (["null", "int"], None, None),
        (["int", "null"], 5, 5),
        (["bytes", "null"], "\u00ff", b"\xff"),
        (["string", "bytes"], "x", "x"),
        (["null", {"type": "array", "items": "int"}], None, None),
        ({"type": "array", "items": "bytes"}, ["\u00ff"], [b"\xff"]),
        ({"type": "array", "items": "int"}, [], []),
        ({"type": "map", "values": ["int", "string"]}, {"a": 1}, {"a": 1}),
        (INSTANT, 1500, datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)),
        (long("local-timestamp-micros"), 1, datetime(1970, 1, 1, 0, 0, 0, 1)),  # noqa: DTZ001
        ({"type": "int", "logicalType": "date"}, 1, date(1970, 1, 2)),
        (long("time-micros"), 1, time(0, 0, 0, 1)),
        (PRICE, "\u0001\u00f4", Decimal("5.00")),
        (FIXED_PRICE, "\u0000\u0000\u0001\u00f4", Decimal("5.00")),
        ({"type": "string", "logicalType": "uuid"}, UUID_TEXT, UUID(UUID_TEXT)),
        (fixed(16, logicalType="uuid"), "\u0000" * 16, UUID(int=0)),
        (CROP, {"width": 1}, {"width": 1, "height": 100, "points": [], "labels": {}}),
        ([CIRCLE, SQUARE], {"radius": 1}, {"radius": 1.0}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_left_out_takes_the_default_of_its_schema(schema: Json, default: Json, read: Any) -> None:
    holder = in_field(schema, default=default)
    codec = PayloadCodec(json.dumps(holder))
    for _ in range(2):
        payload = codec.encode(b"{}")
        assert as_the_handler_reads_it(holder, payload) == {"it": read}
        codec.decode(payload)


def test_a_record_may_default_to_one_of_its_own_type() -> None:
    child = {"name": "child", "type": ["null", "Tree"], "default": None}
    leaf = {"name": "leaf", "type": {"type": "array", "items": "Tree"}, "default": [{"name": "x"}]}
    schema = {"type": "record", "name": "Tree", "fields": [{"name": "name", "type": "string"}, child]}
    assert round_trip(in_field(schema, default={"name": "x"}), "{}") == {"it": {"name": "x", "child": None}}
    with pytest.raises(InvalidSchema):
        PayloadCodec(json.dumps({**schema, "fields": [schema["fields"][0], leaf]}))


# --- unions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "body", "branch", "returned"),
    [
        ([CIRCLE, SQUARE], '{"side": 2}', 1, {"side": 2.0}),
        (["null", CIRCLE, SQUARE], "null", 0, None),
        (["null", CIRCLE, SQUARE], '{"radius": 2}', 1, {"radius": 2.0}),
        ([CIRCLE, {"type": "map", "values": "double"}], '{"radius": 2}', 0, {"radius": 2.0}),
        ([CIRCLE, {"type": "map", "values": "double"}], '{"radius": 2, "a": 1}', 1, {"radius": 2.0, "a": 1.0}),
        ([{"type": "map", "values": "double"}, CIRCLE], '{"radius": 2}', 0, {"radius": 2.0}),
        (["string", "bytes"], '"AAAA"', 0, "AAAA"),
        (["bytes", "string"], '"AAAA"', 0, "AAAA"),
        (["bytes", "string"], '"not base64"', 1, "not base64"),
        (["int", "long"], "5", 0, 5),
        (["int", "long"], "5000000000", 1, 5000000000),
        (["long", "double"], "5", 0, 5),
        (["long", "double"], "5.5", 1, 5.5),
        (["long", "double"], "5.0", 1, 5.0),
        (["long", "double"], "1" + "0" * 30, 1, 1e30),
        (["double", "long"], "5", 1, 5),
        (["double", "long"], "5.0", 0, 5.0),
        ([PRICE, "long"], "5", 1, 5),
        (["long", "double"], "9007199254740993", 0, 9007199254740993),
        (["float", "double"], "0.5", 0, 0.5),
        (["float", "double"], "1e300", 1, 1e300),
        (["int", PRICE], "1.25", 1, "1.25"),
        (["double", PRICE], '"1.25"', 1, "1.25"),
        ([PRICE, "double"], "1.25", 0, "1.25"),
        ([PRICE, "double"], "1.255", 1, 1.255),
        ([INSTANT, "string"], '"2026-01-31T08:30:00Z"', 0, "2026-01-31T08:30:00Z"),
        ([INSTANT, "string"], '"tomorrow"', 1, "tomorrow"),
        ([COLOUR, "string"], '"BLUE"', 1, "BLUE"),
        ([fixed(3), fixed(6)], '"AAAAAAAA"', 1, "AAAAAAAA"),
        ([fixed(16, logicalType="uuid"), "string"], f'"{UUID_TEXT}"', 0, UUID_TEXT),
        (["boolean", "int", "string", {"type": "array", "items": CIRCLE}], '[{"radius": 1}]', 3, [{"radius": 1.0}]),
        (["boolean", "int", "string"], "true", 0, True),
        (["null", {"type": "array", "items": [CIRCLE, SQUARE]}], '[{"side": 1}]', 1, [{"side": 1.0}]),
        (["null", NODE], '{"value": 1, "next": null}', 1, {"value": 1, "next": None}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_union_takes_the_first_branch_that_fits_and_writes_that_one(
    schema: Json, body: str, branch: int, returned: Json
) -> None:
    codec = PayloadCodec(json.dumps(schema))
    payload = codec.encode(body.encode())
    assert payload[0] == 2 * branch
    decoded = json.loads(codec.decode(payload))
    assert decoded == returned
    assert type(decoded) is type(returned)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "body", "field", "reason"),
    [
        ("int", '"x"', "", "expected an integer, found a string"),
        ("int", "true", "", "expected an integer, found a boolean"),
        ("int", "1.0", "", "expected an integer, found a number that is not an integer"),
        ("int", "2147483648", "", "expected an integer from -2147483648 to 2147483647, found 2147483648"),
        (
            "long",
            "-9223372036854775809",
            "",
            "expected an integer from -9223372036854775808 to 9223372036854775807, found -9223372036854775809",
        ),
        (
            "long",
            "1" * 1000,
            "",
            "expected an integer from -9223372036854775808 to 9223372036854775807, found a much larger number",
        ),
        ("long", "1" * 6000, "", "expected an integer from -9223372036854775808 to 9223372036854775807"),
        ("float", "1e39", "", "expected a number from -3.40282e+38 to 3.40282e+38, found 1E+39"),
        ("double", "1e999", "", "expected a number from -1.79769e+308 to 1.79769e+308, found 1E+999"),
        (
            "double",
            "-1e99999999999999999999",
            "",
            "expected a number from -1.79769e+308 to 1.79769e+308, found -Infinity",
        ),
        ("double", '"NaN"', "", "expected a number, found a string"),
        ("double", "9007199254740993", "", f"{A_DOUBLE}, found 9007199254740993"),
        ("double", "-9007199254740993", "", f"{A_DOUBLE}, found -9007199254740993"),
        ("double", "1" * 400, "", "expected a number from -1.79769e+308 to 1.79769e+308, found a much larger number"),
        (["null", "double"], "9007199254740993", "", f"{A_DOUBLE}, found 9007199254740993"),
        ({"type": "array", "items": "double"}, "[0.5, 9007199254740993]", "[1]", f"{A_DOUBLE}, found 9007199254740993"),
        ({"type": "map", "values": "double"}, '{"a": 9007199254740993}', "a", f"{A_DOUBLE}, found 9007199254740993"),
        ("string", "null", "", "expected a string, found null"),
        ("boolean", "0", "", "expected a boolean, found an integer"),
        ("null", "[]", "", "expected null, found an array"),
        ("bytes", '"*"', "", "expected a base64 string, found '*'"),
        ("bytes", '"AAA"', "", "expected a base64 string, found 'AAA'"),
        ("bytes", '"AAB="', "", "expected a base64 string, found one whose last digit has bits that would be dropped"),
        ("bytes", '"AB=="', "", "expected a base64 string, found one whose last digit has bits that would be dropped"),
        ("bytes", '"_-8="', "", "expected a base64 string, found '_-8='"),
        ("bytes", '"AA AA"', "", "expected a base64 string, found 'AA AA'"),
        ("bytes", '"AAAA\\n"', "", "expected a base64 string, found 'AAAA\n'"),
        ("bytes", json.dumps("*" * 5000), "", "expected a base64 string, found a string of 5000 characters"),
        (fixed(16), '"AAAA"', "", "expected a base64 string of 16 bytes, found 3 bytes"),
        (fixed(2), '"AAAA"', "", "expected a base64 string of 2 bytes, found 3 bytes"),
        (COLOUR, '"BLUE"', "", "expected one of RED, GREEN, found 'BLUE'"),
        (COLOUR, "7", "", "expected one of RED, GREEN, found an integer"),
        (
            INSTANT,
            '"2026-01-31T08:30:00"',
            "",
            "expected a timestamp with a time zone, such as 2026-01-31T08:30:00Z, found '2026-01-31T08:30:00'",
        ),
        (
            INSTANT,
            "1769848200",
            "",
            "expected a timestamp with a time zone, such as 2026-01-31T08:30:00Z, found an integer",
        ),
        (
            INSTANT,
            '"2026-01-31T08:30:00.0005Z"',
            "",
            "expected at most 3 digits of a second, found '2026-01-31T08:30:00.0005Z'",
        ),
        (
            long("timestamp-micros"),
            '"2026-01-31T23:59:59.9999999Z"',
            "",
            "expected at most 6 digits of a second, found '2026-01-31T23:59:59.9999999Z'",
        ),
        (
            long("time-micros"),
            '"08:30:00.0000001"',
            "",
            "expected at most 6 digits of a second, found '08:30:00.0000001'",
        ),
        (long("time-micros"), '"08:30:00Z"', "", f"{A_TIME}, found '08:30:00Z'"),
        (long("time-micros"), '"08:30"', "", f"{A_TIME}, found '08:30'"),
        (INSTANT, '"0001-01-01T00:00:00+23:59"', "", "expected a timestamp of the years 1 to 9999 in UTC"),
        (
            long("local-timestamp-millis"),
            '"2026-01-31T08:30:00Z"',
            "",
            "expected a timestamp without a time zone, such as 2026-01-31T08:30:00, found '2026-01-31T08:30:00Z'",
        ),
        (
            {"type": "int", "logicalType": "date"},
            '"31.1.2026"',
            "",
            "expected a date, such as 2026-01-31, found '31.1.2026'",
        ),
        (
            long("time-micros"),
            '"24:00:00"',
            "",
            "expected a time of day without a time zone, such as 08:30:00, found '24:00:00'",
        ),
        ({"type": "string", "logicalType": "uuid"}, '"x"', "", "expected a UUID, found 'x'"),
        (
            PRICE,
            '"1.234"',
            "",
            f"{A_PRICE}, found '1.234'",
        ),
        (
            FIXED_PRICE,
            "10000",
            "",
            f"{A_PRICE}, found 10000",
        ),
        (
            PRICE,
            "1e999999",
            "",
            f"{A_PRICE}, found 1E+999999",
        ),
        (
            PRICE,
            '"NaN"',
            "",
            f"{A_PRICE}, found 'NaN'",
        ),
        *(
            (PRICE, f'"{text}"', "", None)
            for text in ("1_000", " 1 ", "\u0661", "1.", ".5", "+1", "0x1", "1e", "1\\n", "")
        ),
        ([PRICE, "boolean"], '"1_000"', "", f"{A_PRICE}, found '1_000'"),
        (PRICE, "true", "", "expected a decimal number, as a number or a string, found a boolean"),
        (REQUEST, "[]", "", "expected an object, found an array"),
        (REQUEST, "{}", "title", "required field is missing"),
        (REQUEST, '{"title": "x", "crop": {}}', "crop.width", "required field is missing"),
        (REQUEST, '{"title": 1, "crop": {"width": 1}}', "title", "expected a string, found an integer"),
        (REQUEST, '{"title": "x", "crop": {"widht": 1}}', "crop.widht", "unknown field, did you mean 'width'?"),
        (REQUEST, '{"title": "x", "crop": {"width": 1}, "zz": 0}', "zz", "unknown field, known are title, crop"),
        (
            REQUEST,
            '{"title": "x", "crop": {"width": 1, "points": [{"x": 1, "y": 1}, {"x": 1, "y": "2"}]}}',
            "crop.points[1].y",
            "expected a number, found a string",
        ),
        (
            REQUEST,
            '{"title": "x", "crop": {"width": 1, "labels": {"a": null, "b": {"x": 1, "y": null}}}}',
            "crop.labels.b.y",
            "expected a number, found null",
        ),
        (
            REQUEST,
            '{"title": "x", "crop": {"width": 1, "labels": {"a.b \\"c": {"x": 1, "y": 2, "z": 3}}}}',
            'crop.labels["a.b \\"c"].z',
            "unknown field, known are x, y",
        ),
        (
            REQUEST,
            '{"title": "x", "crop": {"width": 1, "labels": {"b": 1}}}',
            "crop.labels.b",
            "expected null or an object, found an integer",
        ),
        ({"type": "record", "name": "E", "fields": []}, '{"a": 1}', "a", "unknown field, there are none here"),
        (
            {"type": "map", "values": INSTANT},
            '{"a": "2026-01-31T08:30:00Z", "b": "0001-01-01T00:00:00+01:00"}',
            "b",
            None,
        ),
        ({"type": "array", "items": PRICE}, "[1, 1.001]", "[1]", None),
        ({"type": "map", "values": {"type": "map", "values": "int"}}, '{"a": {"b": 1}, "c": {"d": "x"}}', "c.d", None),
        ({"type": "map", "values": "int"}, '{"a": "x", "a": 1}', "a", "expected an integer, found a string"),
        (
            {"type": "map", "values": {"type": "map", "values": {"type": "map", "values": "int"}}},
            '{"a": {"b": {"c": 1, "c": "x", "c": 2}}, "a": {"b": {"c": 1}, "b": {}}, "z": {}}',
            "a.b.c",
            "expected an integer, found a string",
        ),
        (
            {"type": "map", "values": {"type": "map", "values": "int"}},
            '{"a": {"x": 1, "y": "s"}, "a": {"z": null}, "a": {}}',
            "a.y",
            "expected an integer, found a string",
        ),
        (
            {"type": "map", "values": {"type": "array", "items": {"type": "map", "values": "int"}}},
            '{"a": [{"x": 1}, {"y": 4294967296, "y": 1}], "a": []}',
            "a[1].y",
            "expected an integer from -2147483648 to 2147483647, found 4294967296",
        ),
        (
            {"type": "record", "name": "P", "fields": [{"name": "n", "type": "int"}]},
            '{"n": 1, "n": 4294967296, "n": 2}',
            "n",
            "expected an integer from -2147483648 to 2147483647, found 4294967296",
        ),
        (
            {"type": "map", "values": {"type": "map", "values": "int"}},
            json.dumps({"k" * 9999: {'é "': "x"}})[:-1] + f', "{"k" * 9999}": {{}}}}',
            "k" * 39 + '…["é \\""]',
            "expected an integer, found a string",
        ),
        (NODE, '{"value": 1, "next": {"value": 2, "next": {"value": "x"}}}', "next.next.value", None),
        (NODE, '{"value": 1, "next": {"value": 2, "nxt": null}}', "next.nxt", "unknown field, did you mean 'next'?"),
        (NODE, '{"value": 1, "next": 5}', "next", "expected null or an object, found an integer"),
        (["null", "int"], '"x"', "", "expected null or an integer, found a string"),
        (
            in_field({"type": "array", "items": [CIRCLE, SQUARE]}),
            '{"it": [{"side": 1}, {"side": "x"}]}',
            "it[1]",
            (
                "fits none of the types it may be: Circle (side: unknown field, known are radius); "
                "Square (side: expected a number, found a string)"
            ),
        ),
        (["int", "long"], '"x"', "", "expected an integer, found a string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_named_with_its_path_and_the_reason(
    schema: Json, body: str, field: str, reason: str | None
) -> None:
    codec = PayloadCodec(json.dumps(schema))
    with pytest.raises(PayloadInvalid) as raised:
        codec.encode(body.encode())
    assert raised.value.field == field
    assert reason is None or raised.value.reason == reason
    assert str(raised.value) == f"{field or 'the body'}: {raised.value.reason}"


def test_what_is_long_is_not_repeated() -> None:
    codec = PayloadCodec(in_field([CIRCLE, SQUARE, COLOUR, "bytes"]))
    for body in (
        {"it": "*" * 9999},
        {"it": {"*" * 9999: 1}},
        {"*" * 9999: 1},
        {"it": int("9" * 4000)},
        {"it": [[[0] * 9999]]},
    ):
        with pytest.raises(PayloadInvalid) as raised:
            codec.encode(json.dumps(body).encode())
        assert len(str(raised.value)) < 450


@pytest.mark.parametrize(
    ("body", "reason", "position"),
    [
        (b"", "it is empty", 0),
        (b" \n", "it is empty", 0),
        (b'{"radius": 1', "it ends too early", 12),
        (b'{"radius": 1} x', "trailing characters", 14),
        (b'{"radius": 1,}', None, 13),
        (b'{"radius": NaN}', None, 11),
        (b'{"radius": "x", oops', None, 16),
        (b"{'radius': 1}", None, 1),
        (b'\xef\xbb\xbf{"radius": 1}', "it begins with a byte order mark, which JSON does not have", 0),
        (b'{"radius": "\xff"}', "it is not UTF-8", 12),
        (b'{"radi\xffus": 1}', "it is not UTF-8", 6),
        (b'{"radius": "\\ud800"}', "a surrogate pair has no second half", 12),
        (b'{"radius": "\\\\\\uDBFF"}', "a surrogate pair has no second half", 14),
        (b'{"radius": "\\ud800 and more"}', "unexpected end of escaped utf-16 surrogate pair", 18),
        (b'{"radius": "\\\\ud800', "it ends too early", 19),
        (b"\xc3\x01", "it is not UTF-8", 0),
        (b"not json", None, None),
    ],
    ids=str,
)
def test_what_is_not_json_is_malformed_and_the_place_is_given(
    body: bytes, reason: str | None, position: int | None
) -> None:
    with pytest.raises(PayloadMalformed) as raised:
        PayloadCodec(CIRCLE).encode(body)
    assert raised.value.position == position or position is None
    assert reason is None or f"the body is not JSON: {reason} (at byte {position})" == str(raised.value)


# --- depth ------------------------------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    return b'{"value":1,"next":' * levels + b"null" + b"}" * levels


def test_a_recursive_type_may_go_as_deep_as_the_bound_and_no_deeper() -> None:
    codec = PayloadCodec(NODE)
    body = nested(MAX_DEPTH + 1)
    assert codec.decode(codec.encode(body)) == body
    for levels in (MAX_DEPTH + 2, 400, 100_000):
        with pytest.raises(PayloadInvalid) as raised:
            codec.encode(nested(levels))
        assert raised.value.reason == f"nested too deeply: a type may recur {MAX_DEPTH} levels deep"


@pytest.mark.parametrize(
    "schema",
    [
        "int",
        NODE,
        [CIRCLE, SQUARE],
        {"type": "array", "items": [CIRCLE, SQUARE]},
        in_field("int"),
        {"type": "map", "values": "int"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"radius":' * 100_000,
        b'{"it":' * 100_000,
        b"[" * 50_000 + b"]" * 50_000,
        b'{"it": "x", "it": {}, "other": ' + b"9" * 5000 + b', "\\ud8',
        b'[{"it": {}}, ' + b"9" * 5000 + b', "\\ud8',
    ],
    ids=lambda body: repr(body[:8]) + str(len(body)),
)
def test_json_that_is_beyond_reason_is_refused(schema: Json, body: bytes) -> None:
    with pytest.raises((PayloadInvalid, PayloadMalformed)):
        PayloadCodec(json.dumps(schema)).encode(body)


def test_a_chain_of_ambiguous_unions_does_not_multiply_the_tries() -> None:
    both = {"type": "record", "name": "B", "fields": [{"name": "next", "type": ["null", "A", "B"]}]}
    schema = {"type": "record", "name": "A", "fields": [{"name": "next", "type": ["null", "A", both]}]}
    codec = PayloadCodec(schema)
    with pytest.raises(PayloadInvalid):
        codec.encode(b'{"next":' * MAX_DEPTH + b"5" + b"}" * MAX_DEPTH)
    body = b'{"next":' * MAX_DEPTH + b"null" + b"}" * MAX_DEPTH
    assert codec.decode(codec.encode(body)) == body


# --- schemas and framing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        "not json",
        '"nonsense"',
        "5",
        "[]",
        '["string", "string"]',
        json.dumps([{"type": "string", "logicalType": "uuid"}, "string"]),
        json.dumps(["null", ["null", "int"]]),
        json.dumps({"type": "bytes", "logicalType": "decimal"}),
        json.dumps({**PRICE, "scale": 7}),
        json.dumps({"type": "enum", "name": "E", "symbols": []}),
        json.dumps(in_field("int", default="x")),
        json.dumps(in_field({"type": "unknown"})),
        json.dumps({"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}] * 2}),
        json.dumps({"type": "record", "name": "R", "fields": [{"name": "a-b", "type": "int"}]}),
    ],
)
def test_a_schema_that_is_not_avro_is_refused(schema: str) -> None:
    with pytest.raises(InvalidSchema):
        PayloadCodec(schema)


def test_a_payload_is_a_bare_body_beside_the_fingerprint_of_its_schema() -> None:
    codec = PayloadCodec(CIRCLE)
    schema = Schema(json.dumps(CIRCLE))
    payload = codec.encode(b'{"radius": 1}')
    assert codec.fingerprint == schema.fingerprint
    assert payload == schema.encode_body({"radius": 1.0})
    assert codec.decode(payload) == b'{"radius":1.0}'


def test_a_reply_that_is_not_of_this_schema_is_unreadable() -> None:
    codec = PayloadCodec(CIRCLE)
    payload = codec.encode(b'{"radius": 1}')
    for broken in (payload[:-1], payload + b"x", b""):
        with pytest.raises(UnreadableBody):
            codec.decode(broken)


# --- any schema, any value --------------------------------------------------------------------------------------------

TypeAndValues = tuple[Json, "st.SearchStrategy[Json]"]


def as_json(value: Any) -> Json:
    return json.loads(msgspec.json.encode(value))


def base64(size: int | None = None) -> st.SearchStrategy[str]:
    return st.binary(min_size=size or 0, max_size=size or 20).map(lambda data: b64encode(data).decode())


def decimals(precision: int, scale: int) -> st.SearchStrategy[str]:
    largest = 10**precision - 1
    return st.integers(-largest, largest).map(lambda unscaled: str(Decimal(unscaled).scaleb(-scale)))


def numbers() -> st.SearchStrategy[TypeAndValues]:
    return st.sampled_from(
        [
            ("int", st.integers(-(2**31), 2**31 - 1)),
            ("long", st.integers(-(2**63), 2**63 - 1)),
            ("float", st.floats(width=32, allow_nan=False, allow_infinity=False)),
            ("double", st.floats(allow_nan=False, allow_infinity=False)),
        ]
    )


@st.composite
def texts(draw: st.DrawFn, names: st.SearchStrategy[str]) -> TypeAndValues:
    instants = st.datetimes(timezones=st.just(UTC))
    symbols = draw(st.lists(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}\Z", fullmatch=True), min_size=1, unique=True))
    name = draw(names)
    size = draw(st.integers(1, 20))
    precision = draw(st.integers(1, 25))
    scale = draw(st.integers(0, min(precision, 6)))
    drawn: TypeAndValues = draw(
        st.sampled_from(
            [
                ("string", st.text()),
                ("bytes", base64()),
                ({"type": "fixed", "name": name, "size": size}, base64(size)),
                ({"type": "enum", "name": name, "symbols": symbols}, st.sampled_from(symbols)),
                ({"type": "string", "logicalType": "uuid"}, st.uuids().map(as_json)),
                ({"type": "fixed", "name": name, "size": 16, "logicalType": "uuid"}, st.uuids().map(as_json)),
                (long("timestamp-micros"), instants.map(as_json)),
                (INSTANT, instants.map(lambda at: as_json(at - timedelta(microseconds=at.microsecond % 1000)))),
                (long("local-timestamp-micros"), st.datetimes().map(as_json)),
                ({"type": "int", "logicalType": "date"}, st.dates().map(as_json)),
                (long("time-micros"), st.times().map(as_json)),
                (
                    {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale},
                    decimals(precision, scale),
                ),
                (
                    {
                        "type": "fixed",
                        "name": name,
                        "size": 11,
                        "logicalType": "decimal",
                        "precision": precision,
                        "scale": scale,
                    },
                    decimals(precision, scale),
                ),
            ]
        )
    )
    return drawn


@st.composite
def types_and_values(draw: st.DrawFn, depth: int = 3, fresh: list[int] | None = None) -> TypeAndValues:
    """Draw a schema, and a strategy for JSON that comes back from it just as it went in."""
    fresh = [0] if fresh is None else fresh

    def new_name(prefix: str) -> str:
        fresh[0] += 1
        return f"{prefix}{fresh[0]}"

    def inner() -> TypeAndValues:
        return draw(types_and_values(depth - 1, fresh))

    def record() -> TypeAndValues:
        parts = {new_name("f"): inner() for _ in range(draw(st.integers(1, 4)))}
        fields = [{"name": name, "type": schema} for name, (schema, _) in parts.items()]
        values = st.fixed_dictionaries({name: values for name, (_, values) in parts.items()})
        return {"type": "record", "name": new_name("Record"), "fields": fields}, values

    def array() -> TypeAndValues:
        items, values = inner()
        return {"type": "array", "items": items}, st.lists(values, max_size=4)

    def mapping() -> TypeAndValues:
        entries, values = inner()
        return {"type": "map", "values": entries}, st.dictionaries(st.text(max_size=5), values, max_size=4)

    def scalar() -> TypeAndValues:
        plain = st.sampled_from([("null", st.none()), ("boolean", st.booleans())])
        drawn: TypeAndValues = draw(st.one_of(plain, numbers(), texts(st.builds(lambda: new_name("Name")))))
        return drawn

    def union() -> TypeAndValues:
        makers = draw(st.lists(st.sampled_from(["null", "number", "text", "record", "record2", "array"]), unique=True))
        branches: list[TypeAndValues] = [("boolean", st.booleans())]
        for maker in makers:
            match maker:
                case "null":
                    branches.append(("null", st.none()))
                case "number":
                    branches.append(draw(numbers()))
                case "text":
                    branches.append(draw(texts(st.builds(lambda: new_name("Name")))))
                case "array":
                    branches.append(array())
                case _:
                    branches.append(record())
        # a timestamp and a long, or a date and an int, are one type to Avro
        unique: dict[str, TypeAndValues] = {}
        for schema, values in branches:
            base = schema if isinstance(schema, str) else schema.get("name", schema["type"])
            unique.setdefault(base, (schema, values))
        # a number may be taken for a decimal, which comes back as a string
        if any(isinstance(schema, dict) and schema.get("logicalType") == "decimal" for schema, _ in unique.values()):
            for base in ("int", "long", "float", "double"):
                unique.pop(base, None)
        order = draw(st.permutations(list(unique.values())))
        return [schema for schema, _ in order], st.one_of([values for _, values in order])

    if depth == 0:
        return scalar()
    make: Callable[[], TypeAndValues] = draw(st.sampled_from([scalar, record, array, mapping, union]))
    return make()


ARBITRARY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["AAAA", "2026-01-31T08:30:00Z", "08:30:00", UUID_TEXT, "1.25"]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["f1", "value", "next", "radius"]) | st.text(), inner)
    ),
    max_leaves=20,
)
THOROUGHLY = settings(max_examples=200)


@THOROUGHLY
@given(st.data(), types_and_values())
def test_whatever_fits_comes_back_as_it_was(data: st.DataObject, drawn: TypeAndValues) -> None:
    schema, values = drawn
    value = data.draw(values)
    codec = PayloadCodec(json.dumps(schema))
    assert json.loads(codec.decode(codec.encode(json.dumps(value).encode()))) == value


@THOROUGHLY
@given(
    types_and_values()
    | st.sampled_from([(s, st.none()) for s in (NODE, REQUEST, [CIRCLE, SQUARE], [PRICE, "string"])]),
    ARBITRARY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(),
)
def test_whatever_comes_is_encoded_or_refused_by_name(drawn: TypeAndValues, body: bytes) -> None:
    codec = PayloadCodec(json.dumps(drawn[0]))
    try:
        payload = codec.encode(body)
    except (PayloadInvalid, PayloadMalformed):
        return
    json.loads(codec.decode(payload))


@THOROUGHLY
@given(st.data(), types_and_values())
def test_a_spoilt_value_is_encoded_or_refused_by_name(data: st.DataObject, drawn: TypeAndValues) -> None:
    schema, values = drawn
    body = bytearray(json.dumps(data.draw(values)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body)))
        body[position : position + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"0", b"-", b'"', b"{", b"null", b"1e999", b',"x":1'])
        )
    codec = PayloadCodec(json.dumps(schema))
    try:
        payload = codec.encode(bytes(body))
    except (PayloadInvalid, PayloadMalformed):
        return
    json.loads(codec.decode(payload))
