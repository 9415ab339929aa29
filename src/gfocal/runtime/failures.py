"""Failures of the machine, as errors that say what to do: memory, disk, loader processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gfocal.data.loading.workers import dead_worker
from gfocal.errors import GfocalError, UsageError

Explain = Callable[[BaseException], GfocalError | None]


@contextmanager
def explained_failures(*explain: Explain) -> Iterator[None]:
    """Errors that torch raises for a machine that failed become one line of ours.

    torch reports a dead worker from a signal handler, anywhere in the main process: this goes around all of the work.

    Args:
        explain: further translations; the first that knows an error wins. Dead loader processes, and batch norm that
            has a single cell to learn from, are always known.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        if isinstance(error, GfocalError):
            raise
        for one in (dead_worker, single_cell, *explain):
            if failure := one(error):
                for note in getattr(error, "__notes__", ()):
                    failure.add_note(note)
                raise failure from error
        raise


def single_cell(error: BaseException) -> GfocalError | None:
    """What to say where batch norm has one number a channel; None where it is something else."""
    if not isinstance(error, ValueError) or "Expected more than 1 value per channel" not in str(error):
        return None
    return UsageError(
        "batch norm cannot learn from a batch of one picture whose coarsest map has a single cell: take more pictures "
        "per step (--batch), or larger ones (--size)"
    )
