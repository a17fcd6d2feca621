"""When a program that ended is started again, and when that is given up: decisions only, no processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from forebay_cli import exit_codes


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again.

    Attributes:
        delay: seconds to wait before that.
    """

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it.

    Attributes:
        attempts: how often it had been started.
    """

    attempts: int


@dataclass(slots=True)
class RestartPolicy:
    """Starts a program again after delays that double, and gives up only what was never ready.

    A program that was ready once works in principle: it is started again for ever, whatever its exit code. One that was
    not is given up at its ``limit``-th end, or at the first whose exit code says that something has to be changed
    first; an end whose exit code says that the cluster does not answer does not count. A run that was ready for
    ``healthy_after`` seconds takes the delay back to the first.

    Attributes:
        limit: how many ends without ever having been ready are too many, at least 1.
        healthy_after: seconds from readiness on after which a run went well.
        first_delay: seconds before the first start of a row.
        longest_delay: seconds that no delay exceeds.
        clock: seconds of a monotonic clock.
    """

    limit: int = 5
    healthy_after: float = 10.0
    first_delay: float = 0.25
    longest_delay: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _ready_at: float | None = field(default=None, init=False)
    _was_ever_ready: bool = field(default=False, init=False)
    _attempts: int = field(default=0, init=False)
    _row: int = field(default=0, init=False)

    def started(self) -> None:
        """Note that the program was started now."""
        self._ready_at = None

    def ready(self) -> None:
        """Note that the program says now that it is ready."""
        if self._ready_at is None:
            self._ready_at = self.clock()
        self._was_ever_ready = True

    def ended(self, code: int) -> Restart | GiveUp:
        """Decide what follows an end that nobody asked for.

        Args:
            code: the exit code, or minus the number of the signal that ended it.
        """
        if not self._was_ever_ready and code != exit_codes.UNAVAILABLE:
            self._attempts += 1
            if code == exit_codes.USAGE or self._attempts >= self.limit:
                return GiveUp(self._attempts)
        if self._ready_at is not None and self.clock() - self._ready_at >= self.healthy_after:
            self._row = 0
        delay = min(self.first_delay * 2.0 ** min(self._row, 60), self.longest_delay)
        self._row += 1
        return Restart(delay)
