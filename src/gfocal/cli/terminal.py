"""How verbs end: results on standard output, one line and an exit code where something is wrong."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from gfocal.errors import GfocalError, UsageError, message_of, needs_torch
from gfocal.utils.files import describe_system_error, is_stream
from gfocal.utils.locks import locked_file, locked_folder
from gfocal.utils.records import to_json
from gfocal.utils.signals import exit_code, raised_signals
from gfocal.utils.text import visible


def echo(*lines: str, err: bool = False) -> None:
    """Lines on standard output, or on standard error, with what would steer a terminal shown as escapes."""
    typer.echo("\n".join(visible(line) for line in lines), err=err)


def fail(error: BaseException | str, code: int) -> NoReturn:
    """One line on standard error; the traceback before it only where it was asked for."""
    if isinstance(error, BaseException) and os.environ.get("GFOCAL_DEBUG", "0") not in ("", "0"):
        echo(*"".join(traceback.format_exception(error)).splitlines(), err=True)
    message = message_of(error) if isinstance(error, BaseException) else error
    process = getattr(error, "process", None)
    # Of several processes each meets the same wrong option; one says so. What one alone met, it says itself.
    if process is not None or is_main_process():
        where = "" if process is None else f"process {process}: "
        with contextlib.suppress(OSError):  # a terminal that is gone
            echo(f"error: {where}{' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def is_main_process() -> bool:
    """False in all but one of the processes that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def say(*lines: str) -> None:
    """Lines on standard error, once where several processes run."""
    if is_main_process():
        echo(*lines, err=True)


def verb(function: Callable[..., None], *, together: bool = False) -> Callable[..., None]:
    """Turn exceptions into one line and an exit code: 2 wrong use, 1 failed, 128 + n for signal n (130 for Ctrl-C).

    ``together``: several processes may run it as one.
    """

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            if not together and int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise UsageError("only train and eval run in several processes: start this one without a launcher")
            with raised_signals():
                function(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            fail(str(error) or "interrupted", exit_code(error))
        except GfocalError as error:
            fail(error, 2 if isinstance(error, UsageError) else 1)
        except OSError as error:
            if (line := describe_system_error(error)) is None:
                fail(error, 1)
            fail(UsageError(line), 2)
        except Exception as error:
            if (missing := needs_torch(error)) is not None:
                fail(missing, 2)
            _fail_unexpectedly(error)

    return guarded


verb_of_many = functools.partial(verb, together=True)
"""As :func:`verb`, for what torchrun or accelerate may start in several processes."""


def _fail_unexpectedly(error: Exception) -> NoReturn:
    lines = str(error).splitlines()
    message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if "out of memory" in message.lower() or "not enough memory" in message.lower():
        message += "; use a smaller batch (--set schedule.batch_size=N) or smaller pictures"
    if os.environ.get("GFOCAL_DEBUG", "0") in ("", "0"):
        message += " (unexpected; `gfocal --debug ...` shows where)"
    else:
        echo(*"".join(traceback.format_exception(error)).splitlines(), err=True)
    fail("; ".join([message, *getattr(error, "__notes__", ())]), 1)


@contextlib.contextmanager
def own_stdout() -> Iterator[None]:
    """Whatever a library prints goes to standard error: standard output is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """See that a file can be written that the long work inside gives; meanwhile no other process may write it.

    Raises:
        UsageError: it cannot; the work would be lost.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; give a file")
    # A pipe or a device is nobody's to lock, and nothing may come to lie beside it.
    with locked_file(path) if is_main_process() and not is_stream(path) else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """As :func:`claimed`, for a folder that several files go into."""
    with locked_folder(folder) if is_main_process() else contextlib.nullcontext():
        yield


def print_json(content: Any) -> None:
    """One object on standard output, once where several processes run."""
    if is_main_process():
        typer.echo(json.dumps(to_json(content), allow_nan=False))


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(to_json(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def warn(lines: Sequence[str], what: str, done: str) -> None:
    """List what is wrong; ``what`` is one of them, ``done`` what was done about them."""
    if lines:
        say(f"warning: {len(lines)} {what}{'' if len(lines) == 1 else 's'} {done}:")
        for line in lines:
            say(f"  {line}")
