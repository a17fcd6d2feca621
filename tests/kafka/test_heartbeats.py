"""When the memberships of one process send heartbeats."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from forebay.kafka.wire.heartbeats import INTERVAL_AFTER_CHANGE, HeartbeatTurns


@pytest.mark.parametrize("count", [1, 2, 4, 5])
async def test_memberships_take_turns_that_are_evenly_spread(count: int) -> None:
    turns, members = HeartbeatTurns(0.4), [object() for _ in range(count)]
    for member in members:
        turns.add(member)
    first = sorted(1000.05 + turns.delay(member, 1000.05) for member in members)
    gaps = [later - earlier for earlier, later in itertools.pairwise([*first, first[0] + 0.4])]
    assert all(gap <= 0.4 / count + 0.08 + 1e-6 for gap in gaps), "one of them is never far"
    for member in members:
        now = 1000.05 + turns.delay(member, 1000.05)
        for _ in range(5):
            delay = turns.delay(member, now)
            assert delay == pytest.approx(0.4), "a turn does not follow upon itself"
            now += delay


async def test_a_change_wakes_every_membership_and_hurries_them_for_a_while() -> None:
    turns, members = HeartbeatTurns(1000.0), [object(), object()]
    for member in members:
        turns.add(member)
    waiting = [asyncio.create_task(turns.next(member)) for member in members]
    await asyncio.sleep(0)
    now = asyncio.get_running_loop().time()
    turns.change()
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert all(turns.delay(member, now) <= 1.2 * INTERVAL_AFTER_CHANGE for member in members)
    assert all(turns.delay(member, now + 100) > INTERVAL_AFTER_CHANGE * 2 for member in members), "not for ever"


async def test_a_membership_that_has_ended_has_no_turn() -> None:
    turns, staying, leaving = HeartbeatTurns(0.4), object(), object()
    turns.add(leaving)
    turns.add(staying)
    turns.remove(leaving)
    turns.remove(leaving)
    assert turns.delay(staying, 1000.1) == pytest.approx(0.3)
