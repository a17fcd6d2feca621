"""A second version of the app that cannot live beside the first: a field of `echo` has become another type."""

from __future__ import annotations

from dataclasses import dataclass

from forebay import Forebay

app = Forebay("roundtrip")


@dataclass
class Everything:
    """What is left of it."""

    integer: str


@app.operation(tier="interactive", deadline=20.0)
async def echo(request: Everything) -> Everything:
    """Give back what was asked."""
    return request


@app.operation(tier="interactive", deadline=20.0)
async def newcomer(request: Everything) -> Everything:
    """Never be served: all of an app's operations are announced, or none."""
    return request
