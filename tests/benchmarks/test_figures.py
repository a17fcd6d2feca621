from __future__ import annotations

import pytest

from benchmarks.figures import Recorder, Sample, Spread, Window, percentile, rate, ratio, spread, verdicts


def window(answered: int, *, p50_ms: float = 1.0, errors: dict[str, int] | None = None) -> Window:
    return Window(
        seconds=2.0,
        answered=answered,
        handled=answered,
        p50_ms=p50_ms,
        p90_ms=p50_ms,
        p99_ms=p50_ms,
        max_ms=p50_ms,
        errors=errors or {},
    )


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, 101)], share) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_a_spread_has_the_median_and_the_extremes() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)


def test_the_rate_counts_answers_that_arrive_in_the_window_and_latencies_those_asked_in_it() -> None:
    recorder = Recorder(begin=0.0, warmup=1.0, seconds=2.0)
    recorder.answer(0.5, 0.9)  # all of it in the warm-up
    recorder.answer(0.9, 1.4)  # asked before, answered within
    recorder.answer(1.5, 1.7)
    recorder.answer(2.9, 3.4)  # asked within, answered after
    seen = recorder.window()
    assert (seen.answered, seen.handled, seen.rate) == (2, 4, 1.0)
    assert seen.p50_ms == pytest.approx(200.0)
    assert seen.max_ms == pytest.approx(500.0)


def test_an_error_in_the_warmup_is_not_hidden() -> None:
    recorder = Recorder(begin=0.0, warmup=1.0, seconds=2.0)
    recorder.fail("status 503")
    recorder.fail("status 503")
    recorder.answer(1.5, 1.6)
    assert recorder.window().errors == {"status 503": 2}


def test_a_window_without_an_answer_is_an_error() -> None:
    assert Recorder(begin=0.0, warmup=0.0, seconds=1.0).window().errors


def test_ratios_are_taken_within_each_round() -> None:
    samples = [
        Sample("naive", 64, 0, window(100)),
        Sample("forebay", 64, 0, window(150)),
        Sample("forebay", 64, 1, window(40)),
        Sample("naive", 64, 1, window(50)),
        Sample("naive", 64, 2, window(10)),
        Sample("forebay", 1, 2, window(900)),
    ]
    found = ratio(samples, "forebay", "naive", 64, rate)
    assert found is not None
    assert (found.low, found.median, found.high) == pytest.approx((0.8, 1.15, 1.5))


def test_there_is_no_ratio_to_what_did_not_run_or_gave_nothing() -> None:
    samples = [Sample("forebay", 1, 0, window(5)), Sample("naive", 1, 0, window(0))]
    assert ratio(samples, "forebay", "naive", 1, rate) is None
    assert ratio(samples, "forebay", "echo", 1, rate) is None


def test_targets_are_judged_by_the_median_and_only_where_both_sides_ran() -> None:
    samples = [
        Sample("naive", 1, 0, window(100)),
        Sample("forebay", 1, 0, window(95, p50_ms=2.0)),
        Sample("two hops", 1, 0, window(100, p50_ms=1.5)),
    ]
    judged = verdicts(samples, Spread(30.0, 20.0, 40.0))
    assert [verdict.met for verdict in judged] == [True, False, False]
    assert [round(verdict.found.median, 2) for verdict in judged] == [0.95, 1.33, 30.0]


def test_a_target_reached_with_errors_is_not_met() -> None:
    samples = [
        Sample("naive", 64, 0, window(100)),
        Sample("forebay", 64, 0, window(200, errors={"status 500": 1})),
    ]
    [verdict] = verdicts(samples, None)
    assert not verdict.met
    assert verdict.errors == {"status 500": 1}
