"""One connection of a client: requests one after another, responses in the same order, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

from forebay_gateway import problems
from forebay_gateway.http.parser import RequestParser
from forebay_gateway.http.request import Application, Request
from forebay_gateway.problems import HttpProblem
from forebay_gateway.response import Response

log = logging.getLogger(__name__)

IDLE_SECONDS = 75.0
"""Seconds that an idle connection stays open: longer than clients and proxies keep theirs, mostly 5 to 60 s, so that it
is they who close it, and no request meets a connection that is just being closed."""

LINGER_SECONDS = 2.0
"""Seconds that a client has to read the last response while it is still sending: a connection that is closed at once is
reset, and the response lost."""

READER_SECONDS = 75.0
"""Seconds in which a client reads nothing of a response that is being sent."""

STOP_SECONDS = 0.5
"""Seconds that anything may take which a client does, once the server stops; except reading."""

STOP_READER_SECONDS = 5.0
"""As `READER_SECONDS`, once the server stops."""

READ_AHEAD = 1
"""Requests that may wait behind the one that is being answered; with as many, nothing further is read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take.

    Attributes:
        max_body: bytes of a request's body.
        head: seconds from the first byte of a head to its last.
        body: seconds from then to the last byte of the body, however steadily it comes.
    """

    max_body: int
    head: float
    body: float


class Shared:
    """What the connections of a server have in common.

    Attributes:
        app: answers the requests.
        limits: of each connection.
        connections: those that are open.
        date: the line of the field ``Date``, kept current.
        stopping: whether no further request is taken.
    """

    def __init__(self, app: Application, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.date = b""
        self.stopping = False


class WaitingFor(Enum):
    """What a connection waits for that the client does, and that is bounded."""

    REQUEST = auto()
    HEAD = auto()
    BODY = auto()
    READER = auto()
    END = auto()


class Connection(asyncio.Protocol):
    """Has each request of a client answered in its turn.

    Nothing here sets a timer: the server has each connection look now and then for what takes too long.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = RequestParser(self, shared.limits.max_body, self._take)
        self._queue: deque[Request] = deque()  # requests without a response, the one that is being answered first
        self._serving: asyncio.Task[None] | None = None
        self._client_is_done = False  # it sends nothing more
        self._closing = False
        self._paused = False
        self._writable = True
        self._seen: tuple[WaitingFor | None, int, int] = (None, 0, 0)
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """End: nobody is left to be answered."""
        self._shared.connections.discard(self)
        self._closing = True
        self._queue.clear()
        self._parser.close()
        if self._serving is not None and not self._serving.done():
            self._serving.cancel()

    def data_received(self, data: bytes) -> None:
        """Take in what the client sends."""
        problem = self._parser.feed(data)
        if problem is not None:
            self._give_up(problem)

    def eof_received(self) -> bool:
        """Go on with what has been asked: a client that sends nothing more may still listen."""
        self._client_is_done = True
        parser = self._parser
        if parser.receiving is not None or (parser.in_head and not parser.ended):
            self._give_up(problems.incomplete())
        parser.ended = True
        return bool(self._queue) and not self._closing

    def pause_writing(self) -> None:
        """Write no further response: the client reads too slowly."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on with the next response."""
        self._writable = True
        if self._queue and self._is_idle():
            self._serve_next()

    def send_continue(self) -> None:
        """Ask the client for the body."""
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send(self, request: Request, response: Response) -> None:
        """Write a response, and turn to what comes after it."""
        if self._closing:
            request.status = response.status
            return
        is_last = len(self._queue) == 1 and (self._shared.stopping or self._parser.ended)
        closes = is_last or request.closes
        if request.expects_continue and not request.complete:
            closes = True  # the client may send the body or not, and so what follows cannot be told apart
        connection = b""
        if closes:
            connection = b"connection: close\r\n"
        elif request.version == "1.0":
            connection = b"connection: keep-alive\r\n"
        data = response.serialise(self._shared.date, connection, with_body=request.method != "HEAD")
        request.status = response.status
        self._transport.write(data)
        self._queue.popleft()
        if closes:
            # a client that did not ask for the end may be sending its next request
            lingering = request.fault is not None or not request.complete or not request.closes
            self._close(lingering=lingering)
        elif self._queue and self._writable:
            self._serve_next()
        if self._paused and len(self._queue) <= READ_AHEAD and not self._closing:
            self._paused = False
            self._transport.resume_reading()

    def stop(self) -> None:
        """End with the last response, or soon if there is no request: one may be on its way, and would be lost."""
        self._seen = (None, 0, 0)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def check_bounds(self, now: float) -> None:
        """End what takes too long; ``now`` is an instant of a monotonic clock, in seconds."""
        waiting = self._waiting_for()
        unsent = self._transport.get_write_buffer_size() if waiting is WaitingFor.READER else 0
        seen = (waiting, self._parser.heads, unsent)
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif waiting is not None and now - self._since >= self._bound(waiting):
            self._expire(waiting)

    def _take(self, request: Request) -> None:
        self._queue.append(request)
        if len(self._queue) == 1:
            self._serve_next()
        elif len(self._queue) > READ_AHEAD and not (self._paused or self._client_is_done):
            self._paused = True
            self._transport.pause_reading()

    def _serve_next(self) -> None:
        self._serving = self._shared.loop.create_task(self._serve(self._queue[0]))

    async def _serve(self, request: Request) -> None:
        try:
            await self._shared.app(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
        if not request.answered:
            request.respond(problems.internal_error().response())

    def _is_idle(self) -> bool:
        return self._serving is None or self._serving.done()

    def _give_up(self, problem: HttpProblem) -> None:
        """Take nothing more from the client: what is being received cannot go on."""
        was_ended = self._parser.ended
        request = self._parser.abandon()
        if request is not None:
            request.closes = True
            request.fail(problem)
            if request.answered:
                self._close(lingering=True)
        elif not was_ended:
            self._take(Request(self, "", "", "1.1", {}, 0, problem))

    def _close(self, *, lingering: bool) -> None:
        """End the connection after what was written.

        Args:
            lingering: the client may still be sending: what comes is thrown away until it has read the response.
        """
        self._closing = True
        self._parser.abandon()
        if lingering and not self._client_is_done:
            self._transport.write_eof()
            if self._paused:
                self._transport.resume_reading()
        else:
            self._transport.close()

    def _waiting_for(self) -> WaitingFor | None:
        """Say what is waited for; None while the application is at work, which has bounds of its own."""
        is_sending = self._transport.get_write_buffer_size() > 0
        if self._closing:
            return WaitingFor.READER if is_sending else WaitingFor.END
        if self._queue and not self._writable and self._is_idle():
            return WaitingFor.READER
        if not self._paused:
            if self._parser.receiving is not None:
                return WaitingFor.BODY
            if self._parser.in_head and not self._parser.ended:
                return WaitingFor.HEAD
        if self._queue:
            return None
        return WaitingFor.READER if is_sending else WaitingFor.REQUEST

    def _bound(self, waiting: WaitingFor) -> float:
        limits = self._shared.limits
        bounds = {
            WaitingFor.REQUEST: IDLE_SECONDS,
            WaitingFor.HEAD: limits.head,
            WaitingFor.BODY: limits.body,
            WaitingFor.READER: READER_SECONDS,
            WaitingFor.END: LINGER_SECONDS,
        }
        if not self._shared.stopping:
            return bounds[waiting]
        return min(bounds[waiting], STOP_READER_SECONDS if waiting is WaitingFor.READER else STOP_SECONDS)

    def _expire(self, waiting: WaitingFor) -> None:
        if waiting not in (WaitingFor.HEAD, WaitingFor.BODY):
            self.abort()
        elif self._shared.stopping:
            self._give_up(problems.stopping("the gateway is stopping; nothing was produced"))
        else:
            self._give_up(problems.too_slow(waiting.name.lower(), self._bound(waiting)))
