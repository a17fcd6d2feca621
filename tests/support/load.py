"""A steady load of calls, and what became of each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True)
class Call:
    """One call and its answer.

    Attributes:
        operation: what was called.
        begun: when, by `time.monotonic`.
        took: seconds until the answer.
        status: of the answer.
        problem: its problem type, or nothing.
        timing: the gateway's ``Server-Timing``.
    """

    operation: str
    begun: float
    took: float
    status: int
    problem: str
    timing: str


@dataclass
class Load:
    """Calls to the operations in turn, so many a second."""

    client: httpx.AsyncClient
    operations: tuple[str, ...]
    rate: float
    calls: list[Call] = field(default_factory=list)
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

    def statuses(self, operation: str, since: float = 0.0) -> Counter[int]:
        """Count the answers to an operation's calls that were begun since a moment."""
        return Counter(call.status for call in self.calls if call.operation == operation and call.begun >= since)

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
        response = await self.client.post(f"/v1/{operation}", json={"tag": tag, "seconds": 0})
        problem = "" if response.status_code == 200 else response.json()["type"]
        timing = response.headers.get("server-timing", "")
        self.calls.append(Call(operation, begun, time.monotonic() - begun, response.status_code, problem, timing))
