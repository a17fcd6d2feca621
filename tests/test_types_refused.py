"""Types and values that could not go to Avro and come back as they were: what is said of each."""

from __future__ import annotations

import collections
import collections.abc
import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import pytest
from typing_extensions import TypeAliasType

from forebay import DecimalMeta, Forebay, compatibility
from forebay.app import Body
from forebay.app.values import Mismatch
from forebay.errors import AppError
from forebay.recursion import MAX_DEPTH
from forebay_gateway.payloads import PayloadCodec
from tests.test_types import Point, Price, Size, Tree, body_of, request, response

T = TypeVar("T")
Listed = TypeAliasType("Listed", list[T], type_params=(T,))


class Number(IntEnum):
    ONE = 1


class Bits(Flag):
    LOW = 1


class Dashed(Enum):
    DARK = "dark-red"


class Nobody(Enum):
    pass


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    left: int


class Loose(TypedDict):
    left: int


class Digits(NamedTuple):
    """As py-avro-schema and others have it."""

    precision: int
    scale: int | None


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class FilledPage(Page[int]):
    more: bool


JsonValue = Union[str, list["JsonValue"]]  # noqa: UP007 - an alias that holds itself
Dunder = make_dataclass("Dunder", [("__post_init__", int, 3)])


@dataclass
class Json:
    it: JsonValue


@dataclass
class Endless:
    inner: Endless


@dataclass
class Nothing:
    pass


@dataclass
class Größe:
    x: int


@dataclass
class WithInitVar:
    x: int
    seed: InitVar[int]


@dataclass
class Computed:
    x: int
    y: int = field(init=False, default=3)


@dataclass(init=False)
class Uninitialised:
    x: int


@dataclass
class Normalised:
    x: int

    def __init__(self, x: int) -> None:
        self.x = abs(x)


@dataclass
class OfNormalised(Normalised):
    pass


@dataclass
class Counted:
    x: int

    def __new__(cls, *_: Any) -> Counted:
        return object.__new__(cls)


class Undecorated(Point):
    z: float


class PointOfAKind(Point):
    kind: ClassVar[str] = "a"

    def __post_init__(self) -> None:
        assert self.x


def complaint(kind: type) -> str:
    with pytest.raises(AppError) as caught:
        body_of(kind)
    return str(caught.value)


