"""The leases of everything that one fetcher reads: which partitions are ours, what is in hand, what may be committed.

Plain account, without I/O: the fetcher tells it what the group and the topics do, and asks it what to fetch and commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from forebay.kafka import Record, Start
from forebay_processor.lease import Lease, Partition
from forebay_processor.offsets import PartitionOffsets


class Leases:
    """The account of one member of a consumer group.

    Args:
        window: how many offsets of a partition may be outstanding: so many jobs at most run twice after a crash.
        window_bytes: how many bytes of jobs in hand a partition may have; None: any number.
        on_end: called with a partition after a lease of it has ended, or it came to have room again.

    Attributes:
        assigned: the partitions of the last assignment.
        owned: those of them that were not revoked since.
        full: those of which no more may be fetched for the present.
    """

    def __init__(self, window: int, window_bytes: int | None, on_end: Callable[[Partition], None]) -> None:
        self._window = window
        self._window_bytes = window_bytes
        self._on_end = on_end
        self._accounts: dict[Partition, PartitionOffsets] = {}
        self._closed = False
        self._turn = 0
        self.assigned: frozenset[Partition] = frozenset()
        self.owned: frozenset[Partition] = frozenset()
        self.full: set[Partition] = set()

    def close(self) -> None:
        """Grant nothing more: what is fetched from now on is left to the next owner."""
        self._closed = True

    def grant(self, record: Record) -> Lease | None:
        """Grant the lease on a fetched record; None where its job is not to be run here, or not again."""
        partition = (record.topic, record.partition)
        account = self._accounts.get(partition)
        if account is None or partition not in self.owned or self._closed:
            return None
        lease = Lease(self, partition, record.offset, record.timestamp, len(record.value or b""))
        self._turn += 1
        lease.turn = self._turn
        if not account.grant(lease):
            return None
        if account.full:
            self.full.add(partition)
        return lease

    def ended(self, lease: Lease) -> None:
        """Take note of the end of a lease, and see whether there is room for more of its partition."""
        account = self._accounts.get(lease.partition)
        if account is not None:
            account.ended(lease)
            if lease.partition in self.full and not account.full:
                self.full.discard(lease.partition)
        self._on_end(lease.partition)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Note that partitions were taken away; what runs goes on, and is answered."""
        self.owned = self.owned.difference(partitions)

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Note which partitions are ours from now on; `begin` tells of each where reading it begins.

        The account of one that is not among them is kept for as long as a job of it runs here, or was settled without
        being committed: if the partition comes back, those jobs must not be run again.
        """
        self.assigned = self.owned = frozenset(partitions)
        self._accounts = {
            partition: account
            for partition, account in self._accounts.items()
            if partition in self.owned or len(account) or not account.finished
        }
        for partition in self.owned:
            account = self._accounts.get(partition)
            if account is None:
                account = self._accounts[partition] = PartitionOffsets(self._window, self._window_bytes)
            account.resume()
        self.full = {partition for partition in self.owned if self._accounts[partition].full}

    def begin(self, partition: Partition, offset: int, start: Start) -> None:
        """Note where reading a partition begins, or begins anew, before its first record is granted."""
        account = self._accounts.get(partition)
        if account is None:
            return
        if start is Start.RESET:
            account.start_over()
        else:
            account.resume_at(offset if start is Start.COMMITTED else None)
        if partition in self.full and not account.full:
            self.full.discard(partition)
            self._on_end(partition)

    def reached(self, positions: Mapping[Partition, int]) -> None:
        """Note from where each partition is read next: everything before was granted, or is no record."""
        if self._closed:
            return  # what was fetched since is left to others
        for partition, position in positions.items():
            if partition in self.owned:
                self._accounts[partition].reached(position)

    def offer(self) -> dict[Partition, int]:
        """Return the offset to commit of each partition of ours that has moved on; `confirm` says that it was."""
        return {
            partition: position
            for partition in self.owned
            if (position := self._accounts[partition].offer()) is not None
        }

    def confirm(self, partitions: Iterable[Partition]) -> None:
        """Note that what was offered of these partitions is committed."""
        for partition in partitions:
            account = self._accounts.get(partition)
            if account is not None:
                account.confirm()

    @property
    def busy(self) -> list[Partition]:
        """The partitions in which there is work in hand, or something to commit: they had better stay ours.

        Those come first whose work is oldest: it is lost if they move, while what was begun just now will soon be done.
        """
        ages = {
            partition: (oldest is None, oldest or 0)
            for partition in sorted(self.assigned)
            if not (account := self._accounts[partition]).finished
            for oldest in [account.oldest]
        }
        return sorted(ages, key=ages.__getitem__)

    @property
    def in_the_way(self) -> list[Lease]:
        """The leases that have not ended and come first in their partitions, which are full."""
        return [lease for partition in self.full if (lease := self._accounts[partition].first) is not None]

    @property
    def in_hand(self) -> int:
        """How many jobs of our partitions are in hand."""
        return sum(self._accounts[partition].in_hand for partition in self.assigned)

    @property
    def finished(self) -> bool:
        """Whether no job is in hand and everything is committed."""
        return not self.busy
