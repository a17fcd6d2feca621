"""Offsets of a partition, driven through completions out of order, rebalances and crashes."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay_processor.lease import Lease
from forebay_processor.offsets import PartitionOffsets

WINDOW = 5


class Account(PartitionOffsets):
    """The account of one partition, with its leases named by their offsets."""

    def __init__(self, window: int = WINDOW) -> None:
        super().__init__(window)
        self.leases: dict[int, Lease] = {}

    def add(self, offset: int, timestamp: int = 0) -> bool:
        lease = Lease(self, ("topic", 0), offset, timestamp)
        if self.grant(lease):
            self.leases[offset] = lease
            return True
        return False

    def settle(self, offset: int) -> None:
        self.leases[offset].done()

    def hand_back(self, offsets: Iterable[int]) -> None:
        for offset in offsets:
            self.leases[offset].hand_back()

    def commit(self) -> None:
        """Commit what can be, as the group confirms it."""
        self.offer()
        self.confirm()


class OnePartition(RuleBasedStateMachine):
    """A topic partition, its group, and one processor that has it, loses it and gets it back.

    The model knows what is in the log, what the group has committed, and which jobs are waiting, running and answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.end = 0
        self.begin_of_topic = 0
        self.group: int | None = None
        self.answered: set[int] = set()
        self.waiting: list[int] = []
        self.running: set[int] = set()
        self.answered_here: set[int] = set()
        self.offsets = Account()
        self.owned = False
        self.position = 0

    @initialize(committed=st.none() | st.integers(0, 3))
    def begin(self, committed: int | None) -> None:
        self.group = committed
        self.end = committed or 0
        self.answered = set(range(self.end))
        self.comes_back()

    def fetch_one(self) -> None:
        offset, self.position = self.position, self.position + 1
        if self.offsets.add(offset):
            assert offset not in self.waiting, f"{offset} waits already"
            assert offset not in self.running, f"{offset} runs already"
            assert offset not in self.answered_here, f"{offset} was answered by this owner"
            self.waiting.append(offset)
        else:
            assert offset in self.running | self.answered, f"{offset} is lost"

    @rule(count=st.integers(1, 8))
    def append(self, count: int) -> None:
        self.end += count

    @precondition(lambda self: self.owned)
    @rule(count=st.integers(1, 8))
    def fetch(self, count: int) -> None:
        for _ in range(count):
            if self.position < self.end and not self.offsets.full:
                self.fetch_one()

    @precondition(lambda self: self.waiting)
    @rule()
    def start(self) -> None:
        self.running.add(self.waiting.pop(0))

    def settle_one(self, offset: int) -> None:
        self.running.discard(offset)
        self.answered.add(offset)
        self.answered_here.add(offset)
        self.offsets.settle(offset)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        self.settle_one(data.draw(st.sampled_from(sorted(self.running)), "settled"))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def expire_before_it_is_started(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.waiting), "expired")
        self.waiting.remove(offset)
        self.settle_one(offset)

    @precondition(lambda self: self.owned)
    @rule()
    def commit(self) -> None:
        position = self.offsets.committable
        if position is not None:
            assert self.group is None or position > self.group
            assert self.offsets.offer() == position
            self.group = position
            self.offsets.confirm()
        assert self.offsets.committable is None

    @precondition(lambda self: self.owned)
    @rule(last_commit=st.booleans())
    def goes_away(self, last_commit: bool) -> None:
        if last_commit:
            self.commit()
        self.offsets.hand_back(self.waiting)
        self.waiting.clear()
        self.owned = False

    @precondition(lambda self: not self.owned)
    @rule(data=st.data())
    def old_records_go(self, data: st.DataObject) -> None:
        """The topic keeps records for so long: fetching begins after those that are gone, and they are nobody's."""
        gone = data.draw(st.integers(self.group or 0, self.end), "gone")
        self.begin_of_topic = max(self.begin_of_topic, gone)
        self.answered.update(range(self.begin_of_topic))

    @precondition(lambda self: not self.owned)
    @rule(data=st.data())
    def another_owner_works_and_commits(self, data: st.DataObject) -> None:
        self.group = data.draw(st.integers(self.group or 0, self.end), "committed")
        self.answered.update(range(self.group))

    @precondition(lambda self: not self.owned)
    @rule()
    def comes_back(self) -> None:
        self.owned, self.position = True, max(self.group or 0, self.begin_of_topic)
        self.offsets.resume()
        self.offsets.resume_at(self.group)

    @precondition(lambda self: not self.owned)
    @rule()
    def is_forgotten(self) -> None:
        """The rebalance gave the partition to somebody else: jobs that run here go on, their account does not."""
        self.offsets = Account()
        self.answered_here.clear()
        self.answered |= self.running  # as far as this partition is concerned: they settle nothing any more
        self.running.clear()
        assert self.group is None or self.answered.issuperset(range(self.group))

    @rule()
    def crash(self) -> None:
        self.waiting.clear()
        self.running.clear()
        self.answered_here.clear()
        self.offsets = Account()
        self.owned = False
        self.comes_back()

    @invariant()
    def nothing_unanswered_is_passed(self) -> None:
        assert self.answered.issuperset(range(self.group or 0))
        assert self.answered.issuperset(range(self.offsets.committable or 0))

    @invariant()
    def the_window_is_kept(self) -> None:
        assert len(self.offsets) <= WINDOW

    def teardown(self) -> None:
        """Whatever happened: when all is fetched and settled, all is committed, and nobody was left out."""
        if not self.owned:
            self.comes_back()
        self.append(1)  # what went from the topic is only noticed by what comes after it
        for _ in range(2 * self.end + 2):
            self.fetch(WINDOW)
            for offset in [*self.waiting, *sorted(self.running, reverse=True)]:
                self.settle_one(offset)
            self.waiting.clear()
            self.commit()
        assert (self.group or 0) == self.end
        assert self.answered.issuperset(range(self.end))
        assert len(self.offsets) == 0


