from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.driver import Order
from benchmarks.load import measure

Answer = Callable[[bytes], bytes]


def http(status: int, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def server(answer: Answer, *, pieces: int = 1) -> AsyncIterator[int]:
    """Answer each request's body with ``answer(body)``, written in so many pieces; an empty answer closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                data = answer(await reader.readexactly(length))
                if not data:
                    break
                step = -(-len(data) // pieces)
                for start in range(0, len(data), step):
                    writer.write(data[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        await running.wait_closed()


def order(port: int, clients: int = 2) -> Order:
    return Order(clients=clients, warmup=0.0, seconds=0.2, port=port, path="/echo")


@pytest.mark.parametrize("pieces", [1, 5])
async def test_right_answers_are_counted_however_they_are_cut_and_spelled(pieces: int) -> None:
    async with server(lambda body: http(200, json.dumps(json.loads(body), indent=1).encode()), pieces=pieces) as port:
        window = await measure(order(port))
    assert window.errors == {}
    assert window.answered > 0
    assert 0 < window.p50_ms <= window.p99_ms <= window.max_ms


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda body: http(503, body), "status 503"),
        (lambda _: http(200, b'{"client": 1}'), "an answer that is not what was sent"),
        (lambda _: http(200, b"not JSON"), "an answer that is not what was sent"),
        (lambda body: http(200, body) + b"more", "an answer that is not what was sent"),
        (lambda _: b"HTTP/1.1 200 OK\r\n\r\n", "an answer without Content-Length"),
        (lambda _: b"", "a connection that ended before the answer"),
    ],
)
async def test_whatever_else_comes_is_an_error(answer: Answer, error: str) -> None:
    async with server(answer) as port:
        window = await measure(order(port))
    assert list(window.errors) == [error]
    assert window.answered == 0


async def test_an_answer_meant_for_another_client_is_an_error() -> None:
    last = b""

    def swap(body: bytes) -> bytes:
        nonlocal last
        given, last = last or body, body
        return http(200, given)

    async with server(swap) as port:
        window = await measure(order(port, clients=3))
    assert "an answer that is not what was sent" in window.errors


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with server(lambda body: http(200, body)) as port:
        pass
    assert list((await measure(order(port))).errors) == ["no connection: Connection refused"]
