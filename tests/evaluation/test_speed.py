from __future__ import annotations

import time

import pytest

from gfocal.evaluation import measure


def test_times_a_call_in_milliseconds() -> None:
    timing = measure(lambda: time.sleep(0.01), warmup=0, repeats=3)
    assert timing["repeats"] == 3
    assert 10 <= timing["min_ms"] <= timing["median_ms"] <= timing["p90_ms"] <= timing["max_ms"]
    assert timing["min_ms"] < 1000, "seconds or microseconds, not milliseconds"


def test_warmup_is_called_but_not_timed() -> None:
    durations = iter([0.2, 0.2, 0.0, 0.0, 0.0])
    timing = measure(lambda: time.sleep(next(durations)), warmup=2, repeats=3)
    assert timing["max_ms"] < 200
    assert next(durations, None) is None, "warm-up and repeats are all called"


def test_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    # Clock readings in pairs: calls of 1, 2, 3, 4, 10 ms. Median 3, mean 20/5 = 4;
    # the 90th percentile lies at index 0.9 * 4 = 3.6, between 4 and 10: 4 + 0.6 * 6 = 7.6.
    readings = iter([0.0, 0.001, 1.0, 1.002, 2.0, 2.003, 3.0, 3.004, 4.0, 4.010])
    monkeypatch.setattr("gfocal.evaluation.speed.time.perf_counter", lambda: next(readings))
    timing = measure(lambda: None, warmup=1, repeats=5)
    assert [round(timing[key], 6) for key in ("median_ms", "mean_ms", "p90_ms", "min_ms", "max_ms")] == [
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
