"""An app before it was changed in every way that is accepted; `versions_new` is the same after it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

from forebay import DecimalMeta, Forebay

app = Forebay("versions")
add_operations = importlib.import_module("versions_seen").add_operations  # it is beside this module

Price = Annotated[Decimal, DecimalMeta(precision=9, scale=2)]


class Size(Enum):
    """May gain symbols, as it says what an unknown one becomes."""

    SMALL = "small"
    OTHER = "other"

    @classmethod
    def _missing_(cls, _: object) -> Size:
        return cls.OTHER


class Tint(Enum):
    """Its symbols change places."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """Gains a field."""

    x: float


@dataclass
class Growing:
    """Gains fields of every kind."""

    id: int
    points: list[Point] = field(default_factory=list)


@dataclass
class Shrinking:
    """Loses a field."""

    id: int
    at: datetime | None = None
    price: Price = Decimal("1.50")


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

    it: int | float
    all: list[int | float | None]


@dataclass
class Required:
    """Gets a default for a required field, and another default for one that has one."""

    text: str
    count: int = 1


@dataclass
class Moving:
    """Its fields change places."""

    first: str
    second: str


@dataclass
class Choosing:
    """Its choices grow."""

    mode: Literal["a", "b"]


@dataclass
class Answer:
    """A result that changes."""

    version: str
    at: datetime | None = None
    size: Size = Size.SMALL


add_operations(
    app,
    "old",
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
    return Answer("old", datetime.fromisoformat("2026-01-31T08:30:00.123456+00:00"), Size.OTHER)
