"""What a handler is told about the job that it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job that a handler runs.

    Attributes:
        id: the request id, which the caller got as ``Forebay-Request-Id``.
        key: the idempotency key, or else the id: the same in every run of the job, so a handler can make its own
            effects
            idempotent by it.
        tenant: whose job it is.
        attempt: which run this is, from 1.
        deadline: the instant, in UTC, after which nobody wants the answer any more.
        is_replay: whether a recorded job is run again to debug, rather than for a caller.
    """

    id: str
    key: str
    tenant: str
    attempt: int
    deadline: datetime
    is_replay: bool = False
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def cancel(self) -> None:
        """Say that nobody waits for the result any more; the processor's to call."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: a handler in a thread, which cannot be stopped, looks here."""
        return self._cancelled.is_set()
