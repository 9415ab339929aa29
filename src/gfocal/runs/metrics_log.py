"""``metrics.jsonl``: a line for each thing that a run measured, and the trackers beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gfocal.runs.trackers import Trackers
from gfocal.utils.files import explained_disk_full, write_atomically

METRICS = "metrics.jsonl"


class MetricsLog:
    """The file of one run; one process writes it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._trackers: Trackers | None = None

    def rewind(self, step: int, *, measured: bool) -> None:
        """Take out what belongs to steps after ``step``: a kill undid them.

        So does the evaluation at ``step`` unless it was ``measured`` when the state was saved, and the line that tells
        of an early stop: whether it still holds is decided again.
        """
        if not self.file.is_file():
            return
        lines = [_Line.read(text) for text in self.file.read_text(encoding="utf-8").splitlines()]
        kept = [line for line in lines if line.step <= step and line.kind != "stop"]
        if not measured:
            kept = [line for line in kept if line.step < step or line.kind != "val"]
        text = "".join(f"{line.text}\n" for line in kept)
        write_atomically(self.file, lambda file: file.write_text(text, encoding="utf-8"))

    def add(self, trackers: Trackers) -> None:
        """Give what comes from now on to trackers too."""
        self._trackers = trackers

    def write(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """One line: {"kind", "step", ...}."""
        # With fp16 the norm of a gradient may be infinite, which JSON has no word for.
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        with explained_disk_full(self.file), self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **plain}, allow_nan=False) + "\n")
        if self._trackers is not None:
            numbers = {f"{kind}/{name}": value for name, value in plain.items() if isinstance(value, int | float)}
            self._trackers.log(numbers, step)

    def close(self) -> None:
        if self._trackers is not None:
            self._trackers.close()


@dataclass(frozen=True)
class _Line:
    """A line of the file; one that a kill cut off counts as after everything."""

    text: str
    kind: str = ""
    step: float = math.inf

    @classmethod
    def read(cls, text: str) -> _Line:
        try:
            content = json.loads(text)
            return cls(text, content["kind"], float(content["step"]))
        except (ValueError, KeyError, TypeError):
            return cls(text)
