from __future__ import annotations

from dataclasses import dataclass

from forebay_cli.restart import USER_MISTAKE, GiveUp, Restart, RestartPolicy


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def run_for(policy: RestartPolicy, clock: Clock, seconds: float, code: int = 1) -> Restart | GiveUp:
    policy.started()
    clock.now += seconds
    return policy.ended(code)


def test_delays_double_up_to_the_longest_while_it_ends_right_after_its_start() -> None:
    clock = Clock()
    policy = RestartPolicy(limit=7, first_delay=0.5, longest_delay=3.0, clock=clock)
    delays = [run_for(policy, clock, 0.1) for _ in range(5)]
    assert delays == [Restart(0.5), Restart(1.0), Restart(2.0), Restart(3.0), Restart(3.0)]


def test_it_is_given_up_after_so_many_quick_ends_in_a_row() -> None:
    clock = Clock()
    policy = RestartPolicy(limit=3, clock=clock)
    assert [type(run_for(policy, clock, 0.1)) for _ in range(3)] == [Restart, Restart, GiveUp]


def test_an_end_after_a_good_run_starts_the_count_again() -> None:
    clock = Clock()
    policy = RestartPolicy(limit=2, quick=10.0, first_delay=0.25, clock=clock)
    for _ in range(5):
        assert run_for(policy, clock, 1.0) == Restart(0.25)
        assert run_for(policy, clock, 60.0, code=-9) == Restart(0.25)


def test_with_a_limit_of_one_only_an_end_right_after_the_start_is_final() -> None:
    clock = Clock()
    policy = RestartPolicy(limit=1, quick=10.0, clock=clock)
    assert isinstance(run_for(policy, clock, 10.0), Restart)
    assert run_for(policy, clock, 9.9) == GiveUp(1)


def test_a_users_mistake_is_final_whenever_it_comes_to_light() -> None:
    clock = Clock()
    assert run_for(RestartPolicy(clock=clock), clock, 0.1, USER_MISTAKE) == GiveUp(1)
    assert run_for(RestartPolicy(clock=clock), clock, 600.0, USER_MISTAKE) == GiveUp(0)


def test_an_orderly_end_that_nobody_asked_for_is_started_again() -> None:
    clock = Clock()
    assert isinstance(run_for(RestartPolicy(clock=clock), clock, 600.0, code=0), Restart)
