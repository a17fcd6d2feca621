"""An app before it was changed in every way that is accepted; `versions_new` is the same after it.

Each handler answers with the version that ran it and with what it saw, as Python writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

from forebay import DecimalMeta, Forebay

app = Forebay("versions")

Price = Annotated[Decimal, DecimalMeta(precision=9, scale=2)]


@dataclass
class Seen:
    """What a version saw."""

    version: str
    request: str


def saw(request: object) -> Seen:
    """Answer with what came."""
    return Seen("old", repr(request))


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


@app.operation(tier="interactive", deadline=20.0)
async def grow(request: Growing) -> Seen:
    """See a request that gains fields."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def shrink(request: Shrinking) -> Seen:
    """See a request that loses fields."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def size(request: Sized) -> Seen:
    """See an enum that gains a symbol."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def tint(request: Tinted) -> Seen:
    """See an enum whose symbols change places."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def number(request: Numbers) -> Seen:
    """See numbers of two kinds."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def require(request: Required) -> Seen:
    """See a field that gets a default."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def move(request: Moving) -> Seen:
    """See fields that change places."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def choose(request: Choosing) -> Seen:
    """See one of several choices."""
    return saw(request)


@app.operation(tier="interactive", deadline=20.0)
async def answer(_: Required) -> Answer:
    """Answer with a result that changes."""
    return Answer("old", datetime.fromisoformat("2026-01-31T08:30:00.123456+00:00"), Size.OTHER)
