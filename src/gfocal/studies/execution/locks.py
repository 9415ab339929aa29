"""Locks that go with the process that holds them, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gfocal.errors import UsageError


@contextmanager
def held(file: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock while inside. Where the system has none (Windows) nothing is locked.

    Args:
        file: the lock's; its folder must be there.
        wait: for whoever holds it.

    Raises:
        UsageError: somebody holds it, unless ``wait``.
    """
    with file.open("w") as stream:
        try:
            import fcntl
        except ImportError:
            pass
        else:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another study is running in {file.parent}: wait for it, or give this one another --out"
                ) from None
        yield
