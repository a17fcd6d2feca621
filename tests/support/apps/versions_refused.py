"""A version of `versions_old` whose enum gains a symbol, which the version before does not know what to make of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from forebay import Forebay

app = Forebay("versions")


class Tint(Enum):
    """Has one symbol more."""

    RED = "red"
    BLUE = "blue"
    GREEN = "green"


@dataclass
class Tinted:
    """Holds the enum."""

    tint: Tint


@dataclass
class Seen:
    """What a version saw."""

    version: str
    request: str


@app.operation(tier="interactive", deadline=20.0)
async def tint(request: Tinted) -> Seen:
    """See an enum that gains a symbol."""
    return Seen("refused", repr(request))
