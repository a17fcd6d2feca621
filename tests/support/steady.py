"""Calls at a steady rate from a process of its own, so that what a test does meanwhile does not hold them up.

The process reads orders from its standard input, a line each: ``call OPERATION RATE``, and at last ``end``; then it
waits for the last answers and prints them all.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HOST = "127.0.0.1"

Answers = list[tuple[int, float]]
"""Of each call its status and its seconds; 0 for a connection that broke."""


class Connection(asyncio.Protocol):
    """A kept-alive connection, which serves one call at a time."""

    def __init__(self, idle: deque[Connection]) -> None:
        self._idle = idle
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def call(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future is the status of its answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, end) if end >= 0 else None
        if length is not None and len(self._buffer) >= end + 4 + int(length[1]):
            status, self._buffer = int(self._buffer[9:12]), b""
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(status)
            self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)


async def _call(port: int, idle: deque[Connection], request: bytes, answers: Answers) -> None:
    begun = time.monotonic()
    if idle:
        connection = idle.pop()
    else:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(idle), _HOST, port)
    status = await connection.call(request)
    answers.append((status, time.monotonic() - begun))


async def _keep_calling(port: int, operation: str, rate: float, answers: Answers, over: asyncio.Event) -> None:
    idle: deque[Connection] = deque()
    begun, tasks = time.monotonic(), set[asyncio.Task[None]]()
    number = 0
    while not over.is_set():
        body = json.dumps({"tag": f"{operation}-{number}"}).encode()
        head = f"POST /v1/{operation} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        task = asyncio.create_task(_call(port, idle, request, answers))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
    await asyncio.gather(*tasks)


async def _serve(port: int) -> dict[str, Answers]:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    answers: dict[str, Answers] = {}
    calling = []
    while (order := (await loop.run_in_executor(None, sys.stdin.readline)).split()) and order[0] == "call":
        _, operation, rate = order
        calling.append(
            asyncio.create_task(_keep_calling(port, operation, float(rate), answers.setdefault(operation, []), over))
        )
    over.set()
    await asyncio.gather(*calling)
    return answers


class SteadyLoad:
    """The process, as a test orders it about; a context manager that ends it.

    Args:
        port: of the gateway on this machine.
    """

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.steady", str(port)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> SteadyLoad:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, operation: str, rate: float) -> None:
        """Begin to call an operation so many times a second, whether or not there are answers."""
        self._order(f"call {operation} {rate}")

    def end(self) -> dict[str, Answers]:
        """Call no more; return all answers, by operation."""
        output, _ = self._process.communicate("end\n", timeout=60)
        return {
            operation: [(status, took) for status, took in found] for operation, found in json.loads(output).items()
        }

    def _order(self, order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_serve(int(sys.argv[1])))))  # noqa: T201 - it is for whoever started this
