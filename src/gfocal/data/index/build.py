"""From what readers find, image by image, to an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import EmptySplitError, UsageError


@dataclass(frozen=True)
class Record:
    """One image with its N boxes.

    Attributes:
        file_name: relative to the folder of the images.
        width, height: pixels.
        labels: (N,) in 0..C-1.
        boxes: (N, 4) float64 xyxy in pixels.
        crowd, ignore: (N,) bool, or None where there are none.
        area: (N,) float64, or None for width * height.
        annotation_ids: (N,) int64, or None.
        edge_ambiguity: (N, 4) float64, or None.
        id: of the image, or None.
        rank: images are sorted by it; equal ones stay in their order.
    """

    file_name: str
    width: int
    height: int
    labels: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray | None = None
    ignore: np.ndarray | None = None
    area: np.ndarray | None = None
    annotation_ids: np.ndarray | None = None
    edge_ambiguity: np.ndarray | None = None
    id: int | None = None
    rank: int = 1 << 62


def to_index(
    records: Sequence[Record],
    *,
    images_dir: Path,
    annotations: Path,
    names: Sequence[str],
    category_ids: Sequence[int],
    problems: Problems,
) -> DataIndex:
    """Join records; images and boxes without an id, or with one that is taken, get the next free ones.

    Raises:
        EmptySplitError: there are none.
        UsageError: a class has no name.
    """
    if unnamed := [number for number, name in zip(category_ids, names, strict=True) if not name.strip()]:
        raise UsageError(f"{annotations}: class {unnamed[0]} has an empty name; give each class a name")
    if not records:
        raise EmptySplitError(
            f"{annotations}: no picture {'is left' if problems.lines else 'in it'}; nothing can be done"
        )
    records = sorted(records, key=lambda record: record.rank)
    counts = [len(record.labels) for record in records]
    boxes = _joined([record.boxes for record in records]).reshape(-1, 4)
    order = np.argsort(category_ids, kind="stable")
    new_label = np.empty(len(order), np.int64)
    new_label[order] = np.arange(len(order))
    plain_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area = _column([record.area for record in records], counts, np.nan)
    unknown = np.full((1, 4), np.nan)
    known = any(record.edge_ambiguity is not None for record in records)
    return DataIndex.build(
        images_dir=images_dir,
        annotations=annotations,
        image_ids=_free_ids([record.id for record in records]),
        file_names=[record.file_name for record in records],
        widths=[record.width for record in records],
        heights=[record.height for record in records],
        box_start=np.cumsum([0, *counts]),
        boxes=boxes,
        labels=new_label[_joined([record.labels for record in records]).astype(np.int64)],
        crowd=_column([record.crowd for record in records], counts, False).astype(bool),
        ignore=_column([record.ignore for record in records], counts, False).astype(bool),
        area=np.where(np.isnan(area), plain_area, area),
        annotation_ids=_annotation_ids(records),
        category_ids=np.asarray(category_ids, np.int64)[order],
        names=[names[i] for i in order.tolist()],
        skipped=problems.lines,
        edge_ambiguity=_joined(
            [
                np.repeat(unknown, n, 0) if r.edge_ambiguity is None else r.edge_ambiguity
                for r, n in zip(records, counts, strict=True)
            ]
        ).reshape(-1, 4)
        if known
        else None,
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part for part in parts if len(part)] or [np.zeros(0)])


def _column(parts: list[np.ndarray | None], counts: list[int], default: float) -> np.ndarray:
    return _joined([np.full(n, default) if p is None else p for p, n in zip(parts, counts, strict=True)])


def _free_ids(ids: Sequence[int | None]) -> np.ndarray:
    """1, 2, 3, ... where no id is known or one is there twice."""
    taken = {number for number in ids if number is not None}
    if not taken:
        return np.arange(1, len(ids) + 1)
    seen: set[int] = set()
    result, following = [], max(taken) + 1
    for number in ids:
        if number is None or number in seen:
            number, following = following, following + 1
        seen.add(number)
        result.append(number)
    return np.array(result, np.int64)


def _annotation_ids(records: Sequence[Record]) -> np.ndarray | None:
    if all(record.annotation_ids is None for record in records):
        return None
    ids: list[int | None] = []
    for record in records:
        ids += [None] * len(record.labels) if record.annotation_ids is None else record.annotation_ids.tolist()
    return _free_ids(ids)
