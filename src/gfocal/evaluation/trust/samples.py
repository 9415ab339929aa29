"""From detections and ground truth to what calibrations are fitted on and measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gfocal.calibration.features import EdgeFeatures, EdgeSamples
from gfocal.calibration.scores_fit import ScoreSamples
from gfocal.calibration.stored import Calibration
from gfocal.detections import Detections
from gfocal.evaluation.ground_truth import FloatArray, GroundTruth
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import match
from gfocal.evaluation.uncertainty import match_objects


def light(found: Detections) -> Detections:
    """Without the distributions of edges, which are large, unless the calibration looks at them."""
    own = found.calibration
    needed = isinstance(own, Calibration) and "edge_probs" in own.edges.scale.needs
    return found if needed else replace(found, edge_probs=None)


@dataclass(frozen=True)
class MatchedSamples:
    """Boxes that found an object.

    Attributes:
        edges: what is known of them; image i is row i of the data set.
        sizes: (M,) square root of the object's area, pixels.
    """

    edges: EdgeSamples
    sizes: FloatArray

    def only(self, rows: np.ndarray) -> MatchedSamples:
        """Some of them: a mask or indices."""
        return MatchedSamples(self.edges.only(rows), self.sizes[rows])

    @staticmethod
    def joined(parts: Sequence[MatchedSamples]) -> MatchedSamples:
        """One after the other; at least one part, all of one data set."""
        edges = [part.edges for part in parts]
        samples = EdgeSamples(
            EdgeFeatures.joined([own.features for own in edges]),
            np.concatenate([own.errors for own in edges]),
            np.concatenate([own.images for own in edges]),
            np.concatenate([own.labels for own in edges if own.labels is not None]),
            edges[0].names,
        )
        return MatchedSamples(samples, np.concatenate([part.sizes for part in parts]))


def matched_samples(
    index: GroundTruth, image_ids: Sequence[int], detections: Sequence[Detections]
) -> MatchedSamples | None:
    """The boxes that found an object: IoU 0.5 or more, of its class, best score first, each object once.

    Objects are cut off at the border of their image, as boxes and intervals are.

    Args:
        index: the ground truth.
        image_ids: the data set's own ids.
        detections: one an image, in original pixels.

    Returns:
        None where no image was looked at.
    """
    row_of = {int(image_id): row for row, image_id in enumerate(index.image_ids)}
    parts = [_of_image(index, row_of[int(i)], found) for i, found in zip(image_ids, detections, strict=True)]
    return MatchedSamples.joined(parts) if parts else None


def _of_image(index: GroundTruth, row: int, found: Detections) -> MatchedSamples:
    mine, theirs = match_objects(index, row, found)
    own = EdgeFeatures.of(found).only(mine)
    truth = np.asarray(index.boxes[theirs], np.float64).reshape(-1, 4)
    if own.limits is not None:
        truth = np.clip(truth, 0, own.limits)
    assert own.boxes is not None
    labels = np.asarray(found.numpy().labels, np.int64)[mine]
    samples = EdgeSamples(own, truth - own.boxes, np.full(len(mine), row), labels, tuple(index.names))
    return MatchedSamples(samples, np.sqrt(np.asarray(index.area[theirs], np.float64)))


def score_samples(findings: Findings) -> ScoreSamples:
    """Every detection with the IoU of the object that it found, 0 for none; those in crowds or on ignored boxes aside.

    Images that were left out are no images here.
    """
    index, matching = findings.index, match(findings)
    found = matching.object >= 0
    ious = np.zeros(len(findings.rows))
    truth = np.asarray(index.boxes[matching.object[found]], np.float64).reshape(-1, 4)
    ious[found] = _pair_ious(findings.boxes[found], truth)
    counts = np.bincount(
        np.repeat(np.arange(len(index.image_ids)), np.diff(index.box_start)),
        matching.to_find,
        minlength=len(index.image_ids),
    )
    counted = ~matching.ignored & findings.kept[findings.rows]
    rows = (np.cumsum(findings.kept) - 1)[findings.rows[counted]]
    return ScoreSamples(
        np.clip(findings.scores[counted], 0, 1), ious[counted], rows, findings.labels[counted], counts[findings.kept]
    )


def _pair_ious(boxes: FloatArray, truth: FloatArray) -> FloatArray:
    sides = np.minimum(boxes[:, 2:], truth[:, 2:]) - np.maximum(boxes[:, :2], truth[:, :2])
    shared = sides.clip(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (truth[:, 2:] - truth[:, :2]).prod(1)
    ious: FloatArray = np.clip(shared / np.maximum(areas - shared, 1e-12), 1e-6, 1)
    return ious