IT = "operation 'handler': field 'it' of Holder: "


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            Any,
            "Any cannot go to Avro and back; declare what it is: a dataclass, or str for JSON that the handler reads",
        ),
        (object, "object cannot go to Avro and back; declare what it is"),
        (set[int], "set[int] cannot go to Avro and back; declare list[…]"),
        (frozenset[str], "declare list[…]"),
        (collections.abc.Iterable[int], "declare list[…]"),
        (collections.deque[int], "declare list[…]"),
        (collections.defaultdict[str, int], "declare dict[str, …]"),
        (list, "list cannot go to Avro and back; say of what, such as list[str]"),
        (dict, "say of what, such as dict[str, int]"),
        (tuple, "say of what, such as tuple[str, ...]"),
        (tuple[int, str], "tuple[int, str] cannot go to Avro and back; declare a dataclass"),
        (dict[int, str], "dict[int, str] has other keys than text; declare dict[str, …]"),
        (dict[str, Any], "Any cannot go to Avro and back"),
        (timedelta, "declare its seconds as float"),
        (bytearray, "declare bytes"),
        (complex, "declare two fields of float"),
        (Text, "Text cannot go to Avro and back; declare str"),
        (Decimal, "Annotated[Decimal, DecimalMeta(precision=9, scale=2)], with 'from forebay import DecimalMeta'"),
        (Annotated[Decimal, "money"], "Annotated[Decimal, DecimalMeta(precision=9, scale=2)]"),
        (Annotated[Decimal, DecimalMeta(9, 2), DecimalMeta(9, 3)], "Annotated[Decimal, DecimalMeta("),
        (Annotated[Decimal, Digits(2, 3)], "DecimalMeta(precision=2, scale=3): the precision is at least 1"),
        (Page[int], "Page[int] cannot go to Avro and back; declare a dataclass with the types filled in"),
        (Pair, "Pair cannot go to Avro and back; declare a dataclass of its parts"),
        (Loose, "declare a dataclass of its parts"),
        (Callable[[int], int], "declare a dataclass of its parts"),
        (Number, "Number.ONE is 1; the values of an enum are strings"),
        (Bits, "Bits.LOW is 1; the values of an enum are strings"),
        (Dashed, "Dashed.DARK is 'dark-red'; a member's value takes a name of A-Z, a-z, 0-9 and '_', "),
        (Dashed, "or declare Literal['dark-red', …]"),
        (Nobody, "the enum Nobody has no members"),
        (list[Nothing], "list[tests.test_types_refused.Nothing] holds nothing but its length; declare that as int"),
        (Größe, "the class 'Größe' takes a name of A-Z, a-z, 0-9 and '_'"),
        (Uninitialised, "Uninitialised is a dataclass(init=False), whose __init__ would not be called"),
        (Normalised, "Normalised has a __init__ of its own, which would not be called; use __post_init__"),
        (Counted, "Counted has a __new__ of its own, which would not be called; use __post_init__"),
        (
            Undecorated,
            "Undecorated has annotations that are no fields, as it is not decorated itself; write @dataclass",
        ),
        (Literal[1, "a"], "Literal[1, 'a'] is"),
        (Literal[True], "Literal[True] is"),
        (Literal[Size.SMALL], "Literal[<Size.SMALL: 'small'>] is"),
        (Literal[1, 2**63], "Literal[1, 9223372036854775808] has a number of more than 64 bits"),
        (Final[int], "Final[int] cannot go to Avro and back; declare int"),
        (LiteralString, "LiteralString cannot go to Avro and back; declare str"),
        (
            Listed[int],
            "Listed[int] cannot go to Avro and back; write what it stands for, or give it its name by a mere",
        ),
        (None, "its type is None, which says nothing; where the field has the name of its type"),
        (Optional[None], "write 'from __future__ import annotations', or rename one of them"),  # noqa: UP045 - what Python makes of it
        (Point | Tree, "in JSON Point cannot be told from Tree; declare an optional field for each"),
        (Point | dict[str, float], "in JSON Point cannot be told from dict[str, float]"),
        (bytes | str, "in JSON bytes cannot be told from str"),
        (Size | str, "in JSON Size cannot be told from str"),
        (date | datetime, "in JSON date cannot be told from datetime"),
        (UUID | str | None, "in JSON UUID cannot be told from str"),
        (Price | int, "in JSON Decimal cannot be told from int"),
        (Price | float, "in JSON Decimal cannot be told from float"),
        (list[int] | list[str], "in JSON list[int] cannot be told from list[str]"),
        (datetime | int, "in Avro datetime cannot be told from int"),
        (time | int, "in Avro time cannot be told from int"),
    ],
    ids=str,
)
def test_a_type_that_could_not_come_back_is_refused_by_its_field(kind: Any, said: str) -> None:
    text = complaint(make_dataclass("Holder", [("it", kind)]))
    assert text.startswith(IT)
    assert said in text


@pytest.mark.parametrize("kind", [OfNormalised, PointOfAKind])
def test_a_class_whose_own_methods_need_not_be_called_is_taken(kind: type) -> None:
    assert body_of(kind).schema is not None


