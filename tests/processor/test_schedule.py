"""Which job runs next: slots, reserves, order and bounds, driven through arrivals, completions and rebalances."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay.errors import ConfigurationError
from forebay.settings import TIERS
from forebay_processor.schedule import Scheduler, reserves
from forebay_processor.work import Work
from tests.support.jobs import NEVER, a_work

TIER = st.sampled_from(TIERS)


def a_job(tier: str, *, deadline: int = NEVER, size: int = 0, partition: int = 0, offset: int = 0) -> Work:
    return a_work(tier, deadline=deadline, payload=b"x" * size, partition=partition, offset=offset)


def a_scheduler(slots: int, *, backlog: int = 1000, backlog_bytes: int = 1_000_000) -> Scheduler:
    return Scheduler(slots, reserves(slots, TIERS), backlog=backlog, backlog_bytes=backlog_bytes)


class OneProcessor(RuleBasedStateMachine):
    """A scheduler beside plain lists of what waits and what runs."""

    BACKLOG = 6
    BYTES = 100

    @initialize(slots=st.integers(3, 20))
    def begin(self, slots: int) -> None:
        self.slots = slots
        self.reserved = reserves(slots, TIERS)
        self.scheduler = Scheduler(slots, self.reserved, backlog=self.BACKLOG, backlog_bytes=self.BYTES)
        self.waiting: dict[str, deque[Work]] = {tier: deque() for tier in TIERS}
        self.running: dict[str, list[Work]] = {tier: [] for tier in TIERS}
        self.now = 0
        self.serial = 0

    @property
    def free(self) -> int:
        return self.slots - sum(map(len, self.running.values()))

    @property
    def bytes_waiting(self) -> int:
        return sum(work.size for queue in self.waiting.values() for work in queue)

    @rule(
        tier=TIER,
        sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4),
        lives=st.just(NEVER) | st.integers(-1, 20),
        partition=st.integers(0, 2),
    )
    def fetch(self, tier: str, sizes: list[int], lives: int, partition: int) -> None:
        for size in sizes[: self.scheduler.room(tier)]:
            self.serial += 1
            work = a_job(tier, deadline=self.now + lives, size=size, partition=partition, offset=self.serial)
            self.scheduler.offer(work)
            self.waiting[tier].append(work)

    @rule(passes=st.integers(0, 15))
    def time_passes(self, passes: int) -> None:
        self.now += passes

    def drop_expired(self) -> None:
        for work in self.scheduler.expired(self.now):
            assert work.job["deadline"] <= self.now
            assert self.waiting[work.tier].popleft() is work
        for queue in self.waiting.values():
            assert not queue or queue[0].job["deadline"] > self.now

    def startable(self, tier: str) -> bool:
        """Whether a tier may have another slot: one of its own, or one that nobody keeps."""
        if len(self.running[tier]) < self.reserved[tier]:
            return True
        kept = sum(max(0, self.reserved[other] - len(self.running[other])) for other in TIERS)
        return self.free > kept

    @rule()
    def start_all(self) -> None:
        """As the processor does it: those that expired are out of the way before each start."""
        self.drop_expired()
        while True:
            expected = next((tier for tier in TIERS if self.waiting[tier] and self.startable(tier)), None)
            work = self.scheduler.take()
            if work is None:
                assert expected is None
                return
            assert work.tier == expected, "the most urgent tier that may goes first"
            assert self.waiting[work.tier].popleft() is work, "first come, first served"
            assert work.job["deadline"] > self.now, "nobody waits for it any more"
            self.running[work.tier].append(work)
            self.drop_expired()

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        tier = data.draw(st.sampled_from([tier for tier in TIERS if self.running[tier]]), "finished")
        self.running[tier].pop()
        self.scheduler.release(tier)

    @rule(tier=TIER, partition=st.integers(0, 2))
    def withdraw(self, tier: str, partition: int) -> None:
        def belongs(work: Work) -> bool:
            return work.tier == tier and work.record.partition == partition

        gone = [work for work in self.waiting[tier] if belongs(work)]
        assert self.scheduler.withdraw(belongs) == gone
        self.waiting[tier] = deque(work for work in self.waiting[tier] if not belongs(work))

    @invariant()
    def no_more_run_than_there_are_slots(self) -> None:
        assert self.scheduler.used == {tier: len(running) for tier, running in self.running.items()}
        assert self.scheduler.free == self.free >= 0

    @invariant()
    def every_tier_keeps_its_reserve(self) -> None:
        kept = sum(max(0, self.reserved[tier] - len(self.running[tier])) for tier in TIERS)
        assert self.free >= kept

    @invariant()
    def the_backlog_is_bounded(self) -> None:
        for tier, queue in self.waiting.items():
            assert len(queue) <= self.BACKLOG
            room = self.scheduler.room(tier)
            assert room == (0 if self.bytes_waiting >= self.BYTES else self.BACKLOG - len(queue))

    def teardown(self) -> None:
        """Nobody starves: as what runs ends, all that waits is run or dropped."""
        self.finish_all()
        while before := sum(map(len, self.waiting.values())):
            self.start_all()
            self.finish_all()
            assert sum(map(len, self.waiting.values())) < before
        assert self.scheduler.free == self.slots
        assert not self.scheduler.waiting

    def finish_all(self) -> None:
        for tier in TIERS:
            for _ in self.running[tier]:
                self.scheduler.release(tier)
            self.running[tier].clear()


OneProcessor.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
TestOneProcessor = OneProcessor.TestCase


@given(slots=st.integers(3, 5000))
def test_reserves_leave_every_tier_a_slot_and_fit_the_slots(slots: int) -> None:
    kept = reserves(slots, TIERS)
    assert list(kept) == list(TIERS)
    assert min(kept.values()) >= 1
    assert sum(kept.values()) <= slots
    assert kept["bulk"] == 1


@pytest.mark.parametrize(
    ("slots", "kept"), [(3, [1, 1, 1]), (4, [1, 1, 1]), (8, [2, 1, 1]), (16, [4, 2, 1]), (64, [16, 8, 1])]
)
def test_a_quarter_is_kept_for_the_most_urgent_tier_and_one_for_bulk(slots: int, kept: list[int]) -> None:
    assert list(reserves(slots, TIERS).values()) == kept


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_fewer_slots_than_tiers_are_refused(slots: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"slots = {slots}: .*interactive, standard, bulk"):
        reserves(slots, TIERS)


def started(scheduler: Scheduler) -> list[Work]:
    return list(iter(scheduler.take, None))


@pytest.mark.parametrize("slots", [3, 8, 16])
def test_short_work_passes_a_processor_full_of_long_work(slots: int) -> None:
    scheduler = a_scheduler(slots)
    for offset in range(100):
        scheduler.offer(a_job("bulk", offset=offset))
    long = started(scheduler)
    kept = reserves(slots, TIERS)
    assert len(long) == slots - kept["interactive"] - kept["standard"]
    scheduler.offer(a_job("interactive"))
    scheduler.offer(a_job("standard"))
    assert [work.tier for work in started(scheduler)] == ["interactive", "standard"]


@pytest.mark.parametrize("slots", [3, 8, 16])
def test_urgent_work_never_takes_the_last_slot_of_bulk(slots: int) -> None:
    scheduler = a_scheduler(slots)
    for offset in range(100):
        scheduler.offer(a_job("interactive", offset=offset))
    assert len(started(scheduler)) == slots - reserves(slots, TIERS)["standard"] - 1
    scheduler.offer(a_job("bulk"))
    assert [work.tier for work in started(scheduler)] == ["bulk"]


def test_borrowed_slots_come_back_to_whoever_needs_them_most() -> None:
    scheduler = a_scheduler(3)
    for offset in range(3):
        scheduler.offer(a_job("bulk", offset=offset))
        scheduler.offer(a_job("interactive", offset=offset))
    assert [work.tier for work in started(scheduler)] == ["interactive", "bulk"]
    scheduler.release("bulk")
    assert [work.tier for work in started(scheduler)] == ["bulk"]
    scheduler.release("interactive")
    assert [work.tier for work in started(scheduler)] == ["interactive"]


def test_payloads_fill_the_memory_that_they_have() -> None:
    scheduler = a_scheduler(3, backlog=10, backlog_bytes=100)
    scheduler.offer(a_job("bulk", size=99))
    assert scheduler.room("interactive") == 10
    scheduler.offer(a_job("bulk", size=1))
    assert [scheduler.room(tier) for tier in TIERS] == [0, 0, 0]
    scheduler.take()
    assert [scheduler.room(tier) for tier in TIERS] == [10, 10, 9]


def test_expired_jobs_behind_one_that_is_not_are_dropped_when_it_has_gone() -> None:
    scheduler = a_scheduler(3)
    lives, expires = a_job("bulk", deadline=100), a_job("bulk", deadline=10)
    scheduler.offer(lives)
    scheduler.offer(expires)
    assert scheduler.expired(50) == []
    assert scheduler.take() is lives
    assert scheduler.expired(50) == [expires]
    assert scheduler.take() is None


def test_an_expired_job_takes_no_slot() -> None:
    scheduler = a_scheduler(3)
    scheduler.offer(a_job("standard", deadline=10))
    assert len(scheduler.expired(10)) == 1
    assert scheduler.free == 3


@given(slots=st.integers(3, 20), held=st.fixed_dictionaries({tier: st.integers(0, 8) for tier in TIERS}))
def test_a_tier_is_blocked_by_what_is_held_where_it_could_start_nothing(slots: int, held: dict[str, int]) -> None:
    scheduler = a_scheduler(slots)
    for tier, count in held.items():
        for _ in range(count):
            scheduler.offer(a_job(tier))
            if scheduler.take() is None:
                scheduler.withdraw(lambda _: True)
    blocked = scheduler.blocked_by(scheduler.used)
    for tier in TIERS:
        scheduler.offer(a_job(tier))
        started = scheduler.take()
        assert (started is None) == (tier in blocked)
        if started is None:
            scheduler.withdraw(lambda _: True)
        else:
            scheduler.release(tier)
