"""Labels of a data set as plain arrays, which planted faults may change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Labels:
    """N labels of I images; a :class:`~gfocal.evaluation.ground_truth.GroundTruth`.

    Attributes:
        image_ids: (I,) the data set's own ids.
        sizes: (I, 2) width and height, pixels.
        rows: (N,) row of each label's image, ascending.
        boxes: (N, 4) float64 xyxy in original pixels.
        labels: (N,) in 0..C-1.
        crowd, ignore: (N,) regions, which are never suspects.
        names: C class names.
    """

    image_ids: IntArray
    sizes: IntArray
    rows: IntArray
    boxes: FloatArray
    labels: IntArray
    crowd: BoolArray
    ignore: BoolArray
    names: tuple[str, ...]

    @staticmethod
    def of(index: DataIndex) -> Labels:
        """Those of a data set, in its order: label n is box n of the index."""
        return Labels(
            image_ids=np.asarray(index.image_ids),
            sizes=np.stack([np.asarray(index.widths), np.asarray(index.heights)], 1).reshape(-1, 2),
            rows=np.repeat(np.arange(len(index)), np.diff(index.box_start)),
            boxes=np.asarray(index.boxes, np.float64).reshape(-1, 4),
            labels=np.asarray(index.labels).astype(np.int64),
            crowd=np.asarray(index.crowd, bool),
            ignore=np.asarray(index.ignore, bool),
            names=tuple(index.names),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def box_start(self) -> IntArray:
        """(I + 1,)."""
        return np.cumsum([0, *np.bincount(self.rows, minlength=len(self.image_ids))])

    @property
    def area(self) -> FloatArray:
        """(N,) pixels²."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).clip(min=0).prod(1)

    @property
    def real(self) -> BoolArray:
        """(N,) those that may be suspects: no crowds, not ignored."""
        return ~(self.crowd | self.ignore)

    @property
    def limits(self) -> FloatArray:
        """(I, 4) the largest position that each edge can have."""
        return np.tile(self.sizes, 2).astype(np.float64)

    @property
    def clipped(self) -> FloatArray:
        """(N, 4) boxes cut off at the border of their image, as detections are."""
        return np.clip(self.boxes, 0, self.limits[self.rows])
