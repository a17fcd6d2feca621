"""Another app that has an operation of the latecomer's name."""

from __future__ import annotations

from forebay import Forebay

app = Forebay("rival")


@app.operation(tier="interactive", deadline=10.0)
async def shout(words: bytes) -> bytes:
    """Say it louder."""
    return words.upper()
