"""Types without parts: numbers, text, bytes, enums and the logical types."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro.read
from msgspec import Meta

from forebay_gateway.payloads.explain import Mismatch, describe_value, enumerate_shortly
from forebay_gateway.payloads.nodes import KIND_OF, Kind, Node

_TIME = re.compile(r"(\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*\Z", re.ASCII)
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


def make_fixed(attributes: Mapping[str, Any]) -> Node:
    """Return the node of a fixed without a logical type."""
    size = attributes["size"]
    return Scalar(
        "fixed",
        Annotated[bytes, Meta(min_length=size, max_length=size)],
        bytes,
        f"a base64 string of {size} bytes",
        ("string",),
        branch=attributes["name"],
    )


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
        case "long", "timestamp-millis" | "timestamp-micros":
            noun = "a timestamp with a time zone, such as 2026-01-31T08:30:00Z"
            instant = Annotated[datetime, Meta(tz=True)]
            return Scalar("long", instant, datetime, noun, ("string",), to_avro=_check_instant)
        case "long", "local-timestamp-millis" | "local-timestamp-micros":
            noun = "a timestamp without a time zone, such as 2026-01-31T08:30:00"
            return Scalar("long", Annotated[datetime, Meta(tz=False)], datetime, noun, ("string",))
        case "int", "date":
            return Scalar("int", date, date, "a date, such as 2026-01-31", ("string",))
        case ("int", "time-millis") | ("long", "time-micros"):
            return Scalar(base, str, str, _TIME_NOUN, ("string",), to_avro=_read_time)
        case "string", "uuid":
            return Scalar("string", UUID, UUID, "a UUID", ("string",))
        case "fixed", "uuid" if attributes["size"] == _UUID_SIZE:
            return Scalar("fixed", UUID, UUID, "a UUID", ("string",), branch=attributes["name"], to_avro=_uuid_bytes)
        case (("bytes" | "fixed"), "decimal"):
            return _decimal(attributes)
    return None


def _check_instant(value: datetime) -> datetime:
    try:
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError:
        raise Mismatch("expected a timestamp of the years 1 to 9999 in UTC") from None


def _read_time(text: str) -> time:
    # msgspec would round the last microsecond of the day up to midnight, so further digits are cut off here
    parts = _TIME.match(text)
    if parts is not None:
        try:
            return time.fromisoformat(parts[1])
        except ValueError:
            pass
    raise Mismatch(f"expected {_TIME_NOUN}, found {describe_value(text)}")


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


def _decimal(attributes: Mapping[str, Any]) -> Node:
    precision, scale = attributes.get("precision"), attributes.get("scale", 0)
    size = attributes["size"] if attributes["type"] == "fixed" else None
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision or precision < 1:
        raise ValueError(f"a decimal of precision {precision} and scale {scale} does not exist")
    noun = "a decimal number, as a number or a string"
    rule = f"{noun}, of at most {precision - scale} digits before the point and {scale} after it"

    def to_avro(value: Decimal) -> bytes:
        unscaled = _unscale(value, precision, scale)
        if unscaled is None:
            raise Mismatch(f"expected {rule}, found {describe_value(value)}")
        return unscaled.to_bytes(size or unscaled.bit_length() // 8 + 1, "big", signed=True)

    return Scalar(
        attributes["type"],
        Decimal,
        Decimal,
        noun,
        ("integer", "number", "string"),
        branch=attributes.get("name", ""),
        rule=rule,
        to_avro=to_avro,
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
