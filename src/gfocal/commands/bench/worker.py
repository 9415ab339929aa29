"""The process of a model that is measured, from both its ends: who asks, and who answers."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

from gfocal.commands.bench.records import Job
from gfocal.errors import BrokenInputError, GfocalError, UsageError, needs_torch
from gfocal.utils.text import Say

_END = 2.0  # seconds that an idle process has to end by itself


@dataclass(frozen=True)
class _Answer:
    value: Any


@dataclass(frozen=True)
class _Line:
    text: str


@dataclass(frozen=True)
class _Progress:
    done: int
    total: int


class Worker:
    """A model in a process of its own, which starts at once and opens the model meanwhile; :meth:`opened` waits for it.

    Args:
        label: the model, for messages.
        job: what it does.
        say: gets its lines.
    """

    def __init__(self, label: str, job: Job, say: Say) -> None:
        self.label, self._say, self._waiting = label, say, True
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, job), name=f"gfocal bench {label}")
        with _deaf_children():
            self._process.start()
        other.close()  # or its end would not be noticed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        self._process.join(0 if self._waiting else _END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def opened(self) -> Any:
        """What :meth:`Subject.opened` says; the first answer."""
        return self._answer(None)

    def ask(self, method: str, *args: Any, progress: Callable[[int, int], None] | None = None) -> Any:
        """Call a method of the :class:`Subject` there.

        Raises:
            UsageError: as the method does.
            GfocalError: the process has ended, or the method failed.
        """
        if self._waiting:  # an interrupted question; its answer is nobody's
            self._answer(None)
        self._waiting = True
        with suppress(OSError):  # who is gone is noticed while it is waited for
            self._connection.send((method, args))
        return self._answer(progress)

    def _answer(self, progress: Callable[[int, int], None] | None) -> Any:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                raise GfocalError(self._ended()) from None
            if isinstance(message, _Line):
                self._say(message.text)
            elif isinstance(message, _Progress):
                if progress is not None:
                    progress(message.done, message.total)
            else:
                self._waiting = False
                if isinstance(message, UsageError):
                    raise message
                if isinstance(message, Exception):
                    raise GfocalError(f"{self.label}: {message}")
                return message.value

    def _ended(self) -> str:
        self._process.join(_END)
        code = self._process.exitcode
        why = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        memory = "; the memory may have been too small for it" if code == -9 else ""
        return f"the process of {self.label} has ended ({why}){memory}"


def serve(connection: Connection, job: Job) -> None:
    """Open the model of a job and answer questions about it until nobody asks any more."""
    sys.stdout = sys.stderr  # results are the other process's
    with suppress(EOFError, OSError):  # who asked is gone
        try:
            from gfocal.commands.bench.subject import Subject

            subject = Subject(job)
            connection.send(_Answer(subject.opened()))
        except Exception as error:
            return connection.send(_told(error))
        while True:
            method, args = connection.recv()
            if method == "accuracy":
                args = (_sends_progress(connection), lambda line: connection.send(_Line(line)))
            try:
                answer: object = _Answer(getattr(subject, method)(*args))
            except Exception as error:
                answer = _told(error)
            connection.send(answer)


def _sends_progress(connection: Connection) -> Callable[[int, int], None]:
    return lambda done, total: connection.send(_Progress(done, total))


def _told(error: Exception) -> GfocalError:
    """An error as one that may pass to another process."""
    if isinstance(error, BrokenInputError):
        return BrokenInputError(error.message, error.path, error.reason)
    if isinstance(error, UsageError):
        return UsageError(str(error))
    if isinstance(error, GfocalError):
        return GfocalError(str(error))
    if (missing := needs_torch(error)) is not None:
        return missing
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return GfocalError(f"not enough memory ({_first_line(error)}): use a smaller --batch or --size")
    return GfocalError(f"failed with {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that start inside do not hear Ctrl-C: who asks them tells them when to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:  # set by another language
            signal.signal(signal.SIGINT, before)
