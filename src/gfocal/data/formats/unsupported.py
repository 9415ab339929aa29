"""What a format cannot hold of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gfocal.data.formats.common import Format
from gfocal.data.formats.image_size import image_size
from gfocal.data.index.columns import Column
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import BrokenInputError
from gfocal.utils.text import counted

_MANY = 20_000
"""Images up to which the EXIF turns are looked for."""


def lost_lines(splits: Mapping[str, DataIndex], names: Mapping[str, Sequence[str]], fmt: Format) -> list[str]:
    """A line for each thing that programs without the sidecar do not see.

    Args:
        splits: what was written.
        names: what its images are called there.
        fmt: in which format.
    """
    indexes = list(splits.values())
    renamed = sum(name != index.file_name(i) for split, index in splits.items() for i, name in enumerate(names[split]))
    lines = (
        [f"{counted(renamed, 'picture is', 'pictures are')} renamed: names of others, or of folders outside"]
        if renamed
        else []
    )
    if fmt == "coco":
        return lines
    lines += _marks(indexes, fmt)
    if (count := _sum(_area_differs(index) for index in indexes)) > 0:
        lines.append(
            f"area of {count} boxes: becomes width x height, which moves the border of small, medium and large"
        )
    if (count := _sum(_outside(index) for index in indexes)) > 0:
        lines.append(f"{counted(count, 'box reaches', 'boxes reach')} beyond the picture, and cut at its edge")
    if any(index.edge_ambiguity is not None for index in indexes):
        lines.append("edge_ambiguity")
    lines += _ids(indexes, fmt)
    lines += _classes(indexes) if fmt == "voc" else ["the last digits of boxes: shares have 12 decimals"]
    if fmt == "yolo" and (count := _sum(_turned(index) for index in indexes)) > 0:
        lines.append(
            f"{counted(count, 'picture is', 'pictures are')} annotated as stored; YOLO programs turn them as EXIF says"
        )
    return lines


def _sum(masks: Iterable[np.ndarray]) -> int:
    return sum(int(mask.sum()) for mask in masks)


def _marks(indexes: Sequence[DataIndex], fmt: Format) -> list[str]:
    crowd = _sum(np.asarray(index.crowd) for index in indexes)
    ignored = _sum(np.asarray(index.ignore) & ~np.asarray(index.crowd) for index in indexes)
    if fmt == "voc":
        return [f"{crowd} crowds: become difficult objects, which are ignored as well"] if crowd else []
    what = "not in the label files, where they would count as objects"
    return [f"{n} {word}: {what}" for n, word in ((crowd, "crowds"), (ignored, "ignored boxes")) if n]


def _area_differs(index: DataIndex) -> np.ndarray:
    boxes, area = np.asarray(index.boxes, np.float64), np.asarray(index.area, np.float64)
    plain = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.abs(area - plain) > 1e-6 * np.maximum(plain, 1)


def _outside(index: DataIndex) -> np.ndarray:
    boxes = np.asarray(index.boxes, np.float64)
    sizes = np.repeat(np.stack([index.widths, index.heights], 1), np.diff(index.box_start), axis=0)
    return np.asarray((boxes[:, :2] < 0).any(1) | (boxes[:, 2:] > sizes).any(1))


def _ids(indexes: Sequence[DataIndex], fmt: Format) -> list[str]:
    first = 0 if fmt == "yolo" else 1
    kinds = {
        "pictures": any(not _counts_up(index.image_ids, 1) for index in indexes),
        "boxes": any(not _counts_up(index.annotation_ids, 1) for index in indexes),
        "classes": any(not _counts_up(index.category_ids, first) for index in indexes),
    }
    lost = [kind for kind, is_lost in kinds.items() if is_lost]
    return [f"ids of {', '.join(lost)}: they are renumbered"] if lost else []


def _counts_up(column: Column | np.ndarray, first: int) -> bool:
    ids = np.asarray(column)
    return bool(np.array_equal(ids, np.arange(first, first + len(ids))))


def _classes(indexes: Sequence[DataIndex]) -> list[str]:
    names = indexes[0].names
    used = {names[label] for index in indexes for label in np.unique(np.asarray(index.labels)).tolist()}
    lines = [] if list(names) == sorted(names) else ["order of the classes: becomes alphabetical"]
    if unused := [name for name in names if name not in used]:
        lines.append(f"{len(unused)} classes without boxes: {', '.join(unused[:5])}{', ...' if unused[5:] else ''}")
    if len(set(names)) < len(names):
        lines.append("classes that share a name become one")
    return lines


def _turned(index: DataIndex) -> np.ndarray:
    """Of the first images, those that have the annotated size only as they are stored."""
    turned = np.zeros(min(len(index), _MANY), bool)
    for i in range(len(turned)):
        try:
            upright = image_size(index.path(i))
        except BrokenInputError:
            continue
        wanted = int(index.widths[i]), int(index.heights[i])
        turned[i] = upright != wanted and upright == wanted[::-1]
    return turned
