"""What a run is measured on: a split of the data, other data, or a share that was set apart and is remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.cli.tables.results import counted
from gfocal.data.formats.common import WHOLE, Format, Split
from gfocal.data.formats.open import find_data, open_split
from gfocal.data.index.build import subset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.data.split import choose_val
from gfocal.errors import UsageError
from gfocal.runs.card import fingerprint
from gfocal.runs.checkpoint import find_weights
from gfocal.utils.progress import ProgressBar

Say = Callable[[str], None]


def tell(lines: Iterable[str], say: Say | None) -> None:
    """Say each line, if somebody listens."""
    if say is not None:
        for line in lines:
            say(line)


@dataclass(frozen=True)
class Apart:
    """What was set apart of one data set.

    Attributes:
        of: fingerprint of all of it.
        val: file names of the pictures, as the data set writes them.
    """

    of: str
    val: tuple[str, ...]

    def chosen(self, index: DataIndex) -> np.ndarray:
        """(I,) bool: which pictures of the same data set these are.

        Raises:
            UsageError: the data have changed.
        """
        apart = set(self.val)
        rows = np.array([index.file_name(i) in apart for i in range(len(index))], bool)
        # What slips through here would be learnt and measured.
        if fingerprint(index) != self.of or rows.sum() != len(self.val):
            raise UsageError(f"{index.annotations} changed since the run set pictures apart; start a new run")
        return rows


@dataclass(frozen=True)
class HeldOut:
    """Pictures of the training data that were set apart.

    Attributes:
        share: of the pictures that was asked for.
        seed: of the choice.
        parts: one for each data set that was joined, in order.
    """

    share: float
    seed: int
    parts: tuple[Apart, ...]

    def to_dict(self) -> dict[str, Any]:
        parts = [{"of": part.of, "val": list(part.val)} for part in self.parts]
        return {"share": self.share, "seed": self.seed, "parts": parts}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HeldOut:
        parts = tuple(Apart(part["of"], tuple(part["val"])) for part in content["parts"])
        return cls(content["share"], content["seed"], parts)

    def divide(self, index: DataIndex, parts: Sequence[DataIndex]) -> tuple[DataIndex, DataIndex]:
        """(what is learnt, what is measured) of the same data.

        Args:
            index: the parts joined.
            parts: the data sets, as they were read.

        Raises:
            UsageError: the data have changed.
        """
        if len(parts) != len(self.parts):
            raise UsageError(f"the run learns from {len(self.parts)} data sets, not from {len(parts)}")
        pairs = zip(self.parts, parts, strict=True)
        return _divide(index, np.concatenate([apart.chosen(part) for apart, part in pairs]))

    def check_same(self, val: Path | float | None, seed: int | None) -> None:
        """What is asked for when the run goes on is what it has; None asks for nothing.

        Raises:
            UsageError: it is not.
        """
        has = (
            f"the run set pictures apart to measure on (--val {self.share:g} --seed {self.seed}) and goes on with them"
        )
        if isinstance(val, Path) or val not in (None, self.share):
            raise UsageError(f"--val {val}: {has}; leave --val out, or start a new run")
        if seed not in (None, self.seed):
            raise UsageError(f"--seed {seed}: {has}; leave --seed out, or start a new run")


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


def set_apart(
    index: DataIndex, share: float, seed: int, say: Say | None, parts: Sequence[DataIndex] | None = None
) -> tuple[DataIndex, DataIndex, HeldOut]:
    """Divide training data; see :func:`gfocal.data.split.choose_val`. ``parts``: what was joined into ``index``."""
    with ProgressBar(
        len(index), "looking for pictures that are alike", shown=os.environ.get("RANK", "0") == "0"
    ) as bar:
        rows, lines = choose_val(index, share, seed, progress=bar.callback)
    tell(lines, say)
    chosen = np.zeros(len(index), bool)
    chosen[rows] = True
    parts = [index] if parts is None else parts
    own = np.split(chosen, np.cumsum([len(part) for part in parts])[:-1])
    apart = [
        Apart(fingerprint(part), tuple(part.file_name(int(i)) for i in np.flatnonzero(mask)))
        for part, mask in zip(parts, own, strict=True)
    ]
    return *_divide(index, chosen), HeldOut(share, seed, tuple(apart))


def recorded(model: str | Path) -> HeldOut | None:
    """What the run of a checkpoint or run folder set apart, as its run.json says; None if nothing."""
    place = Path(model)
    folder = place if place.is_dir() else place.parent
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        split = content["held_out"]
        return None if split is None else HeldOut.from_dict(split)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_measured(
    model: str, data: Path, split: Split, *, format: Format | None, skip_broken: bool, say: Say | None = None
) -> DataIndex:
    """What ``eval`` measures on.

    Of each data set that a run set pictures apart from, "val" is these and "train" the others; of other data their own
    split. Data that are not split at all are measured as a whole, and a line says so: a warning where the run set
    pictures apart, but not of these data.

    Raises:
        UsageError: there is no such data set or split, or the run set no picture of these data apart.
    """
    problems = Problems(skip_broken)
    held_out = recorded(find_weights(Path(model)))
    lines = []
    index = None
    if held_out is not None and split != "test":
        whole = open_split(data, "train", format=format, whole=True, problems=problems)
        print_of = fingerprint(whole)
        apart = next((part for part in held_out.parts if part.of == print_of), None)
        if apart is not None:
            if split == "val" and not apart.val:
                raise UsageError(f"the run set no picture of {data} apart; --split train measures what it learnt")
            index = _divide(whole, apart.chosen(whole))[int(split == "val")]
            lines = [f"{split}: as the run divided {data} (share {held_out.share:g}, seed {held_out.seed})"]
        else:
            problems = Problems(skip_broken)
    if index is None:
        index = open_split(data, split, format=format, whole=True, problems=problems)
        unsplit = WHOLE in find_data(data, format).splits
        if unsplit and held_out is not None:
            lines = [
                f"warning: all {counted(len(index), 'picture')} of {data} are measured; the run set pictures "
                "apart, but not of these data as they are now: what it learnt of them makes the numbers too good"
            ]
        elif unsplit and data.is_dir():
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
