"""Checking what a COCO JSON file says: every record is right, or named in one message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfocal.data.formats.coco.locate import Located
from gfocal.data.formats.coco.parser import Annotations, CategoryRecord, ImageRecord
from gfocal.data.index.columns import parts
from gfocal.data.kinds import Kind
from gfocal.data.problems import Problems
from gfocal.errors import UsageError


def _duplicates(values: Sequence[int] | np.ndarray) -> set[int]:
    ordered = np.sort(np.asarray(values, np.int64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def check_categories(file: Path, categories: list[CategoryRecord]) -> tuple[np.ndarray, tuple[str, ...]]:
    if not categories:
        raise UsageError(f"{file}: 'categories' is empty; name at least one class")
    if twice := _duplicates([category.id for category in categories]):
        raise UsageError(f"{file}: category id {min(twice)} is there twice; give each class its own id")
    if unnamed := [category.id for category in categories if not category.name.strip()]:
        raise UsageError(f"{file}: category {unnamed[0]} has an empty name; give each class a name")
    ordered = sorted(categories, key=lambda category: category.id)
    return np.array([c.id for c in ordered], np.int64), tuple(c.name for c in ordered)


def check_images(images: list[ImageRecord], located: Located, file: Path, problems: Problems) -> list[ImageRecord]:
    """The images to keep."""
    seen: set[int] = set()
    kept: list[ImageRecord] = []
    twice = _duplicates([image.id for image in images])
    for image in images:
        if image.id in twice and image.id in seen:
            problems.report(
                Kind.IMAGE_ID_TWICE,
                file,
                f"image id {image.id} is there twice, the second time for {image.file_name}",
                image=image.file_name,
            )
        else:
            kept.append(image)
        if twice:
            seen.add(image.id)
    lost = [image.file_name for image in kept if image.file_name in located.missing]
    if lost and not problems.skip:
        _refuse(lost, len(images), located, file, problems)
    if elsewhere := sum(not located.missing[name] for name in lost):
        where = "--images DIR names the folder that holds them, where they are elsewhere"
        problems.note(f"{file}: {elsewhere} of {len(images)} pictures are not {_place(located)}: {where}")
    for image in kept:
        if image.file_name in located.missing:
            name, why = image.file_name, located.missing[image.file_name]
            what = f"picture {name} {why}" if why else f"picture {located.folder / name} does not exist"
            problems.report(Kind.IMAGE_MISSING, file, f"image {image.id}: {what}", image=name)
            problems.left_out.add(image.id)
    return [image for image in kept if image.file_name not in located.missing]


def _refuse(lost: list[str], count: int, located: Located, file: Path, problems: Problems) -> None:
    """One message for all images that are missing.

    Raises:
        BrokenInputError: always, unless faults are skipped.
    """
    first = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
    unclear = next((name for name in lost if located.missing[name]), None)
    why = "" if unclear is None else f"; {unclear} {located.missing[unclear]}"
    problems.report(
        Kind.IMAGE_MISSING,
        file,
        f"{len(lost)} of {count} pictures are missing {_place(located)}: {first}{why}",
        hint="give the folder that holds the pictures with --images DIR",
    )


def _place(located: Located) -> str:
    return f"in {located.folder}" if located.search is None else f"below {located.search}"


class _Positions:
    """Where ids stand in ``ids``."""

    def __init__(self, ids: np.ndarray) -> None:
        self._ids, self._order = ids, np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def of(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each value stands (0 if nowhere), and whether it does."""
        found = self._order[np.minimum(np.searchsorted(self._sorted, values), len(self._ids) - 1)]
        known = self._ids[found] == values
        return np.where(known, found, 0), known


@dataclass(frozen=True)
class Checked:
    """What checking annotations found.

    Attributes:
        rows: (N,) those that are right, by image and then in the order of the file; a slice where that is all.
        box_start: (I + 1,) where those of each image begin among them.
        labels: (N,) int32.
        annotation_ids: (N,) int64, all different.
    """

    rows: np.ndarray | slice
    box_start: np.ndarray
    labels: np.ndarray
    annotation_ids: np.ndarray


