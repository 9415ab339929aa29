"""Loader processes that hang, told from those that are slow."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from weakref import WeakSet

from torch.utils.data._utils import signal_handling

from gfocal.data.loading.workers import Board
from gfocal.errors import GfocalError
from gfocal.utils.progress import notice
from gfocal.utils.text import duration, join_some

WORKER_TIMEOUT = 600.0
"""Seconds without any image read after which loader processes are given up."""
POLL = 5.0
"""Seconds that a batch is waited for at a time; as often does torch see whether its workers live."""
_NAMED = 60.0

_TIMED_OUT = re.compile("DataLoader timed out")
_STATES = {"T": "it is stopped; kill -CONT {pid} lets it go on", "D": "it waits for the disk"}


class HungWorker(GfocalError):
    """No loader process has read anything for long."""


class Watch:
    """Waits for a batch, and sees whether any worker does something meanwhile.

    Time counts only while this process itself runs: a machine that slept, or a job that was stopped, is no fault of
    the workers. A slow disk is none either: each image that is read begins the time again.

    Args:
        board: of the workers.
        timeout: seconds after which they are given up; 0 for never.
        say: gets a line when they hang, before they are given up.
    """

    def __init__(self, board: Board, timeout: float, say: Callable[[str], None] = notice) -> None:
        self.board, self.timeout, self.say = board, timeout, say
        self._seen = board.snapshot()
        self._still = 0.0
        self._named = False

    def waited(self, seconds: float) -> None:
        """Another ``seconds`` have passed without a batch.

        Raises:
            HungWorker: for too long nothing has moved.
        """
        now = self.board.snapshot()
        if now != self._seen:
            self._seen, self._still, self._named = now, 0.0, False
            return
        self._still += seconds
        if self.timeout and self._still >= self.timeout:
            raise HungWorker(
                f"{self.describe()}. It is given up after data.worker_timeout={self.timeout:g} s. See whether the disk "
                "answers, then repeat the command (a training: with --resume); a longer data.worker_timeout waits "
                "longer, 0 for ever"
            )
        if self._still >= _NAMED and not self._named:
            self._named = True
            until = f" (until {duration(self.timeout)} have passed, data.worker_timeout)" if self.timeout else ""
            self.say(f"warning: {self.describe()}; still waiting{until}")

    def describe(self) -> str:
        """Who hangs, and where."""
        reading = self.board.reading()
        since = f"for {duration(self._still)}"
        if reading:
            which = [f"process {pid} reads {image}{_state(pid)}" for pid, image in reading]
            return f"no picture was read {since}: loader {join_some(which, 4)}"
        stopped = [f"process {pid}{state}" for pid in self.board.pids() if (state := _state(pid))]
        who = f": loader {join_some(stopped, 4)}" if stopped else f" by the loader processes {self.board.pids()}"
        return f"no picture was read {since}{who}"


def _state(pid: int) -> str:
    """What holds a process up, if the system says so."""
    with suppress(OSError, IndexError):
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        if state in _STATES:
            return f" ({_STATES[state].format(pid=pid)})"
    return ""


def is_timeout(error: RuntimeError) -> bool:
    """Whether it is torch's word that no batch came in time."""
    return bool(_TIMED_OUT.search(str(error)))


def end_workers(batches: object) -> None:
    """Kill the workers of torch's iterator, which would wait for each that hangs and then leave it to the system."""
    if getattr(batches, "_worker_pids_set", False):  # torch's handler would raise an error about each that dies
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False  # type: ignore[attr-defined]
        _kill(getattr(batches, "_workers", ()))


def kill_at_exit(batches: object) -> None:
    """Let no worker of torch's iterator keep this process from ending: Python would wait for each at its end."""
    _STARTED.update(getattr(batches, "_workers", ()))
    if not _FINALIZERS:
        _FINALIZERS.append(Finalize(None, _kill_leftovers, exitpriority=100))


_STARTED: WeakSet[BaseProcess] = WeakSet()
_FINALIZERS: list[Finalize] = []


def _kill_leftovers() -> None:
    left = [process for process in _STARTED if process.is_alive()]
    if left and hasattr(signal, "SIGCHLD"):
        with suppress(ValueError):  # outside the main thread
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise an error about each
    _kill(left)


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join(5)  # one that waits for a disk may not even hear that
