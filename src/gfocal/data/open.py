"""From a path that a person gave to one split of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gfocal.data.coco import find_coco, read_coco
from gfocal.data.index import DataIndex
from gfocal.data.problems import Problems

Split = Literal["train", "val"]


def open_split(
    path: str | Path, split: Split, *, skip_broken: bool = False, problems: Problems | None = None
) -> DataIndex:
    """One split of a data set.

    Args:
        path: a data set; see :func:`gfocal.data.coco.find_coco`.
        split: "train" or "val".
        skip_broken: leave broken records out and list them in :attr:`DataIndex.skipped`.
        problems: who is told of what is broken; by default it raises, or skips as ``skip_broken`` says.

    Raises:
        BrokenInputError: a record is broken, and faults are not skipped.
        UsageError: there is no such data set or split.
    """
    return read_coco(*find_coco(path, split), skip_broken=skip_broken, problems=problems)
