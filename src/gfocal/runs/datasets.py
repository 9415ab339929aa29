"""What a run learns from and what it is measured on, from paths and shares as a person types them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from gfocal.data.fingerprint import fingerprint
from gfocal.data.formats.common import WHOLE, Format, Split, has_any
from gfocal.data.formats.open import find_data, open_dataset, takes_images
from gfocal.data.formats.yolo.pairing_report import describe_places
from gfocal.data.index.columns import parts
from gfocal.data.index.concat import join
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import empty_classes, parse_renames, rename_classes
from gfocal.data.problems import Problems
from gfocal.data.split import HeldOut, divide, set_apart
from gfocal.errors import EmptySplitError, MissingSplitError, UsageError
from gfocal.utils.files import real_path
from gfocal.utils.text import Say, counted, join_some, say_lines


def default_run_folder(recipe: str, data: Path | Sequence[Path]) -> Path:
    """``runs/RECIPE-DATA``: data is the folder's name, for an annotation file that of the data set around it."""
    names = "+".join(_name_of(path) for path in _paths(data))
    return Path("runs") / f"{Path(recipe).stem}-{names}"


def _paths(data: Path | Sequence[Path]) -> Sequence[Path]:
    return [data] if isinstance(data, Path) else data


def _name_of(data: Path) -> str:
    data = real_path(data)
    if data.suffix.lower() == ".zip":
        return data.stem
    if data.suffix.lower() in (".yaml", ".yml") and data.stem not in ("data", "dataset"):
        return data.stem  # coco128.yaml
    if data.suffix.lower() in (".json", ".yaml", ".yml"):
        inside = data.parent.name in ("annotations", "train", "valid", "val", "test")
        data = data.parent.parent if inside else data.parent
    return data.name or "data"


