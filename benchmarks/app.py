"""The echo that Forebay's processor runs: takes a typed request, returns it."""

from __future__ import annotations

from dataclasses import dataclass

from forebay import Forebay

app = Forebay("benchmarks")


@dataclass
class Document:
    """What `benchmarks.payload.document` sends."""

    client: int
    title: str
    width: int
    ratio: float
    urgent: bool
    tags: list[str]
    text: str


@app.operation(tier="interactive", deadline=30.0)
async def echo(request: Document) -> Document:
    """Return the request."""
    return request
