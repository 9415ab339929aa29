"""Signals that ask this process to end: Ctrl-C, and what schedulers and closed terminals send."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

ENDING = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
)
"""Ctrl-C; schedulers, containers and ``kill``; a terminal or connection that is gone; Ctrl-Break on Windows."""
_ONE_REQUEST = 1.0  # seconds: a launcher passes on what the system has sent to its processes, too


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        number: of the signal; the exit code is 128 more.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or ("interrupted" if number == signal.SIGINT else f"stopped by {name_of(number)}"))
        self.number = int(number)


def name_of(number: int) -> str:
    """What a signal is called: SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_code(error: KeyboardInterrupt) -> int:
    """128 and the signal's number: 130 for Ctrl-C."""
    return 128 + (error.number if isinstance(error, Stopped) else int(signal.SIGINT))


@contextmanager
def raised_signals() -> Iterator[None]:
    """Inside, what ends a process raises :class:`Stopped` as Ctrl-C raises KeyboardInterrupt: all is left in order."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled([number for number in ENDING if number != signal.SIGINT], stop):
        yield


class StopRequest:
    """The first signal is noted, so that the work can end in good order; a second one ends it at once.

    Args:
        say: gets the line that tells so.

    Attributes:
        number: of the signal that came; None before.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.number: int | None = None
        self._say = say
        self._since = 0.0
        self._handled: Any = None

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def __enter__(self) -> Self:
        self._handled = _handled(ENDING, self._handle)
        self._handled.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handled.__exit__(None, None, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._since = int(number), time.monotonic()
            pressed = number == signal.SIGINT
            what, again = ("", "Ctrl-C again") if pressed else (f"{name_of(number)}: ", "a second one")
            with suppress(OSError):  # a terminal that is gone must not end what is to be saved
                self._say(f"{what}stopping after this step or evaluation; {again} stops at once")
        elif time.monotonic() - self._since > _ONE_REQUEST:
            raise Stopped(number)


@contextmanager
def _handled(numbers: Sequence[int], handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals inside; those that this process was started to ignore (nohup) stay ignored.

    Outside the main thread whoever called decides about signals.
    """
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                ignored = signal.getsignal(number) is signal.SIG_IGN
                # Shells start what runs in the background deaf to Ctrl-C, but not to the one who runs a study.
                if number == signal.SIGINT or not ignored:
                    before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # set by another language
                signal.signal(number, handler)
