"""``metrics.jsonl``: a line for each thing that a run measured, and the trackers beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gfocal.runs.trackers import Trackers
from gfocal.utils.files import explained_writing, set_aside, write_atomically
from gfocal.utils.text import counted

METRICS = "metrics.jsonl"


class MetricsLog:
    """The file of one run; one process writes it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._trackers: Trackers | None = None

    def rewind(self, step: int, *, measured: bool) -> list[str]:
        """Take out what belongs to steps after ``step``: a kill undid them.

        So does the evaluation at ``step`` unless it was ``measured`` when the state was saved, and the line that tells
        of an early stop: whether it still holds is decided again. Lines that are damaged go, and the file that has
        them stays under another name; but for a last line that was cut off, as a kill leaves it.

        Returns:
            lines about what is damaged or missing.
        """
        if not self.file.exists():
            return [f"{self.file} is missing: it begins again after step {step}"] if step else []
        lines = [_Line.read(text) for text in self._texts()]
        damaged = sum(line.damaged for line in lines[:-1]) + bool(lines and lines[-1].damaged and not lines[-1].is_cut)
        kept = [line for line in lines if line.step <= step and line.kind != "stop"]
        if not measured:
            kept = [line for line in kept if line.step < step or line.kind != "val"]
        said = []
        if damaged:
            aside = set_aside(self.file, f"{self.file.stem}-damaged{self.file.suffix}")
            said.append(
                f"warning: {self.file} is damaged: {counted(damaged, 'line')} left out, {counted(len(kept), 'line')} "
                f"kept; the file as it was is now {aside}"
            )
        write_atomically(self.file, lambda file: file.write_bytes(b"".join(line.text + b"\n" for line in kept)))
        return said

    def _texts(self) -> list[bytes]:
        with explained_writing(self.file):  # a folder, or no right to read it
            return self.file.read_bytes().splitlines()

    def add(self, trackers: Trackers) -> None:
        """Give what comes from now on to trackers too."""
        self._trackers = trackers

    def write(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """One line: {"kind", "step", ...}."""
        # With fp16 the norm of a gradient may be infinite, which JSON has no word for.
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        with explained_writing(self.file), self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **plain}, allow_nan=False) + "\n")
        if self._trackers is not None:
            numbers = {f"{kind}/{name}": value for name, value in plain.items() if isinstance(value, int | float)}
            if numbers:
                self._trackers.log(numbers, step)

    def close(self) -> None:
        if self._trackers is not None:
            self._trackers.close()


@dataclass(frozen=True)
class _Line:
    """A line of the file; one that cannot be read counts as after everything. ``is_cut``: one that was begun."""

    text: bytes
    kind: str = ""
    step: float = math.inf
    is_cut: bool = False

    @classmethod
    def read(cls, text: bytes) -> _Line:
        begin = b'{"kind": "'
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            cut = text[: len(begin)] == begin[: len(text)] and text.isascii() and b"\0" not in text
            return cls(text, is_cut=cut)
        try:
            step = float(content["step"])
            return cls(text, str(content["kind"]), step if math.isfinite(step) else math.inf)
        except (ValueError, KeyError, TypeError):
            return cls(text)

    @property
    def damaged(self) -> bool:
        """Not what :meth:`MetricsLog.write` wrote; blank lines are nobody's loss."""
        return self.step == math.inf and bool(self.text.strip())
