"""A server that stops: no client that has sent a request finds its connection closed without an answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from forebay_gateway.http import Limits, Request, Server, connection, listen, serving
from forebay_gateway.response import Response
from tests.gateway.conftest import Run
from tests.support.raw_http import RawConnection, connected

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a busy machine may need for what these tests send."""
    monkeypatch.setattr(connection, "STOP_SECONDS", 10.0)


async def answer(request: Request) -> None:
    request.respond(Response(200, b"text/plain", b"well"))


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, int]]:
    listener = listen("http", "127.0.0.1", 0)
    async with asyncio.timeout(60):
        with listener:
            async with serving(answer, listener, Limits(1000, 10, 10)) as server:
                yield server, listener.getsockname()[1]


def test_connections_that_were_not_taken_yet_are_answered(run: Run) -> None:
    async def check() -> None:
        async with served() as (server, port):
            waiting = []
            for _ in range(100):  # without a turn of the event loop, so that only the kernel knows of them
                client = socket.create_connection(("127.0.0.1", port))
                client.sendall(REQUEST)
                waiting.append(client)
            stopping = asyncio.create_task(server.finish(20))
            for client in waiting:
                client.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=client)
                response = await RawConnection(reader, writer).response()
                assert (response.body, response.fields["connection"]) == (b"well", "close")
                assert await reader.read() == b""
                writer.close()
            assert await stopping

    run(check())


def test_requests_that_are_on_their_way_are_answered(run: Run) -> None:
    async def check() -> None:
        async with served() as (server, port), connected(port) as used, connected(port) as fresh:
            await used.send(REQUEST)
            assert "connection" not in (await used.response()).fields
            stopping = asyncio.create_task(server.finish(20))
            await asyncio.sleep(0)
            for client in (used, fresh):
                await client.send(REQUEST)
            for client in (used, fresh):
                response = await client.response()
                assert (response.body, response.fields["connection"]) == (b"well", "close")
                assert await client.is_closed()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            used.writer.close()
            fresh.writer.close()
            assert await stopping

    run(check())


def test_a_client_that_sends_its_next_request_meanwhile_can_read_the_last_answer(run: Run) -> None:
    async def check() -> None:
        async with served() as (server, port), connected(port) as client:
            stopping = asyncio.create_task(server.finish(20))
            await asyncio.sleep(0)
            await client.send(REQUEST + b"GET /")
            response = await client.response()
            assert response.fields["connection"] == "close"
            await client.send(b" HTTP/1.1\r\n")
            assert await client.reader.read() == b"", "it is not reset"
            client.writer.close()
            assert await stopping

    run(check())


def test_idle_connections_do_not_hold_the_end_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STOP_SECONDS", 0.1)

    async def check() -> None:
        async with served() as (server, port), connected(port) as used, connected(port) as fresh:
            await used.send(REQUEST)
            await used.response()
            assert await server.finish(20)
            for client in (used, fresh):
                assert await client.is_closed()

    run(check())