def open_run_data(
    data: Path | Sequence[Path],
    val: Path | float | None,
    *,
    seed: int | None = None,
    resumed: Path | None = None,
    format: Format | None = None,
    images_dir: Path | None = None,
    skip_broken: bool = False,
    rename: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> tuple[DataIndex, DataIndex | None, HeldOut | None]:
    """The training data, what to measure on, and what was set apart for that.

    Args:
        data: one data set, or several that are joined, see :func:`gfocal.data.index.concat.join`.
        val: a data set, a share of ``data`` to set apart, or None for the val splits of ``data`` where it has them.
        seed: of what is set apart, 0 if it is not given.
        resumed: the folder of a run that continues: what it set apart stays apart.
        format: of ``data``; by default what is found.
        images_dir: the folder of the images of all data sets, or one around it; by default near the annotations.
        skip_broken: leave broken records out.
        rename: ``OLD=NEW``, new names of classes of all these data, all of them at once.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: data is missing or broken, no class is called OLD, val has boxes of a class that train lacks, or a
            run that continues set other images apart than is asked for.
    """
    say = None if say is None else _once(say)
    opened = open_parts(_paths(data), "train", format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
    train_index, lines = join(opened)
    say_lines(lines, say)
    held_out = recorded(resumed) if resumed is not None else None
    if held_out is not None:
        held_out.check_same(val, seed)
        return *_renamed(*held_out.divide(train_index, opened), rename), held_out
    if isinstance(val, float):
        if resumed is not None and (resumed / "run.json").exists():
            raise UsageError(f"--val {val:g}: the run in {resumed} set nothing apart; leave --val SHARE out")
        learnt, measured, apart = set_apart(train_index, val, seed or 0, say, opened)
        return *_renamed(learnt, measured, rename), apart
    val_index = _open_val(data, val, format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
    train_index, val_index = _renamed(train_index, val_index, rename)
    if val_index is None:
        return train_index, None, None
    if shared := _in_both(train_index, val_index):
        both = f"{counted(shared, 'picture')} of {len(val_index):,} to measure on"
        line = f"warning: {both} are in the training data too, so the numbers will be too good; see `gfocal data check`"
        if 2 * shared > len(val_index):
            line += ", or set others apart with --val 0.2"
        say_lines([line], say)
    # Training would only find out at its first evaluation.
    return train_index, val_index.with_classes(train_index.names), None


def _renamed(train: DataIndex, val: DataIndex | None, rename: Sequence[str]) -> tuple[DataIndex, DataIndex | None]:
    names = dict.fromkeys([*train.names, *(val.names if val is not None else ())])
    renames = parse_renames(rename, list(names))
    return rename_classes(train, renames), None if val is None else rename_classes(val, renames)


def _in_both(train: DataIndex, val: DataIndex) -> int:
    """How many files of val are files of train; copies under another name do not count."""

    def files(index: DataIndex) -> Iterator[str]:
        folder = os.path.realpath(index.images_dir)
        return (os.path.normpath(os.path.join(folder, index.file_name(i))) for i in range(len(index)))

    return len(set(files(val)) & set(files(train)))


def open_train_data(
    data: Path | Sequence[Path],
    val: Path | None,
    *,
    skip_broken: bool = False,
    say: Callable[[str], None] | None = None,
) -> tuple[DataIndex, DataIndex | None]:
    """The training data and what to measure on: :func:`open_run_data` where nothing is set apart."""
    return open_run_data(data, val, skip_broken=skip_broken, say=say)[:2]


def describe_all(train: DataIndex, val: DataIndex | None) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Counts by split, see :func:`describe_data`, and lines about them, warnings last."""
    described = {split: describe_data(index) for split, index in (("train", train), ("val", val)) if index is not None}
    lines = [data_line(split, counts) for split, counts in described.items()]
    nothing = nothing_to_learn(train, described["train"])
    lines += [] if nothing is None else [f"warning: {nothing}"]
    if empty := empty_classes(train, val):
        names = join_some([train.names[label] for label in empty])
        lines.append(
            f"note: {len(empty)} of {counted(len(train.names), 'class', 'classes')} without a box to learn or to "
            f"measure: {names}; --set data.drop_empty_classes=true leaves them out"
        )
    if val is None:
        lines.append(
            "warning: no data to measure on (no val split, no --val): training without evaluation; "
            "--val 0.2 sets a fifth of the pictures apart"
        )
    return described, lines


def describe_data(index: DataIndex) -> dict[str, int]:
    """What is in a data set, as counts.

    Returns:
        images; without_objects: images with nothing to learn; objects: boxes that are learnt; classes; and what is
        not learnt, each box counted once: crowd, ignored, without_area (a side of 0 inside the image).
    """
    with_objects = np.zeros(len(index), bool)
    empty = np.zeros(len(index.boxes), bool)
    for rows in parts(len(empty)):
        image = np.searchsorted(index.box_start, np.arange(rows.start, rows.stop), side="right") - 1
        sides = np.stack([index.widths[image], index.heights[image]], 1)
        boxes = np.clip(index.boxes[rows], 0, np.concatenate([sides, sides], 1))
        empty[rows] = (boxes[:, 2:] <= boxes[:, :2]).any(1)
        with_objects[image[~(index.crowd[rows] | index.ignore[rows] | empty[rows])]] = True
    marked = index.crowd | index.ignore
    return {
        "pictures": len(index),
        "without_objects": int((~with_objects).sum()),
        "objects": int((~(marked | empty)).sum()),
        "classes": len(index.names),
        "crowd": int(index.crowd.sum()),
        "ignored": int((index.ignore & ~index.crowd).sum()),
        "without_area": int((empty & ~marked).sum()),
    }


def data_line(split: str, data: Mapping[str, int]) -> str:
    """What :func:`describe_data` found as one line; "train" learns from it, anything else measures."""
    without = f" ({data['without_objects']:,} without objects)" if data["without_objects"] else ""
    kinds = (("crowd", "crowd"), ("ignored", "ignored"), ("without_area", "without area"))
    rest = ", ".join(f"{data[key]:,} {word}" for key, word in kinds if data[key])
    return (
        f"{split}: {counted(data['pictures'], 'picture')}{without}, {counted(data['objects'], 'object')}, "
        f"{counted(data['classes'], 'class', 'classes')}"
        + (f"; {'not learnt' if split == 'train' else 'besides'}: {rest}" if rest else "")
    )


def nothing_to_learn(index: DataIndex, data: Mapping[str, int]) -> str | None:
    """What to say of training data without a single object; None where there is one."""
    if data["objects"]:
        return None
    boxes = f"none of its {len(index.boxes):,} boxes can be learnt" if len(index.boxes) else "it has no boxes"
    # A JSON file, or folders of XML files, are named already.
    if not len(index.boxes) and index.annotations.suffix.lower() != ".json" and not has_any(index.annotations, ".xml"):
        boxes += f"; label files were looked for in {describe_places(index.path(i) for i in range(len(index)))}"
    return (
        f"NO OBJECT TO LEARN in {index.annotations}: {boxes}. Every picture is background, and a detector that is "
        "trained on nothing else finds nothing"
    )


def _once(say: Say) -> Say:
    """Say each line once: two splits are often understood alike."""
    said: set[str] = set()

    def tell(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return tell


def _open_val(
    data: Path | Sequence[Path],
    val: Path | None,
    *,
    format: Format | None,
    images_dir: Path | None,
    skip_broken: bool,
    say: Say | None,
) -> DataIndex | None:
    if val is not None:
        problems = Problems(skip_broken)
        near = images_dir if images_dir is not None and takes_images(val) else None
        index = open_dataset(val, "val", whole=True, images_dir=near, problems=problems)
        say_lines(problems.notes, say)
        return index
    found = []
    for path in _paths(data):
        if path.suffix.lower() == ".json":
            continue  # The one file is what the detector learns from.
        with suppress(MissingSplitError):
            found += open_parts([path], "val", format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
    return join(found)[0] if found else None


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
    model: str,
    data: Path,
    split: Split,
    *,
    format: Format | None,
    skip_broken: bool,
    images_dir: Path | None = None,
    say: Say | None = None,
) -> DataIndex:
    """What ``eval`` measures on.

    Of each data set that a run set images apart from, "val" is these and "train" the others; of other data their own
    split. Data that are not split at all are measured as a whole, and a line says so: a warning where the run set
    images apart, but not of these data.

    Raises:
        UsageError: there is no such data set or split, or the run set no image of these data apart.
    """
    problems = Problems(skip_broken)
    held_out = recorded(model)
    lines = []
    index = None
    if held_out is not None and split != "test":
        whole = _divisible(data, format, images_dir, problems)
        print_of = None if whole is None else fingerprint(whole)
        apart = next((part for part in held_out.parts if part.of == print_of), None)
        if whole is not None and apart is not None:
            if split == "val" and not apart.val:
                raise UsageError(f"the run set no picture of {data} apart; --split train measures what it learnt")
            index = divide(whole, apart.chosen(whole))[int(split == "val")]
            lines = [f"{split}: as the run divided {data} (share {held_out.share:g}, seed {held_out.seed})"]
        else:
            problems = Problems(skip_broken)
    if index is None:
        index = open_dataset(data, split, format=format, images_dir=images_dir, whole=True, problems=problems)
        unsplit = WHOLE in find_data(data, format).splits
        if unsplit and held_out is not None:
            lines = [
                f"warning: all {counted(len(index), 'picture')} of {data} are measured. The run set pictures of other "
                "data apart, or of these before they changed: if it learnt from some of them, the numbers are too good"
            ]
        elif unsplit and data.is_dir():
            lines = [f"{data} is not split: all of it is measured"]
    say_lines([*problems.notes, *lines], say)
    return index


def _divisible(data: Path, format: Format | None, images_dir: Path | None, problems: Problems) -> DataIndex | None:
    """What a run would set images apart from; None where there is nothing to learn from, as in data to measure on."""
    if not {"train", WHOLE} & find_data(data, format, images_dir).splits.keys():
        return None
    with suppress(EmptySplitError):
        return open_dataset(data, "train", format=format, images_dir=images_dir, whole=True, problems=problems)
    return None


def open_parts(
    data: Sequence[Path],
    split: Split,
    *,
    format: Format | None,
    skip_broken: bool,
    say: Say | None,
    images_dir: Path | None = None,
) -> list[DataIndex]:
    """One split of each of several data sets; what is to be known of them is said."""
    indexes = []
    for path in data:
        problems = Problems(skip_broken)
        indexes.append(open_dataset(path, split, format=format, images_dir=images_dir, problems=problems))
        say_lines(problems.notes, say)
    return indexes


def spread(index: DataIndex, most: int | None) -> DataIndex:
    """At most so many of the images, evenly spread; None: all."""
    return index if most is None or most >= len(index) else index.take(spread_rows(len(index), most))


def spread_rows(count: int, most: int) -> np.ndarray:
    """At most so many of 0, 1, ..., count - 1, evenly spread, from the first to the last."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)
