"""How scores and boxes agree at the points that the assigner gives an object: before anything is suppressed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gfocal.boxes import aligned_iou
from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.hangs import WORKER_TIMEOUT
from gfocal.data.loading.loader import DetectionDataset, make_loader
from gfocal.detector import DenseDetector
from gfocal.evaluation.evaluator import check_names
from gfocal.evaluation.ground_truth import FloatArray, IntArray
from gfocal.losses.reduction import at_least_float32
from gfocal.runtime.precision import autocast
from gfocal.structures import Batch


@dataclass(frozen=True)
class Positives:
    """The N points of a data set that the assigner gives an object.

    Rows of a table whose detectors share points and a static assigner have the same ones, whatever they find.

    Attributes:
        images: (N,) row of the image.
        scores: (N,) in [0, 1], what detections are ranked by, of the object's class.
        ious: (N,) in [0, 1], of the box that the point predicts with its object.
    """

    images: IntArray
    scores: FloatArray
    ious: FloatArray


@torch.no_grad()
def find_positives(
    detector: DenseDetector,
    index: DataIndex,
    *,
    batch_size: int = 16,
    workers: int = 0,
    precision: str = "fp32",
    worker_timeout: float = WORKER_TIMEOUT,
) -> Positives:
    """Look at every image as the network sees whole ones, and at its positives.

    Args:
        detector: in any mode; it is left as it was.
        index: the data set; the detector must know its classes, in any order.
        batch_size: images a forward pass.
        workers: loader processes.
        precision: "fp32", "bf16" or "fp16" (autocast).
        worker_timeout: seconds, see :func:`gfocal.data.loading.loader.make_loader`.

    Raises:
        UsageError: boxes of a class that the detector does not know.
        BrokenInputError: an image that cannot be read.
    """
    index = check_names(detector, index)
    dataset = DetectionDataset(index, EvalTransform(detector.resize), seed=0, value_range=detector.value_range)
    training, row, parts = detector.training, 0, []
    detector.eval()
    try:
        for batch in make_loader(dataset, batch_size=batch_size, workers=workers, worker_timeout=worker_timeout):
            with autocast(detector.device, precision):
                parts.append(_of_batch(detector, batch, row))
            row += len(batch)
    finally:
        detector.train(training)
    images, scores, ious = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Positives(images, scores, ious)


def _of_batch(detector: DenseDetector, batch: Batch, first: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Rows of the images, scores, IoUs of the positives of a batch whose first image is row ``first``."""
    images = batch.images.to(detector.device)
    out, points = detector(images), detector.points(*images.shape[-2:])
    assignment = detector.assign_batch(images, batch.targets, out, sizes=batch.sizes)
    with torch.autocast(out.box.device.type, enabled=False):
        own = out.map(lambda tensor: at_least_float32(tensor.flatten(0, 1)))[assignment.positive]
        labels = assignment.labels[assignment.positive]
        candidates = detector.quality.class_logits(own).gather(-1, labels[:, None]).squeeze(-1).sigmoid()
        scores = detector.quality.scores(candidates, own)
        boxes = detector.box_coder.decode(points[assignment.positive % len(points)], own.box)
        ious = aligned_iou(boxes, assignment.target_boxes)
    rows = first + assignment.positive // len(points)
    return rows.cpu().numpy(), scores.double().cpu().numpy(), ious.double().cpu().numpy()
