"""A data set as compact arrays, whatever format it was read from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gfocal.data.index import fields as kept
from gfocal.data.index.class_match import match_by_name
from gfocal.data.index.columns import Column, parts
from gfocal.data.index.packing import pack_whole
from gfocal.data.index.stacking import rows_within, texts_of, under_one_folder
from gfocal.errors import UsageError
from gfocal.images.tiling import Tiling
from gfocal.utils.text import join_some

if TYPE_CHECKING:
    from gfocal.structures import Targets


@dataclass(frozen=True, eq=False)
class DataIndex:
    """A data set of I images, N boxes and C classes as arrays: forked workers share them and copy nothing.

    A :class:`~gfocal.data.index.columns.Column` is read like an array, in the type given here, and kept in fewer
    bytes: read slices, or rows by an integer array. Nothing is rounded: each number comes back as it was, bit by bit.

    The boxes of image i are ``box_start[i]:box_start[i + 1]``, in the order of the file. They are kept as they were
    annotated, crowds and ignored ones too; :meth:`targets` gives what a detector should learn.

    Attributes:
        images_dir: the folder of the images.
        annotations: the annotation file.
        image_ids: (I,) int64 the data set's own ids, in the order of the file.
        widths: (I,) int64 pixels.
        heights: (I,) int64 pixels.
        box_start: (I + 1,) int64.
        boxes: column (N, 4) float64 xyxy in pixels of the image, not clipped.
        labels: column (N,) int64 in 0..C-1.
        crowd: (N,) bool.
        ignore: (N,) bool.
        area: column (N,) float64: ``area`` of the file, width * height where it has none.
        annotation_ids: column (N,) int64, all different: those of the file if they are, 1..N otherwise.
        category_ids: (C,) int64, all different: the data set's id of each label; ascending as read.
        names: C class names.
        name_bytes: (bytes,) uint8: all file names in UTF-8, one after the other.
        name_start: column (I + 1,) int64: where each begins.
        skipped: one line for each image or annotation that was left out.
        edge_ambiguity: (N, 4) float64: how uncertain left, top, right and bottom are by nature, a standard deviation in
            pixels (generated scenes say so); NaN for boxes, None for files, that do not say.
        parts: images of each data set that was joined into this one, in order; () for a single one.
        tiles: where each image lies in one of another data set, see :mod:`gfocal.data.index.tiled`; None for files.
    """

    images_dir: Path
    annotations: Path
    image_ids: np.ndarray = field(metadata=kept.per("image", kept.whole_numbers))
    widths: np.ndarray = field(metadata=kept.per("image", kept.whole_numbers))
    heights: np.ndarray = field(metadata=kept.per("image", kept.whole_numbers))
    box_start: np.ndarray
    boxes: Column = field(metadata=kept.per("box", kept.corners))
    labels: Column = field(metadata=kept.per("box", kept.labels_of_boxes))
    crowd: np.ndarray = field(metadata=kept.per("box", kept.marks))
    ignore: np.ndarray = field(metadata=kept.per("box", kept.marks))
    area: Column = field(metadata=kept.per("box", kept.areas))  # behind the boxes, which may say all of it
    annotation_ids: Column = field(metadata=kept.per("box", kept.box_ids))
    category_ids: np.ndarray = field(metadata=kept.per("class", kept.class_ids))
    names: tuple[str, ...]
    name_bytes: np.ndarray
    name_start: Column
    skipped: list[str] = field(default_factory=list)
    edge_ambiguity: np.ndarray | None = field(default=None, metadata=kept.per("box", kept.ambiguity))
    parts: tuple[int, ...] = ()
    tiles: Tiles | None = None

    @classmethod
    def build(
        cls,
        *,
        images_dir: Path,
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
            images_dir: see the attributes, as for all that is not named here.
            annotations: the file, or the folder, that messages name.
            image_ids: (I,) each once.
            file_names: (I,) relative to ``images_dir``.
            widths: (I,) pixels.
            heights: (I,) pixels.
            box_start: (I + 1,) from 0 to N.
            boxes: (N, 4) xyxy, sorted by image.
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
        name_bytes, name_start = kept.pack_names(file_names)
        given: dict[str, kept.Values] = {
            "image_ids": image_ids,
            "widths": widths,
            "heights": heights,
            "boxes": boxes,
            "labels": labels,
            "crowd": crowd,
            "ignore": ignore,
            "area": area,
            "annotation_ids": annotation_ids,
            "category_ids": category_ids,
            "edge_ambiguity": edge_ambiguity,
        }
        index = cls(
            images_dir=Path(images_dir),
            annotations=Path(annotations),
            box_start=np.asarray(box_start, np.int64),
            names=tuple(names),
            name_bytes=name_bytes,
            name_start=name_start,
            skipped=[] if skipped is None else skipped,
            **kept.packed(_COLUMNS, given.items(), names),
        )
        kept.check_lengths(_COLUMNS, index)
        return index

    def take(
        self, images: ArrayLike, *, boxes: np.ndarray | None = None, box_start: np.ndarray | None = None
    ) -> DataIndex:
        """Some images with all that belongs to them; what is known of the data set as a whole stays.

        Args:
            images: (R,) rows, in the order that is wanted; one may come several times. Or (I,) bool: those to keep.
            boxes: (M,) rows of the boxes to keep, image by image; by default those of the images, in their order.
            box_start: (R + 1,) where those of each image begin; goes with ``boxes``.

        Returns:
            The index; its ``parts`` are the images that are left of each.

        Raises:
            ValueError: the index is one of tiles, whose counts would be wrong (take first, then cut), or ``images``
                are no row numbers in 0..I-1.
        """
        if self.tiles is not None:
            raise ValueError("tiles cannot be taken: take images of the data set, then cut them into tiles")
        images = kept.row_numbers(images, len(self))
        if boxes is None or box_start is None:
            boxes, box_start = rows_within(self.box_start, images)
        rows = {"image": images, "box": boxes, "class": slice(None)}
        # One column after the other: unpacked, the columns take several times as much as packed.
        own = ((name, kind, getattr(self, name)) for name, kind in _COLUMNS.items())
        taken = ((name, values[rows[kind.axis]]) for name, kind, values in own if values is not None)
        name_bytes, name_start = texts_of(self.name_bytes, np.asarray(self.name_start), images)
        ends = np.cumsum([0, *self.parts])
        index = dataclasses.replace(
            self,
            **kept.packed(_COLUMNS, taken, self.names),
            box_start=box_start,
            name_bytes=name_bytes,
            name_start=pack_whole(name_start),
            parts=tuple(int(((images >= low) & (images < high)).sum()) for low, high in pairwise(ends.tolist())),
        )
        kept.check_lengths(_COLUMNS, index)
        return index

    def replace(self, **changes: Any) -> DataIndex:
        """The same data set with other values of some columns; the others are shared, not copied.

        Args:
            changes: what :meth:`build` takes, as it takes it, and ``parts`` and ``tiles``.

        Raises:
            ValueError: the lengths disagree.
        """
        if "file_names" in changes:
            changes["name_bytes"], changes["name_start"] = kept.pack_names(changes.pop("file_names"))
        if "box_start" in changes:
            changes["box_start"] = np.asarray(changes["box_start"], np.int64)
        if "names" in changes:
            changes["names"] = tuple(changes["names"])
        given = ((name, changes[name]) for name in _COLUMNS if name in changes)
        packed = kept.packed(_COLUMNS, given, changes.get("names", self.names), self.boxes)
        index = dataclasses.replace(self, **changes | packed)
        kept.check_lengths(_COLUMNS, index)
        return index

    @staticmethod
    def concat(indices: Sequence[DataIndex]) -> DataIndex:
        """Several data sets of the same classes, their images one after the other.

        Ids of images and boxes are kept where no two data sets share one, and counted from 1 otherwise; those of the
        classes are the first one's.

        Args:
            indices: at least one.

        Returns:
            The index; ``parts`` says how many images each gave.

        Raises:
            ValueError: there are none, classes differ, or one is an index of tiles: join first, then cut.
        """
        first = next(iter(indices), None)
        if first is None or any(index.tiles is not None or index.names != first.names for index in indices):
            raise ValueError("only data sets of the same classes, at least one, can be joined before they are cut")
        folder, file_names = under_one_folder(
            [index.images_dir for index in indices], [map(index.file_name, range(len(index))) for index in indices]
        )
        name_bytes, name_start = kept.pack_names(file_names)
        counts = [np.diff(index.box_start) for index in indices]
        columns = ((name, kept.stacked_column(name, kind, indices)) for name, kind in _COLUMNS.items())
        joined = dataclasses.replace(
            first,
            **kept.packed(_COLUMNS, columns, first.names),
            images_dir=folder,
            annotations=Path(" + ".join(str(index.annotations) for index in indices)),
            box_start=np.cumsum(np.concatenate([[0], *counts])),
            name_bytes=name_bytes,
            name_start=name_start,
            skipped=[line for index in indices for line in index.skipped],
            parts=tuple(map(len, indices)),
        )
        kept.check_lengths(_COLUMNS, joined)
        return joined

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
        """Of image ``i``, as the annotation file writes it."""
        if self.tiles is not None:
            return self.tiles.of.file_name(int(self.tiles.image[i]))
        return self.name_bytes[self.name_start[i] : self.name_start[i + 1]].tobytes().decode(errors="surrogatepass")

    def path(self, i: int) -> Path:
        """The file of image ``i``."""
        return self.images_dir / self.file_name(i)

    def targets(self, i: int, include_crowd: bool = False) -> Targets:
        """Boxes of image ``i`` clipped to it, float32 in its pixels.

        Args:
            i: 0..I-1.
            include_crowd: crowds and ignored boxes too.
        """
        from gfocal.structures import Targets  # not above: an index is read without torch, too

        own = slice(self.box_start[i], self.box_start[i + 1])
        exact = self.boxes[own]
        np.clip(exact, 0.0, (self.widths[i], self.heights[i]) * 2, out=exact)
        boxes = exact.astype(np.float32)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if not include_crowd:
            keep &= ~(self.crowd[own] | self.ignore[own])
        return Targets.from_arrays(boxes[keep], self.labels[own][keep])

    def with_classes(self, names: Sequence[str]) -> DataIndex:
        """The same images and boxes with labels that follow ``names``; classes are matched by name.

        A class of ``names`` that the data lack has no boxes and gets a category id that no other one has. A class of
        the data that is not in ``names`` is dropped if it has no boxes. Of several classes of one name the first is
        matched with the first, and so on.

        Raises:
            UsageError: there are boxes, crowds included, of a class that is not in ``names``.
        """
        names = tuple(names)
        if names == self.names:
            return self
        new_label, category_ids = match_by_name(self.names, self.category_ids.tolist(), names)
        boxes = np.bincount(np.asarray(self.labels), minlength=len(self.names))
        if unknown := [
            f"{self.names[old]} ({boxes[old]} boxes)" for old in np.flatnonzero((new_label < 0) & (boxes > 0))
        ]:
            raise UsageError(
                f"{self.annotations} has different classes: only one of the two has {join_some(unknown)}; "
                f"the other has {join_some(names)}"
            )
        return self.replace(labels=new_label[np.asarray(self.labels)], category_ids=category_ids, names=names)


_COLUMNS = {column.name: column.metadata["kind"] for column in fields(DataIndex) if "kind" in column.metadata}


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where each of T tiles lies.

    Attributes:
        of: the data set that was cut; files and names are its own.
        tiling: how.
        image: (T,) int32: row in ``of``; ascending.
        left, top: (T,) int32 pixels.
        empty: (T,) bool: nothing is learnt there.
        objects: in ``of``, those that are learnt.
        cut: objects that no tile shows whole, but for the whole image.
        lost: objects that no tile has at all.
    """

    of: DataIndex
    tiling: Tiling
    image: np.ndarray
    left: np.ndarray
    top: np.ndarray
    empty: np.ndarray
    objects: int
    cut: int
    lost: int
