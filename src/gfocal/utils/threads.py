"""Work by several threads, in order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


def in_threads(function: Callable[[_A], _B], items: Iterable[_A]) -> Iterable[_B]:
    """``map`` by a few threads, in order, without running far ahead: reading files waits more than it computes."""
    remaining = iter(items)
    with ThreadPoolExecutor(min(8, 2 * (cpu_count() or 1))) as pool:
        while chunk := list(islice(remaining, 64)):
            # Of odd metadata and sizes. Out here: the filters are one list for all threads, and one that puts back
            # what it found would undo what another has set.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = list(pool.map(function, chunk))
            yield from done
