"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch


def _wait_for_device() -> None:
    """Work on an accelerator is only queued when a call returns: the clock has to wait for it."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def measure(fn: Callable[[], object], *, warmup: int = 3, repeats: int = 20) -> dict[str, float | int]:
    """Wall-clock time of ``fn()``.

    Args:
        fn: what is timed; its result is dropped.
        warmup: untimed calls before (caches, lazy set-up, kernel selection), >= 0.
        repeats: timed calls, >= 1.

    Returns:
        ``median_ms``, ``mean_ms``, ``p90_ms``, ``min_ms``, ``max_ms`` of one call in milliseconds, and ``repeats``.

    Raises:
        ValueError: ``warmup`` or ``repeats`` out of range.

    Example:
        >>> timing = measure(lambda: sum(range(1000)), warmup=1, repeats=5)
        >>> timing["min_ms"] <= timing["median_ms"] <= timing["p90_ms"]
        True
    """
    if warmup < 0 or repeats < 1:
        raise ValueError(f"need warmup >= 0 and repeats >= 1, got warmup={warmup}, repeats={repeats}")
    for _ in range(warmup):
        fn()
    milliseconds = np.empty(repeats)
    for i in range(repeats):
        _wait_for_device()
        start = time.perf_counter()
        fn()
        _wait_for_device()
        milliseconds[i] = (time.perf_counter() - start) * 1e3
    return {
        "median_ms": float(np.median(milliseconds)),
        "mean_ms": float(milliseconds.mean()),
        "p90_ms": float(np.percentile(milliseconds, 90)),
        "min_ms": float(milliseconds.min()),
        "max_ms": float(milliseconds.max()),
        "repeats": repeats,
    }
