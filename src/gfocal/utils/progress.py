"""What a person sees while something runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gfocal.utils.text import visible

_QUIET_SECONDS = 15.0  # between lines where there is no terminal


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
        self._started = self._last = time.monotonic()
        self._first = done
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self.console, disable=not self.live)
        self._task = self._progress.add_task(label, total=total, completed=done, note="")

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

    def update(self, done: int, note: str = "") -> None:
        """``done`` steps are behind; ``note`` stands beside the bar."""
        self.done = done
        self._progress.update(self._task, completed=done, note=note)
        now = time.monotonic()
        if self.shown and not self.live and (now - self._last > _QUIET_SECONDS or done == self.total):
            self._last = now
            rate = (done - self._first) / max(now - self._started, 1e-9)
            left = (self.total - done) / rate if rate else 0.0
            self.say(f"{self.label} {done}/{self.total}, {left:.0f} s left{', ' + note if note else ''}")

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