OnePartition.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestOnePartition = OnePartition.TestCase


def fetched(*offsets: int, window: int = WINDOW, committed: int | None = None) -> Account:
    account = Account(window)
    account.resume_at(committed)
    for offset in offsets:
        assert account.add(offset)
    return account


def test_only_the_contiguous_prefix_may_be_committed() -> None:
    offsets = fetched(0, 1, 2)
    offsets.settle(2)
    assert offsets.committable == 0
    offsets.settle(0)
    assert offsets.committable == 1
    offsets.settle(1)
    assert offsets.committable == 3


def test_what_is_committed_is_not_committed_again() -> None:
    offsets = fetched(0)
    offsets.settle(0)
    offsets.commit()
    assert offsets.committable is None


def test_offsets_that_the_topic_leaves_out_hold_nothing_up() -> None:
    offsets = fetched(3, 7, 20)
    for offset in (7, 3, 20):
        offsets.settle(offset)
    assert offsets.committable == 21


def test_what_holds_no_record_is_committed_once_all_jobs_before_it_are_settled() -> None:
    offsets = fetched(0, 1)
    offsets.reached(9)
    offsets.settle(1)
    assert offsets.committable == 0
    offsets.settle(0)
    assert offsets.committable == 9


def test_a_partition_that_never_had_a_job_has_something_to_commit() -> None:
    offsets = fetched()
    assert offsets.committable is None
    offsets.reached(0)
    assert offsets.committable == 0
    offsets.commit()
    assert offsets.finished


def test_commits_while_a_running_job_is_fetched_again_do_not_start_it_again() -> None:
    offsets = fetched(0, 1, 2)
    offsets.resume_at(0)
    offsets.settle(0)
    offsets.commit()
    assert [offsets.add(offset) for offset in (0, 1, 2, 3)] == [False, False, False, True]


def test_a_partition_full_of_jobs_handed_back_fetches_them_again() -> None:
    offsets = fetched(0, 1, window=2)
    offsets.settle(1)
    offsets.hand_back([0])
    offsets.resume_at(0)
    assert not offsets.full
    assert offsets.add(0)
    assert offsets.full


def test_a_partition_is_full_when_its_jobs_weigh_as_much_as_they_may() -> None:
    offsets = PartitionOffsets(WINDOW, window_bytes=100)
    large, small = Lease(offsets, ("topic", 0), 0, size=100), Lease(offsets, ("topic", 0), 1, size=1)
    assert offsets.grant(large)
    assert offsets.full
    assert offsets.grant(small), "what was fetched already is taken"
    large.done()
    assert not offsets.full


