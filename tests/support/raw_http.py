"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

WITHIN = 20.0
"""Seconds that a response may take on a busy machine."""


@dataclass(frozen=True)
class RawResponse:
    """A response as it came."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The kind of problem that it tells of."""
        assert self.fields["content-type"] == "application/problem+json", self
        told = json.loads(self.body)
        assert told["status"] == self.status
        kind = told["type"]
        assert isinstance(kind, str)
        return kind.removeprefix("urn:forebay:problem:")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawConnection:
    """A connection to a gateway on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send, each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def response(self, *, has_body: bool = True) -> RawResponse:
        """Read the next response."""
        async with asyncio.timeout(WITHIN):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            version, status, _ = first.split(" ", 2)
            assert version == "HTTP/1.1"
            fields = {}
            for line in lines:
                name, _, value = line.partition(": ")
                assert name not in fields, f"{name} came twice"
                fields[name] = value
            body = b""
            if has_body and not status.startswith("1"):
                body = await self.reader.readexactly(int(fields["content-length"]))
        return RawResponse(int(status), fields, body)

    async def is_closed(self, within: float = WITHIN) -> bool:
        """Whether the gateway closes it, without a further byte."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawConnection]:
    """A connection for the length of a block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, *pieces: bytes) -> RawResponse:
    """Send a request on a connection of its own, and return the one response to it."""
    async with connected(port) as connection:
        await connection.send(*pieces)
        response = await connection.response()
        assert response.fields.get("connection") != "close" or await connection.is_closed()
        return response
