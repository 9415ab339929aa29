"""What a run is measured on: a split of the data, other data, or a share that was set apart and is remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.data.found import Format, Split
from gfocal.data.index import DataIndex
from gfocal.data.open import find_data, open_split
from gfocal.data.problems import Problems
from gfocal.data.records import subset
from gfocal.data.splits import choose_val
from gfocal.engine.card import fingerprint
from gfocal.engine.checkpoint import find_weights
from gfocal.engine.progress import ProgressBar
from gfocal.errors import UsageError

Say = Callable[[str], None]


def tell(lines: Iterable[str], say: Say | None) -> None:
    """Say each line, if somebody listens."""
    if say is not None:
        for line in lines:
            say(line)


@dataclass(frozen=True)
class HeldOut:
    """Pictures of the training data that were set apart.

    Attributes:
        share: of the pictures that was asked for.
        seed: of the choice.
        of: fingerprint of all of the data.
        val: file names of the pictures.
    """

    share: float
    seed: int
    of: str
    val: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"share": self.share, "seed": self.seed, "of": self.of, "val": list(self.val)}

    def divide(self, index: DataIndex) -> tuple[DataIndex, DataIndex]:
        """(what is learnt, what is measured) of the same data.

        Raises:
            UsageError: the data have changed.
        """
        if fingerprint(index) != self.of:
            raise UsageError(f"{index.annotations} changed since the run set pictures apart; start a new run")
        apart = set(self.val)
        return _divide(index, np.array([index.file_name(i) in apart for i in range(len(index))], bool))


def _divide(index: DataIndex, chosen: np.ndarray) -> tuple[DataIndex, DataIndex]:
    return subset(index, np.flatnonzero(~chosen)), subset(index, np.flatnonzero(chosen))


def parse_val(text: str | None) -> Path | float | None:
    """What ``--val`` says: a path, or a share of the training data.

    Raises:
        UsageError: a number that is no share, and no path of that name.
    """
    if text is None or Path(text).exists():
        return None if text is None else Path(text)
    try:
        share = float(text)
    except ValueError:
        return Path(text)
    if not 0 < share < 1:
        raise UsageError(f"--val {text}: a share of the pictures is above 0 and below 1; otherwise give a path")
    return share


def set_apart(index: DataIndex, share: float, seed: int, say: Say | None) -> tuple[DataIndex, DataIndex, HeldOut]:
    """Divide training data; see :func:`gfocal.data.splits.choose_val`."""
    with ProgressBar(
        len(index), "looking for pictures that are alike", shown=os.environ.get("RANK", "0") == "0"
    ) as bar:
        rows, lines = choose_val(index, share, seed, progress=bar.callback)
    tell(lines, say)
    chosen = np.zeros(len(index), bool)
    chosen[rows] = True
    held_out = HeldOut(share, seed, fingerprint(index), tuple(index.file_name(int(i)) for i in rows))
    return *_divide(index, chosen), held_out


def recorded(model: str | Path) -> HeldOut | None:
    """What the run of a checkpoint or run folder set apart, as its run.json says; None if nothing."""
    place = Path(model)
    folder = place if place.is_dir() else place.parent
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        split = content["held_out"]
        return None if split is None else HeldOut(split["share"], split["seed"], split["of"], tuple(split["val"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_measured(
    model: str, data: Path, split: Split, *, format: Format | None, skip_broken: bool, say: Say | None = None
) -> DataIndex:
    """What ``eval`` measures on.

    Of the data that a run set pictures apart from, "val" is these and "train" the others; of other data their own
    split. Data that are not split at all are measured as a whole, and a line says so.

    Raises:
        UsageError: there is no such data set or split.
    """
    problems = Problems(skip_broken)
    held_out = recorded(find_weights(Path(model)))
    lines = []
    index = None
    if held_out is not None and split != "test":
        whole = open_split(data, "train", format=format, whole=True, problems=problems)
        if fingerprint(whole) == held_out.of:
            index = held_out.divide(whole)[int(split == "val")]
            lines = [f"{split}: as the run divided {data} (share {held_out.share:g}, seed {held_out.seed})"]
        else:
            problems = Problems(skip_broken)
    if index is None:
        index = open_split(data, split, format=format, whole=True, problems=problems)
        if data.is_dir() and "all" in find_data(data, format).splits:
            lines = [f"{data} is not split: all of it is measured"]
    tell([*problems.notes, *lines], say)
    return index


def open_parts(
    data: Sequence[Path], split: Split, *, format: Format | None, skip_broken: bool, say: Say | None
) -> list[DataIndex]:
    """One split of each of several data sets; what is to be known of them is said."""
    indexes = []
    for path in data:
        problems = Problems(skip_broken)
        indexes.append(open_split(path, split, format=format, problems=problems))
        tell(problems.notes, say)
    return indexes
