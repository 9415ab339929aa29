"""A data set from numbers alone: nothing here has a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gfocal.data.index.data_index import DataIndex

Box = tuple[float, float, float, float]


def made_index(images: Sequence[tuple[int, int, Sequence[Box]]]) -> DataIndex:
    """An index of (width, height, boxes) an image, all of one class."""
    counts = [len(boxes) for _, _, boxes in images]
    boxes = np.array([box for _, _, own in images for box in own], np.float64).reshape(-1, 4)
    return DataIndex.build(
        images_dir=Path("nowhere"),
        annotations=Path("nowhere.json"),
        image_ids=np.arange(1, len(images) + 1),
        file_names=[f"{i}.jpg" for i in range(len(images))],
        widths=[width for width, _, _ in images],
        heights=[height for _, height, _ in images],
        box_start=np.cumsum([0, *counts]),
        boxes=boxes,
        labels=np.zeros(len(boxes), np.int64),
        names=["thing"],
    )
