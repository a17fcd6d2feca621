"""Which offsets are settled: jobs finish out of order, but what is committed is a contiguous prefix.

So after a crash everything from the committed offset on is fetched again: nothing is lost, some jobs run twice.
"""

from __future__ import annotations

from collections import deque

from forebay_processor.lease import Ending, Lease


class PartitionOffsets:
    """The leases of one partition that are not yet behind the settled prefix.

    It outlives a rebalance that takes the partition away and brings it back: jobs that are still running, or were
    settled meanwhile, are then fetched again and not run again.

    Args:
        window: how many offsets may be outstanding before the partition has to wait.
        window_bytes: how many bytes of jobs in hand may be, likewise; None: any number.
    """

    __slots__ = (
        "_bytes",
        "_committed",
        "_era",
        "_expected",
        "_in_hand",
        "_leases",
        "_next",
        "_offered",
        "_order",
        "_reached",
        "_settled",
        "window",
        "window_bytes",
    )

    def __init__(self, window: int, window_bytes: int | None = None) -> None:
        self.window = window
        self.window_bytes = window_bytes
        self._era = 0
        self.start_over()

    def start_over(self) -> None:
        """Forget everything; a lease that is still open ends without being accounted for."""
        self._order: deque[int] = deque()
        self._leases: dict[int, Lease] = {}
        self._settled: dict[int, int] = {}  # timestamps of records that are settled, and may be fetched again
        self._in_hand = 0
        self._bytes = 0
        self._next: int | None = None
        self._reached: int | None = None
        self._committed: int | None = None
        self._offered: int | None = None
        self._expected = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def full(self) -> bool:
        """Whether as much is outstanding as may be, and fetching more would not help the first of it."""
        if self.window_bytes is not None and self._bytes >= self.window_bytes:
            return True
        return len(self._order) >= self.window and self._leases[self._order[0]].ending is not Ending.HANDED_BACK

    @property
    def first(self) -> Lease | None:
        """The lease of the first offset that is not settled; None where all are."""
        return self._leases[self._order[0]] if self._order else None

    @property
    def in_hand(self) -> int:
        """How many jobs are in hand."""
        return self._in_hand

    @property
    def busy(self) -> bool:
        """Whether a job is in hand."""
        return self._in_hand > 0

    @property
    def oldest(self) -> int | None:
        """The turn of the first job in hand, which is about as old as any; None where there is none."""
        if not self._in_hand:
            return None
        return next(lease.turn for offset in self._order if (lease := self._leases[offset]).is_open)

    @property
    def finished(self) -> bool:
        """Whether no job is in hand and all that could be committed is."""
        return not self.busy and self.committable is None

    @property
    def committable(self) -> int | None:
        """The end of the settled prefix, if it lies beyond what is committed; None where there is nothing new."""
        if self._order:
            position: int | None = self._order[0]
        elif self._next is None:
            position = self._reached
        else:
            position = self._next if self._reached is None else max(self._next, self._reached)
        if position is None or (self._committed is not None and position <= self._committed):
            return None
        return position

    def offer(self) -> int | None:
        """Return what is to be committed now, as `committable`; `confirm` says that it was."""
        self._offered = self.committable
        return self._offered

    def confirm(self) -> None:
        """Note that the group has committed what was offered; it counts for nothing if fetching began anew since."""
        if self._offered is not None:
            self._commit(self._offered)

    def resume(self) -> None:
        """Note that the partition is ours anew after a rebalance, and what was handed back is fetched again."""
        self._era += 1
        self._offered = None
        self._expected = 0
        self._reached = None

    def resume_at(self, committed: int | None) -> None:
        """Note that fetching begins anew after a rebalance, at the offset that the group has committed.

        Whoever had the partition in between may have committed more than we knew of. An offset that lies before the
        one that we knew, or none at all, says that the topic was made anew or that somebody set the group back.
        """
        self.resume()
        if self._committed is not None and (committed is None or committed < self._committed):
            self.start_over()
        if committed is not None:
            self._expected = committed
            self._commit(committed)

    def grant(self, lease: Lease) -> bool:
        """Take in a fetched offset, and the lease on its job.

        Returns:
            False when the job is in hand already, or settled: it must not be run a second time.
        """
        offset = lease.offset
        known = self._leases.get(offset)
        if offset < self._expected or not self._is_same(lease, known):
            self.start_over()  # offsets only ever grow and records never change, unless the topic itself began anew
            known = None
        self._expected = offset
        self._advance()
        self._expected += 1
        if self._next is None or offset >= self._next:
            self._order.append(offset)
            self._next = offset + 1
        elif known is None or known.ending is not Ending.HANDED_BACK:
            return False
        self._leases[offset] = lease
        self._in_hand += 1
        self._bytes += lease.size
        return True

    def _is_same(self, lease: Lease, known: Lease | None) -> bool:
        """Whether a fetched record is the one that was granted before at its offset, or none was."""
        if known is not None:
            return known.timestamp == lease.timestamp
        if self._next is None or lease.offset >= self._next:
            return True
        return self._settled.get(lease.offset) == lease.timestamp

    def reached(self, position: int) -> None:
        """Note that everything before ``position`` was fetched: what was not granted was no record for us."""
        self._reached = position

    def ended(self, lease: Lease) -> None:
        """Take note of the end of a lease; one that is not in this account any more changes nothing."""
        if self._leases.get(lease.offset) is not lease:
            return
        self._in_hand -= 1
        self._bytes -= lease.size
        if lease.ending is Ending.HANDED_BACK:
            lease.era = self._era
        else:
            self._advance()

    def _commit(self, offset: int) -> None:
        if self._committed is None or offset > self._committed:
            self._committed = offset
            while self._order and self._order[0] < offset:
                self._drop_first()
            self._advance()
            self._next = max(self._next or 0, offset)
            done = min(offset, self._expected)  # until the next rebalance none of it is fetched again
            self._settled = {settled: at for settled, at in self._settled.items() if settled >= done}

    def _advance(self) -> None:
        """Take out what is settled, and what fetching has passed by, up to the first offset that is still open.

        What was handed back is fetched again after the next rebalance. If it is not, and a later offset is, it was
        another owner's to settle, or is gone from the topic.
        """
        while self._order:
            lease = self._leases[self._order[0]]
            passed_by = lease.ending is Ending.HANDED_BACK and lease.era < self._era and lease.offset < self._expected
            if lease.ending is None or (lease.ending is Ending.HANDED_BACK and not passed_by):
                return
            self._drop_first()

    def _drop_first(self) -> None:
        lease = self._leases.pop(self._order.popleft())
        if lease.ending is None:
            self._in_hand -= 1
            self._bytes -= lease.size
        elif lease.ending is not Ending.HANDED_BACK:
            self._settled[lease.offset] = lease.timestamp
