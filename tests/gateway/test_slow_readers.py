"""Responses to clients that read slowly: sent whole as long as something is read."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest

from forebay_gateway.http import Limits, Request, Server, connection, listen, serving
from forebay_gateway.response import Response
from tests.gateway.conftest import Run
from tests.support.waiting import until

SIZE = 4_000_000
SILENCE = 1.0
"""Seconds within which something is to be read."""
LOOK_EVERY = 0.05

KEPT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSED = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def short_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READER_SECONDS", "STOP_READER_SECONDS"):
        monkeypatch.setattr(connection, name, SILENCE)
    for name in ("IDLE_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(connection, name, 0.2)


async def answer(request: Request) -> None:
    request.respond(Response(200, b"application/octet-stream", bytes(SIZE)))


@asynccontextmanager
async def asked(request: bytes) -> AsyncIterator[tuple[Server, asyncio.StreamReader]]:
    """A server that was asked once, by a client whose kernel takes little, and of whose response the body remains."""
    listener = listen("http", "127.0.0.1", 0)
    with listener, socket.socket() as client:
        async with serving(answer, listener, Limits(1000, 10, 10)) as server:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
            reader, writer = await asyncio.open_connection(sock=client, limit=16_384)
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            try:
                yield server, reader
            finally:
                writer.transport.abort()


async def read_slowly(reader: asyncio.StreamReader, seconds: float) -> int:
    """Read steadily, so that it takes that long; return how many bytes of the body came."""
    begun = time.monotonic()
    received = 0
    with suppress(ConnectionResetError):  # it was cut
        while received < SIZE and (data := await reader.read(16_384)):
            received += len(data)
            await asyncio.sleep(max(0, begun + seconds * received / SIZE - time.monotonic()))
    return received


async def unless_it_stands_still(check: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a check; again where it fails and the machine stood still for so long that no reader was a steady one."""
    for _ in range(10):
        pauses = [0.0]
        noting = asyncio.create_task(note_pauses(pauses))
        try:
            return await check()
        except AssertionError:
            await asyncio.sleep(2 * LOOK_EVERY)
            if max(pauses) < SILENCE / 2:
                raise
        finally:
            noting.cancel()
    raise AssertionError("the machine always stands still")


async def note_pauses(pauses: list[float]) -> None:
    """Note for how long this process stood still, until cancelled."""
    while True:
        begun = time.monotonic()
        await asyncio.sleep(LOOK_EVERY)
        pauses.append(time.monotonic() - begun - LOOK_EVERY)


@pytest.mark.parametrize("request_", [KEPT, CLOSED], ids=["kept alive", "closed"])
def test_a_slow_reader_gets_the_whole_response(run: Run, request_: bytes) -> None:
    async def check() -> None:
        async with asyncio.timeout(60), asked(request_) as (_, reader):
            assert await read_slowly(reader, 3 * SILENCE) == SIZE

    run(unless_it_stands_still(check))


@pytest.mark.parametrize("request_", [KEPT, CLOSED], ids=["kept alive", "closed"])
def test_a_slow_reader_gets_the_whole_response_from_a_server_that_stops(run: Run, request_: bytes) -> None:
    async def check() -> None:
        async with asyncio.timeout(60), asked(request_) as (server, reader):
            reading = asyncio.create_task(read_slowly(reader, 3 * SILENCE))
            assert await server.finish(30)
            assert await reading == SIZE

    run(unless_it_stands_still(check))


@pytest.mark.parametrize("stops", [False, True], ids=["serving", "stopping"])
@pytest.mark.parametrize("request_", [KEPT, CLOSED], ids=["kept alive", "closed"])
def test_a_reader_that_reads_nothing_is_cut(run: Run, request_: bytes, stops: bool) -> None:
    async def check() -> None:
        async with asyncio.timeout(60), asked(request_) as (server, _):
            if stops:
                assert await server.finish(30)
            await until(lambda: not server.connections, 30, "the connection is cut")

    run(check())
