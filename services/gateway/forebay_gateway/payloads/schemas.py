"""An Avro schema, compiled once into the JSON types that its requests are checked against."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro.read
from msgspec import UNSET, Meta

from forebay_gateway.payloads.json_types import Array, Choice, Field, Map, Node, Record, Recurring, Scalar
from forebay_gateway.payloads.misfits import Misfit, enumerate_shortly, show

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*\Z", re.ASCII)
_TIME_NOUN = "a time of day without a time zone, such as 08:30:00"
_UUID_SIZE = 16
_LARGEST_FLOAT32 = 3.4028234663852886e38


def compile_schema(schema: Any) -> Node:
    """Compile a schema, as fastavro has parsed it.

    Raises:
        ValueError: it is not valid Avro in a way that fastavro lets pass.
    """
    return _Compiler().compile(schema)


class _Compiler:
    def __init__(self) -> None:
        self._named: dict[str, Node] = {}
        self._optional: list[Field] = []

    def compile(self, schema: Any) -> Node:
        node = self._node(schema)
        # only now are the types complete that a default may be made of
        for field in self._optional:
            field.default = field.node.from_default(field.declared)
        return node

    def _node(self, schema: Any) -> Node:
        if isinstance(schema, list):
            return self._choice(schema)
        attributes = {"type": schema} if isinstance(schema, str) else schema
        base = attributes["type"]
        if not isinstance(base, str):
            raise ValueError(f"{json.dumps(base, default=str)[:80]} is not the name of a type")
        match base:
            case "record" | "error":
                return self._record(attributes)
            case "array":
                return Array(self._node(attributes["items"]))
            case "map":
                return Map(self._node(attributes["values"]))
            case "enum":
                return self._keep(attributes["name"], _enum(attributes))
            case "fixed":
                return self._keep(attributes["name"], _logical(attributes) or _fixed(attributes))
        if base in self._named:
            return self._named[base]
        return _logical(attributes) or _primitive(base)

    def _keep(self, name: str, node: Node) -> Node:
        self._named[name] = node
        return node

    def _record(self, attributes: Mapping[str, Any]) -> Node:
        name = attributes["name"]
        self._named[name] = Recurring(name, self._named)
        fields: list[Field] = []
        for declared in attributes["fields"]:
            field = Field(declared["name"], self._node(declared["type"]), declared.get("default", UNSET))
            if not _NAME.match(field.name):
                raise ValueError(f"'{field.name}' in {name} is not a name")
            if any(field.name == other.name for other in fields):
                raise ValueError(f"{name} has two fields named '{field.name}'")
            fields.append(field)
            if not field.required and field.node.finish is not None:
                self._optional.append(field)
        return self._keep(name, Record(name, fields))

    def _choice(self, schemas: list[Any]) -> Node:
        branches = [self._node(schema) for schema in schemas]
        names = [node.branch for node in branches]
        if not names or "union" in names:
            raise ValueError("a union has no branch, or a union as one")
        if len(set(names)) < len(names):
            raise ValueError(f"a union has two branches of one type: {', '.join(names)}")
        return Choice(branches)


def _integer(base: str, bits: int) -> Node:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return Scalar(
        base,
        Annotated[int, Meta(ge=low, le=high)],
        int,
        "an integer",
        ("integer",),
        rule=f"an integer from {low} to {high}",
        plain=True,
    )


def _primitive(base: str) -> Node:
    match base:
        case "null":
            return Scalar("null", None, type(None), "null", ("null",), plain=True)
        case "boolean":
            return Scalar("boolean", bool, bool, "a boolean", ("boolean",), plain=True)
        case "int":
            return _integer("int", 32)
        case "long":
            return _integer("long", 64)
        case "float" | "double":
            largest = _LARGEST_FLOAT32 if base == "float" else sys.float_info.max
            return Scalar(
                base,
                Annotated[float, Meta(ge=-largest, le=largest)],
                float,
                "a number",
                ("integer", "number"),
                rule=f"a number from {-largest:g} to {largest:g}",
                plain=True,
            )
        case "string":
            return Scalar("string", str, str, "a string", ("string",), plain=True)
        case "bytes":
            return Scalar("bytes", bytes, bytes, "a base64 string", ("string",), plain=True)
    raise ValueError(f"'{base}' is not a type")


def _fixed(attributes: Mapping[str, Any]) -> Node:
    size = attributes["size"]
    return Scalar(
        "fixed",
        Annotated[bytes, Meta(min_length=size, max_length=size)],
        bytes,
        f"a base64 string of {size} bytes",
        ("string",),
        branch=attributes["name"],
    )


def _enum(attributes: Mapping[str, Any]) -> Node:
    symbols = attributes["symbols"]
    if not symbols:
        raise ValueError(f"the enum {attributes['name']} has no symbols")
    return Scalar(
        "enum",
        Literal[tuple(symbols)],
        str,
        f"one of {enumerate_shortly(symbols)}",
        ("string",),
        branch=attributes["name"],
        symbols=symbols,
    )


def _logical(attributes: Mapping[str, Any]) -> Node | None:
    """Return the logical type; None where there is none that is known, so that the underlying type is used."""
    base = attributes["type"]
    match base, attributes.get("logicalType"):
        case "long", "timestamp-millis" | "timestamp-micros":
            noun = "a timestamp with a time zone, such as 2026-01-31T08:30:00Z"
            instant = Annotated[datetime, Meta(tz=True)]
            return Scalar("long", instant, datetime, noun, ("string",), finish=_check_instant)
        case "long", "local-timestamp-millis" | "local-timestamp-micros":
            noun = "a timestamp without a time zone, such as 2026-01-31T08:30:00"
            return Scalar("long", Annotated[datetime, Meta(tz=False)], datetime, noun, ("string",))
        case "int", "date":
            return Scalar("int", date, date, "a date, such as 2026-01-31", ("string",))
        case ("int", "time-millis") | ("long", "time-micros"):
            return Scalar(base, str, str, _TIME_NOUN, ("string",), finish=_read_time)
        case "string", "uuid":
            return Scalar("string", UUID, UUID, "a UUID", ("string",))
        case "fixed", "uuid" if attributes["size"] == _UUID_SIZE:
            return Scalar("fixed", UUID, UUID, "a UUID", ("string",), branch=attributes["name"], finish=_uuid_bytes)
        case (("bytes" | "fixed"), "decimal"):
            return _decimal(attributes)
    return None


def _check_instant(value: datetime) -> datetime:
    try:
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError:
        raise Misfit("expected a timestamp of the years 1 to 9999 in UTC") from None


def _read_time(text: str) -> time:
    # msgspec would round the last microsecond of the day up to midnight, so further digits are cut off here
    parts = _TIME.match(text)
    if parts is not None:
        try:
            return time.fromisoformat(parts[1])
        except ValueError:
            pass
    raise Misfit(f"expected {_TIME_NOUN}, found {show(text)}")


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


def _decimal(attributes: Mapping[str, Any]) -> Node:
    precision, scale = attributes.get("precision"), attributes.get("scale", 0)
    size = attributes["size"] if attributes["type"] == "fixed" else None
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision or precision < 1:
        raise ValueError(f"a decimal of precision {precision} and scale {scale} does not exist")
    noun = "a decimal number, as a number or a string"
    rule = f"{noun}, of at most {precision - scale} digits before the point and {scale} after it"

    def finish(value: Decimal) -> bytes:
        unscaled = _unscale(value, precision, scale)
        if unscaled is None:
            raise Misfit(f"expected {rule}, found {show(value)}")
        return unscaled.to_bytes(size or unscaled.bit_length() // 8 + 1, "big", signed=True)

    return Scalar(
        attributes["type"],
        Decimal,
        Decimal,
        noun,
        ("integer", "number", "string"),
        branch=attributes.get("name", ""),
        rule=rule,
        finish=finish,
    )


def _unscale(value: Decimal, precision: int, scale: int) -> int | None:
    """Return ``value`` times 10 to the power of ``scale``, or None if it does not fit exactly."""
    if not value.is_finite() or (value and value.adjusted() >= precision - scale):
        return None
    sign, digits, exponent = value.as_tuple()
    if not value or not isinstance(exponent, int):
        return 0
    surplus = -(exponent + scale)
    if surplus > 0:
        if surplus >= len(digits) or any(digits[-surplus:]):
            return None
        digits = digits[:-surplus]
    return int(Decimal((sign, digits, max(-surplus, 0))))


def _read_fixed_uuid(data: bytes, *_: Any) -> UUID | bytes:
    return UUID(bytes=data) if len(data) == _UUID_SIZE else data


# fastavro knows a UUID as a string only; this is its own hook for further logical types
fastavro.read.LOGICAL_READERS["fixed-uuid"] = _read_fixed_uuid