def test_a_name_of_a_type_that_holds_itself_without_an_end_is_refused() -> None:
    Name = NewType("Name", int)
    setattr(Name, "__supertype__", list[Name])  # noqa: B010 - as mypy takes it for a class
    text = complaint(make_dataclass("Holder", [("it", Name)]))
    assert "Holder has an alias in it that holds itself; declare a dataclass, which may" in text


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Page, "field 'items' of Page: ~T cannot go to Avro and back"),
        (FilledPage, "field 'items' of FilledPage: ~T cannot go to Avro and back; declare a dataclass that gives this"),
        (Dunder, "field '__post_init__' of Dunder: names with '__'"),
        (Json, "ForwardRef('JsonValue') cannot go to Avro and back; declare a dataclass, which may hold itself"),
        (Endless, "field 'inner' of Endless: a Endless would hold another"),
        (WithInitVar, "field 'seed' of WithInitVar: an InitVar is no field"),
        (Computed, "field 'y' of Computed: a field(init=False) cannot be given"),
        (make_dataclass("Outer", [("inner", Computed)]), "field 'y' of Computed: "),
        (make_dataclass("Odd", [("größe", int)]), "field 'größe' of Odd: a field takes a name of A-Z, a-z"),
        (make_dataclass("Unknown", [("it", "Nowhere")]), "the types of Unknown cannot be resolved: name 'Nowhere'"),
        (
            make_dataclass("Two", [("a", make_dataclass("Point", [("x", int)])), ("b", Point)]),
            "field 'b' of Two: there are two classes named Point in it",
        ),
    ],
)
def test_a_dataclass_that_could_not_come_back_is_refused_by_its_field(kind: type, said: str) -> None:
    assert said in complaint(kind)


@pytest.mark.parametrize(
    ("kind", "default", "said"),
    [
        (int, "a", "its default 'a' does not fit: expected int, found 'a'"),
        (int, None, "expected int, found None"),
        (int, True, "expected int, found True"),
        (int, 2**63, "expected an int of 64 bits, found 9223372036854775808"),
        (bool, 1, "expected bool, found 1"),
        (float, math.nan, "expected a finite float, as JSON has no other, found nan"),
        (datetime, datetime(2026, 1, 1), "expected a datetime with a time zone"),  # noqa: DTZ001
        (time, time(1, tzinfo=UTC), "expected a time without a time zone"),
        (Price, Decimal("1.234"), "found Decimal('1.234')"),
        (Size, "small", "expected a member of Size, found 'small'"),
        (Literal["a", "b"], "c", "expected one of 'a', 'b', found 'c'"),
        (int | None, "x", "expected int, found 'x'"),
        (int | str, 1.5, "expected int or str, found 1.5"),
    ],
)
def test_a_default_of_another_type_is_refused(kind: Any, default: Any, said: str) -> None:
    text = complaint(make_dataclass("Holder", [("it", kind, field(default=default))]))
    assert text.startswith(IT)
    assert said in text


@pytest.mark.parametrize(("precision", "scale"), [(0, 0), (2, 3), (5, -1), ("9", 2), (9, None), (True, 0)])
def test_a_decimal_has_digits_that_exist(precision: Any, scale: Any) -> None:
    with pytest.raises(ValueError, match="the precision is at least 1, and the scale from 0 to the precision"):
        DecimalMeta(precision, scale)


@pytest.mark.parametrize("scale", [2, None])
def test_the_digits_of_other_libraries_are_understood(scale: int | None) -> None:
    holder = make_dataclass("Holder", [("it", Annotated[Decimal, Digits(9, scale)])])
    assert request(holder, {"it": "1e2"}) == holder(Decimal(100))


# results


class Reading(float):
    __slots__ = ()


class Colour(StrEnum):
    RED = "red"


wrong_point = Point("2")  # type: ignore[arg-type] # the point of it
PLUS_ONE = timezone(timedelta(hours=1))


@dataclass(frozen=True)
class LargerPoint(Point):
    z: float = 0.0


