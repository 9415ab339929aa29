"""Failures of the machine, as errors that say what to do: memory, disk, loader processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gfocal.data.loading.workers import dead_worker
from gfocal.errors import GfocalError

Explain = Callable[[BaseException], GfocalError | None]


@contextmanager
def explained_failures(*explain: Explain) -> Iterator[None]:
    """Errors that torch raises for a machine that failed become one line of ours.

    torch reports a dead worker from a signal handler, anywhere in the main process: this goes around all of the work.

    Args:
        explain: further translations; the first that knows an error wins. Dead loader processes are always known.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, GfocalError):
            raise
        for one in (dead_worker, *explain):
            if failure := one(error):
                for note in getattr(error, "__notes__", ()):
                    failure.add_note(note)
                raise failure from error
        raise
