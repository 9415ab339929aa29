"""All that a detector found on a data set, beside what there was to find."""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.evaluation.ground_truth import BoolArray, FloatArray, GroundTruth, IntArray


@dataclass(frozen=True)
class Findings:
    """D detections on I images, in the order in which they came.

    Attributes:
        index: the ground truth.
        rows: (D,) row of each detection's image in ``index``.
        boxes: (D, 4) xyxy in original pixels.
        scores: (D,) in [0, 1].
        labels: (D,) in 0..C-1.
        kept: (I,) False for images that were left out, with their objects.
        edge_std: (D, 4) float32 standard deviation in pixels of left, top, right, bottom; None where the boxes have
            none.
    """

    index: GroundTruth
    rows: IntArray
    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    kept: BoolArray
    edge_std: FloatArray | None = None
