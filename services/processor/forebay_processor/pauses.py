"""Pauses of the whole process: after one, nothing is begun of a group that may have given its jobs to others.

A process that was frozen (SIGSTOP, a machine that sleeps), or whose loop a handler blocked, goes on with what it has in
memory before it hears that the group has taken it for dead, and that others have run those jobs meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Pauses:
    """Knows which groups have not yet said, since the last long pause, that this process is still a member.

    Args:
        limit: seconds for which a process may stand still without being in doubt.
        clock: seconds; it goes on while the process stands still.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._confirmed: dict[str, Callable[[], float]] = {}
        self._in_doubt: frozenset[str] = frozenset()
        self._awake = clock()
        self._resumed = self._awake

    def watch(self, name: str, confirmed: Callable[[], float]) -> None:
        """Have a group asked after; ``confirmed`` says when the last heartbeat was sent that the group answered."""
        self._confirmed[name] = confirmed

    def in_doubt(self) -> frozenset[str]:
        """Return the groups of which nothing is to be begun now; to be called at least as often as something is."""
        now = self._clock()
        if now - self._awake > self._limit:
            log.warning(
                "this process stood still for %.1f s; jobs in hand wait until their groups say that they are still its",
                now - self._awake,
            )
            self._in_doubt, self._resumed = frozenset(self._confirmed), now
        self._awake = now
        if self._in_doubt:
            self._in_doubt = frozenset(name for name in self._in_doubt if self._confirmed[name]() < self._resumed)
        return self._in_doubt
