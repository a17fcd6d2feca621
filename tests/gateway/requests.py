"""Requests as the parser makes them, for tests of what comes after it."""

from __future__ import annotations

from forebay_gateway.http import Request
from forebay_gateway.response import Response


class NoChannel:
    """A channel that leads to no client, and notes what it was asked to send."""

    def __init__(self) -> None:
        self.continues = 0
        self.responses: list[Response] = []

    def send_continue(self) -> None:
        self.continues += 1

    def send(self, request: Request, response: Response) -> None:
        request.status = response.status
        self.responses.append(response)


def a_request(
    *chunks: bytes,
    path: str = "/v1/thumbnail",
    max_body: int = 1_000_000,
    channel: NoChannel | None = None,
    complete: bool = True,
    **fields: bytes,
) -> Request:
    """A POST with these chunks of a body; the names of fields have ``_`` where HTTP has ``-``."""
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    request = Request(channel or NoChannel(), "POST", path, "1.1", named, max_body)
    for chunk in chunks:
        request.add(chunk)
    if complete:
        request.finish()
    return request
