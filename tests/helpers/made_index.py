"""A data set from numbers alone: nothing here has a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gfocal.data.index.data_index import DataIndex

Box = tuple[float, float, float, float]


def made_index(pictures: Sequence[tuple[int, int, Sequence[Box]]]) -> DataIndex:
    """An index of (width, height, boxes) a picture, all of one class."""
    counts = [len(boxes) for _, _, boxes in pictures]
    boxes = np.array([box for _, _, own in pictures for box in own], np.float64).reshape(-1, 4)
    return DataIndex.build(
        pictures_dir=Path("nowhere"),
        annotations=Path("nowhere.json"),
        image_ids=np.arange(1, len(pictures) + 1),
        file_names=[f"{i}.jpg" for i in range(len(pictures))],
        widths=[width for width, _, _ in pictures],
        heights=[height for _, height, _ in pictures],
        box_start=np.cumsum([0, *counts]),
        boxes=boxes,
        labels=np.zeros(len(boxes), np.int64),
        names=["thing"],
    )
