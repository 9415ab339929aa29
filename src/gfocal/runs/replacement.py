"""What to use in the place of a file of a run that is damaged."""

from __future__ import annotations

import shlex
from pathlib import Path

from gfocal.errors import UsageError
from gfocal.runs.metrics_log import METRICS
from gfocal.serialization.bounds import Unreadable
from gfocal.serialization.sums import describe_unusable
from gfocal.serialization.tensor_files import NoTensorFile, read_tensors

BEST, LAST, STATE = "best.safetensors", "last.safetensors", "state.pt"


def intact_copies(path: Path) -> list[Path]:
    """The other weights beside a file that can be read and are as they were written, the likeliest first."""
    kept = sorted(path.parent.glob("step-*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    others = [path.parent / LAST, path.parent / BEST, *kept]
    return [file for file in others if file != path and file.is_file() and _is_intact(file)]


def describe_replacement(path: Path) -> str:
    """What to do about a damaged file, as sentences."""
    copies = intact_copies(path)
    if path.name == STATE:
        if copies:
            start = shlex.quote(str(copies[0]))
            return f"The weights in {copies[0]} are intact: start a new run from them with --init {start}"
        return "Copy it again from where it came from, or start a new run"
    advice = []
    if copies:
        advice.append(f"{copies[0]} is intact: use that file")
    if (path.parent / STATE).is_file():
        advice.append("if the run is unfinished, repeat its command with --resume, which writes new ones")
    if not advice:
        return "Copy it again from where it came from"
    return "; or ".join([*advice, "copy it again from where it came from"])


def _is_intact(file: Path) -> bool:
    try:
        return not describe_unusable(read_tensors(file))
    except (Unreadable, NoTensorFile):
        return False


def check_unused(folder: Path) -> None:
    """Refuse a folder that holds a run, or what is left of one.

    Raises:
        UsageError: it does.
    """
    if (folder / STATE).exists():
        raise UsageError(f"{folder} already holds a run: continue it with --resume, or choose another --out")
    if any((folder / name).exists() for name in (BEST, LAST, METRICS)):
        raise UsageError(f"{folder} holds the remains of a run: choose another --out")
