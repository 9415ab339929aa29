"""``gfocal data check --fix``: a cleaned copy of a data set, and a list of everything that was changed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from gfocal.data.checks.duplicates import exact_copies
from gfocal.data.checks.fix_boxes import Change, Kept, with_boxes, with_one_name_each
from gfocal.data.checks.images import ImageFacts, save_turned
from gfocal.data.checks.overlap import Pairs, keep_order, overlaps, propose_split
from gfocal.data.checks.report import Report
from gfocal.data.formats.common import Format
from gfocal.data.formats.convert import check_out, safe_name, write_dataset
from gfocal.data.formats.open import find_data
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import OF_SPLITS, Fault, Kind
from gfocal.errors import UsageError
from gfocal.images.file_types import SUFFIXES
from gfocal.utils.files import explained_writing, real_path
from gfocal.utils.locks import locked_file
from gfocal.utils.text import counted

CHANGES = "changes.json"
_BY_WRITING = (
    *(Kind.IMAGE_UNLISTED, Kind.LABEL_UNCLAIMED, Kind.ANNOTATION_ID_TWICE),
    *(Kind.CLASS_ID_DIFFERS, Kind.CLASS_NAME_DIFFERS, Kind.CLASS_NOT_IN_TRAIN, Kind.CLASS_NOT_NAMED),
)
"""What is fixed by writing the images that are listed, with the classes of all splits."""
_SHAPE = 0.01
"""Sides that differ from those of the annotation by factors this near each other are those of a resized image."""


def write_fixed(
    report: Report, out: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Change], list[str]]:
    """Write a cleaned copy of what a check read, in its format, with ``changes.json`` beside it.

    An image that is in train and in another split is left out of train: numbers measured on val before stay
    comparable, and val is the smaller of the two, where each image counts more. Where train would lose most of its
    images so, as where both are one folder, it keeps them, and val loses them: no image is lost.

    Args:
        report: of :func:`gfocal.data.checks.check.check_data`.
        out: a new folder outside the data set.
        progress: called with (images copied, images in all).

    Returns:
        (the changes, a line for each thing that was not read or that the format cannot hold).

    Raises:
        UsageError: ``out`` is not empty or inside the data set, or a whole split cannot be read.
    """
    with locked_file(Path(out)):
        return _write_fixed(report, Path(out), progress)


def _write_fixed(
    report: Report, out: Path, progress: Callable[[int, int], None] | None
) -> tuple[list[Change], list[str]]:
    check_out(out)
    source = real_path(report.path)
    if source.is_dir() and real_path(out).is_relative_to(source):
        raise UsageError(f"{out} is inside the data set {report.path}, which stays untouched; give another folder")
    for finding in report.findings:
        if finding.kind in OF_SPLITS:
            raise UsageError(f"{finding.message}; fix this file first, then --fix can do the rest")
    if empty := [split for split in report.left_out if split not in report.splits]:
        raise UsageError(f"no picture of {', '.join(empty)} can be used; fix that first, then --fix can do the rest")
    changes = [Change(f.kind, f.split, f.image, f"left out: {f.message}") for f in report.skipped]
    for f in report.findings:
        if f.kind in _BY_WRITING:
            changes.append(Change(f.kind, f.split, f.class_name or f.image, f.kind.remedy))
    pairs = exact_copies(report.splits, report.facts)
    dropped = _copies_to_drop(report, pairs)
    with explained_writing(out):
        # Links to the images that stay, and those that are written again; write_dataset copies them.
        folder = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    with folder as staging, explained_writing(out):
        splits = {
            split: _fixed(index, report.facts[split], dropped, Path(staging) / split, split, changes)
            for split, index in report.splits.items()
        }
        changes += _overlaps(report, pairs, splits)
        splits = {split: index for split, index in splits.items() if len(index)}
        unified = with_one_name_each(splits, changes)
        listed = [change.to_dict() for change in changes]
        text = json.dumps(
            {"generator": "gfocal data check --fix", "changes": listed, "unread": list(report.unread)}, indent=1
        )
        lost = write_dataset(unified, out, _format(report), also={CHANGES: text + "\n"}, progress=progress)
    return changes, [*(f"{line}: the copy lacks them" for line in report.unread), *lost]


def _format(report: Report) -> Format:
    return report.format or find_data(report.path).format


def _overlaps(report: Report, pairs: Pairs, splits: Mapping[str, DataIndex]) -> list[Change]:
    """What became of splits that shared most of their images."""
    changes = []
    for each in overlaps(report.splits, pairs):
        loser = each.first if each.kept_in == each.second else each.second
        action = f"pictures that {each.first} and {each.second} share are in {each.kept_in}"
        if not len(splits[loser]):
            action += f", and the copy has no {loser}. {propose_split(loser)}"
        changes.append(Change(Kind.SPLITS_SHARED, loser, None, action))
    return changes


def _copies_to_drop(report: Report, pairs: Pairs) -> dict[tuple[str, int], Fault]:
    """Why each image that is there more than once and goes is left out."""
    dropped: dict[tuple[str, int], Fault] = {}
    order = keep_order(report.splits, pairs)
    for pair in pairs:
        stays, goes = sorted(pair, key=lambda place: order.index(place[0]))
        if stays[0] != goes[0]:
            name = report.splits[stays[0]].file_name(stays[1])
            have, had = (int(np.diff(report.splits[split].box_start[i : i + 2])[0]) for split, i in (stays, goes))
            more = "" if have == had else f", which has {counted(have, 'box', 'boxes')}, not {had}"
            dropped[goes] = Fault(Kind.LEAK_EXACT, f"left out of {goes[0]}: it is {name} of {stays[0]}{more}")
    # A file that its split lists twice goes with both entries.
    gone = {(split, report.splits[split].path(i)): fault for (split, i), fault in dropped.items()}
    for split, index in report.splits.items():
        for i in range(len(index)):
            if (fault := gone.get((split, index.path(i)))) is not None:
                dropped.setdefault((split, i), fault)
    groups: dict[tuple[str, int], list[int]] = {}
    for first, second in pairs:
        if first[0] == second[0]:
            groups.setdefault(first, [first[1]]).append(second[1])
    for (split, first_row), rows in groups.items():
        index = report.splits[split]
        leaks = (split, first_row) in dropped
        boxes = [int(index.box_start[i + 1] - index.box_start[i]) for i in rows]
        kept = rows[int(np.argmax(boxes))]
        for i in rows:
            if leaks:
                dropped[split, i] = dropped[split, first_row]
            elif i != kept:
                dropped[split, i] = Fault(Kind.IMAGE_DUPLICATE, f"left out: it is {index.file_name(kept)}")
    return dropped


def _fixed(
    index: DataIndex,
    facts: Sequence[ImageFacts],
    dropped: Mapping[tuple[str, int], Fault],
    folder: Path,
    split: str,
    changes: list[Change],
) -> DataIndex:
    """A split with the images and boxes that stay; its images are links and new files in ``folder``."""
    folder.mkdir()
    first_of: dict[Path, int] = {}
    kept: list[int] = []
    owner = np.arange(len(index))  # Whose boxes an image's boxes become: an image may be listed twice.
    scales = np.ones((len(index), 2))
    for i, own in enumerate(facts):
        name = index.file_name(i)
        fault = own.fault or dropped.get((split, i))
        scale = None if own.fault else _scale(index, i, own)
        if fault is None and scale is None:
            message = f"left out: its boxes do not fit {own.upright[0]}x{own.upright[1]} pixels"
            fault = Fault(Kind.SIZE_WRONG, message)
        if fault is not None:
            why = fault.message if own.fault is None else f"left out: it {fault.message}"
            changes.append(Change(fault.kind, split, name, why))
            continue
        owner[i] = first_of.setdefault(index.path(i), i)
        scales[i] = scale
        if owner[i] == i:
            kept.append(i)
        else:
            changes.append(Change(Kind.IMAGE_LISTED_TWICE, split, name, "its boxes went to the first entry"))
    names = _stage(index, facts, kept, folder, split, changes)
    sizes = [_size(index, i, facts[i]) for i in kept]
    for i, size in zip(kept, sizes, strict=True):
        before = int(index.widths[i]), int(index.heights[i])
        if before != size:
            how = ", its boxes are scaled" if (scales[i] != 1).any() else ""
            action = f"{before[0]}x{before[1]} became {size[0]}x{size[1]}{how}"
            changes.append(Change(Kind.SIZE_WRONG, split, index.file_name(i), action))
    copy = Kept(np.array(kept, np.int64), tuple(names), np.array(sizes, np.int64).reshape(-1, 2), folder)
    return with_boxes(index, copy, owner, scales, split, changes)


def _scale(index: DataIndex, i: int, own: ImageFacts) -> tuple[float, float] | None:
    """What the boxes of an image are multiplied by; None where they fit the image in no way."""
    width, height = int(index.widths[i]), int(index.heights[i])
    if (width, height) in (own.upright, own.stored):
        return 1.0, 1.0
    x, y = own.upright[0] / width, own.upright[1] / height
    if abs(x / y - 1) <= _SHAPE:
        return x, y
    boxes = np.asarray(index.boxes[index.box_start[i] : index.box_start[i + 1]])
    inside = not len(boxes) or bool((boxes.max(0)[2:] <= np.array(own.upright) + 1).all())
    return (1.0, 1.0) if inside else None


def _size(index: DataIndex, i: int, own: ImageFacts) -> tuple[int, int]:
    """(width, height) of the image in the copy."""
    annotated = int(index.widths[i]), int(index.heights[i])
    return own.stored if annotated == own.stored else own.upright


def _stage(
    index: DataIndex,
    facts: Sequence[ImageFacts],
    kept: Sequence[int],
    folder: Path,
    split: str,
    changes: list[Change],
) -> list[str]:
    """Put the images into a folder, as links where nothing changes; return their names there."""
    names: list[str] = []
    taken: set[str] = set()
    for i in kept:
        own, before = facts[i], index.file_name(i)
        name = PurePosixPath(safe_name(before))
        endings = SUFFIXES.get(own.format)
        if endings and name.suffix.lower() not in endings:
            name = name.with_suffix(endings[0])
            changes.append(Change(Kind.IMAGE_WRONG_SUFFIX, split, before, f"renamed to {name}"))
        number, wanted = 1, name
        while str(name).casefold() in taken:
            number += 1
            name = wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
        taken.add(str(name).casefold())
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if own.orientation != 1:
            _save_turned(index, i, own, target, split, changes)
        else:
            _link(index.path(i), target)
        names.append(str(name))
    return names


def _save_turned(index: DataIndex, i: int, own: ImageFacts, target: Path, split: str, changes: list[Change]) -> None:
    same = own.upright == own.stored
    upright = same or (int(index.widths[i]), int(index.heights[i])) != own.stored
    save_turned(index.path(i), target, upright=upright)
    kind = Kind.EXIF_AMBIGUOUS if same else Kind.EXIF_TURNED if upright else Kind.EXIF_STORED
    action = "saved upright" if upright else "saved without its EXIF orientation"
    changes.append(Change(kind, split, index.file_name(i), action))


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(real_path(source))
    except OSError:  # A system where links need a right.
        shutil.copyfile(source, target)
