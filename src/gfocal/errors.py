"""The two errors that a person may see: one line each, never a traceback; and checks of what is given in Python."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class GfocalError(Exception):
    """Something failed while doing what was asked (exit code 1).

    Attributes:
        process: of several that train together, the one that met it; None: all of them do.
        together: raised in all of them, by their common decision.
    """

    process: int | None = None
    together: bool = False


class UsageError(GfocalError, ValueError):
    """What was asked cannot be done: wrong option, recipe, file or data (exit code 2).

    The message says what is wrong, where, and what to do instead.
    """


class BrokenInputError(UsageError):
    """One annotation or image is broken; ``--skip-broken`` leaves it out and continues.

    Args:
        message: for people: the file, what is wrong with it, and what to do.
        path: the file.
        reason: what is wrong with it, without its name and without what to do: "is an empty file".
    """

    def __init__(self, message: str, path: str | Path, reason: str) -> None:
        super().__init__(message, path, reason)  # all of it, or no other process could make it again
        self.message, self.path, self.reason = message, Path(path), reason

    def __str__(self) -> str:
        return self.message


class MissingSplitError(UsageError):
    """A data set is there, but not the split that was asked for."""


class EmptySplitError(UsageError):
    """A split is there or named, but no image of it can be used."""


OF_TORCH = ("torch", "torchvision", "timm", "accelerate", "safetensors")


def needs_torch(error: BaseException) -> UsageError | None:
    """What to say where torch, or a package that works with it alone, is not installed; None for another error."""
    name = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if name not in OF_TORCH:
        return None
    import importlib.metadata  # here: every start of gfocal imports this module, and few come this far

    how = f"is not installed: pip install {name}"
    if any(importlib.metadata.distributions(name="gfocal-runtime")):
        how = "gfocal-runtime leaves out: pip uninstall gfocal-runtime, then pip install gfocal"
    return UsageError(f"this needs {name}, which {how}; predict and eval run exported files without it")


def message_of(error: BaseException) -> str:
    """What an error says, with the notes that were added to it on its way."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def require_number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Refuse an argument that is no number, or one out of its range.

    Args:
        name: of the argument.
        value: a number of Python, numpy or torch passes; a truth value does not.
        least, most, below: its range; None where there is no such end.
        whole: it must be a whole number.

    Raises:
        UsageError: naming the argument, what it must be, and what was given.
    """
    one: Any = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    kind = numbers.Integral if whole else numbers.Real
    wanted = ""
    unlimited = least is None and most is None and below is None
    if not isinstance(one, kind) or isinstance(one, bool) or (unlimited and math.isnan(float(one))):
        wanted = "a whole number" if whole else "a number"
    elif _within(float(one), least, most, below):
        return
    if most is not None:
        limits = f"between {least or 0:g} and {most:g}"
    else:
        ends = (f"at least {least:g}" if least is not None else "", f"below {below:g}" if below is not None else "")
        limits = " and ".join(end for end in ends if end)
    raise UsageError(f"{name} must be {', '.join(part for part in (wanted, limits) if part)}, got {_shown(one)}")


def _within(number: float, least: float | None, most: float | None, below: float | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most) and (below is None or number < below)


def _shown(value: object) -> str:
    """A value for a message: numbers as they are, all else with its type."""
    plain = isinstance(value, numbers.Number) and not isinstance(value, bool)
    return str(value) if plain else f"{type(value).__name__} {value!r}"


def require_path(name: str, value: object) -> None:
    """Refuse an argument that is no path.

    Raises:
        UsageError: it is neither a text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} must be a path, got {_shown(value)}")


def require_texts(name: str, value: object) -> None:
    """Refuse an argument that is no list of texts.

    Raises:
        UsageError: a single text, which is a sequence too, of letters; or something else.
    """
    if isinstance(value, str):
        raise UsageError(f"{name} must be a list of texts, such as [{value!r}], not the text {value!r}")
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} must be a list of texts, got {_shown(value)}")
