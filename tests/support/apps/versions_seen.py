"""What the versions of one app share: operations that answer with the version that ran them and what it saw."""

from __future__ import annotations

from dataclasses import dataclass

from forebay import Forebay


@dataclass
class Seen:
    """What a version saw, as Python writes it."""

    version: str
    request: str


def add_operations(app: Forebay, version: str, **requests: type) -> None:
    """Declare an operation for each type of request, under the name it is given here."""

    async def see(request: object) -> Seen:
        return Seen(version, repr(request))

    for name, request in requests.items():
        see.__annotations__ = {"request": request, "return": Seen}
        app.operation(name=name, tier="interactive", deadline=20.0)(see)
