"""Which offsets are settled: jobs finish out of order, but what is committed is a contiguous prefix.

So after a crash everything from the committed offset on is fetched again: nothing is lost, some jobs run twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto


class _State(Enum):
    IN_HAND = auto()
    SETTLED = auto()
    HANDED_BACK = auto()


class PartitionOffsets:
    """The offsets of one partition that were fetched and are not yet in the settled prefix.

    It outlives a rebalance that gives the partition back: jobs that are still running are then fetched again, and
    passed over.

    Attributes:
        window: how many offsets may be outstanding before the partition has to wait.
    """

    __slots__ = ("_committed", "_expected", "_next", "_order", "_states", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self._start_over()

    def _start_over(self) -> None:
        self._order: deque[int] = deque()
        self._states: dict[int, _State] = {}
        self._next: int | None = None
        self._committed: int | None = None
        self._expected = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def full(self) -> bool:
        """Whether as many offsets are outstanding as may be, and fetching more would not help the first of them."""
        return len(self._order) >= self.window and self._states[self._order[0]] is not _State.HANDED_BACK

    @property
    def busy(self) -> bool:
        """Whether a job is in hand."""
        return any(state is _State.IN_HAND for state in self._states.values())

    @property
    def finished(self) -> bool:
        """Whether no job is in hand and all that could be committed is."""
        return not self.busy and self.committable is None

    @property
    def committable(self) -> int | None:
        """The end of the settled prefix, if it lies beyond what is committed; None where there is nothing new."""
        position = self._order[0] if self._order else self._next
        if position is None or (self._committed is not None and position <= self._committed):
            return None
        return position

    def resume(self, committed: int | None = None) -> None:
        """Note that fetching begins, perhaps anew after a rebalance, at what the group has committed.

        To be called at once without the offset, which may be fetched already, and again when it is known: whoever had
        the partition in between may have committed more than we knew of.
        """
        self._expected = committed or 0
        if committed is not None:
            self.committed(committed)

    def add(self, offset: int) -> bool:
        """Take in a fetched offset.

        Returns:
            False when its job is in hand already, or settled: it must not be run a second time.
        """
        if offset < self._expected:
            self._start_over()  # offsets only ever grow, unless the topic itself began anew
        self._expected = offset
        self._advance()
        self._expected += 1
        if self._next is None or offset >= self._next:
            self._order.append(offset)
            self._states[offset] = _State.IN_HAND
            self._next = offset + 1
            return True
        if self._states.get(offset) is _State.HANDED_BACK:
            self._states[offset] = _State.IN_HAND
            return True
        return False

    def settle(self, offset: int) -> None:
        """Mark an offset as done with; one that is not known, because the partition went away, is passed over."""
        if offset in self._states:
            self._states[offset] = _State.SETTLED
            self._advance()

    def committed(self, offset: int) -> None:
        """Note that the group has committed ``offset``."""
        if self._committed is None or offset > self._committed:
            self._committed = offset
            while self._order and self._order[0] < offset:
                del self._states[self._order.popleft()]
            self._advance()
            self._next = max(self._next or 0, offset)

    def hand_back(self, offsets: Iterable[int]) -> None:
        """Give up offsets whose jobs were not started: whoever owns the partition next fetches them, perhaps we.

        Those that are passed by when we fetch again were another owner's to settle, or are gone from the topic.
        """
        self._expected = 0
        for offset in offsets:
            if self._states.get(offset) is _State.IN_HAND:
                self._states[offset] = _State.HANDED_BACK

    def _advance(self) -> None:
        """Take out what is settled, and what fetching has passed by, up to the first offset that is still open."""
        while self._order and (
            (state := self._states[self._order[0]]) is _State.SETTLED
            or (state is _State.HANDED_BACK and self._order[0] < self._expected)
        ):
            del self._states[self._order.popleft()]
