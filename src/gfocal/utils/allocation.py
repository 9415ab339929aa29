"""Whether freed memory stays with this process."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NEVER, _LARGEST = -1, 2**31 - 1
_USUAL_MMAP = 32 * 2**20  # where glibc's own, moving threshold ends after a large block was freed
_inside = 0  # how many are
_lock = threading.Lock()
_SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Inside, the C library keeps what is freed, for the next that asks; at the end the system gets it back.

    A batch takes the same blocks of memory as the one before. By default large ones go back to the system in between,
    which clears each page of them again: a seventh of a training step of a small network on a CPU, and a fifth of a
    batch in evaluation (docs/results.md).

    Several may be inside, one in another or in threads: the last one out gives back.

    Does nothing where the C library is not glibc, or where the environment says how its ``malloc`` does.

    Args:
        wanted: False changes nothing.
    """
    libc = _glibc() if wanted else None
    if libc is None:
        yield
        return
    _count(libc, 1)
    try:
        yield
    finally:
        _count(libc, -1)


def _count(libc: ctypes.CDLL, change: int) -> None:
    """One more inside, or one less; the first and the last one set the thresholds."""
    global _inside
    with _lock:
        before, _inside = _inside, _inside + change
        if not before:
            libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
            libc.mallopt(_TRIM_THRESHOLD, _NEVER)
        elif not _inside:
            libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
            libc.mallopt(_TRIM_THRESHOLD, 2 * _USUAL_MMAP)
            libc.malloc_trim(0)


def give_back() -> None:
    """Give what is freed and kept back to the system: before somebody asks how much memory there is."""
    if _inside and (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The library of this process whose thresholds may be set."""
    if any(name in os.environ for name in _SAID):
        return None
    try:
        library = ctypes.CDLL(None)
        found = library.gnu_get_libc_version, library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
    return library if all(found) else None
