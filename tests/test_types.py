"""Every type that an app may declare, in every place where it may stand, bit by bit.

A value goes the way of a request (JSON, the gateway's payload codec, Avro, the handler's argument) and the way of a
result, and stands as a default: in a field of its own, in a nested dataclass, as optional, in a list and in a map.
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest

from forebay import DecimalMeta, Forebay
from forebay.app import Body
from forebay_gateway.payloads import PayloadCodec

DOCS = Path(__file__).parents[1] / "docs" / "writing-apps.md"

Price = Annotated[Decimal, DecimalMeta(precision=9, scale=2)]
Count = Annotated[Decimal, DecimalMeta(precision=40)]
UserId = NewType("UserId", str)
Cents = NewType("Cents", Decimal)
IDENTITY = UUID("018f3c5e-7d8a-7b1c-9c44-2f6f0d6a9b11")
TEHRAN = timezone(timedelta(hours=3, minutes=30))


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Tint(StrEnum):
    RED = "red"
    BLUE = "blue"


class Shape(str, Enum):  # noqa: UP042 - as many apps have it
    ROUND = "round"


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited(Point):
    label: str | None = None


@dataclass(frozen=True)
class Tree:
    value: int
    children: tuple[Tree, ...] = ()


@dataclass(frozen=True)
class Case:
    """A type, a value of it, and how that is written in JSON: by a caller, and in a response."""

    type: Any
    value: Any
    given: Any
    answered: Any


def same(kind: Any, value: Any) -> Case:
    return Case(kind, value, value, value)


LOCAL = datetime(2026, 1, 31, 8, 30, 0, 123456, TEHRAN)
ROWS: dict[str, list[Case]] = {
    "`bool`": [same(bool, True), same(bool, False)],
    "`int`": [same(int, value) for value in (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))],
    "`float`": [
        *(same(float, value) for value in (0.1, -0.0, 1.5, 5e-324, 1.7976931348623157e308, 2.0**53)),
        Case(float, 3.0, 3, 3.0),
        Case(float, 1e300, 10**300, 1e300),
    ],
    "`str`": [
        *(same(str, value) for value in ("", "naïve ☃ 🧪", "\x00", "__absent__", "1.50", "null")),
        same(UserId, "u"),
    ],
    "`bytes`": [
        Case(bytes, b"", "", ""),
        Case(bytes, b"\x00\xff\xfe", "AP/+", "AP/+"),
        Case(bytes, b"\xff", "/w==", "/w=="),
    ],
    "`Enum` of strings": [
        Case(Size, Size.LARGE, "large", "large"),
        Case(Tint, Tint.RED, "red", "red"),
        Case(Shape, Shape.ROUND, "round", "round"),
    ],
    '`Literal["a", "b"]`': [same(Literal["a", "b-b"], "b-b"), same(Literal[1, 2], 2), same(Literal["a", None], "a")],
    "`datetime`": [
        Case(datetime, LOCAL.astimezone(UTC), "2026-01-31T08:30:00.123456+03:30", "2026-01-31T05:00:00.123456Z"),
        Case(datetime, datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        Case(
            datetime,
            datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59.999999Z",
        ),
    ],
    "`date`": [
        Case(date, date(2026, 1, 31), "2026-01-31", "2026-01-31"),
        Case(date, date(1, 1, 1), "0001-01-01", "0001-01-01"),
    ],
    "`time`": [
        Case(time, time(8, 30, 0, 500000), "08:30:00.5", "08:30:00.500000"),
        Case(time, time(23, 59, 59, 999999), "23:59:59.999999", "23:59:59.999999"),
        Case(time, time(0), "00:00:00", "00:00:00"),
    ],
    "`Decimal` with `DecimalMeta`": [
        Case(Price, Decimal("4.50"), 4.5, "4.50"),
        Case(Price, Decimal("-9999999.99"), "-9999999.99", "-9999999.99"),
        Case(Price, Decimal("0.00"), 0, "0.00"),
        Case(Annotated[Cents, DecimalMeta(precision=4, scale=2)], Decimal("0.50"), "0.5", "0.50"),
        Case(Count, Decimal(10**39), "1e39", str(10**39)),
    ],
    "`UUID`": [Case(UUID, IDENTITY, str(IDENTITY).upper(), str(IDENTITY))],
    "`list[X]`, `tuple[X, ...]`": [
        same(list[int], []),
        same(list[int], [1, 2, 1]),
        Case(tuple[str, ...], ("a", "b"), ["a", "b"], ["a", "b"]),
        same(list[list[float]], [[1.5], []]),
        Case(list[Price], [Decimal("1.00")], ["1"], ["1.00"]),
    ],
    "`dict[str, X]`": [
        same(dict[str, int], {"": 0, "a.b": 1}),
        Case(dict[str, bytes], {"k": b"\x00"}, {"k": "AA=="}, {"k": "AA=="}),
    ],
    "a dataclass": [
        Case(Point, Point(1.0, 2.0), {"x": 1, "y": 2}, {"x": 1.0, "y": 2.0}),
        Case(Point, Point(1.0), {"x": 1}, {"x": 1.0, "y": 0.5}),
        Case(Inherited, Inherited(x=1.0, label="l"), {"x": 1, "label": "l"}, {"x": 1.0, "y": 0.5, "label": "l"}),
        Case(
            Tree,
            Tree(1, (Tree(2), Tree(3, (Tree(4),)))),
            {"value": 1, "children": [{"value": 2}, {"value": 3, "children": [{"value": 4}]}]},
            {
                "value": 1,
                "children": [
                    {"value": 2, "children": []},
                    {"value": 3, "children": [{"value": 4, "children": []}]},
                ],
            },
        ),
    ],
    "`X \\| None`, `int \\| str`": [
        same(int | None, None),
        same(str | None, ""),
        same(int | str, 5),
        same(int | str, "5"),
        same(bool | int | float, True),
        same(bool | int | float, 1),
        same(bool | int | float, 1.0),
        same(float | int, 2**53 + 1),
        same(float | int | None, 1.0),
        Case(Point | float, Point(1.0), {"x": 1}, {"x": 1.0, "y": 0.5}),
        Case(list[Point] | UUID | None, IDENTITY, str(IDENTITY), str(IDENTITY)),
        Case(Size | None, Size.SMALL, "small", "small"),
        Case(datetime | float, LOCAL.astimezone(UTC), LOCAL.isoformat(), "2026-01-31T05:00:00.123456Z"),
        same(list[int | None], [1, None]),
    ],
}
CASES = [case for cases in ROWS.values() for case in cases]


def body_of(kind: type) -> Body:
    def handler(request: Any) -> Any:
        return request

    handler.__annotations__ = {"request": kind, "return": kind}
    app = Forebay("shop")
    app.operation()(handler)
    return app.operations["handler"].request


def request(kind: type, given: Any) -> Any:
    """What the handler gets for a JSON value."""
    body = body_of(kind)
    assert body.schema is not None
    return body.decode(PayloadCodec(body.schema.text).encode(json.dumps(given).encode()))


def response(kind: type, result: Any) -> Any:
    """The JSON that a caller gets for a result."""
    body = body_of(kind)
    assert body.schema is not None
    return json.loads(PayloadCodec(body.schema.text).decode(body.encode(result)))


def exactly(value: Any) -> Any:
    """A value in a form in which equal means the same type and the same bits."""
    if dataclasses.is_dataclass(value):
        return (type(value), {part.name: exactly(getattr(value, part.name)) for part in dataclasses.fields(value)})
    match value:
        case float():
            return (float, struct.pack(">d", value))
        case list() | tuple():
            return (type(value), [exactly(item) for item in value])
        case dict():
            return (dict, {key: exactly(item) for key, item in value.items()})
    return (type(value), repr(value))


Maker = Callable[[Any], Any]
PLACES: dict[str, tuple[Maker, Maker]] = {
    # what stands in the place of a value, in Python and in JSON
    "plain": (lambda value: value, lambda given: given),
    "optional": (lambda value: value, lambda given: given),
    "in a list": (lambda value: [value, value], lambda given: [given, given]),
    "in a map": (lambda value: {"k": value}, lambda given: {"k": given}),
}


def placed(case: Case, place: str) -> tuple[Any, Any, Any, Any]:
    """A type that has the case's in a place; a value of it, and its JSON: given and answered."""
    if place == "nested":
        inner = make_dataclass("Inner", [("inner", case.type)], frozen=True)
        return inner, inner(case.value), {"inner": case.given}, {"inner": case.answered}
    kinds = {"plain": case.type, "optional": case.type | None, "in a list": list[case.type]}  # type: ignore[name-defined]
    kind = kinds.get(place, dict[str, case.type])  # type: ignore[name-defined]
    make, make_json = PLACES[place]
    return kind, make(case.value), make_json(case.given), make_json(case.answered)


