"""Slots held beyond the deadline: by threads, which nothing can stop, and by handlers that heed no cancellation.

A processor that has no other slot left for a tier would only let the jobs of that tier expire. It is not ready then,
and after a while it ends, so that its partitions go to others and a fresh one takes its place.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from forebay.errors import SlotsHeld
from forebay_processor.fatal import Fatal
from forebay_processor.schedule import Scheduler
from forebay_processor.work import Work

log = logging.getLogger(__name__)

END_AFTER = 30.0
"""Seconds without a slot for some tier after which the processor ends."""


class HeldSlots:
    """The slots of jobs whose deadline has passed and whose handler has not ended.

    Args:
        scheduler: knows what is left to each tier.
        fatal: ends the process.
        clock: seconds.
    """

    def __init__(self, scheduler: Scheduler, fatal: Fatal, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._fatal = fatal
        self._clock = clock
        self._held: dict[Work, None] = {}
        self._blocked: list[str] = []
        self._since = 0.0

    @property
    def trouble(self) -> str | None:
        """What is wrong while some tier has no slot left; None while each has."""
        if not self._blocked:
            return None
        which = ("tier " if len(self._blocked) == 1 else "tiers ") + ", ".join(self._blocked)
        return (
            f"{len(self._held)} of {self._scheduler.slots} slots are held by handlers that do not end although the "
            f"deadlines of their jobs have passed, and none is left to {which}"
        )

    def hold(self, work: Work) -> None:
        """Note that a job's deadline has passed while its handler was called."""
        self._held[work] = None

    def release(self, work: Work) -> None:
        """Note that a job's slot is free."""
        self._held.pop(work, None)

    def check(self) -> None:
        """See whether every tier has a slot left; to be called every now and then."""
        if not self._held and not self._blocked:
            return
        blocked = self._scheduler.blocked_by(Counter(work.tier for work in self._held))
        if blocked and not self._blocked:
            self._since = self._clock()
        elif self._blocked and not blocked:
            log.info("each tier has slots again")
        changed, self._blocked = blocked != self._blocked, blocked
        if (trouble := self.trouble) is None:
            return
        if changed:
            log.error("%s", trouble)
        if self._clock() - self._since > END_AFTER:
            self._fatal.report(SlotsHeld(trouble, len(self._held), blocked, END_AFTER))
