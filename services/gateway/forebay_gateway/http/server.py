"""A server: accepts connections, enforces their time limits, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from email.utils import formatdate

from forebay.errors import ConfigurationError
from forebay.lifecycle import running
from forebay_gateway.http.connection import Connection, Limits, Shared
from forebay_gateway.http.request import Application

BACKLOG = 2048
"""Connections that may wait to be taken."""

MAX_UNSENT_BYTES = 128 * 1024
"""Bytes of a response that the kernel holds beyond those that the client has room for. It would hold megabytes, and
take none for a while: a client that reads slowly could not be told from one that reads nothing."""

LAST_ANSWERS = 1.0
"""Seconds that answers have to reach their clients at the end, before connections are cut."""

_LOOK_EVERY = 1.0
_LOOK_EVERY_AT_THE_END = 0.1
_LOOK_AT_ONCE = 500  # connections between two turns of the event loop


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
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)  # connections inherit it
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        ours = error.errno != errno.EADDRNOTAVAIL and not isinstance(error, socket.gaierror)
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}", setting=f"{name}_{'port' if ours else 'host'}"
        ) from error


class Server:
    """An HTTP server that runs within `serving`."""

    def __init__(self, app: Application, listener: socket.socket, limits: Limits) -> None:
        self._shared = Shared(app, limits)
        self._listener = listener
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._shared.connections)

    async def start(self) -> None:
        """Take connections."""
        shared = self._shared
        self._keep_date()
        self._server = await shared.loop.create_server(lambda: Connection(shared), sock=self._listener, backlog=BACKLOG)

    async def finish(self, timeout: float, hurry: asyncio.Event | None = None) -> bool:
        """Take no new connections, and end each that is open with its answer; may be called again.

        Returns:
            False when requests are still held, or still being sent, after ``timeout`` seconds or once ``hurry`` is set.
        """
        shared = self._shared
        if not shared.stopping:
            shared.stopping = True
            await self._close_port()
            for connection in list(shared.connections):
                connection.stop()
        end = shared.loop.time() + timeout
        while shared.connections and (left := end - shared.loop.time()) > 0:
            if hurry is not None and hurry.is_set():
                break
            await asyncio.sleep(min(left, _LOOK_EVERY_AT_THE_END))
            for connection in list(shared.connections):
                connection.check_bounds(shared.loop.time())
        return not shared.connections

    async def _close_port(self) -> None:
        """Take the connections that the kernel has accepted already, which it would reset, and no more."""
        if self._server is None:
            return
        accepted: list[socket.socket] = []
        with contextlib.suppress(OSError):
            while len(accepted) < BACKLOG:
                accepted.append(self._listener.accept()[0])
        self._server.close()
        shared = self._shared
        for client in accepted:
            with contextlib.suppress(OSError):  # it has left
                await shared.loop.connect_accepted_socket(lambda: Connection(shared), client)

    async def stop(self) -> None:
        """Give the last answers a moment to reach their clients, then cut whatever connection is left."""
        await self.finish(LAST_ANSWERS)
        for connection in list(self._shared.connections):
            connection.abort()

    async def keep_bounds(self) -> None:
        """Keep the date, and the bounds of the connections, until cancelled; run it as a task."""
        shared = self._shared
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            self._keep_date()
            for number, connection in enumerate(list(shared.connections), 1):
                connection.check_bounds(shared.loop.time())
                if number % _LOOK_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _keep_date(self) -> None:
        self._shared.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()


@contextlib.asynccontextmanager
async def serving(app: Application, listener: socket.socket, limits: Limits) -> AsyncIterator[Server]:
    """Serve an application on a port for the length of the block."""
    server = Server(app, listener, limits)
    await server.start()
    async with running(server.keep_bounds()):
        try:
            yield server
        finally:
            await server.stop()
