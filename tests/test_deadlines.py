"""Deadlines kept by a coarse clock: never early, late by one tick at the most."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from forebay.deadlines import Deadlines

TICKS = st.sampled_from([0.02, 0.1, 1.0])
ROUNDING = 1e-9
"""Seconds by which floating point may be off at the edge of a tick."""


class KeepingDeadlines(RuleBasedStateMachine):
    """Keys added, discarded and reported, on a clock that mostly goes on, sometimes leaps, and may be set back."""

    @initialize(tick=TICKS, now=st.floats(0, 1e6))
    def begin(self, tick: float, now: float) -> None:
        self.tick, self.now = tick, now
        self.deadlines: Deadlines[int] = Deadlines(tick, now)
        self.kept: dict[int, float] = {}
        self.serial = 0

    @rule(ahead=st.floats(-5, 5) | st.floats(0, 1e5))
    def add(self, ahead: float) -> None:
        self.serial += 1
        self.kept[self.serial] = max(0.0, self.now + ahead)
        self.deadlines.add(self.serial, self.kept[self.serial])

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.kept)), "discarded")
        self.deadlines.discard(key, self.kept.pop(key))
        self.deadlines.discard(key, 0.0)

    @rule(passes=st.floats(0, 0.05) | st.floats(0, 10) | st.just(1e5) | st.floats(-3, 0))
    def look(self, passes: float) -> None:
        self.now = max(0.0, self.now + passes)
        reported = self.deadlines.due(self.now)
        assert len(reported) == len(set(reported))
        for key in reported:
            assert self.kept.pop(key) <= self.now, "reported early"
        late = [key for key, deadline in self.kept.items() if deadline + self.tick + ROUNDING < self.now]
        assert not late, f"{late} not reported"

    @precondition(lambda self: self.kept)
    @rule()
    def wait_for_all(self) -> None:
        self.look(max(self.kept.values()) - self.now + 2 * self.tick)
        assert not self.kept
        assert self.deadlines.due(self.now + 1e6) == []
        self.now += 1e6


KeepingDeadlines.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestKeepingDeadlines = KeepingDeadlines.TestCase


def test_a_key_is_due_at_the_first_look_after_its_deadline() -> None:
    deadlines: Deadlines[str] = Deadlines(0.5, now=10.0)
    deadlines.add("soon", 11.2)
    assert deadlines.due(11.0) == []
    assert deadlines.due(11.5) == ["soon"]
    assert deadlines.due(12.0) == []


def test_what_has_passed_already_is_due_at_the_next_look() -> None:
    deadlines: Deadlines[str] = Deadlines(0.5, now=10.0)
    deadlines.add("gone", 3.0)
    assert deadlines.due(10.0) == ["gone"]


def test_what_has_passed_already_can_be_discarded() -> None:
    deadlines: Deadlines[str] = Deadlines(0.5, now=10.0)
    deadlines.add("gone", 3.0)
    deadlines.discard("gone", 3.0)
    assert deadlines.due(20.0) == []


@pytest.mark.parametrize("keys", [1, 1000])
def test_a_long_silence_is_made_up_for_at_one_look(keys: int) -> None:
    deadlines: Deadlines[int] = Deadlines(0.02, now=0.0)
    for key in range(keys):
        deadlines.add(key, 1.0 + key * 0.01)
    deadlines.add(keys, 1e9)
    assert sorted(deadlines.due(1e8)) == list(range(keys))


def test_deadlines_far_apart_are_reported_in_order() -> None:
    deadlines: Deadlines[str] = Deadlines(1.0, now=0.0)
    for key, deadline in (("c", 900.0), ("a", 5.0), ("b", 70.0)):
        deadlines.add(key, deadline)
    assert deadlines.due(1e6) == ["a", "b", "c"]


def test_what_is_discarded_leaves_nothing_behind() -> None:
    """As most requests do, long before their deadline of a day."""
    deadlines: Deadlines[int] = Deadlines(0.02, now=0.0)
    tracemalloc.start()
    try:
        for key in range(20_000):
            deadlines.add(key, 86_400.0 + key * 0.02)
            deadlines.discard(key, 86_400.0 + key * 0.02)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000


def test_nothing_is_due_where_nothing_was_added() -> None:
    assert Deadlines(0.02, now=5.0).due(1e6) == []