in_every_place = pytest.mark.parametrize("place", [*PLACES, "nested"])
with_every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.type}-{case.value!r}"[:60])


@with_every_case
@in_every_place
def test_a_value_comes_to_the_handler_as_it_was_given(case: Case, place: str) -> None:
    kind, value, given, _ = placed(case, place)
    holder = make_dataclass("Holder", [("it", kind)])
    assert exactly(request(holder, {"it": given})) == exactly(holder(value))


@with_every_case
@in_every_place
def test_a_value_comes_to_the_caller_as_it_was_returned(case: Case, place: str) -> None:
    kind, value, _, answered = placed(case, place)
    holder = make_dataclass("Holder", [("it", kind)])
    assert exactly(response(holder, holder(value))) == exactly({"it": answered})


@with_every_case
@in_every_place
@pytest.mark.parametrize("from_factory", [False, True])
def test_a_default_is_the_value_that_was_declared(case: Case, place: str, from_factory: bool) -> None:
    kind, value, given, answered = placed(case, place)
    if from_factory or isinstance(value, list | dict):
        holder = make_dataclass("Holder", [("it", kind, field(default_factory=lambda: value))])
    else:
        holder = make_dataclass("Holder", [("it", kind, field(default=value))])
    assert exactly(request(holder, {})) == exactly(holder(value))
    assert exactly(request(holder, {"it": given})) == exactly(holder(value))
    assert exactly(response(holder, holder(value))) == exactly({"it": answered})