def test_what_another_owner_committed_is_done_with() -> None:
    offsets = fetched(0, 1, 2)
    offsets.settle(1)
    offsets.resume_at(1)
    assert offsets.committable == 2
    assert [offsets.add(offset) for offset in (1, 2)] == [False, False]


def test_a_running_job_that_another_owner_has_settled_may_end_afterwards() -> None:
    offsets = fetched(0, 1)
    offsets.resume_at(2)
    offsets.settle(0)
    offsets.settle(1)
    assert not offsets.busy
    assert offsets.committable is None


def test_a_topic_that_began_anew_is_read_from_its_beginning() -> None:
    offsets = fetched(100, 101, committed=100)
    offsets.settle(100)
    offsets.commit()
    assert [offsets.add(offset) for offset in (0, 1)] == [True, True]
    offsets.settle(0)
    assert offsets.committable == 1


def test_a_topic_that_began_anew_while_nobody_looked_is_read_from_its_beginning() -> None:
    offsets = fetched(committed=100)
    assert offsets.add(0)


def test_a_group_that_knows_nothing_any_more_begins_anew() -> None:
    offsets = fetched(0, 1, 2)
    offsets.settle(0)
    offsets.settle(1)
    offsets.commit()
    offsets.resume_at(None)
    assert [offsets.add(offset) for offset in (0, 1, 2)] == [True, True, True]


def test_a_group_that_was_set_back_begins_there() -> None:
    offsets = fetched(5, 6, committed=5)
    offsets.settle(5)
    offsets.commit()
    offsets.resume_at(3)
    assert [offsets.add(offset) for offset in (3, 4, 5, 6)] == [True] * 4


def test_another_record_at_the_offset_of_a_settled_job_is_one_of_a_topic_that_began_anew() -> None:
    offsets = fetched(0, 1, 2)
    offsets.settle(1)
    offsets.resume_at(None)
    assert offsets.add(0, timestamp=77)
    assert offsets.add(1, timestamp=78), "it is another job"


def test_a_settled_job_is_known_as_long_as_it_is_not_committed() -> None:
    offsets = fetched(0, 1)
    offsets.settle(0)
    offsets.settle(1)
    offsets.resume_at(None)
    assert [offsets.add(offset) for offset in (0, 1, 2)] == [False, False, True]


def test_another_record_before_the_first_open_one_is_one_of_a_topic_that_began_anew() -> None:
    offsets = fetched(0, 1)
    offsets.settle(0)
    offsets.settle(1)
    offsets.resume_at(None)
    assert offsets.add(0, timestamp=77)
    assert offsets.add(1, timestamp=78)


def test_a_commit_that_was_under_way_when_the_topic_began_anew_counts_for_nothing() -> None:
    offsets = fetched(100, committed=100)
    offsets.settle(100)
    assert offsets.offer() == 101
    assert offsets.add(0)
    offsets.confirm()
    assert offsets.add(1)
    offsets.settle(0)
    assert offsets.committable == 1


def test_the_job_of_a_topic_that_is_gone_settles_nothing_of_the_new_one() -> None:
    offsets = fetched(0)
    old = offsets.leases[0]
    offsets.start_over()
    assert offsets.add(0)
    old.done()
    assert offsets.busy
    assert offsets.committable == 0


def test_what_was_handed_back_and_is_not_fetched_again_holds_nothing_up() -> None:
    offsets = fetched(0, 1, 2)
    offsets.hand_back([0, 2])
    offsets.resume()
    assert offsets.add(5)
    assert offsets.committable == 1
    offsets.settle(1)
    assert offsets.committable == 5


def test_what_was_handed_back_is_not_passed_by_before_it_can_be_fetched_again() -> None:
    offsets = fetched(0, 1)
    offsets.hand_back([0])
    assert offsets.add(2)
    assert offsets.committable == 0


def test_what_was_handed_back_is_still_open_while_another_job_settles() -> None:
    offsets = fetched(0, 1)
    offsets.hand_back([1])
    offsets.settle(0)
    assert offsets.committable == 1
    offsets.resume_at(0)
    assert [offsets.add(offset) for offset in (0, 1)] == [False, True]
