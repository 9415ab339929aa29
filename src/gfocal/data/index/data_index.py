"""A data set as compact arrays, whatever format it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from gfocal.data.index.columns import Column, parts
from gfocal.data.index.packing import pack_areas, pack_boxes, pack_whole
from gfocal.errors import UsageError
from gfocal.images.tiling import Tiling
from gfocal.structures import Targets
from gfocal.utils.text import distinguish, join_some


@dataclass(frozen=True, eq=False)
class DataIndex:
    """A data set of I pictures, N boxes and C classes as arrays: forked workers share them and copy nothing.

    A :class:`~gfocal.data.index.columns.Column` is read like an array, in the type given here, and kept in fewer
    bytes: read slices, or rows by an integer array. Nothing is rounded: each number comes back as it was, bit by bit.

    The boxes of picture i are ``box_start[i]:box_start[i + 1]``, in the order of the file. They are kept as they were
    annotated, crowds and ignored ones too; :meth:`targets` gives what a detector should learn.

    Attributes:
        pictures_dir: the folder of the pictures.
        annotations: the annotation file.
        image_ids: (I,) int64 the data set's own ids, in the order of the file.
        widths: (I,) int64 pixels.
        heights: (I,) int64 pixels.
        box_start: (I + 1,) int64.
        boxes: column (N, 4) float64 xyxy in pixels of the picture, not clipped.
        labels: column (N,) int64 in 0..C-1.
        crowd: (N,) bool.
        ignore: (N,) bool.
        area: column (N,) float64: ``area`` of the file, width * height where it has none.
        annotation_ids: column (N,) int64, all different: those of the file if they are, 1..N otherwise.
        category_ids: (C,) int64, all different: the data set's id of each label; ascending as read.
        names: C class names.
        name_bytes: (bytes,) uint8: all file names in UTF-8, one after the other.
        name_start: column (I + 1,) int64: where each begins.
        skipped: one line for each picture or annotation that was left out.
        edge_ambiguity: (N, 4) float64: how uncertain left, top, right and bottom are by nature, a standard deviation in
            pixels (generated scenes say so); NaN for boxes, None for files, that do not say.
        parts: pictures of each data set that was joined into this one, in order; () for a single one.
        tiles: where each picture lies in one of another data set, see :mod:`gfocal.data.index.tiled`; None for files.
    """

    pictures_dir: Path
    annotations: Path
    image_ids: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    box_start: np.ndarray
    boxes: Column
    labels: Column
    crowd: np.ndarray
    ignore: np.ndarray
    area: Column
    annotation_ids: Column
    category_ids: np.ndarray
    names: tuple[str, ...]
    name_bytes: np.ndarray
    name_start: Column
    skipped: list[str] = field(default_factory=list)
    edge_ambiguity: np.ndarray | None = None
    parts: tuple[int, ...] = ()
    tiles: Tiles | None = None

    @classmethod
    def build(
        cls,
        *,
        pictures_dir: Path,
        annotations: Path,
        image_ids: ArrayLike,
        file_names: Sequence[str],
        widths: ArrayLike,
        heights: ArrayLike,
        box_start: ArrayLike,
        boxes: ArrayLike,
        labels: ArrayLike,
        names: Sequence[str],
        crowd: ArrayLike | None = None,
        ignore: ArrayLike | None = None,
        area: ArrayLike | None = None,
        annotation_ids: ArrayLike | None = None,
        category_ids: ArrayLike | None = None,
        skipped: list[str] | None = None,
        edge_ambiguity: ArrayLike | None = None,
    ) -> DataIndex:
        """An index of what a reader found; the one way to make one from arrays.

        Args:
            pictures_dir: see the attributes, as for all that is not named here.
            annotations: the file, or the folder, that messages name.
            image_ids: (I,) each once.
            file_names: (I,) relative to ``pictures_dir``.
            widths: (I,) pixels.
            heights: (I,) pixels.
            box_start: (I + 1,) from 0 to N.
            boxes: (N, 4) xyxy, sorted by picture.
            labels: (N,) in 0..C-1.
            names: C class names.
            crowd: (N,); none if left out.
            ignore: (N,); none if left out.
            area: (N,); width * height if left out.
            annotation_ids: (N,) each once; 1..N if left out.
            category_ids: (C,) each once; 1..C if left out.
            skipped: one line for each record that was left out.
            edge_ambiguity: (N, 4).

        Raises:
            ValueError: the lengths disagree.
        """
        corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        encoded = [name.encode(errors="surrogatepass") for name in file_names]
        packed = pack_boxes(corners)
        index = cls(
            pictures_dir=Path(pictures_dir),
            annotations=Path(annotations),
            image_ids=np.asarray(image_ids, np.int64),
            widths=np.asarray(widths, np.int64),
            heights=np.asarray(heights, np.int64),
            box_start=np.asarray(box_start, np.int64),
            boxes=packed,
            labels=pack_whole(np.asarray(labels, np.int64)),
            crowd=_marks(crowd, len(corners)),
            ignore=_marks(ignore, len(corners)),
            area=pack_areas(None if area is None else np.asarray(area, np.float64), packed),
            annotation_ids=pack_whole(_ids(annotation_ids, len(corners))),
            category_ids=_ids(category_ids, len(names)),
            names=tuple(names),
            name_bytes=np.frombuffer(b"".join(encoded), np.uint8),
            name_start=pack_whole(np.cumsum([0, *map(len, encoded)])),
            skipped=[] if skipped is None else skipped,
            edge_ambiguity=None if edge_ambiguity is None else np.asarray(edge_ambiguity, np.float64).reshape(-1, 4),
        )
        _check_lengths(index)
        return index

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def without_area(self) -> int:
        """Boxes with a side of 0: kept for evaluation, never learnt."""
        chunks = (self.boxes[rows] for rows in parts(len(self.boxes)))
        return sum(int((boxes[:, 2:] <= boxes[:, :2]).any(1).sum()) for boxes in chunks)

    @property
    def nbytes(self) -> int:
        """What all of it takes in memory, ``names`` and ``skipped`` aside."""
        held = (getattr(self, each.name) for each in fields(self))
        # An array of one repeated value has strides of 0 and no more than that value.
        return sum(v.nbytes for v in held if isinstance(v, Column) or (isinstance(v, np.ndarray) and any(v.strides)))

    def file_name(self, i: int) -> str:
        """Of picture ``i``, as the annotation file writes it."""
        if self.tiles is not None:
            return self.tiles.of.file_name(int(self.tiles.picture[i]))
        return self.name_bytes[self.name_start[i] : self.name_start[i + 1]].tobytes().decode(errors="surrogatepass")

    def path(self, i: int) -> Path:
        """The file of picture ``i``."""
        return self.pictures_dir / self.file_name(i)

    def targets(self, i: int, include_crowd: bool = False) -> Targets:
        """Boxes of picture ``i`` clipped to it, float32 in its pixels.

        Args:
            i: 0..I-1.
            include_crowd: crowds and ignored boxes too.
        """
        own = slice(self.box_start[i], self.box_start[i + 1])
        width, height = self.widths[i], self.heights[i]
        exact = self.boxes[own]
        np.maximum(exact, 0.0, out=exact)
        np.minimum(exact, (width, height, width, height), out=exact)
        boxes = exact.astype(np.float32)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if not include_crowd:
            keep &= ~(self.crowd[own] | self.ignore[own])
        return Targets(torch.from_numpy(boxes[keep]), torch.from_numpy(self.labels[own][keep]))

    def with_classes(self, names: Sequence[str]) -> DataIndex:
        """The same pictures and boxes with labels that follow ``names``; classes are matched by name.

        A class of ``names`` that the data lack has no boxes and gets a category id that no other one has. A class of
        the data that is not in ``names`` is dropped if it has no boxes. Of several classes of one name the first is
        matched with the first, and so on.

        Raises:
            UsageError: there are boxes, crowds included, of a class that is not in ``names``.
        """
        names = tuple(names)
        if names == self.names:
            return self
        wanted = {key: label for label, key in enumerate(distinguish(names))}
        new_label = np.array([wanted.get(key, -1) for key in distinguish(self.names)], np.int64)
        boxes = np.bincount(np.asarray(self.labels), minlength=len(self.names))
        if unknown := [
            f"{self.names[old]} ({boxes[old]} boxes)" for old in np.flatnonzero((new_label < 0) & (boxes > 0))
        ]:
            raise UsageError(
                f"{self.annotations} has different classes: only one of the two has {join_some(unknown)}; "
                f"the other has {join_some(names)}"
            )
        category_ids: list[int | None] = [None] * len(names)
        for new, category_id in zip(new_label.tolist(), self.category_ids.tolist(), strict=True):
            if new >= 0:
                category_ids[new] = category_id
        taken = set(self.category_ids.tolist())
        free = (number for number in count(1) if number not in taken)
        ids = [next(free) if category_id is None else category_id for category_id in category_ids]
        return replace(
            self,
            labels=pack_whole(new_label[np.asarray(self.labels)]),
            category_ids=np.array(ids, np.int64),
            names=names,
        )


def _ids(ids: ArrayLike | None, count: int) -> np.ndarray:
    return np.arange(1, count + 1) if ids is None else np.asarray(ids, np.int64)


def _marks(marks: ArrayLike | None, count: int) -> np.ndarray:
    """(count,) bool; where no row is marked, as mostly, one value that is seen everywhere."""
    values = np.broadcast_to(False, (count,)) if marks is None else np.asarray(marks, bool)
    return values if values.any() else np.broadcast_to(False, values.shape)


def _check_lengths(index: DataIndex) -> None:
    pictures, boxes, classes = len(index.name_start) - 1, len(index.boxes), len(index.names)
    wanted = dict.fromkeys(("image_ids", "widths", "heights"), pictures) | {"category_ids": classes}
    wanted |= dict.fromkeys(("labels", "crowd", "ignore", "area", "annotation_ids"), boxes)
    for name, length in wanted.items():
        if getattr(index, name).shape != (length,):
            raise ValueError(f"{name} has the shape {getattr(index, name).shape}, not ({length},)")
    start = index.box_start
    if start.shape != (pictures + 1,) or start[0] != 0 or start[-1] != boxes or (np.diff(start) < 0).any():
        raise ValueError(f"box_start must rise from 0 to {boxes} in {pictures + 1} numbers")
    if boxes and not 0 <= np.asarray(index.labels).min() <= np.asarray(index.labels).max() < classes:
        raise ValueError(f"labels are not all in 0..{classes - 1}")


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where each of T tiles lies.

    Attributes:
        of: the data set that was cut; files and names are its own.
        tiling: how.
        picture: (T,) int32: row in ``of``; ascending.
        left, top: (T,) int32 pixels.
        empty: (T,) bool: nothing is learnt there.
        objects: in ``of``, those that are learnt.
        cut: objects that no tile shows whole, but for the whole picture.
        lost: objects that no tile has at all.
    """

    of: DataIndex
    tiling: Tiling
    picture: np.ndarray
    left: np.ndarray
    top: np.ndarray
    empty: np.ndarray
    objects: int
    cut: int
    lost: int
