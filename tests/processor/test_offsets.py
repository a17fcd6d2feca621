"""Offsets of a partition, driven through completions out of order, rebalances and crashes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay_processor.offsets import PartitionOffsets

WINDOW = 5


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
        self.offsets = PartitionOffsets(WINDOW)
        self.owned = False
        self.group_is_known = True
        self.position = 0

    @initialize(committed=st.none() | st.integers(0, 3))
    def begin(self, committed: int | None) -> None:
        self.group = committed
        self.end = committed or 0
        self.answered = set(range(self.end))
        self.comes_back(early=0)

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
            assert self.group is None or position > self.group or not self.group_is_known
            self.group = position
            self.offsets.committed(position)
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
    @rule(early=st.integers(0, 2), known=st.booleans())
    def comes_back(self, early: int, known: bool = True) -> None:
        """Records may be fetched before the committed offset is known here, or it may not become known at all."""
        self.owned, self.position, self.group_is_known = True, max(self.group or 0, self.begin_of_topic), known
        self.offsets.resume()
        self.fetch(early)
        if known:
            self.offsets.resume(self.group)

    @precondition(lambda self: not self.owned)
    @rule()
    def is_forgotten(self) -> None:
        """The rebalance gave the partition to somebody else: jobs that run here go on, their account does not."""
        self.offsets = PartitionOffsets(WINDOW)
        self.answered_here.clear()
        self.answered |= self.running  # as far as this partition is concerned: they settle nothing any more
        self.running.clear()
        assert self.group is None or self.answered.issuperset(range(self.group))

    @rule()
    def crash(self) -> None:
        self.waiting.clear()
        self.running.clear()
        self.answered_here.clear()
        self.offsets = PartitionOffsets(WINDOW)
        self.owned = False
        self.comes_back(early=0)

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
            self.comes_back(early=0)
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


OnePartition.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestOnePartition = OnePartition.TestCase


def fetched(*offsets: int, window: int = WINDOW, committed: int | None = None) -> PartitionOffsets:
    account = PartitionOffsets(window)
    account.resume(committed)
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
    offsets.committed(1)
    assert offsets.committable is None


def test_offsets_that_the_topic_leaves_out_hold_nothing_up() -> None:
    offsets = fetched(3, 7, 20)
    for offset in (7, 3, 20):
        offsets.settle(offset)
    assert offsets.committable == 21


def test_commits_while_a_running_job_is_fetched_again_do_not_start_it_again() -> None:
    offsets = fetched(0, 1, 2)
    offsets.resume(0)
    offsets.settle(0)
    offsets.committed(1)
    assert [offsets.add(offset) for offset in (0, 1, 2, 3)] == [False, False, False, True]


def test_a_partition_full_of_jobs_handed_back_fetches_them_again() -> None:
    offsets = fetched(0, 1, window=2)
    offsets.settle(1)
    offsets.hand_back([0])
    offsets.resume(0)
    assert not offsets.full
    assert offsets.add(0)
    assert offsets.full


def test_what_another_owner_committed_is_done_with() -> None:
    offsets = fetched(0, 1, 2)
    offsets.settle(1)
    offsets.resume(1)
    assert offsets.committable == 2
    assert [offsets.add(offset) for offset in (1, 2)] == [False, False]


def test_a_topic_that_began_anew_is_read_from_its_beginning() -> None:
    offsets = fetched(100, 101, committed=100)
    offsets.settle(100)
    offsets.committed(101)
    assert [offsets.add(offset) for offset in (0, 1)] == [True, True]
    offsets.settle(0)
    assert offsets.committable == 1


def test_a_topic_that_began_anew_while_nobody_looked_is_read_from_its_beginning() -> None:
    offsets = fetched(committed=100)
    assert offsets.add(0)


def test_what_was_handed_back_and_is_not_fetched_again_holds_nothing_up() -> None:
    offsets = fetched(0, 1, 2)
    offsets.hand_back([0, 2])
    offsets.resume()
    assert offsets.add(5)
    assert offsets.committable == 1
    offsets.settle(1)
    assert offsets.committable == 5


def test_settling_what_is_not_in_hand_changes_nothing() -> None:
    offsets = fetched(0, 1)
    offsets.settle(17)
    assert offsets.committable == 0
    assert len(offsets) == 2


def test_what_was_handed_back_is_still_open_while_another_job_settles() -> None:
    offsets = fetched(0, 1)
    offsets.hand_back([1])
    offsets.settle(0)
    assert offsets.committable == 1
    offsets.resume(0)
    assert [offsets.add(offset) for offset in (0, 1)] == [False, True]
