"""Types without parts: numbers, text, bytes, enums and the logical types."""

from __future__ import annotations

import re
import sys
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro.read
import msgspec
from msgspec import Meta

from forebay.decimals import unscale
from forebay_gateway.payloads.explain import Mismatch, describe_kind, describe_value, enumerate_shortly
from forebay_gateway.payloads.nodes import KIND_OF, Kind, Node, exact_number

# From Python 3.14 on `time.fromisoformat` takes 24:00:00, and makes it 00:00:00.
_TIME = re.compile(r"(?!24)\d\d:\d\d:\d\d(?:\.\d+)?\Z", re.ASCII)
_NANOSECONDS = re.compile(r"\.\d{6}0*[1-9]", re.ASCII)
_LONGEST_MICROSECONDS = len("08:30:00.123456")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\Z", re.ASCII)
_TIME_NOUN = "a time of day without a time zone, such as 08:30:00"
_UUID_SIZE = 16
_LARGEST_FLOAT32 = 3.4028234663852886e38


class Scalar(Node):
    """A type without parts."""

    def __init__(
        self,
        base: str,
        json_type: Any,
        python_type: type,
        noun: str,
        kinds: tuple[Kind, ...],
        *,
        branch: str = "",
        rule: str = "",
        to_avro: Callable[[Any], Any] | None = None,
        only_for: type | None = None,
        plain: bool = False,
        symbols: list[str] | None = None,
    ) -> None:
        self.branch = branch or base
        self.noun = noun
        self.rule = rule or noun
        self.kinds = frozenset(kinds)
        self.json_type = json_type
        self.python_type = python_type
        self.to_avro = None if to_avro is None else lambda value, _: to_avro(value)
        self.only_for = only_for
        self.plain = plain
        self._base = base
        self._symbols = symbols

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        kind = KIND_OF.get(type(value))
        match self._base:
            case "null" | "boolean" | "string":
                fits = kind == self._base
            case "int" | "long":
                fits = kind == "integer"
            case "float" | "double":
                fits = kind in ("integer", "number")
                value = float(value) if fits else value
            case "enum":
                fits = value in (self._symbols or ())
            case _:
                fits = kind == "string"
                value = value.encode("latin-1") if fits else value
        if not fits:
            raise ValueError(f"the default {describe_value(value)} is not {self.noun}")
        return value


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


def make_primitive(base: str) -> Node:
    """Return the node of a primitive type; raises `ValueError` if there is none of that name."""
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
            return _floating(base, _LARGEST_FLOAT32 if base == "float" else sys.float_info.max)
        case "string":
            return Scalar("string", str, str, "a string", ("string",), plain=True)
        case "bytes":
            noun = "a base64 string"
            return Scalar("bytes", str, str, noun, ("string",), to_avro=lambda text: _read_base64(text, noun))
    raise ValueError(f"'{base}' is not a type")


def _floating(base: str, largest: float) -> Node:
    """Read a number; a whole one is kept as it is until it is known that nothing is lost."""
    rule = f"a number from {-largest:g} to {largest:g}"

    def to_avro(value: float) -> float:
        if not -largest <= value <= largest:
            raise Mismatch(f"expected {rule}, found {describe_value(value)}")
        # exact, or as JavaScript writes a double: the fewest digits that tell it from its neighbours, then zeros
        if isinstance(value, int) and float(value) != value and Decimal(repr(float(value))) != value:
            raise Mismatch(f"expected a whole number that a double can hold, found {describe_value(value)}")
        return value

    return Scalar(
        base,
        int | Annotated[float, Meta(ge=-largest, le=largest)],
        float,
        "a number",
        ("integer", "number"),
        rule=rule,
        to_avro=to_avro,
        only_for=int,
    )


def _read_base64(text: str, expected: str) -> bytes:
    try:
        data = msgspec.convert(text, bytes)
    except msgspec.ValidationError:
        raise Mismatch(f"expected {expected}, found {describe_value(text)}") from None
    # the last digit may carry bits that belong to no byte
    if b2a_base64(data[-(len(data) % 3 or 3) :], newline=False).decode() != text[-4:]:
        raise Mismatch(f"expected {expected}, found one whose last digit has bits that would be dropped")
    return data


def make_fixed(attributes: Mapping[str, Any]) -> Node:
    """Return the node of a fixed without a logical type."""
    size = attributes["size"]
    noun = f"a base64 string of {size} bytes"

    def to_avro(text: str) -> bytes:
        data = _read_base64(text, noun)
        if len(data) != size:
            raise Mismatch(f"expected {noun}, found {len(data)} bytes")
        return data

    return Scalar("fixed", str, str, noun, ("string",), branch=attributes["name"], to_avro=to_avro)


