"""Words for people: numbers, lists, durations."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

Say = Callable[[str], None]


def program() -> str:
    """How this person types the command: "gfocal", or its path where the shell would not find it."""
    started = Path(sys.argv[0])
    if started.name != "gfocal" or shutil.which("gfocal"):
        return "gfocal"
    return shlex.quote(os.path.relpath(started))


def counted(number: int, one: str, many: str | None = None) -> str:
    """1 picture, 2,337 pictures."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """12 s, 3 min 4 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def tell(lines: Iterable[str], say: Say | None) -> None:
    """Say each line, if somebody listens."""
    if say is not None:
        for line in lines:
            say(line)
