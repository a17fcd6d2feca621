"""What a handler is told about the job that it runs."""

from __future__ import annotations

from datetime import UTC, datetime


class Job:
    """The job that a handler runs.

    Attributes:
        id: the request id, which the caller got as ``Forebay-Request-Id``.
        key: the idempotency key, or else the id: the same in every run of the job, so that a handler can make its own
            effects idempotent by it.
        tenant: whose job it is.
        attempt: which run this is, from 1.
        is_replay: whether a recorded job is run again to debug, rather than for a caller.
    """

    __slots__ = ("_cancelled", "_deadline_ms", "attempt", "id", "is_replay", "key", "tenant")

    def __init__(self, *, id: str, key: str, tenant: str, attempt: int, deadline_ms: int, is_replay: bool) -> None:  # noqa: A002 - the attribute's name
        self.id = id
        self.key = key
        self.tenant = tenant
        self.attempt = attempt
        self.is_replay = is_replay
        self._deadline_ms = deadline_ms
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Job {self.id} attempt {self.attempt}>"

    @property
    def deadline(self) -> datetime:
        """The instant, in UTC, after which nobody wants the answer any more."""
        return datetime.fromtimestamp(self._deadline_ms / 1000, UTC)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: a handler in a thread, which cannot be stopped, looks here."""
        return self._cancelled

    def cancel(self) -> None:
        """Say that nobody waits for the result any more; the processor's to call."""
        self._cancelled = True