@dataclass(frozen=True)
class Stamped:
    at: UUID = field(default_factory=lambda: IDENTITY)


@dataclass(frozen=True)
class Labelled:
    labels: list[str] = field(default_factory=lambda: ["a"])
    at: UUID = field(default_factory=lambda: IDENTITY)


@pytest.mark.parametrize(
    ("kind", "default", "given", "other"),
    [
        (list[Size] | Size, Size.SMALL, ["large"], [Size.LARGE]),
        (dict[str, Size] | Size | None, Size.SMALL, {"k": "large"}, {"k": Size.LARGE}),
        (list[Point] | Point | None, Point(1.0), [{"x": 2}], [Point(2.0)]),
        (list[Point] | Point | None, None, [{"x": 2}], [Point(2.0)]),
        (list[Tree] | Tree, Tree(1), [{"value": 2, "children": [{"value": 3}]}], [Tree(2, (Tree(3),))]),
        (list[Stamped] | Labelled, Labelled(), [{}], [Stamped()]),
        (list[Labelled | Size] | Size, Size.LARGE, [{}, "small"], [Labelled(), Size.SMALL]),
    ],
    ids=str,
)
def test_a_type_may_stand_in_another_branch_than_its_default(kind: Any, default: Any, given: Any, other: Any) -> None:
    fields: list[Any] = [("first", kind, default), ("second", kind, default)]
    holder = make_dataclass("Holder", fields, frozen=True)
    assert request(holder, {}) == holder()
    assert request(holder, {"first": given, "second": given}) == holder(other, other)
    assert request(holder, response(holder, holder(other))) == holder(other)


def test_every_row_of_the_table_in_the_documentation_is_tried() -> None:
    _, _, table = DOCS.read_text().partition("| Python | Avro | JSON in | JSON out |\n")
    rows = re.findall(r"^\| ((?:[^|\\]|\\\|)+?) \|", table.partition("\n\n")[0], re.MULTILINE)
    assert rows == list(ROWS)
