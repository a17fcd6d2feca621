"""The log of a service: an outage of the cluster is one line when it begins and one when it ends.

Meanwhile every part that speaks to Kafka finds out by itself, and says so. Those lines are held back for a moment, and
left out when the outage turns out to be their cause.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

SYMPTOMS = (
    "forebay.kafka.",
    "forebay.catalog.",
    "forebay_gateway.replies",
    "forebay_processor.announce",
    "forebay_processor.member",
    "forebay_processor.trouble",
)
"""How the names of loggers begin whose lines an outage can cause."""

HOLD = 1.0
"""Seconds within which an outage is noticed by the link to the cluster, which may be after those that use it."""

RECOVERY = 5.0
"""Seconds without a line about what an outage has broken after which that works again, or what was said last is so."""

RECOVERY_BOUND = 30.0
"""Seconds after an outage within which what it has broken works again."""

_TIMER_ERROR = 0.05
"""Seconds by which a timer may be early."""


def call_later(seconds: float, call: Callable[[], None]) -> None:
    """Call a function after some seconds, in a thread that keeps no process from ending."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


class ServiceLog(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes a log, with outages in two lines.

    A record whose attribute ``outage`` is True says that the cluster does not answer, one where it is False that it
    answers again; of several links to it, the first that says either is written. One whose attribute ``over`` is True
    tells of a consequence that needs nothing more. What a record is about, if a logger tells of several things, is its
    attribute ``about``.

    Args:
        stream: where to; default: standard error.
        hold: as `HOLD`.
        recovery: as `RECOVERY`.
        recovery_bound: as `RECOVERY_BOUND`.
        clock: seconds, from any instant on.
        later: as `call_later`.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        hold: float = HOLD,
        recovery: float = RECOVERY,
        recovery_bound: float = RECOVERY_BOUND,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = call_later,
    ) -> None:
        super().__init__(stream)
        self._hold = hold
        self._recovery = recovery
        self._recovery_bound = recovery_bound
        self._clock = clock
        self._later = later
        self._away = False
        self._recovered_at = 0.0
        self._recovered_by = 0.0
        self._held: list[logging.LogRecord] = []
        self._last: dict[tuple[str, str], logging.LogRecord] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it until it is known whether an outage is its cause."""
        outage: bool | None = getattr(record, "outage", None)
        if outage is not None:
            self._note(outage, record)
        elif not record.name.startswith(SYMPTOMS):
            super().emit(record)
        elif self._away or self._clock() < self._recovered_at:
            self._recovered_at = min(self._clock() + self._recovery, self._recovered_by)
            if not getattr(record, "over", False):
                self._last[record.name, getattr(record, "about", "")] = record
        else:
            self._held.append(record)
            if len(self._held) == 1:
                self._later(self._hold, self._release)

    def close(self) -> None:
        """Write what is held back."""
        self._release()
        super().close()

    def _note(self, away: bool, record: logging.LogRecord) -> None:
        if away is self._away:
            return
        self._away = away
        super().emit(record)
        if away:
            self._held.clear()
        else:
            self._recovered_at = self._clock() + self._recovery
            self._recovered_by = self._clock() + self._recovery_bound
            self._later(self._recovery, self._recovered)

    def _release(self) -> None:
        with self.lock or threading.RLock():
            held, self._held = self._held, []
            for record in held:
                super().emit(record)

    def _recovered(self) -> None:
        """Write what was still wrong when it was last told of, for it did not end with the outage."""
        with self.lock or threading.RLock():
            if self._away:
                return
            if (more := self._recovered_at - self._clock()) > _TIMER_ERROR:
                self._later(more, self._recovered)
                return
            last, self._last = self._last, {}
            for record in last.values():
                if record.levelno >= logging.WARNING:
                    super().emit(record)


def log_to_stderr() -> None:
    """Have this process log to stderr."""
    handler = ServiceLog()
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=[handler])
    # What the Kafka client cannot mend by itself it raises as well, and whoever catches it says what it means. What it
    # can mend, such as every rebalance, it reports as errors.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
