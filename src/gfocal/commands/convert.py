"""What ``gfocal data convert`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from gfocal.data.formats.common import Format
from gfocal.data.formats.convert import check_out, write_dataset
from gfocal.data.formats.open import open_splits
from gfocal.data.formats.sidecar import NAME
from gfocal.data.problems import Problems
from gfocal.data.split import set_apart
from gfocal.errors import UsageError
from gfocal.utils.progress import ProgressBar
from gfocal.utils.text import Say, say_lines


class SplitCounts(TypedDict):
    """What a split has."""

    pictures: int
    boxes: int


class Converted(TypedDict):
    """What a conversion did, as JSON types.

    Attributes:
        out: the new folder.
        format: its format.
        splits: of each name.
        lost: what that format does not hold, a line each.
        unread: what no reader keeps, a line each.
        sidecar: the file that holds what is lost for other programs; None without one.
        skipped: what was left out, a line each.
    """

    out: str
    format: Format
    splits: dict[str, SplitCounts]
    lost: list[str]
    unread: list[str]
    sidecar: str | None
    skipped: list[str]


def convert_files(
    source: Path,
    out: Path,
    to: Format,
    *,
    val: float | None = None,
    seed: int = 0,
    copy: bool = True,
    format: Format | None = None,
    images_dir: Path | None = None,
    skip_broken: bool = False,
    warn: Callable[[list[str]], None] | None = None,
    say: Say | None = None,
) -> Converted:
    """Write all splits of a data set in another format; see :func:`gfocal.data.formats.convert.write_dataset`.

    Args:
        source: the data set.
        out: the new folder.
        to: its format.
        val: a share of train to set apart as val.
        seed: of what is set apart.
        copy: False links the images.
        format: of the source; by default what is found.
        images_dir: the folder of the images, or one around it; by default near the annotations.
        skip_broken: leave out what is broken.
        warn: called with one line for everything left out.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: the source cannot be read or ``out`` not be written; or there is a val split already.
    """
    check_out(out)
    problems = Problems(skip_broken, unread=[])
    splits = open_splits(source, format=format, images_dir=images_dir, problems=problems)
    say_lines(problems.notes, say)
    if warn is not None:
        warn(problems.lines)
    if val is not None:
        if "val" in splits or "train" not in splits:
            there = ", ".join(splits)
            raise UsageError(f"{source} has the splits {there}: --val divides data with a train split and no val split")
        train, apart, _ = set_apart(splits["train"], val, seed, say)
        splits = {"train": train, "val": apart, **{name: index for name, index in splits.items() if name == "test"}}
    counts = {split: SplitCounts(pictures=len(index), boxes=len(index.boxes)) for split, index in splits.items()}
    with ProgressBar(sum(map(len, splits.values())), "copying pictures") as bar:
        lost = write_dataset(splits, out, to, copy=copy, progress=bar.callback)
    sidecar = str(out / NAME) if (out / NAME).is_file() else None
    return {
        "out": str(out),
        "format": to,
        "splits": counts,
        "lost": lost,
        "unread": list(problems.unread or ()),
        "sidecar": sidecar,
        "skipped": list(problems.lines),
    }
