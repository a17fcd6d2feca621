"""Values of an app's types as what fastavro writes: exactly, or not at all.

A handler's result and the default of a field go through here. Each function takes a value and the number of levels of
recursive types around it, and raises `Mismatch` where the value is not of its type, or would change on the way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from forebay.decimals import unscale

ToAvro = Callable[[Any, int], Any]

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_FIRST = datetime.min.replace(tzinfo=UTC) - _EPOCH
_LAST = datetime.max.replace(tzinfo=UTC) - _EPOCH
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_ECHO = 100


class Mismatch(ValueError):
    """A value is not of its declared type.

    Attributes:
        reason: what was expected and what was found.
        path: where, in the form ``.lines[2].price``; empty for the whole.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def __str__(self) -> str:
        return f"{self.path.removeprefix('.')}: {self.reason}" if self.path else self.reason


@dataclasses.dataclass(frozen=True, slots=True)
class DecimalMeta:
    """How many digits a `decimal.Decimal` has: ``Annotated[Decimal, DecimalMeta(precision=9, scale=2)]``.

    Attributes:
        precision: digits in all, from 1.
        scale: how many of them are after the point.

    Raises:
        ValueError: there is no such number of digits.
    """

    precision: int
    scale: int = 0

    def __post_init__(self) -> None:
        if not (type(self.precision) is type(self.scale) is int and 0 <= self.scale <= self.precision > 0):
            raise ValueError(
                f"DecimalMeta(precision={self.precision!r}, scale={self.scale!r}): "
                f"the precision is at least 1, and the scale from 0 to the precision"
            )


def mismatch(expected: str, value: Any) -> Mismatch:
    """Say what was expected, and what was found instead."""
    kind = type(value).__qualname__
    if kind not in ("NoneType", "bool", "int", "float", "str", "Decimal", "datetime", "date", "time"):
        return Mismatch(f"expected {expected}, found {kind}")
    shown = repr(value) if not isinstance(value, int) or abs(value) < 10**_LONGEST_ECHO else "a much larger int"
    return Mismatch(f"expected {expected}, found {shown if len(shown) <= _LONGEST_ECHO else 'a long ' + kind}")


def none(value: Any, _: int) -> None:
    """Take None."""
    if value is not None:
        raise mismatch("None", value)


def boolean(value: Any, _: int) -> bool:
    """Take a bool."""
    if value is True or value is False:
        return value is True
    raise mismatch("bool", value)


def integer(value: Any, _: int) -> int:
    """Take an int of 64 bits, which a bool is not."""
    if not isinstance(value, int) or value is True or value is False:
        raise mismatch("int", value)
    if not fits_long(value):
        raise mismatch("an int of 64 bits", value)
    return int(value)


def fits_long(value: int) -> bool:
    """Whether it has no more than the 64 bits of a long."""
    return _LOWEST <= value <= _HIGHEST


def number(value: Any, _: int) -> float:
    """Take a float that is a number, or an int that is one exactly."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise mismatch("a finite float, as JSON has no other", value)
        return float(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise mismatch("float", value)
    try:
        exact = float(value)
    except OverflowError:
        exact = math.inf
    if exact != value:
        raise mismatch("float, or an int that a float holds exactly", value)
    return exact


def text(value: Any, _: int) -> str:
    """Take a str that UTF-8 can hold."""
    if not isinstance(value, str):
        raise mismatch("str", value)
    plain = str.__str__(value)
    if not plain.isascii():
        try:
            plain.encode()
        except UnicodeEncodeError:
            raise Mismatch(
                "expected text, found a str with half of a surrogate pair, which UTF-8 cannot hold"
            ) from None
    return plain


def octets(value: Any, _: int) -> bytes:
    """Take bytes."""
    if not isinstance(value, bytes):
        raise mismatch("bytes", value)
    return bytes(value)


def instant(value: Any, _: int) -> int:
    """Take a datetime with a time zone; gives microseconds since the epoch."""
    if type(value) is not datetime:
        raise mismatch("datetime", value)
    if value.utcoffset() is None:
        raise mismatch("a datetime with a time zone, such as datetime.now(UTC)", value)
    since_epoch = value - _EPOCH
    if not _FIRST <= since_epoch <= _LAST:
        raise mismatch("a datetime of the years 1 to 9999 in UTC", value)
    return since_epoch // _MICROSECOND


def day(value: Any, _: int) -> int:
    """Take a date, which a datetime is not; gives days since the epoch."""
    if type(value) is not date:
        raise mismatch("date", value)
    return value.toordinal() - _EPOCH_DAY


def time_of_day(value: Any, _: int) -> int:
    """Take a time without a zone; gives microseconds since midnight."""
    if type(value) is not time:
        raise mismatch("time", value)
    if value.tzinfo is not None:
        raise mismatch("a time without a time zone", value)
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def uuid(value: Any, _: int) -> str:
    """Take a UUID."""
    if not isinstance(value, UUID):
        raise mismatch("UUID", value)
    return str(value)


def decimal(digits: DecimalMeta) -> ToAvro:
    """Take a Decimal that has no more digits than declared; gives the bytes of the unscaled number."""
    expected = (
        f"a Decimal of at most {digits.precision - digits.scale} digits before the point and {digits.scale} after"
    )

    def to_avro(value: Any, _: int) -> bytes:
        if type(value) is not Decimal:
            raise mismatch("Decimal", value)
        unscaled = unscale(value, digits.precision, digits.scale)
        if unscaled is None:
            raise mismatch(expected, value)
        return unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)

    return to_avro


def member(enum: type[Enum]) -> ToAvro:
    """Take a member of an enum; gives its value."""

    def to_avro(value: Any, _: int) -> str:
        if type(value) is not enum:
            raise mismatch(f"a member of {enum.__name__}", value)
        return str.__str__(value.value)

    return to_avro


def one_of(choices: Sequence[str | int]) -> ToAvro:
    """Take one of the values of a ``Literal``."""

    def to_avro(value: Any, _: int) -> str | int:
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise mismatch(f"one of {', '.join(map(repr, choices))}", value)

    return to_avro
