"""HTTP on a socket: uvicorn's server, with each response in one write."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from forebay.errors import ConfigurationError

BACKLOG = 2048
"""Connections that may wait to be taken."""

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than clients and proxies keep theirs, mostly 5 to 60 s, so that it
is they who close it, and no request meets a connection that is just being closed."""

LAST_ANSWERS = 1.0
"""Seconds that answers have to reach their clients at the end, before connections are cut."""


def listen(name: str, host: str, port: int) -> socket.socket:
    """Take a port.

    Args:
        name: of the setting that chooses the port, for the error.
        host: address to listen on.
        port: port to listen on.

    Raises:
        ConfigurationError: it is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        ours = error.errno != errno.EADDRNOTAVAIL and not isinstance(error, socket.gaierror)
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}", setting=f"{name}_{'port' if ours else 'host'}"
        ) from error


class Server:
    """An HTTP server that runs within `serving`."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                loop="none",
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE,
                proxy_headers=False,
                server_header=False,
                date_header=False,
            )
        )
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def finish(self, timeout: float) -> bool:
        """Take no new connections, and end each that is open with its answer.

        Returns:
            False when requests are still held, or still being sent, after ``timeout`` seconds.
        """
        self._server.should_exit = True
        _, unfinished = await asyncio.wait([self._task], timeout=timeout)
        return not unfinished

    async def stop(self) -> None:
        """Give the last answers a moment to reach their clients, then cut whatever connection is left."""
        if not await self.finish(LAST_ANSWERS):
            self._server.force_exit = True
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
        await self._task


@contextlib.asynccontextmanager
async def serving(app: Any, listener: socket.socket) -> AsyncIterator[Server]:
    """Serve an ASGI application on a port for the length of the block."""
    server = Server(app, listener)
    try:
        yield server
    finally:
        await server.stop()


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that leaves the signals to the service it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn says the same
        self._corked = _Corked(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._corked))

    def on_response_complete(self) -> None:
        if len(self.tasks) == 1:  # nobody else is served: the client need not wait for the event loop to come round
            self._corked.flush()
        super().on_response_complete()


class _Corked:
    """A transport that gathers what is written until a response is complete or the event loop comes round again.

    uvicorn writes the head of a response and its body apart, and uvloop makes a system call, and a packet, of each.
    """

    __slots__ = ("_chunks", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._chunks: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._chunks:
            self._loop.call_soon(self.flush)
        self._chunks.append(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            self._transport.write(b"".join(chunks))
