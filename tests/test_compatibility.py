"""Whether two versions of a schema can live side by side."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import compatibility
from forebay.codec import ABSENT, ABSENT_SYMBOL, Schema

Type = Any
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
FINE_INSTANT = {"type": "long", "logicalType": "timestamp-micros"}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN"]}
MORE_COLOURS = {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN", "BLUE"]}


def field(name: str, kind: Type, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def record(*fields: dict[str, Any], name: str = "Request", **more: Any) -> str:
    return json.dumps({"type": "record", "name": name, "fields": list(fields), **more})


def nested(kind: Type, name: str = "Request") -> str:
    point = {"type": "record", "name": "Point", "fields": [field("x", kind)]}
    crop = {"type": "record", "name": "Crop", "fields": [field("points", {"type": "array", "items": point})]}
    return record(field("crop", crop), name=name)


def node(kind: Type) -> Type:
    return {"type": "record", "name": "Node", "fields": [field("next", ["null", "Node"]), field("value", kind)]}


def point(kind: Type) -> Type:
    return {"type": "record", "name": "Point", "fields": [field("x", kind)]}


def decimal(precision: int, scale: int) -> Type:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


ID = field("id", "string")

REFUSED = {
    "a field without a default goes": (record(ID, field("size", "int")), record(ID), "size", "default"),
    "a field without a default comes": (record(ID), record(ID, field("size", "int")), "size", "default"),
    "a type changes": (record(field("size", "int")), record(field("size", "string")), "size", "type"),
    "a type is widened": (record(field("size", "int")), record(field("size", "long")), "size", "type"),
    "a type may be null": (record(field("size", "int")), record(field("size", ["null", "int"])), "size", ""),
    "a union gains a branch": (
        record(field("size", ["null", "int"])),
        record(field("size", ["null", "int", "string"])),
        "size",
        "union",
    ),
    "a symbol comes": (record(field("tint", COLOUR)), record(field("tint", MORE_COLOURS)), "tint", "BLUE"),
    "a symbol goes": (record(field("tint", MORE_COLOURS)), record(field("tint", COLOUR)), "tint", "BLUE"),
    "a whole number becomes a branch beside a double": (
        record(field("size", "double")),
        record(field("size", ["long", "double"])),
        "size",
        "type",
    ),
    "a date becomes a branch beside a double": (
        record(field("size", "double")),
        record(field("size", [{"type": "int", "logicalType": "date"}, "double"])),
        "size",
        "logical type",
    ),
    "a meaning changes in a record that is now defined elsewhere": (
        record(field("a", point("bytes"))),
        record(field("b", ["null", point("string")], default=None), field("a", "Point")),
        "a.x",
        "bytes",
    ),
    "a logical type changes where fields change places": (
        record(field("a", point(INSTANT)), field("c", {"type": "array", "items": "Point"})),
        record(field("c", {"type": "array", "items": point("long")}), field("a", "Point")),
        "c[].x",
        "logical type",
    ),
    "a fixed grows": (
        record(field("hash", {"type": "fixed", "name": "Hash", "size": 8})),
        record(field("hash", {"type": "fixed", "name": "Hash", "size": 16})),
        "hash",
        "size",
    ),
    "items change": (
        record(field("sizes", {"type": "array", "items": "int"})),
        record(field("sizes", {"type": "array", "items": "string"})),
        "sizes[]",
        "type",
    ),
    "a nested field changes": (nested("int"), nested("string"), "crop.points[].x", "type"),
    "an optional record changes": (
        record(field("crop", ["null", json.loads(nested("int", "Outer"))])),
        record(field("crop", ["null", json.loads(nested("string", "Outer"))])),
        "crop.crop.points[].x",
        "union",
    ),
    "a type that holds itself changes": (
        record(field("node", node("int"))),
        record(field("node", node("string"))),
        "node.value",
        "type",
    ),
    "two fields change": (
        record(field("a", "int"), field("b", "int")),
        record(field("a", "string"), field("b", "string")),
        "a and b",
        "type",
    ),
    "an instant gets finer": (record(field("at", INSTANT)), record(field("at", FINE_INSTANT)), "at", "micros"),
    "an instant becomes a number": (record(field("at", INSTANT)), record(field("at", "long")), "at", "to none"),
    "a number becomes an instant": (record(field("at", "long")), record(field("at", INSTANT)), "at", "from none"),
    "a nested instant changes": (nested(INSTANT), nested(FINE_INSTANT), "crop.points[].x", "micros"),
    "an optional instant changes": (
        record(field("at", ["null", INSTANT])),
        record(field("at", ["null", FINE_INSTANT])),
        "at",
        "micros",
    ),
    "one branch of many changes": (
        record(field("at", ["null", INSTANT, "string"])),
        record(field("at", ["null", FINE_INSTANT, "string"])),
        "at",
        "micros",
    ),
    "a decimal's scale changes": (
        record(field("price", decimal(9, 2))),
        record(field("price", decimal(9, 3))),
        "price",
        "decimal(9, 3)",
    ),
    "text becomes a decimal's bytes": (
        record(field("price", "string")),
        record(field("price", decimal(9, 2))),
        "price",
        "decimal(9, 2)",
    ),
    "text becomes bytes": (record(field("a", "string")), record(field("a", "bytes")), "a", "from string to bytes"),
    "optional text becomes bytes": (
        record(field("a", ["null", "string"])),
        record(field("a", ["null", "bytes"])),
        "a",
        "from string to bytes",
    ),
    "items of text become bytes": (
        record(field("a", {"type": "map", "values": "string"})),
        record(field("a", {"type": "map", "values": "bytes"})),
        "a[]",
        "from string to bytes",
    ),
    "text or bytes becomes text": (record(field("a", ["string", "bytes"])), record(field("a", ["string"])), "a", ""),
    "a required field may be absent": (
        record(field("a", "int")),
        record(field("a", [ABSENT, "int"], default=ABSENT_SYMBOL)),
        "a",
        "",
    ),
    "a symbol comes where only the new version has a default": (
        record(field("tint", COLOUR)),
        record(field("tint", {**MORE_COLOURS, "default": "RED"})),
        "tint",
        "'_missing_'",
    ),
    "the whole gets another name": (record(ID), record(ID, name="Order"), "(the whole)", "name"),
}


@pytest.mark.parametrize(("old", "new", "where", "why"), REFUSED.values(), ids=list(REFUSED))
def test_a_bad_change_is_refused_by_the_name_of_its_field(old: str, new: str, where: str, why: str) -> None:
    conflict = compatibility.check(old, new)
    assert conflict is not None
    assert conflict.field == where
    assert why in conflict.reason


@pytest.mark.parametrize(("old", "new", "where", "why"), REFUSED.values(), ids=list(REFUSED))
def test_it_is_refused_the_other_way_round_too(old: str, new: str, where: str, why: str) -> None:  # noqa: ARG001
    assert compatibility.check(new, old) is not None


NODE = {"type": "record", "name": "Node", "fields": [field("at", INSTANT), field("next", ["null", "Node"])]}
PRICE = {"type": "fixed", "name": "Price", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 2}

FINE = {
    "nothing changes": (record(ID), record(ID)),
    "a field with a default comes": (record(ID), record(ID, field("size", "int", default=3))),
    "an optional field comes": (record(ID), record(ID, field("size", ["null", "int"], default=None))),
    "fields change places": (record(ID, field("size", "int")), record(field("size", "int"), ID)),
    "the documentation changes": (record(ID), record({**ID, "doc": "the order's"}, doc="an order")),
    "a default changes": (record(field("size", "int", default=3)), record(field("size", "int", default=4))),
    "a symbol comes where there is a default": (
        record(field("tint", {**COLOUR, "default": "RED"})),
        record(field("tint", {**MORE_COLOURS, "default": "RED"})),
    ),
    "an optional number gets a default": (
        record(field("a", ["long", "double"])),
        record(field("a", ["double", "long"], default=1.5)),
    ),
    "a field that may be absent comes": (
        record(ID),
        record(ID, field("a", [ABSENT, "int"], default=ABSENT_SYMBOL)),
    ),
    "a type that holds itself": (
        record(field("node", NODE)),
        record(field("node", NODE), field("depth", "int", default=0)),
    ),
    "a named type is first met elsewhere": (
        record(field("net", PRICE), field("gross", "Price")),
        record(field("gross", PRICE), field("net", "Price")),
    ),
    "a named type of a namespace": (
        record(field("net", PRICE), field("gross", "Price"), namespace="shop"),
        record(field("gross", PRICE), field("net", "shop.Price"), namespace="shop"),
    ),
}


@pytest.mark.parametrize(("old", "new"), FINE.values(), ids=list(FINE))
def test_a_good_change_is_accepted_both_ways(old: str, new: str) -> None:
    assert compatibility.check(old, new) is None
    assert compatibility.check(new, old) is None


TYPES: st.SearchStrategy[Type] = st.deferred(
    lambda: (
        st.sampled_from(["boolean", "int", "long", "double", "string", "bytes", INSTANT, FINE_INSTANT])
        | st.builds(lambda items: {"type": "array", "items": items}, TYPES)
        | st.builds(lambda values: {"type": "map", "values": values}, TYPES)
    )
)
VALUES: dict[str, Any] = {"boolean": True, "int": 7, "long": 7, "double": 7.5, "string": "x", "bytes": b"x"}


def value_of(kind: Type) -> Any:
    if isinstance(kind, str):
        return VALUES[kind]
    if kind["type"] == "array":
        return [value_of(kind["items"])]
    if kind["type"] == "map":
        return {"k": value_of(kind["values"])}
    return VALUES[kind["type"]]


@given(old=TYPES, new=TYPES)
def test_what_is_accepted_can_be_read_and_means_the_same(old: Type, new: Type) -> None:
    writer, reader = record(field("a", old)), record(field("a", new))
    if compatibility.check(writer, reader) is not None:
        return
    writes, reads = Schema(writer, logical=False), Schema(reader, logical=False)
    value = {"a": value_of(old)}
    there = reads.decode_body(writes.encode_body(value), writer=writes)
    assert writes.decode_body(reads.encode_body(there), writer=reads) == value


@given(TYPES)
def test_a_schema_fits_itself(kind: Type) -> None:
    assert compatibility.check(record(field("a", kind)), record(field("a", kind))) is None
