"""A steady load of calls, and what became of each."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Call:
    """One call and its answer.

    Attributes:
        operation: what was called.
        begun: when, by `time.monotonic`.
        took: seconds until the answer.
        status: of the answer.
        problem: its problem type, or nothing.
    """

    operation: str
    begun: float
    took: float
    status: int
    problem: str


@dataclass
class Load:
    """Calls to the operations in turn, so many a second.

    It speaks HTTP itself: a full client takes so much of a busy machine that it would measure itself.
    """

    url: str
    operations: tuple[str, ...]
    rate: int
    calls: list[Call] = field(default_factory=list)
    _idle: list[_Connection] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call for as long as the block runs, then wait for the last answers."""
        pacing = asyncio.create_task(self._pace())
        try:
            yield
        finally:
            pacing.cancel()
            await asyncio.gather(pacing, return_exceptions=True)
            await asyncio.gather(*self._under_way)
            for _, writer in self._idle:
                writer.close()
                await writer.wait_closed()

    @property
    def under_way(self) -> int:
        """How many calls have no answer yet."""
        return len(self._under_way)

    def answered_since(self, moment: float) -> float | None:
        """Return when the calls began that were all answered 200 from then on; None if the last was not."""
        since = None
        for call in sorted((call for call in self.calls if call.begun >= moment), key=lambda call: call.begun):
            if call.status != 200:
                since = None
            elif since is None:
                since = call.begun
        return since

    def statuses(self, operation: str) -> Counter[int]:
        """Count the answers to an operation's calls."""
        return Counter(call.status for call in self.calls if call.operation == operation)

    async def _pace(self) -> None:
        due = time.monotonic()
        number = 0
        while True:
            task = asyncio.create_task(self._call(self.operations[number % len(self.operations)], str(number)))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1
            due += 1 / self.rate
            await asyncio.sleep(due - time.monotonic())

    async def _call(self, operation: str, tag: str) -> None:
        begun = time.monotonic()
        connection = self._idle.pop() if self._idle else await self._connect()
        status, answer = await self._exchange(connection, operation, json.dumps({"tag": tag, "seconds": 0}).encode())
        self._idle.append(connection)
        problem = "" if status == 200 else json.loads(answer)["type"]
        self.calls.append(Call(operation, begun, time.monotonic() - begun, status, problem))

    async def _connect(self) -> _Connection:
        place = urlsplit(self.url)
        return await asyncio.open_connection(place.hostname, place.port)

    async def _exchange(self, connection: _Connection, operation: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = connection
        head = (
            f"POST /v1/{operation} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        [length] = [line.split(":")[1] for line in fields if line.lower().startswith("content-length:")]
        return int(status.split()[1]), await reader.readexactly(int(length))
