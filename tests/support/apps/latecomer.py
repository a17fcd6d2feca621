"""A small app that arrives while a gateway runs."""

from __future__ import annotations

from dataclasses import dataclass

from forebay import Forebay

app = Forebay("latecomer")


@dataclass
class Word:
    """A word."""

    text: str


@app.operation(tier="interactive", deadline=10.0)
async def shout(request: Word) -> Word:
    """Say it louder."""
    return Word(request.text.upper())
