"""What loader processes were doing when they died, and room for what they hand over.

Each worker writes its process id and the image that it reads into memory that it shares with the main process. The
message about a dead worker names the process alone; with the image beside it a person can act.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from torch import Tensor

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError

SHARED_MEMORY = Path("/dev/shm")

_DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: (.*)|exited unexpectedly)")
_BOARDS: WeakSet[Board]


class Board:
    """Which image each worker of a loader reads.

    Args:
        index: the images.
        workers: processes, numbered from 0.
    """

    def __init__(self, index: DataIndex, workers: int) -> None:
        self.index, self.workers = index, workers
        # Process id, image, and how many reads began and ended, of each: odd within one.
        self._numbers = multiprocessing.RawArray("q", [0, -1, 0] * workers)
        self._closing = multiprocessing.RawValue("b", 0)
        _BOARDS.add(self)

    def start(self, worker: int, pid: int) -> None:
        """Called in the worker itself."""
        self._numbers[3 * worker] = pid

    def watched(self, worker: int, read: Callable[[DataIndex, int], Tensor]) -> Callable[[DataIndex, int], Tensor]:
        """``read`` that writes down first which image it will read."""

        def noted(index: DataIndex, i: int) -> Tensor:
            self._numbers[3 * worker + 1] = i
            self._numbers[3 * worker + 2] += 1
            try:
                return read(index, i)
            finally:
                self._numbers[3 * worker + 2] += 1

        return noted

    def close(self, closed: bool = True) -> None:
        """The main process needs the workers no more: from here on they end when they are told to."""
        self._closing.value = closed

    def is_closed(self) -> bool:
        return bool(self._closing.value)

    def snapshot(self) -> tuple[int, ...]:
        """Different from an earlier one if a worker began or ended a read in between."""
        return tuple(self._numbers)

    def pids(self) -> list[int]:
        """The process ids of the workers that have started."""
        return [pid for pid in self._numbers[::3] if pid]

    def reading(self) -> list[tuple[int, Path]]:
        """Process id and image of each worker that is within a read."""
        rows = zip(self._numbers[::3], self._numbers[1::3], self._numbers[2::3], strict=True)
        return [(pid, self.index.path(image)) for pid, image, count in rows if count % 2]

    def image_of(self, pid: int) -> Path | None:
        """What the worker of a process id read last; None if it is none of these, or read nothing yet."""
        for worker in range(self.workers):
            own, image, _ = self._numbers[3 * worker : 3 * worker + 3]
            if own == pid and image >= 0:
                return self.index.path(image)
        return None


_BOARDS = WeakSet()


def dead_worker(error: BaseException) -> GfocalError | None:
    """What to say where ``error`` is torch's word that a loader process died; None where it is something else."""
    if not isinstance(error, RuntimeError) or not _DEAD.search(str(error)):
        return None
    # "exited unexpectedly" often stands on top of the error that knows the signal.
    found = [match for link in _chain(error) if (match := _DEAD.search(str(link)))]
    pids = list(dict.fromkeys(int(number) for match in found for number in match[1].split(",") if number.strip()))
    images = [image for board in list(_BOARDS) for pid in pids if (image := board.image_of(pid)) is not None]
    signal = next((match[2] for match in found if match[2]), "").partition(".")[0].strip()
    where = f"; the last picture that it read is {', '.join(map(str, images))}" if images else ""
    reason, advice = _reason(signal, bool(images))
    return GfocalError(f"a loader process {reason}{where}. {advice}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(signal: str, known: bool) -> tuple[str, str]:
    """What happened, as the rest of a sentence, and what to do about it."""
    if signal == "Killed":
        return (
            "was killed from outside, mostly because memory ran out (`dmesg` says so)",
            "Use fewer of them (--set data.workers=1), smaller batches, or see whether this picture is huge",
        )
    if signal == "Bus error":
        return (
            f"got no shared memory ({SHARED_MEMORY} is full: {free_bytes(SHARED_MEMORY) / 2**20:,.0f} MB are free)",
            "In a container start it with --shm-size=2g or --ipc=host; or use fewer of them (--set data.workers=1, 0)",
        )
    what = f"died ({signal})" if signal else "ended without a word"
    advice = "Look at this picture: open it elsewhere, or move it away" if known else "Look at the pictures"
    return what, f"{advice}; --set data.workers=0 reads in the main process and may show more"


def free_bytes(place: Path) -> int:
    """Free bytes of a file system; 0 where it cannot be asked."""
    import shutil

    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


def raise_file_limit() -> None:
    """Let this process open as many files as it may: every tensor on its way from a worker is one."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def shared_memory_note(batch_bytes: int, workers: int, free: int | None = None) -> str | None:
    """A line where the batches that workers hold ready do not fit into shared memory; without room they would hang.

    Args:
        batch_bytes: of one batch of the largest images.
        workers: each holds two batches ready, and one is in use.
        free: bytes of shared memory; by default what there is.
    """
    if not workers or (free is None and not SHARED_MEMORY.is_dir()):
        return None
    free = free_bytes(SHARED_MEMORY) if free is None else free
    needed = (2 * workers + 1) * batch_bytes
    if needed <= free:
        return None
    fits = (free // max(batch_bytes, 1) - 1) // 2
    return (
        f"the batches of {workers} loader processes may take {needed / 2**20:,.0f} MB of shared memory, but "
        f"{SHARED_MEMORY} has {free / 2**20:,.0f} MB: --set data.workers={max(fits, 0)}, or in a container --shm-size="
        f"{-(-needed // 2**30)}g or --ipc=host"
    )
