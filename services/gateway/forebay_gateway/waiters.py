"""Who waits for which answer: the table between the requests that are held and the replies that arrive."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto

from forebay.deadlines import Deadlines
from forebay.kafka import Record

DEADLINE_TICK_SECONDS = 0.05
"""Seconds by which a deadline may be noticed late."""

REMEMBERED_ANSWERS = 10_000
"""How many answered requests are remembered, to tell a duplicate reply from a late one."""


class DeadlinePassed(Exception):
    """The waiter's deadline came before its reply."""


class ReplyOutcome(Enum):
    """What became of a reply."""

    DELIVERED = auto()
    LATE = auto()
    DUPLICATE = auto()


class Waiter:
    """One held request.

    Attributes:
        reply: resolved with the record of the reply, or failed.
        deadline: on the loop's clock, in seconds.
    """

    __slots__ = ("deadline", "reply")

    def __init__(self, reply: asyncio.Future[Record], deadline: float) -> None:
        self.reply = reply
        self.deadline = deadline

    @property
    def answered(self) -> bool:
        """Whether the reply has come; a wait that failed, or was called off, has none."""
        return self.reply.done() and not self.reply.cancelled() and self.reply.exception() is None


class Waiters:
    """The requests that are held, by request id.

    Args:
        clock: seconds, monotonic; default: the loop's.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock = clock or self._loop.time
        self._waiting: dict[bytes, Waiter] = {}
        self._ending: Callable[[], Exception] | None = None
        self._answered: OrderedDict[bytes, None] = OrderedDict()
        self._deadlines: Deadlines[bytes] = Deadlines(DEADLINE_TICK_SECONDS, clock())

    def __len__(self) -> int:
        return len(self._waiting)

    def register(self, request_id: bytes, deadline: float) -> Waiter:
        """Hold a request until its reply, or until ``deadline``."""
        waiter = Waiter(self._loop.create_future(), deadline)
        self._waiting[request_id] = waiter
        self._deadlines.add(request_id, deadline)
        if self._ending is not None:
            self.fail(request_id, self._ending())
        return waiter

    def resolve(self, request_id: bytes, record: Record) -> ReplyOutcome:
        """Give a reply to whoever waits for it; one that nobody waits for changes nothing."""
        waiter = self._waiting.get(request_id)
        if waiter is None:
            return ReplyOutcome.DUPLICATE if request_id in self._answered else ReplyOutcome.LATE
        if waiter.reply.done():
            return ReplyOutcome.DUPLICATE if waiter.answered else ReplyOutcome.LATE
        waiter.reply.set_result(record)
        return ReplyOutcome.DELIVERED

    def fail(self, request_id: bytes, error: Exception) -> None:
        """End a wait with an error; one for a request that is not held any more is ignored."""
        waiter = self._waiting.get(request_id)
        if waiter is not None and not waiter.reply.done():
            waiter.reply.set_exception(error)

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """End every wait with an error of its own, also those that begin later: nobody is left hanging at the end."""
        self._ending = error
        for request_id in list(self._waiting):
            self.fail(request_id, error())

    def forget(self, request_id: bytes) -> None:
        """Stop holding a request; those that were answered are remembered for a while."""
        waiter = self._waiting.pop(request_id)
        self._deadlines.discard(request_id, waiter.deadline)
        if waiter.answered:
            self._answered[request_id] = None
            if len(self._answered) > REMEMBERED_ANSWERS:
                self._answered.popitem(last=False)

    def expire(self) -> None:
        """Fail the waits whose deadline has passed."""
        for request_id in self._deadlines.due(self._clock()):
            self.fail(request_id, DeadlinePassed())

    async def keep_deadlines(self) -> None:
        """Fail each wait at its deadline, until cancelled; run it as a task."""
        while True:
            await asyncio.sleep(DEADLINE_TICK_SECONDS)
            self.expire()