def make_absent(attributes: Mapping[str, Any]) -> Node:
    """Return the node of the type that stands for a value that was not given: no JSON is read as it."""
    return Scalar("enum", None, object, "", (), branch=attributes["name"], symbols=attributes["symbols"])


def make_enum(attributes: Mapping[str, Any]) -> Node:
    """Return the node of an enum; raises `ValueError` if it has no symbols."""
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


def make_logical(attributes: Mapping[str, Any]) -> Node | None:
    """Return the logical type; None where there is none that is known, so that the underlying type is used."""
    base = attributes["type"]
    match base, attributes.get("logicalType"):
        case "long", (
            "timestamp-millis" | "timestamp-micros" | "local-timestamp-millis" | "local-timestamp-micros"
        ) as name:
            return _timestamp(has_zone=name.startswith("timestamp"), in_millis=name.endswith("millis"))
        case "int", "date":
            return Scalar("int", date, date, "a date, such as 2026-01-31", ("string",))
        case ("int", "time-millis") | ("long", "time-micros"):
            return _time_of_day(base, in_millis=base == "int")
        case "string", "uuid":
            return Scalar("string", UUID, UUID, "a UUID", ("string",))
        case "fixed", "uuid" if attributes["size"] == _UUID_SIZE:
            return Scalar("fixed", UUID, UUID, "a UUID", ("string",), branch=attributes["name"], to_avro=_uuid_bytes)
        case (("bytes" | "fixed"), "decimal"):
            return _decimal(attributes)
    return None


def _timestamp(*, has_zone: bool, in_millis: bool) -> Node:
    zone, example = ("with", "2026-01-31T08:30:00Z") if has_zone else ("without", "2026-01-31T08:30:00")
    noun = f"a timestamp {zone} a time zone, such as {example}"

    def to_avro(text: str) -> datetime:
        try:
            value = msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            raise Mismatch(f"expected {noun}, found {describe_value(text)}") from None
        if (value.tzinfo is not None) is not has_zone:
            raise Mismatch(f"expected {noun}, found {describe_value(text)}")
        _check_fraction(text, value, in_millis)
        try:
            return value if not has_zone or value.tzinfo is UTC else value.astimezone(UTC)
        except OverflowError:
            raise Mismatch("expected a timestamp of the years 1 to 9999 in UTC") from None

    return Scalar("long", str, str, noun, ("string",), to_avro=to_avro)


def _time_of_day(base: str, *, in_millis: bool) -> Node:
    def to_avro(text: str) -> time:
        if _TIME.match(text):
            try:
                value = time.fromisoformat(text)
            except ValueError:
                pass
            else:
                _check_fraction(text, value, in_millis)
                return value
        raise Mismatch(f"expected {_TIME_NOUN}, found {describe_value(text)}")

    return Scalar(base, str, str, _TIME_NOUN, ("string",), to_avro=to_avro)


def _check_fraction(text: str, value: datetime | time, in_millis: bool) -> None:
    """Refuse what would be rounded; digits that are 0 are none."""
    if in_millis and value.microsecond % 1000:
        raise Mismatch(f"expected at most 3 digits of a second, found {describe_value(text)}")
    if len(text) > _LONGEST_MICROSECONDS and _NANOSECONDS.search(text):
        raise Mismatch(f"expected at most 6 digits of a second, found {describe_value(text)}")


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


def _decimal(attributes: Mapping[str, Any]) -> Node:
    precision, scale = attributes.get("precision"), attributes.get("scale", 0)
    size = attributes["size"] if attributes["type"] == "fixed" else None
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision or precision < 1:
        raise ValueError(f"a decimal of precision {precision} and scale {scale} does not exist")
    noun = "a decimal number, as a number or a string"
    rule = f"{noun}, of at most {precision - scale} digits before the point and {scale} after it"

    def to_avro(value: Any) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
            raise Mismatch(f"expected {noun}, found {describe_kind(value)}")
        if isinstance(value, str) and not _NUMBER.match(value):
            raise Mismatch(f"expected {rule}, found {describe_value(value)}")
        unscaled = unscale(exact_number(value) if isinstance(value, str) else Decimal(value), precision, scale)
        if unscaled is None:
            raise Mismatch(f"expected {rule}, found {describe_value(value)}")
        return unscaled.to_bytes(size or unscaled.bit_length() // 8 + 1, "big", signed=True)

    return Scalar(
        attributes["type"],
        Any,
        object,
        noun,
        ("integer", "number", "string"),
        branch=attributes.get("name", ""),
        rule=rule,
        to_avro=to_avro,
    )


def _read_fixed_uuid(data: bytes, *_: Any) -> UUID | bytes:
    return UUID(bytes=data) if len(data) == _UUID_SIZE else data


# fastavro knows a UUID as a string only; this is its own hook for further logical types
fastavro.read.LOGICAL_READERS["fixed-uuid"] = _read_fixed_uuid
