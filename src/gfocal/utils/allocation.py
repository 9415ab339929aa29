"""Whether freed memory stays with this process."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
_INSIDE = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))  # every block from the heap, whose end never goes back
# glibc's number of blocks, and the thresholds where its own, moving ones end after a large block was freed.
_OUTSIDE = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 64 * 2**20))
_SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
_inside = 0  # how many are
_lock = threading.Lock()


@contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Inside, the C library keeps what is freed, for the next that asks; at the end the system gets it back.

    A batch takes the same blocks of memory as the one before. By default large ones go back to the system in between,
    which clears each page of them again: a sixth of a training step of a small network on a CPU, and a fifth of a
    batch in evaluation (docs/results.md).

    Several may be inside, one in another or in threads: the last one out gives back. Afterwards glibc's thresholds lie
    where they end by themselves after a large block, and move no more. A child that is forked inside is outside: a
    loader's process that has read one large image does not stay large.

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


def give_back() -> None:
    """Give what is freed and kept back to the system: before somebody asks how much memory there is."""
    if _inside and (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _count(libc: ctypes.CDLL, change: int) -> None:
    """One more inside, or one less; the first one in and the last one out change how memory is given."""
    global _inside
    with _lock:
        before, _inside = _inside, max(_inside + change, 0)
        if _inside and not before:
            _forget_in_children()
            _set(libc, _INSIDE)
        elif before and not _inside:
            _set(libc, _OUTSIDE)
            libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, options: tuple[tuple[int, int], ...]) -> None:
    for option, value in options:
        libc.mallopt(option, value)


@functools.cache  # once a process
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """A child begins outside, whatever another thread of its parent was about to do."""
    global _inside, _lock
    _lock = threading.Lock()
    if _inside and (libc := _glibc()) is not None:
        _set(libc, _OUTSIDE)
    _inside = 0


def _glibc() -> ctypes.CDLL | None:
    """The library of this process whose ways may be changed."""
    if any(name in os.environ for name in _SAID):
        return None
    try:
        library = ctypes.CDLL(None)
        found = library.gnu_get_libc_version, library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
    return library if all(found) else None
