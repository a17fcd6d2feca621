"""The bound on the bytes that wait for the broker: who may hand over more, and who has to wait first."""

from __future__ import annotations

import asyncio
from collections import deque

BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes of records that may wait for the broker; beyond that nothing more is taken, unless nothing waits."""
CAPACITY_BYTES = BUFFER_BYTES // 2
"""Bytes up to which callers that can wait for capacity are let in; the rest is for those that cannot."""


class Capacity:
    """Keeps account of the bytes that wait for the broker.

    Attributes:
        used: how many there are.
        empty: set while there are none.
    """

    def __init__(self) -> None:
        self.used = 0
        self.empty = asyncio.Event()
        self.empty.set()
        self._reserved = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def accepts(self, size: int) -> bool:
        """Whether so many bytes more may wait."""
        return not self.used or self.used + self._reserved + size <= BUFFER_BYTES

    def acquire(self, size: int) -> None:
        """Count bytes that wait from now on."""
        if not self.used:
            self.empty.clear()
        self.used += size

    def release(self, size: int) -> None:
        """Count bytes that wait no more."""
        self.used -= size
        if self._waiting:
            self._admit()
        if not self.used:
            self.empty.set()

    @property
    def backpressured(self) -> bool:
        """Whether so much waits that a caller that can should use `wait_for`."""
        return bool(self._waiting) or self.used + self._reserved > CAPACITY_BYTES

    @property
    def awaited(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def admits(self, size: int) -> bool:
        """Whether so many bytes may be handed over without waiting."""
        return not self._waiting and self._has_capacity_for(size)

    async def wait_for(self, size: int) -> None:
        """Wait until so many bytes may be handed over; callers are let in one after the other.

        The record is to be handed over at once when this returns, without waiting for anything else before.
        """
        if self.admits(size):
            return
        admitted: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((size, admitted))
        try:
            await admitted
        finally:
            if admitted.done() and not admitted.cancelled():
                self._reserved -= size
            self._loop.call_soon(self._admit)  # once the record is handed over that this capacity is for

    def _has_capacity_for(self, size: int) -> bool:
        used = self.used + self._reserved
        return not used or used + size <= CAPACITY_BYTES

    def _admit(self) -> None:
        """Let in those who wait, as far as there is capacity, the first first."""
        while self._waiting:
            size, admitted = self._waiting[0]
            if not admitted.done():
                if not self._has_capacity_for(size):
                    return
                self._reserved += size
                admitted.set_result(None)
            self._waiting.popleft()
