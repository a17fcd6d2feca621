"""Connections to brokers: opened when they are needed, one for each lane of requests that must not wait for another.

A broker answers the requests of one connection one after the other. So whatever it may hold for a while, a fetch that
waits for records or a member joining its group, has a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.errors import KafkaError

CONNECT_BOUND = 5.0
"""Seconds that opening a connection may take, the greetings of TLS and SASL included."""

SHARED = "shared"
"""The lane of all requests that are answered at once."""


class Unreachable(Exception):
    """A broker could not be asked, or did not answer; whether it did what it was asked is not known."""


class Address(NamedTuple):
    """Where a broker is."""

    host: str
    port: int


class Connections:
    """The connections of one client.

    Args:
        arguments: what every connection takes: security and the client's name.
        on_lost: called when a connection broke, so that what is known of the cluster may be out of date.
    """

    def __init__(self, arguments: Mapping[str, Any], on_lost: Callable[[], None]) -> None:
        self._arguments = dict(arguments)
        self._on_lost = on_lost
        self._open: dict[tuple[Address, str], AIOKafkaConnection] = {}
        self._opening: dict[tuple[Address, str], asyncio.Task[AIOKafkaConnection]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    async def send(self, address: Address, lane: str, request: Any, bound: float) -> Any:
        """Send a request and return the response.

        Args:
            address: of the broker.
            lane: requests of one lane share a connection and wait for each other.
            request: as aiokafka prepares it for the version that the broker has.
            bound: seconds until the answer, from when the request is sent; a lane has the same for all its requests.

        Raises:
            Unreachable: there was no answer.
        """
        connection = self._open.get((address, lane))
        if connection is None or not connection.connected():
            connection = await self._connect(address, lane, bound)
        try:
            return await connection.send(request)
        except TimeoutError:
            connection.close(CloseReason.CONNECTION_TIMEOUT)
            raise Unreachable(f"{address.host}:{address.port} did not answer within {bound:g} s") from None
        except RuntimeError as error:  # uvloop's, of a transport that was just closed
            raise Unreachable(f"{address.host}:{address.port} closed the connection") from error
        except (KafkaError, OSError, ValueError) as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    def drop(self, address: Address, lane: str) -> None:
        """Close a connection, so that the next request of its lane has a new one; requests under way fail."""
        connection = self._open.pop((address, lane), None)
        if connection is not None:
            connection.close()

    async def close(self, lane: str | None = None) -> None:
        """Close the connections of a lane, or all of them for good."""
        self._closed |= lane is None
        for key, opening in list(self._opening.items()):
            if lane in (None, key[1]):
                opening.cancel()
        closing = []
        for key in [key for key in self._open if lane in (None, key[1])]:
            closing.append(self._open.pop(key).close(CloseReason.SHUTDOWN))
        await asyncio.gather(*(closed for closed in closing if closed is not None))

    async def _connect(self, address: Address, lane: str, bound: float) -> AIOKafkaConnection:
        """Open a connection, or wait for the one that is being opened."""
        if self._closed:
            raise Unreachable("the client has disconnected")
        key = (address, lane)
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = asyncio.create_task(self._open_connection(key, bound))
            opening.add_done_callback(lambda task: self._opened(key, task))
        try:
            return await asyncio.shield(opening)
        except TimeoutError:
            raise Unreachable(f"{address.host}:{address.port} did not answer within {CONNECT_BOUND:g} s") from None
        except (KafkaError, OSError) as error:
            raise Unreachable(f"{address.host}:{address.port}: {error or type(error).__name__}") from error
        except asyncio.CancelledError:
            if opening.cancelled() and self._closed:
                raise Unreachable("the client has disconnected") from None
            raise

    async def _open_connection(self, key: tuple[Address, str], bound: float) -> AIOKafkaConnection:
        (host, port), _ = key
        async with asyncio.timeout(CONNECT_BOUND):
            return await create_conn(
                host, port, request_timeout_ms=int(bound * 1000), on_close=self._on_close, **self._arguments
            )

    def _opened(self, key: tuple[Address, str], opening: asyncio.Task[AIOKafkaConnection]) -> None:
        del self._opening[key]
        if not opening.cancelled() and opening.exception() is None:
            self._open[key] = opening.result()

    def _on_close(self, connection: AIOKafkaConnection, reason: CloseReason | None) -> None:
        for key, known in list(self._open.items()):
            if known is connection:
                del self._open[key]
        if reason in (CloseReason.CONNECTION_BROKEN, CloseReason.CONNECTION_TIMEOUT):
            self._on_lost()
