"""When the memberships of one process send heartbeats.

By the answer to a heartbeat a member learns that others came or went, and until the last member of a group has learned
it, nobody reads. A process that comes or goes does so in all of its groups at once. So the memberships of a process
take turns, and the first to learn of a change has the others ask at once: one is told much sooner than each of them
alone would be, by as many heartbeats.
"""

from __future__ import annotations

import asyncio

INTERVAL = 0.3
"""Seconds between two heartbeats of a membership."""
INTERVAL_AFTER_CHANGE = 0.1
"""The same for a while after a change: where one process comes or goes, as in a rolling upgrade, the next soon does."""
AFTER_CHANGE = 2.0
"""Seconds of that while."""
_TOO_SOON = 0.2
"""Part of an interval: a turn that comes sooner is left out, since this membership has only just had one."""


class HeartbeatTurns:
    """Says when each membership of a process is to send its next heartbeat.

    Args:
        interval: seconds between two heartbeats of a membership.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._members: list[object] = []
        self._changed = asyncio.Event()
        self._hurried_until = 0.0

    def add(self, member: object) -> None:
        """Give a membership its turns."""
        self._members.append(member)

    def remove(self, member: object) -> None:
        """Leave a membership out from now on; a second call does nothing."""
        if member in self._members:
            self._members.remove(member)

    def change(self) -> None:
        """Note that the members of a group change: all memberships are to ask at once, and more often for a while."""
        self._hurried_until = asyncio.get_running_loop().time() + AFTER_CHANGE
        self._changed.set()
        self._changed = asyncio.Event()

    async def next(self, member: object) -> None:
        """Wait for a membership's next turn, or for a change."""
        try:
            async with asyncio.timeout(self.delay(member, asyncio.get_running_loop().time())):
                await self._changed.wait()
        except TimeoutError:
            return

    def delay(self, member: object, now: float) -> float:
        """Return the seconds from now until a membership's next turn; the turns of a process are evenly spread."""
        hurried = now < self._hurried_until
        interval = min(self._interval, INTERVAL_AFTER_CHANGE) if hurried else self._interval
        turn = interval * self._members.index(member) / len(self._members)
        delay = (turn - now) % interval
        return delay if delay > _TOO_SOON * interval else delay + interval
