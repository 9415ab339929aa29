from __future__ import annotations

from dataclasses import astuple

import pytest

from gfocal.evaluation import measure, measure_interleaved, paired_ratio
from gfocal.evaluation.speed import summary
from gfocal.utils.timing import Percentiles, Ratio


class Clock:
    """A clock that stands still but for ``sleep``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.seconds)
    return clock


def test_times_a_call_in_milliseconds(clock: Clock) -> None:
    timing = measure(lambda: clock.sleep(0.01), warmup=0, repeats=3)
    assert timing.repeats == 3
    assert [getattr(timing, key) for key in ("min_ms", "median_ms", "p90_ms", "max_ms")] == pytest.approx([10] * 4)


def test_warmup_is_called_but_not_timed(clock: Clock) -> None:
    durations = iter([0.2, 0.2, 0.001, 0.001, 0.001])
    timing = measure(lambda: clock.sleep(next(durations)), warmup=2, repeats=3)
    assert timing.max_ms == pytest.approx(1)
    assert next(durations, None) is None, "warm-up and repeats are all called"


def test_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    # Clock readings in pairs: calls of 1, 2, 3, 4, 10 ms. Median 3, mean 20/5 = 4;
    # the 90th percentile lies at index 0.9 * 4 = 3.6, between 4 and 10: 4 + 0.6 * 6 = 7.6.
    readings = iter([0.0, 0.001, 1.0, 1.002, 2.0, 2.003, 3.0, 3.004, 4.0, 4.010])
    monkeypatch.setattr("time.perf_counter", lambda: next(readings))
    timing = measure(lambda: None, warmup=1, repeats=5)
    assert [round(getattr(timing, key), 6) for key in ("median_ms", "mean_ms", "p90_ms", "min_ms", "max_ms")] == [
        3.0,
        4.0,
        7.6,
        1.0,
        10.0,
    ]


@pytest.mark.parametrize("bad", [{"warmup": -1}, {"repeats": 0}])
def test_refuses_impossible_counts(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="repeats >= 1"):
        measure(lambda: None, **bad)


def test_turns_change_and_every_second_round_goes_backwards() -> None:
    called: list[str] = []
    functions = {name: (lambda name=name: called.append(name)) for name in "abcd"}
    rounds: list[tuple[int, int]] = []
    times = measure_interleaved(functions, warmup=1, repeats=7, progress=lambda *at: rounds.append(at))
    orders = [called[start : start + 4] for start in range(0, len(called), 4)]
    assert len(orders) == 8
    assert all(sorted(order) == list("abcd") for order in orders)
    assert all(orders[i] == orders[i - 1][::-1] for i in (1, 3, 5, 7))
    assert len({tuple(order) for order in orders}) > 2, "the order of a pair of rounds is drawn"
    assert list(times) == list("abcd")
    assert all(len(spent) == 7 for spent in times.values()), "the warm-up is not among them"
    assert rounds == [(i, 8) for i in range(1, 9)]


def test_times_belong_to_their_functions(clock: Clock) -> None:
    functions = {"short": lambda: clock.sleep(0.001), "long": lambda: clock.sleep(0.01)}
    times = measure_interleaved(functions, warmup=0, repeats=3)
    assert times == {"short": pytest.approx([1] * 3), "long": pytest.approx([10] * 3)}


@pytest.mark.parametrize("bad", [{"warmup": -1}, {"repeats": 0}])
def test_interleaved_refuses_impossible_counts(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="repeats >= 1"):
        measure_interleaved({"a": lambda: None}, **bad)
    with pytest.raises(ValueError, match="0 functions"):
        measure_interleaved({})


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine is ten times slower in the last two rounds; 1.1 times as long in each all the same.
    baseline = [10.0, 10.0, 10.0, 100.0, 100.0]
    assert astuple(paired_ratio([1.1 * b for b in baseline], baseline)) == pytest.approx((1.1, 1.1, 1.1))
    # Ratios 1, 1, 1, 2, 4, 4, 4: of seven drawn four or more are 1 with chance 0.33, and as often 4.
    assert paired_ratio([1, 1, 1, 2, 4, 4, 4], [1] * 7) == Ratio(median=2.0, low=1.0, high=4.0)
    with pytest.raises(ValueError, match="as many times as baselines"):
        paired_ratio([1.0], [1.0, 2.0])


def test_summary_of_times() -> None:
    # 1..11: percentiles fall on the values themselves.
    assert summary(list(range(1, 12))) == Percentiles(median_ms=6.0, p10_ms=2.0, p90_ms=10.0)
