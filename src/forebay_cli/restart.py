"""When a program that ended is started again, and when that is given up: decisions only, no processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

USER_MISTAKE = 2
"""Exit code of a command whose settings, flags or app cannot work: starting it again would not help."""


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
        quick_ends: how often in a row it had ended right after its start, this time included.
    """

    quick_ends: int


@dataclass(slots=True)
class RestartPolicy:
    """Starts a program again after doubling delays, until it has ended ``limit`` times in a row right after its start.

    An end later than ``quick`` seconds after the start counts as the first of a new row.

    Attributes:
        limit: how many quick ends in a row are too many, at least 1.
        quick: seconds after the start within which an end is a quick one.
        first_delay: seconds before the first start of a row.
        longest_delay: seconds that no delay exceeds.
        clock: seconds of a monotonic clock.
    """

    limit: int = 5
    quick: float = 10.0
    first_delay: float = 0.25
    longest_delay: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _started_at: float = field(default=0.0, init=False)
    _quick_ends: int = field(default=0, init=False)

    def started(self) -> None:
        """Note that the program was started now."""
        self._started_at = self.clock()

    def ended(self, code: int) -> Restart | GiveUp:
        """Decide what follows an end that nobody asked for.

        Args:
            code: the exit code, or minus the number of the signal that ended it.
        """
        quick = self.clock() - self._started_at < self.quick
        self._quick_ends = self._quick_ends + 1 if quick else 0
        if code == USER_MISTAKE or self._quick_ends >= self.limit:
            return GiveUp(self._quick_ends)
        row = max(self._quick_ends - 1, 0)
        return Restart(min(self.first_delay * 2.0**row, self.longest_delay))
