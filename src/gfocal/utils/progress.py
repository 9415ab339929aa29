"""What a person sees while something runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import suppress
from statistics import median
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gfocal.utils.text import duration, visible

_QUIET_SECONDS = 15.0  # between lines where there is no terminal
_RECENT = 50  # updates that an estimate is made of
_LEAST = 4  # updates before which there is none
_PAUSE = 10  # times the median: more is not the pace of a step; less is, where images come in bursts


class Remaining:
    """How long the rest takes, by the last steps.

    The very first one does not count: it waits for processes to start and for kernels to be chosen. One that took more
    than some times the median counts as that: a machine that slept for an hour is not slow.

    Args:
        done: steps done before.
        now: seconds, of any clock.
    """

    def __init__(self, done: int, now: float) -> None:
        self._done, self._now, self._began = done, now, False
        self._taken: deque[tuple[float, int]] = deque(maxlen=_RECENT)  # seconds a step, and how many steps

    def update(self, done: int, now: float) -> None:
        """So many steps are done at ``now``."""
        steps, seconds = done - self._done, now - self._now
        if steps <= 0:
            return
        if self._began:
            self._taken.append((seconds / steps, steps))
        self._done, self._now, self._began = done, now, True

    def skip(self, now: float) -> None:
        """What happened up to ``now`` was no step."""
        self._now = now

    def seconds(self, steps: int) -> float | None:
        """That so many further steps take; None before enough of them were measured."""
        if steps <= 0:
            return 0.0
        if len(self._taken) < _LEAST:
            return None
        most = _PAUSE * median(each for each, _ in self._taken)
        return steps * sum(min(each, most) * n for each, n in self._taken) / sum(n for _, n in self._taken)


class ProgressBar:
    """A bar with rate and time left, on standard error.

    Args:
        total: steps.
        label: what is counted.
        done: steps done before.
        shown: False shows nothing.
    """

    def __init__(self, total: int, label: str, *, done: int = 0, shown: bool = True) -> None:
        self.total, self.label, self.done, self.shown = total, label, done, shown
        self.console = Console(stderr=True)
        self.live = shown and self.console.is_terminal
        self._last = time.monotonic()
        self._remaining = Remaining(done, self._last)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self.console, disable=not self.live)
        self._task = self._progress.add_task(label, total=total, completed=done, note="", left="")

    def __enter__(self) -> Self:
        if self.live:  # older versions of rich end a disabled bar with an empty line
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            with suppress(OSError):
                self._progress.stop()

    def update(self, done: int, note: str = "", *, more: float | None = 0.0) -> None:
        """``done`` steps are behind; ``note`` stands beside the bar.

        ``more`` seconds come on top of those that the steps take, such as for measuring in between; None: nobody knows.
        """
        self.done = done
        now = time.monotonic()
        self._remaining.update(done, now)
        left = self._left(more)
        self._progress.update(self._task, completed=done, note=note, left=left)
        if self.shown and not self.live and (now - self._last > _QUIET_SECONDS or done == self.total):
            self._last = now
            self.say(", ".join(part for part in (f"{self.label} {done}/{self.total}", left, note) if part))

    def pause(self) -> None:
        """What happened since the last update was no step."""
        self._remaining.skip(time.monotonic())

    def _left(self, more: float | None) -> str:
        """How long it will take still, in words; nothing before that is known."""
        seconds = self._remaining.seconds(self.total - self.done)
        return "" if seconds is None or more is None else f"{duration(seconds + more)} left"

    def callback(self, done: int, total: int) -> None:
        """For functions that report (done, total); the total may only be known then."""
        if total != self.total:
            self.total = total
            self._progress.update(self._task, total=total)
        self.update(done)

    def say(self, message: str) -> None:
        """A line that stays, above the bar; nobody reads it where the terminal is gone, and the work goes on."""
        if not self.shown:
            return
        message = visible(message)
        with suppress(OSError):
            if self.live:
                self._progress.console.print(message, highlight=False, markup=False)
            else:
                print(message, file=sys.stderr, flush=True)


def notice(message: str) -> None:
    """A line on standard error from where there is no bar; a bar that is shown stays below it."""
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
