"""Boxes and classes of a cleaned copy; see :mod:`gfocal.data.checks.fix`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from gfocal.data.checks.boxes import images_of_boxes, same_boxes
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Kind
from gfocal.utils.text import fold_name


@dataclass(frozen=True)
class Change:
    """One thing that is different in the copy.

    Attributes:
        kind: the kind of finding that it fixes.
        split: of which split.
        subject: an image or a class; None where a broken record names none.
        action: what was done, in words.
    """

    kind: Kind
    split: str
    subject: str | None
    action: str

    def to_dict(self) -> ChangeJson:
        """JSON types."""
        return {"kind": self.kind.value, "split": self.split, "subject": self.subject, "action": self.action}


class ChangeJson(TypedDict):
    """:class:`Change`."""

    kind: str
    split: str
    subject: str | None
    action: str


@dataclass(frozen=True)
class Kept:
    """The K images of a split that stay.

    Attributes:
        rows: (K,) where they are in the old index.
        names: their file names in ``folder``.
        sizes: (K, 2) width and height in pixels.
        folder: where the images of the copy are.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    sizes: np.ndarray
    folder: Path


@dataclass(frozen=True)
class _Boxes:
    """M boxes: ``rows`` of the old index, ``image`` of the new one, xyxy ``corners``, ``area``."""

    rows: np.ndarray
    image: np.ndarray
    corners: np.ndarray
    area: np.ndarray

    def at(self, which: np.ndarray) -> _Boxes:
        return _Boxes(self.rows[which], self.image[which], self.corners[which], self.area[which])


def with_boxes(
    index: DataIndex, kept: Kept, owner: np.ndarray, scales: np.ndarray, split: str, changes: list[Change]
) -> DataIndex:
    """The kept images with their boxes: scaled, clipped, without the empty ones and the copies.

    Args:
        index: the old index, of I images.
        kept: what stays.
        owner: (I,) the image whose boxes the boxes of each image become.
        scales: (I, 2) what x and y of the boxes of each image are multiplied by.
        split: its name.
        changes: what was changed is added here.
    """
    found = _gathered(index, kept, owner, scales)
    limits = np.tile(kept.sizes.astype(np.float64), 2)[found.image]
    clipped = np.clip(found.corners, 0, limits)
    full = (clipped[:, 2:] > clipped[:, :2]).all(1)

    def record(kind: Kind, boxes: _Boxes, what: str) -> None:
        ids = np.asarray(index.annotation_ids)[boxes.rows]
        for number, image in zip(ids.tolist(), boxes.image.tolist(), strict=True):
            name = index.file_name(int(kept.rows[image]))
            changes.append(Change(kind, split, name, f"box {number} {what}"))

    record(Kind.BOX_BEYOND_EDGE, found.at(full & (clipped != found.corners).any(1)), "clipped")
    record(Kind.BOX_EMPTY, found.at(~full), "left out")
    area = np.minimum(found.area, (clipped[:, 2:] - clipped[:, :2]).prod(1))
    found = replace(found, corners=clipped, area=area).at(full)
    made = _built(index, kept, found)
    labels = np.asarray(made.labels)
    copies = np.zeros(len(labels), bool)
    copies[[second for first, second in same_boxes(made) if labels[first] == labels[second]]] = True
    record(Kind.BOX_DUPLICATE, found.at(copies), "left out")
    return _built(index, kept, found.at(~copies)) if copies.any() else made


def _gathered(index: DataIndex, kept: Kept, owner: np.ndarray, scales: np.ndarray) -> _Boxes:
    place = np.full(len(index), -1)
    place[kept.rows] = np.arange(len(kept.rows))
    old = images_of_boxes(index)
    image = place[owner[old]]
    rows = np.flatnonzero(image >= 0)
    rows = rows[np.argsort(image[rows], kind="stable")]
    scale = scales[old[rows]]
    with np.errstate(over="ignore"):  # 1e308 may stand in a file, and is clipped later.
        corners = np.asarray(index.boxes)[rows] * np.tile(scale, 2)
    return _Boxes(rows, image[rows], corners, np.asarray(index.area)[rows] * scale.prod(1))


def _built(index: DataIndex, kept: Kept, boxes: _Boxes) -> DataIndex:
    start = np.searchsorted(boxes.image, np.arange(len(kept.rows) + 1))
    return index.take(kept.rows, boxes=boxes.rows, box_start=start).replace(
        images_dir=kept.folder,
        file_names=kept.names,
        widths=kept.sizes[:, 0],
        heights=kept.sizes[:, 1],
        boxes=boxes.corners,
        area=boxes.area,
    )


def with_one_name_each(splits: Mapping[str, DataIndex], changes: list[Change]) -> dict[str, DataIndex]:
    """The splits with classes whose names differ in more than capitals and blanks; of several the first name stays.

    Args:
        splits: train first: its names count.
        changes: what was changed is added here.
    """
    chosen: dict[str, str] = {}
    for index in splits.values():
        for name in index.names:
            chosen.setdefault(fold_name(name), name)
    unified = {}
    for split, index in splits.items():
        names = [chosen[fold_name(name)] for name in index.names]
        for old, new in zip(index.names, names, strict=True):
            if old != new:
                changes.append(Change(Kind.CLASS_NAME_ALIKE, split, old, f"became {new!r}"))
        for name, count in Counter(index.names).items():
            if count > 1:
                changes.append(Change(Kind.CLASS_NAME_TWICE, split, name, f"{count} classes became one"))
        first = list(dict.fromkeys(names))
        label = np.array([first.index(name) for name in names], np.int64)
        ids = np.asarray(index.category_ids)[[names.index(name) for name in first]]
        if list(index.names) != first:
            index = index.replace(labels=label[np.asarray(index.labels)], category_ids=ids, names=first)
        unified[split] = index
    return unified
