"""The HTTP load generator: clients in a closed loop on kept-alive connections, each answer checked.

It shares the machine with what it measures, so a client is a bare asyncio protocol: one prepared request, no task, and
no more parsing than it takes to find the status, the length and the body.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from time import perf_counter
from typing import cast

import uvloop

from benchmarks import payload
from benchmarks.driver import DRAIN_SECONDS, Order, serve
from benchmarks.figures import Recorder, Window

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request(path: str, body: bytes) -> bytes:
    """Return a request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One client: sends, waits for the whole answer, checks it, sends again until the window closes.

    An answer is right when its status is 200 and its body is the JSON that was sent, however it is spelled. After a
    wrong one the client goes on; a connection that ends early ends the client too, and both are errors.
    """

    __slots__ = ("_body", "_buffer", "_recorder", "_request", "_seen", "_sent", "_transport", "ended")

    def __init__(self, recorder: Recorder, path: str, number: int, ended: asyncio.Future[None]) -> None:
        self.ended = ended
        self._recorder = recorder
        self._body = payload.body(number)
        self._request = request(path, self._body)
        self._seen = self._body
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._send()

    def data_received(self, data: bytes) -> None:
        """Check the answer once it is complete, and send the next request."""
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return
        length = _LENGTH.search(data, 0, end)
        if length is None:
            self._recorder.fail("an answer without Content-Length")
            self._end()
            return
        start = end + 4
        missing = start + int(length[1]) - len(data)
        if missing > 0:
            self._buffer = data
            return
        now = perf_counter()
        self._buffer = b""
        body = data[start:]
        if data[9:12] != b"200":
            self._recorder.fail(f"status {data[9:12].decode(errors='replace')}")
        elif missing < 0 or not self._is_right(body):
            self._recorder.fail("an answer that is not what was sent")
        else:
            self._recorder.answer(self._sent, now)
        if now < self._recorder.closes:
            self._send()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """End, and say so if an answer is missing."""
        if not self.ended.done():
            self._recorder.fail("a connection that ended before the answer")
            self.ended.set_result(None)

    def abort(self) -> None:
        """End without waiting for the answer."""
        self._end()

    def _is_right(self, body: bytes) -> bool:
        if body == self._seen:
            return True
        try:
            right = bool(json.loads(body) == json.loads(self._body))
        except ValueError:
            return False
        if right:
            self._seen = body  # how this contender spells it: the next ones are compared as bytes
        return right

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = perf_counter()
        self._transport.write(self._request)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def measure(order: Order) -> Window:
    """Play one window."""
    loop = asyncio.get_running_loop()
    recorder = Recorder(perf_counter(), order.warmup, order.seconds)
    clients = []
    for number in range(order.clients):
        client = Client(recorder, order.path, number, loop.create_future())
        try:
            await loop.create_connection(lambda client=client: client, HOST, order.port)  # type: ignore[misc]
        except OSError as error:
            recorder.fail(f"no connection: {os.strerror(error.errno) if error.errno else error}")
            continue
        clients.append(client)
    if clients:
        limit = recorder.closes + DRAIN_SECONDS - perf_counter()
        await asyncio.wait([client.ended for client in clients], timeout=limit)
    late = [client for client in clients if not client.ended.done()]
    if late:
        recorder.fail(f"no answer within {DRAIN_SECONDS:g} s of the end", len(late))
        for client in late:
            client.abort()
    return recorder.window()


if __name__ == "__main__":
    uvloop.run(serve(measure))
