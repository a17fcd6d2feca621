"""A request as it comes in, and the way to answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from forebay_gateway import problems
from forebay_gateway.problems import HttpProblem
from forebay_gateway.response import Response

FRAMING_BYTES = 16
"""Bytes that the framing of a chunk may take beside two for each byte of its content, before they count as excess."""


class Channel(Protocol):
    """The way back to the client of a request."""

    def send_continue(self) -> None:
        """Ask the client for the body."""

    def send(self, request: Request, response: Response) -> None:
        """Answer a request."""


class Request:
    """One request, from the moment at which its head is complete.

    Attributes:
        method: as it was sent.
        path: of its target, as it was sent, without the query.
        fields: by name in lower case; what came several times is joined with commas.
        version: of HTTP, such as ``1.1``.
        fault: what is wrong with its head, so that it cannot be served.
        closes: whether the connection ends with its response.
        complete: whether all of the body is here.
        status: of the response; None until there has been one.
        received: bytes of the body so far.
        silence: bytes that brought nothing of the body, beyond what its framing may take.
    """

    __slots__ = (
        "_body",
        "_channel",
        "_failure",
        "_max_body",
        "_progress",
        "closes",
        "complete",
        "expects_continue",
        "fault",
        "fields",
        "method",
        "path",
        "received",
        "silence",
        "status",
        "version",
    )

    def __init__(
        self,
        channel: Channel,
        method: str,
        path: str,
        version: str,
        fields: dict[bytes, bytes],
        max_body: int,
        fault: HttpProblem | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.version = version
        self.fields = fields
        self.fault = fault
        self.closes = fault is not None
        self.complete = False
        self.status: int | None = None
        self.received = 0
        self.silence = 0
        self.expects_continue = b"expect" in fields and version == "1.1"
        self._channel = channel
        self._max_body = max_body
        self._body: list[bytes] = []
        self._failure: HttpProblem | None = None
        self._progress: asyncio.Future[None] | None = None

    @property
    def answered(self) -> bool:
        """Whether there has been a response."""
        return self.status is not None

    async def body(self) -> bytes:
        """Return the whole body; a client that waits to be asked for it is asked.

        Raises:
            HttpProblem: 413 if it is too large, before any of it is read where it says so; 400 or 408 if it does not
                come.
        """
        if self.complete and self._failure is None:
            return self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if (self._announced or 0) > self._max_body:
            self._refuse_size()
        if self._failure is None:
            if self.expects_continue and not self.received:
                self._channel.send_continue()
            self.expects_continue = False
            self._progress = asyncio.get_running_loop().create_future()
            await self._progress
        if self._failure is not None:
            raise self._failure
        return b"".join(self._body)

    def respond(self, response: Response) -> None:
        """Answer; the response is on its way when this returns.

        Raises:
            RuntimeError: it has been answered.
            ValueError: a field of the response would break out of its line; nothing has been sent.
        """
        if self.answered:
            raise RuntimeError(f"{self.method} {self.path} has been answered already")
        self._channel.send(self, response)

    def add(self, data: bytes) -> None:
        """Take in a piece of the body."""
        self.received += len(data)
        self.silence = max(0, self.silence - FRAMING_BYTES - 3 * len(data))
        if self.answered or self._failure is not None:
            return
        self._body.append(data)
        if self.received > self._max_body:
            self._refuse_size()

    def finish(self) -> None:
        """Take note that all of the body is here."""
        self.complete = True
        self._wake()

    def fail(self, problem: HttpProblem) -> None:
        """Give the body up: whoever asks for it gets the problem."""
        if self._failure is None:
            self._failure = problem
            self._body.clear()
        self._wake()

    @property
    def _announced(self) -> int | None:
        length = self.fields.get(b"content-length")
        return None if length is None else int(length.lstrip(b"0") or 0)  # Python bounds the digits of an int

    def _refuse_size(self) -> None:
        self.fail(problems.too_large(self._max_body, self._announced))

    def _wake(self) -> None:
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)


Application = Callable[[Request], Awaitable[None]]
"""Answers a request by `Request.respond`; cancelled when the client is gone."""
