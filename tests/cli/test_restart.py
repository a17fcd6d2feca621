from __future__ import annotations

from dataclasses import dataclass

import pytest

from forebay_cli.exit_codes import FAILED, UNAVAILABLE, USAGE
from forebay_cli.restart import GiveUp, Restart, RestartPolicy


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def run_for(policy: RestartPolicy, seconds: float, code: int = FAILED, *, ready: bool = True) -> Restart | GiveUp:
    clock = policy.clock
    assert isinstance(clock, Clock)
    policy.started()
    if ready:
        policy.ready()
    clock.now += seconds
    return policy.ended(code)


def test_delays_double_up_to_the_longest() -> None:
    policy = RestartPolicy(first_delay=0.5, longest_delay=3.0, clock=Clock())
    delays = [run_for(policy, 0.1) for _ in range(5)]
    assert delays == [Restart(0.5), Restart(1.0), Restart(2.0), Restart(3.0), Restart(3.0)]


def test_what_was_never_ready_is_given_up_after_so_many_ends() -> None:
    policy = RestartPolicy(limit=3, clock=Clock())
    assert [run_for(policy, 60.0, ready=False) for _ in range(3)] == [Restart(0.25), Restart(0.5), GiveUp(3)]


@pytest.mark.parametrize("code", [FAILED, USAGE, UNAVAILABLE, 0, -9])
def test_what_was_ready_once_is_never_given_up(code: int) -> None:
    policy = RestartPolicy(limit=1, longest_delay=1.0, clock=Clock())
    run_for(policy, 0.1)
    assert {type(run_for(policy, 0.1, code, ready=False)) for _ in range(2000)} == {Restart}
    assert run_for(policy, 0.1, code, ready=False) == Restart(1.0)


def test_a_run_that_was_ready_for_long_enough_takes_the_delay_back_to_the_first() -> None:
    policy = RestartPolicy(healthy_after=10.0, first_delay=0.25, clock=Clock())
    assert [run_for(policy, seconds) for seconds in (9.9, 9.9, 10.0, 9.9)] == [
        Restart(0.25),
        Restart(0.5),
        Restart(0.25),
        Restart(0.5),
    ]


def test_a_long_start_is_no_good_run() -> None:
    policy = RestartPolicy(healthy_after=10.0, first_delay=0.25, clock=Clock())
    assert [run_for(policy, 60.0, ready=False) for _ in range(3)] == [Restart(0.25), Restart(0.5), Restart(1.0)]


def test_a_users_mistake_is_final_before_it_was_ever_ready() -> None:
    assert run_for(RestartPolicy(clock=Clock()), 0.1, USAGE, ready=False) == GiveUp(1)


def test_a_cluster_that_does_not_answer_counts_for_nothing() -> None:
    policy = RestartPolicy(limit=2, longest_delay=2.0, clock=Clock())
    assert {type(run_for(policy, 0.1, UNAVAILABLE, ready=False)) for _ in range(20)} == {Restart}
    assert run_for(policy, 0.1, ready=False) == Restart(2.0)
    assert run_for(policy, 0.1, ready=False) == GiveUp(2)
