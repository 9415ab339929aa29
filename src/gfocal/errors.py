"""The two errors that a person may see: one line each, never a traceback."""

from __future__ import annotations

from pathlib import Path


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
    """A split is there, but no image of it can be used."""
