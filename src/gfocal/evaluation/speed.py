"""How long a call takes, alone or beside others that take turns with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from gfocal.utils.timing import Percentiles, Ratio, Timing

RESAMPLES = 2000
"""Sets of rounds that are drawn for the interval of a ratio."""
_Item = TypeVar("_Item")


def wait_for_device() -> None:
    """Work on an accelerator is only queued when a call returns: the clock has to wait for it."""
    torch = sys.modules.get("torch")  # who has not loaded it has no work on its devices
    if torch is not None and torch.accelerator.is_available():
        torch.accelerator.synchronize()


def measure(fn: Callable[[], object], *, warmup: int = 3, repeats: int = 20) -> Timing:
    """Wall-clock time of ``fn()``.

    Args:
        fn: what is timed; its result is dropped.
        warmup: untimed calls before (caches, lazy set-up, kernel selection), >= 0.
        repeats: timed calls, >= 1.

    Raises:
        ValueError: ``warmup`` or ``repeats`` out of range.

    Example:
        >>> timing = measure(lambda: sum(range(1000)), warmup=1, repeats=5)
        >>> timing.min_ms <= timing.median_ms <= timing.p90_ms
        True
    """
    if warmup < 0 or repeats < 1:
        raise ValueError(f"need warmup >= 0 and repeats >= 1, got warmup={warmup}, repeats={repeats}")
    for _ in range(warmup):
        fn()
    milliseconds = np.array([_milliseconds(fn) for _ in range(repeats)])
    return Timing(
        median_ms=float(np.median(milliseconds)),
        mean_ms=float(milliseconds.mean()),
        p90_ms=float(np.percentile(milliseconds, 90)),
        min_ms=float(milliseconds.min()),
        max_ms=float(milliseconds.max()),
        repeats=repeats,
    )


def measure_interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    warmup: int = 1,
    repeats: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Wall-clock times of functions that take turns: every round calls each of them once.

    Whatever disturbs the machine meets all of them alike, so that a ratio of two times of one round says more than one
    of two medians. The order changes from round to round, every second one is the one before backwards: nobody always
    runs behind the same other one, and a clock that slows down steadily favours none.

    Args:
        functions: at least one; their results are dropped.
        warmup: untimed rounds before, >= 0.
        repeats: timed rounds R, >= 1.
        progress: called with (rounds done, rounds in all), those of the warm-up among them.

    Returns:
        R milliseconds of each function, round by round.

    Raises:
        ValueError: ``warmup`` or ``repeats`` out of range, or no function.

    Example:
        >>> times = measure_interleaved({"short": lambda: sum(range(10)), "long": lambda: sum(range(9999))}, repeats=3)
        >>> {name: len(spent) for name, spent in times.items()}
        {'short': 3, 'long': 3}
    """
    if warmup < 0 or repeats < 1 or not functions:
        raise ValueError(
            f"need warmup >= 0, repeats >= 1 and functions, got {warmup=}, {repeats=} and {len(functions)} functions"
        )
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn, order in zip(range(warmup + repeats), turns(list(functions)), strict=False):
        for name in order:
            spent = _milliseconds(functions[name])
            if turn >= warmup:
                times[name].append(spent)
        if progress is not None:
            progress(turn + 1, warmup + repeats)
    return times


def turns(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """In which order they come in each round, without end: drawn, every second round the one before backwards."""
    generator = np.random.default_rng(0)
    while True:
        order = [items[i] for i in generator.permutation(len(items)).tolist()]
        yield order
        yield order[::-1]


def summary(milliseconds: Sequence[float]) -> Percentiles:
    """Of times in milliseconds, at least one."""
    low, median, high = np.percentile(milliseconds, (10, 50, 90)).tolist()
    return Percentiles(median, low, high)


def paired_ratio(times: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> Ratio:
    """How many times as long as the baseline something takes, from rounds that both were measured in.

    Args:
        times: R >= 1 of one function.
        baseline: R > 0 of the other, of the same rounds.
        seed: of the rounds drawn.

    Returns:
        The median of the rounds' ratios, with its 95 % interval when as many rounds are drawn with replacement. It says
        how far the rounds agree; what disturbs every round alike is not part of it.

    Raises:
        ValueError: not as many times as baselines, or none.
    """
    if len(times) != len(baseline) or not len(times):
        raise ValueError(f"as many times as baselines are needed, at least 1, got {len(times)} and {len(baseline)}")
    ratios = np.asarray(times, np.float64) / np.asarray(baseline, np.float64)
    drawn = np.random.default_rng(seed).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5)).tolist()
    return Ratio(float(np.median(ratios)), low, high)


def _milliseconds(fn: Callable[[], object]) -> float:
    wait_for_device()
    start = time.perf_counter()
    fn()
    wait_for_device()
    return (time.perf_counter() - start) * 1e3
