"""The app `versions_old` after it was changed in every way that is accepted."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

from forebay import DecimalMeta, Forebay

app = Forebay("versions")
add_operations = importlib.import_module("versions_seen").add_operations  # it is beside this module

NOBODY = UUID(int=7)
Price = Annotated[Decimal, DecimalMeta(precision=9, scale=2)]


class Size(Enum):
    """May gain symbols, as it says what an unknown one becomes."""

    LARGE = "large"
    SMALL = "small"
    OTHER = "other"

    @classmethod
    def _missing_(cls, _: object) -> Size:
        return cls.OTHER


class Tint(Enum):
    """Its symbols change places."""

    BLUE = "blue"
    RED = "red"


@dataclass
class Point:
    """Gains a field."""

    x: float
    y: bytes = b"\xff"


@dataclass
class Growing:
    """Gains fields of every kind."""

    id: int
    points: list[Point] = field(default_factory=list)
    at: datetime = datetime(2026, 1, 31, 8, 30, 0, 123456, UTC)
    hour: time = time(8, 30, 0, 1)
    day: date = date(2026, 1, 31)
    price: Price = Decimal("1.50")
    owner: UUID = NOBODY
    size: Size = Size.LARGE
    note: str | None = "none"
    tag: str = field(default_factory=lambda: "made")


@dataclass
class Shrinking:
    """Loses a field."""

    id: int


@dataclass
class Sized:
    """Holds an enum that gains a symbol."""

    sizes: list[Size]


@dataclass
class Tinted:
    """Holds an enum whose symbols change places."""

    tint: Tint


@dataclass
class Numbers:
    """Gets a default, and with it another order of branches."""

    it: int | float = 1.5
    all: list[float | int | None] = field(default_factory=list)


@dataclass
class Required:
    """Gets a default for a required field, and another default for one that has one."""

    text: str = "text"
    count: int = 2


@dataclass
class Moving:
    """Its fields change places."""

    second: str
    first: str


@dataclass
class Choosing:
    """Its choices grow."""

    mode: Literal["a", "b", "c"]


@dataclass
class Answer:
    """A result that changes."""

    version: str
    size: Size = Size.SMALL
    price: Price = Decimal("1.50")


add_operations(
    app,
    "new",
    grow=Growing,
    shrink=Shrinking,
    size=Sized,
    tint=Tinted,
    number=Numbers,
    require=Required,
    move=Moving,
    choose=Choosing,
)


@app.operation(tier="interactive", deadline=20.0)
async def answer(_: Required) -> Answer:
    """Answer with a result that changes."""
    return Answer("new", Size.LARGE, Decimal("2.50"))