def check_annotations(
    annotations: Annotations,
    images: list[ImageRecord],
    category_ids: np.ndarray,
    file: Path,
    problems: Problems,
) -> Checked:
    """Which annotations are right, and where they belong; nothing is changed."""
    positions, classes = _Positions(np.array([image.id for image in images], np.int64)), _Positions(category_ids)
    sizes = np.array([(image.width, image.height) for image in images], np.float64).reshape(-1, 2)
    owner, label = (np.empty(len(annotations), np.int32) for _ in range(2))
    bad = np.zeros(len(annotations), bool)
    for rows in parts(len(annotations)):
        owner[rows], known_image = positions.of(annotations.image_ids[rows])
        label[rows], known_label = classes.of(annotations.category_ids[rows])
        faults = _faults(annotations, rows, known_image, known_label, sizes[owner[rows]])
        bad[rows] = np.any(np.stack(list(faults.values())), axis=0)
        for i in np.flatnonzero(bad[rows]).tolist():
            row = rows.start + i
            if int(annotations.image_ids[row]) not in problems.left_out:
                kind = next(kind for kind, where in faults.items() if where[i])
                record = images[owner[row]]
                problems.report(
                    kind,
                    file,
                    _describe(kind, annotations, row, record, category_ids),
                    image=record.file_name if known_image[i] else None,
                )
    order = _by_image(owner, bad)
    return Checked(
        rows=order,
        box_start=np.searchsorted(owner[order], np.arange(len(images) + 1)),
        labels=label[order],
        annotation_ids=_unique_ids(annotations, file, problems)[order],
    )


def _faults(
    annotations: Annotations, rows: slice, known_image: np.ndarray, known_label: np.ndarray, sizes: np.ndarray
) -> dict[Kind, np.ndarray]:
    """Which of the rows have a fault of which kind; the first one of a row counts."""
    xywh = annotations.boxes[rows]
    with np.errstate(invalid="ignore", over="ignore"):
        outside = np.any((xywh[:, :2] >= sizes) | (xywh[:, :2] + xywh[:, 2:] <= 0), axis=1)
        faults = {
            Kind.IMAGE_UNKNOWN: ~known_image,
            Kind.CLASS_UNKNOWN: ~known_label,
            Kind.BOX_NOT_FINITE: ~np.all(np.isfinite(xywh), axis=1),
            # A side of 0 is no fault: COCO's own train2017 has such a box. It is kept for evaluation and never learnt.
            Kind.BOX_NEGATIVE: np.any(xywh[:, 2:] < 0, axis=1),
            Kind.BOX_OUTSIDE: known_image & outside,
        }
        if annotations.ambiguity is not None:
            ambiguity = annotations.ambiguity[rows]
            right = np.all((ambiguity >= 0) & (ambiguity < np.inf), axis=1)
            faults[Kind.RECORD_BROKEN] = annotations.has_ambiguity[rows] & ~right
    return faults


def _by_image(image: np.ndarray, bad: np.ndarray) -> np.ndarray | slice:
    """The rows that are not bad, by image; within an image in the order of the file."""
    if not bad.any() and (np.diff(image) >= 0).all():
        return slice(None)
    kept = np.flatnonzero(~bad)
    return kept[np.argsort(image[kept], kind="stable")]


def _unique_ids(annotations: Annotations, file: Path, problems: Problems) -> np.ndarray:
    # Files that were merged, or that number boxes within an image, repeat ids; evaluation needs different ones.
    ids = annotations.ids[annotations.has_id]
    twice = _duplicates(ids)
    if not twice and len(ids) == len(annotations):
        return ids
    for number in sorted(twice):
        problems.remark(Kind.ANNOTATION_ID_TWICE, file, f"annotation id {number} is there twice")
    return np.arange(1, len(annotations) + 1)


_BOX_FAULTS = {
    Kind.BOX_NOT_FINITE: "box is not finite",
    Kind.BOX_NEGATIVE: "box has a negative width or height",
    Kind.BOX_OUTSIDE: "box lies outside its picture",
    Kind.RECORD_BROKEN: "edge_ambiguity has a number that is no standard deviation",
}


def _describe(kind: Kind, annotations: Annotations, row: int, image: ImageRecord, category_ids: np.ndarray) -> str:
    name = f"annotation {annotations.ids[row]}" if annotations.has_id[row] else f"annotation at position {row}"
    where = f"{name} (image {annotations.image_ids[row]})"
    if kind is Kind.IMAGE_UNKNOWN:
        return f"{where}: no image has the id {annotations.image_ids[row]}"
    if kind is Kind.CLASS_UNKNOWN:
        known = ", ".join(map(str, category_ids[:20].tolist())) + (", ..." if len(category_ids) > 20 else "")
        return f"{where}: unknown category id {annotations.category_ids[row]}; known are {known}"
    box = "[" + ", ".join(f"{number:g}" for number in annotations.boxes[row].tolist()) + "]"
    size = f", {image.width}x{image.height}" if kind is Kind.BOX_OUTSIDE else ""
    return f"{where}: {_BOX_FAULTS[kind]}{size}: bbox {box} (x, y, width, height)"