class PointWithMethods(Point):
    def length(self) -> float:
        return math.hypot(self.x, self.y)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, True, "it: expected int, found True"),
        (int, 1.0, "it: expected int, found 1.0"),
        (int, 2**63, "it: expected an int of 64 bits, found 9223372036854775808"),
        (int, 10**4000, "it: expected an int of 64 bits, found a much larger int"),
        (bool, 1, "it: expected bool, found 1"),
        (float, "1", "it: expected float, found '1'"),
        (float, True, "it: expected float, found True"),
        (float, math.nan, "it: expected a finite float, as JSON has no other, found nan"),
        (float, -math.inf, "found -inf"),
        (float, 2**53 + 1, "it: expected float, or an int that a float holds exactly, found 9007199254740993"),
        (float, 10**400, "found a much larger int"),
        (float, Decimal(1), "it: expected float, found Decimal('1')"),
        (str, b"x", "it: expected str, found bytes"),
        (str, None, "it: expected str, found None"),
        (str, "\ud800", "it: expected text, found a str with half"),
        (bytes, "x", "it: expected bytes, found 'x'"),
        (bytes, bytearray(b"x"), "it: expected bytes, found bytearray"),
        (Size, "small", "it: expected a member of Size, found 'small'"),
        (Literal["a"], "b", "it: expected one of 'a', found 'b'"),
        (Literal[1], True, "it: expected one of 1, found True"),
        (datetime, datetime(2026, 1, 31), "it: expected a datetime with a time zone, such as datetime.now(UTC)"),  # noqa: DTZ001
        (datetime, date(2026, 1, 31), "it: expected datetime, found datetime.date(2026, 1, 31)"),
        (datetime, datetime(1, 1, 1, tzinfo=PLUS_ONE), "it: expected a datetime of the years 1 to 9999 in UTC"),
        (date, datetime(2026, 1, 31, tzinfo=UTC), "it: expected date, found datetime.datetime(2026, 1, 31"),
        (time, time(8, tzinfo=UTC), "it: expected a time without a time zone"),
        (Price, Decimal("12345678.00"), "digits before the point"),
        (Price, Decimal("1.005"), "found Decimal('1.005')"),
        (Price, Decimal("NaN"), "found Decimal('NaN')"),
        (Price, 1.5, "it: expected Decimal, found 1.5"),
        (UUID, str(UUID(int=1)), "it: expected UUID, found '00000000-0000-0000-0000-000000000001'"),
        (list[int], {1}, "it: expected list, found set"),
        (list[int], "12", "it: expected list, found '12'"),
        (list[int], [1, 2, "3"], "it[2]: expected int, found '3'"),
        (tuple[Point, ...], (Point(1), wrong_point), "it[1].x: expected float, found '2'"),
        (dict[str, int], {1: 1}, "it[1]: expected str, found 1"),
        (dict[str, Point], {"a b": wrong_point}, "it['a b'].x: expected float, found '2'"),
        (Point, {"x": 1.0}, "it: expected Point, found dict"),
        (Point, LargerPoint(1.0), "it: expected Point, found LargerPoint"),
        (Point | None, Tree(1), "it: expected Point, found Tree"),
        (int | str, 1.5, "it: expected int or str, found 1.5"),
        (int | list[int], [1, "2"], "it[1]: expected int, found '2'"),
    ],
)
def test_a_result_that_is_not_of_its_type_is_refused_with_the_place(kind: Any, value: Any, said: str) -> None:
    holder = make_dataclass("Holder", [("it", kind)])
    with pytest.raises(Mismatch) as caught:
        body_of(holder).encode(holder(value))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "answered"),
    [
        (float, 1, 1.0),
        (float, Reading(0.5), 0.5),
        (int, Number.ONE, 1),
        (str, Colour.RED, "red"),
        (str, Text("x"), "x"),
        (list[int], (1, 2), [1, 2]),
        (tuple[int, ...], [1, 2], [1, 2]),
        (datetime, datetime(2026, 1, 31, 8, tzinfo=PLUS_ONE), "2026-01-31T07:00:00Z"),
        (Price, Decimal("1.5"), "1.50"),
        (Price, Decimal("1.5000"), "1.50"),
        (Price, Decimal("1E+3"), "1000.00"),
        (Point, PointWithMethods(1.0), {"x": 1.0, "y": 0.5}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_result_that_is_equal_to_one_of_its_type_is_taken(kind: Any, value: Any, answered: Any) -> None:
    holder = make_dataclass("Holder", [("it", kind)])
    assert response(holder, holder(value)) == {"it": answered}


def test_a_result_without_one_of_its_fields_is_refused() -> None:
    holder = make_dataclass("Holder", [("it", int)])
    value = holder(1)
    del value.it
    with pytest.raises(ValueError, match="it: it has no value"):
        body_of(holder).encode(value)


# depth


@dataclass
class Link:
    next: Link | None = None


def chain(levels: int) -> Link:
    link = Link()
    for _ in range(levels):
        link = Link(link)
    return link


def test_a_result_may_recur_as_deep_as_a_request_and_no_deeper() -> None:
    body = body_of(Link)
    assert body.schema is not None
    payload = body.encode(chain(MAX_DEPTH))
    assert body.decode(payload) == chain(MAX_DEPTH)
    codec = PayloadCodec(body.schema.text)
    assert codec.encode(codec.decode(payload)) == payload
    for levels in (MAX_DEPTH + 1, 900):
        with pytest.raises(ValueError, match=f"nested too deeply: a type may recur {MAX_DEPTH} levels deep"):
            body.encode(chain(levels))


# factories


def counting() -> Callable[[], int]:
    counter = iter(range(1000))
    return lambda: next(counter)


def test_a_factory_is_called_for_each_request_that_leaves_the_field_out() -> None:
    @dataclass
    class Line:
        number: int = field(default_factory=counting())
        note: str | None = field(default_factory=lambda: "none")

    holder = make_dataclass("Holder", [("lines", list[Line]), ("number", int, field(default_factory=counting()))])
    body = body_of(holder)
    assert body.schema is not None
    codec = PayloadCodec(body.schema.text)

    def asked(text: bytes) -> Any:
        return body.decode(codec.encode(text))

    assert asked(b'{"lines": [{}, {"number": 7, "note": null}, {}]}') == holder(
        [Line(0, "none"), Line(7, None), Line(1, "none")], 0
    )
    assert asked(b'{"lines": [{"note": "__absent__"}], "number": 5}') == holder([Line(2, "__absent__")], 5)
    assert asked(b'{"lines": []}') == holder([], 1)


def test_a_factory_is_not_called_when_the_operation_is_declared() -> None:
    body_of(make_dataclass("Holder", [("it", int, field(default_factory=lambda: 1 // 0))]))


def test_null_is_not_the_same_as_left_out() -> None:
    holder = make_dataclass("Holder", [("it", int, field(default_factory=counting()))])
    body = body_of(holder)
    assert body.schema is not None
    with pytest.raises(Exception, match="it: expected an integer, found null"):
        PayloadCodec(body.schema.text).encode(b'{"it": null}')


# versions


def read_by(kind: type, writer: Body, value: Any) -> Any:
    return body_of(kind).decode(writer.encode(value), writer.schema)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (bytes, b"\xff\x00"),
        (datetime, datetime(2026, 1, 31, 8, 30, 0, 123456, UTC)),
        (date, date(2026, 1, 31)),
        (time, time(8, 30, 0, 1)),
        (Price, Decimal("1.50")),
        (UUID, UUID(int=7)),
        (Size, Size.LARGE),
        (Point, Point(1.0)),
        (Price | None, Decimal("1.50")),
        (list[Point] | None, None),
        (tuple[bytes, ...], (b"\xff",)),
    ],
    ids=str,
)
@pytest.mark.parametrize("from_factory", [False, True])
def test_a_field_that_the_writer_did_not_know_has_its_default(kind: Any, default: Any, from_factory: bool) -> None:
    older = make_dataclass("Holder", [("x", int)])
    part = field(default_factory=lambda: default) if from_factory else field(default=default)
    newer = make_dataclass("Holder", [("x", int), ("it", kind, part)])
    assert read_by(newer, body_of(older), older(1)) == newer(1)
    assert read_by(older, body_of(newer), newer(1)) == older(1)


def test_a_number_stays_of_its_kind_whichever_branch_comes_first() -> None:
    plain = make_dataclass("Holder", [("it", int | float)])
    for default in (1, 1.5):
        other = make_dataclass("Holder", [("it", int | float, field(default=default))])
        for value in (2**53 + 1, 5, 5.0):
            assert repr(read_by(plain, body_of(other), other(value)).it) == repr(value)
            assert repr(read_by(other, body_of(plain), plain(value)).it) == repr(value)


def test_an_unknown_symbol_becomes_the_member_that_the_enum_says() -> None:
    def version(name: str, *symbols: str) -> Any:
        class Forgiving(Enum):
            @classmethod
            def _missing_(cls, _: object) -> Forgiving:
                return cls("other")

        make: Any = Forgiving
        kind = make(name, [(symbol.upper(), symbol) for symbol in symbols])
        return kind, make_dataclass("Holder", [("it", kind)])

    (older, old_holder), (newer, new_holder) = version("Kind", "a", "other"), version("Kind", "other", "b", "a")
    assert read_by(old_holder, body_of(new_holder), new_holder(newer.B)) == old_holder(older.OTHER)
    assert read_by(old_holder, body_of(new_holder), new_holder(newer.A)) == old_holder(older.A)
    strict = Enum("Kind", [("A", "a"), ("OTHER", "other")])  # type: ignore[misc]
    with pytest.raises(Exception, match="b not found in reader symbol list"):
        read_by(make_dataclass("Holder", [("it", strict)]), body_of(new_holder), new_holder(newer.B))


def holding(kind: Any, **options: Any) -> type:
    return make_dataclass("Holder", [("it", kind, field(**options))])


LONGER = Enum("Size", [("SMALL", "small"), ("LARGE", "large"), ("HUGE", "huge")])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (holding(int), holding(float), "type mismatch"),
        (holding(str), holding(bytes), "its type changes from string to bytes"),
        (holding(list[str]), holding(list[bytes]), "its type changes from string to bytes"),
        (holding(str), holding(UUID), "its logical type changes from none to uuid"),
        (holding(int), holding(datetime), "its logical type changes from none to timestamp-micros"),
        (holding(datetime), holding(time), "its logical type changes from timestamp-micros to time-micros"),
        (holding(Price), holding(Annotated[Decimal, DecimalMeta(9, 3)]), "from decimal(9, 2) to decimal(9, 3)"),
        (holding(int), holding(int | None), "type mismatch"),
        (holding(int), holding(int | None, default=None), "type mismatch"),
        (holding(int | str), holding(int | str | None), "union"),
        (holding(int, default=1), holding(int, default_factory=lambda: 1), "type mismatch"),
        (holding(Size), holding(LONGER), "the old version does not know the symbol huge; an enum may gain or lose"),
        (holding(LONGER), holding(Size), "the new version does not know the symbol huge; an enum may gain or lose"),
        (holding(Size | None), holding(LONGER | None), "'_missing_'"),
        (holding(Size), holding(str), "type mismatch"),
        (holding(Point), holding(PointWithMethods), "name mismatch"),
        (holding(int), make_dataclass("Held", [("it", int)]), "name mismatch"),
        (holding(int), make_dataclass("Holder", [("other", int)]), "default"),
    ],
    ids=str,
)
def test_a_change_that_would_make_one_value_another_is_refused(old: type, new: type, said: str) -> None:
    before, after = body_of(old).schema, body_of(new).schema
    assert before is not None
    assert after is not None
    conflict = compatibility.check(before.text, after.text)
    assert conflict is not None
    assert said in conflict.reason
    assert compatibility.check(after.text, before.text) is not None


def test_an_app_is_named_by_text() -> None:
    with pytest.raises(AppError, match="app name 3: "):
        Forebay(3)  # type: ignore[arg-type]
