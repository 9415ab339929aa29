"""The COCO metrics.

Detections are kept as numpy arrays from first to last: half a million of them as Python dicts would cost more
than the whole evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import hotcoco
import numpy as np

from gfocal.data.index.packing import to_xywh
from gfocal.detections import Detections
from gfocal.evaluation.agreement import own_ious, score_iou_correlation
from gfocal.evaluation.bootstrap import ap_intervals
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, GroundTruth, IntArray
from gfocal.evaluation.matches import MOST, Matches, match_detections
from gfocal.evaluation.thresholds.best_f1 import BestF1, best_f1
from gfocal.evaluation.thresholds.curve import curves
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import match
from gfocal.utils.records import FLAT, IF_ANY, fields_to_json
from gfocal.utils.text import distinct

Stat = Literal["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
STATS: tuple[Stat, ...] = get_args(Stat)
"""The 12 COCO numbers in COCO's order: s, m, l are objects below 32², below 96² and above; AR1 allows one detection
of a class in an image, AR10 ten, all others 100."""


@dataclass(frozen=True)
class BeyondLimit:
    """What COCO's AP, AP50, AP75 and AR become where more than its 100 detections of a class in an image count.

    Attributes:
        max_detections: of a class in an image.
        AP, AP50, AP75, AR: in [0, 1]; NaN without ground truth.
    """

    max_detections: int
    AP: float
    AP50: float
    AP75: float
    AR: float


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation found.

    Attributes:
        stats: the 12 numbers of :data:`STATS` in [0, 1]; NaN where there is no ground truth (of that size).
        per_class: AP of each class by name, None for a class without ground truth. Where two classes share a name,
            ``name (2)`` is the second.
        score_iou_correlation: see :func:`~gfocal.evaluation.agreement.score_iou_correlation`.
        num_images: images in the data set that were not left out.
        num_detections: detections in all.
        intervals: 95 % intervals of AP, AP50 and AP75 over resampled images, see
            :func:`~gfocal.evaluation.bootstrap.ap_intervals`; {} where they were not asked for.
        num_objects: that there are to find in these images, crowds and ignored boxes aside; None in files of earlier
            versions.
        beyond: at more detections of a class in an image than COCO's 100; None where they were not asked for.
        best_f1: precision, recall and F1 of each class and of all, at the scores where F1 is largest; None of an
            earlier version.
    """

    stats: dict[Stat, float] = field(metadata=FLAT)
    per_class: dict[str, float | None]
    score_iou_correlation: float | None
    num_images: int
    num_detections: int
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    num_objects: int | None = None
    beyond: BeyondLimit | None = field(default=None, metadata=IF_ANY)
    best_f1: BestF1 | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the 12 numbers at the top level, NaN as None."""
        return fields_to_json(self)


@dataclass(frozen=True)
class _Collected:
    """All detections so far, in the order they came; ``ious`` with their own ground truth.

    ``edge_std`` is None unless all of them have it.
    """

    rows: IntArray
    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    ious: FloatArray
    edge_std: FloatArray | None


class CocoEvaluator:
    """Collects the detections of a data set, then computes the COCO metrics.

    The ground truth of images that never come counts as missed, unless :meth:`leave_out` names them. Boxes marked
    ``ignore`` are treated as crowd regions: never missed, and a detection of their class that lies inside (the share of
    its own area takes the place of the IoU) is neither right nor wrong. pycocotools itself takes no notice of
    ``ignore``.

    Args:
        index: the ground truth.
    """

    def __init__(self, index: GroundTruth) -> None:
        self._index = index
        self._row_of = {int(image_id): row for row, image_id in enumerate(index.image_ids)}
        self._seen: set[int] = set()
        self._left_out: set[int] = set()
        self._rows: list[IntArray] = []
        self._boxes: list[FloatArray] = []
        self._scores: list[FloatArray] = []
        self._labels: list[IntArray] = []
        self._edge_std: list[FloatArray] | None = []
        self._collected: _Collected | None = None
        self._matches: Matches | None = None

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Add some images; of equal scores in an image the first counts as the better.

        Args:
            image_ids: the data set's own ids, each at most once over all calls.
            detections: one an image, boxes in original pixels, labels in 0..C-1.

        Raises:
            ValueError: lengths differ, an id is unknown, comes again or was left out, a label is out of range, a score
                or a coordinate is not finite. Nothing is added then.
        """
        ids = [int(image_id) for image_id in image_ids]
        if len(ids) != len(detections):
            raise ValueError(f"{len(ids)} image ids for {len(detections)} pictures of detections")
        if unknown := [i for i in ids if i not in self._row_of]:
            raise ValueError(f"image id {unknown[0]} is not in the ground truth ({len(self._row_of)} pictures)")
        if out := self._left_out.intersection(ids):
            raise ValueError(f"image id {min(out)} was left out")
        if len(set(ids)) < len(ids) or not self._seen.isdisjoint(ids):
            again = next(i for n, i in enumerate(ids) if i in self._seen or i in ids[:n])
            raise ValueError(f"image id {again} was evaluated already")
        arrays = [self._checked(i, found) for i, found in zip(ids, detections, strict=True)]
        self._collected = self._matches = None
        for image_id, found, (boxes, scores, labels) in zip(ids, detections, arrays, strict=True):
            self._seen.add(image_id)
            self._keep_edges(found)
            self._rows.append(np.full(len(boxes), self._row_of[image_id], dtype=np.int64))
            self._boxes.append(boxes)
            self._scores.append(scores)
            self._labels.append(labels)

    def _keep_edges(self, found: Detections) -> None:
        if found.edge_std is None and len(found):
            self._edge_std = None
        if self._edge_std is not None and found.edge_std is not None:
            self._edge_std.append(np.array(found.numpy().edge_std, np.float32))

    def leave_out(self, image_ids: Sequence[int]) -> None:
        """Measure without these images and their ground truth, such as images that cannot be read.

        Args:
            image_ids: the data set's own ids.

        Raises:
            ValueError: an id is unknown or its detections were given. Nothing is left out then.
        """
        ids = {int(image_id) for image_id in image_ids}
        if unknown := ids - self._row_of.keys():
            raise ValueError(f"image id {min(unknown)} is not in the ground truth ({len(self._row_of)} pictures)")
        if given := ids & self._seen:
            raise ValueError(f"image id {min(given)} was evaluated already")
        self._left_out |= ids
        self._matches = None

    def _checked(self, image_id: int, found: Detections) -> tuple[FloatArray, FloatArray, IntArray]:
        # To the CPU first: not every accelerator has float64. Copied: the caller may use its buffers again.
        own = found.numpy()
        boxes, scores = np.array(own.boxes, np.float64), np.array(own.scores, np.float64)
        labels = np.array(own.labels, np.int64)
        for name, values in (("score", scores), ("box", boxes)):
            if not np.isfinite(values).all():
                raise ValueError(f"image id {image_id}: a {name} is not finite")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self._index.names):
            bad = labels[(labels < 0) | (labels >= len(self._index.names))][0]
            raise ValueError(f"image id {image_id}: label {bad} is not in 0..{len(self._index.names) - 1}")
        return boxes, scores, labels

    def compute(self, resamples: int = 0, *, beyond: int | None = None) -> EvalResult:
        """The metrics over all images of the data set that were not left out.

        Args:
            resamples: sets of images to draw for the intervals; 0 for none.
            beyond: detections of a class in an image at which to measure too, above COCO's 100.
        """
        found, kept = self._collect(), self._kept()
        arrays = (self._index, kept, found.rows, found.boxes, found.scores, found.labels)
        stats, class_aps = _coco_metrics(*arrays)
        more = None if beyond is None else _coco_metrics(*arrays, most=beyond)[0]
        objects = np.repeat(kept, np.diff(self._index.box_start)) & ~(self._index.crowd | self._index.ignore)
        intervals = ap_intervals(self.matches(), resamples=resamples) if resamples else {}
        names, findings = distinct(self._index.names), self.findings()
        return EvalResult(
            stats=stats,
            per_class=dict(zip(names, class_aps, strict=True)),
            score_iou_correlation=score_iou_correlation(found.scores, found.ious),
            num_images=int(kept.sum()),
            num_detections=len(found.rows),
            num_objects=int(objects.sum()),
            beyond=None
            if beyond is None or more is None
            else BeyondLimit(beyond, more["AP"], more["AP50"], more["AP75"], more["AR100"]),
            intervals=intervals,
            best_f1=best_f1(names, *curves(findings, match(findings))),
        )

    def findings(self) -> Findings:
        """Every detection so far beside the ground truth, images that were left out marked."""
        found = self._collect()
        return Findings(self._index, found.rows, found.boxes, found.scores, found.labels, self._kept(), found.edge_std)

    def matches(self) -> Matches:
        """Which detection found which object, over all images of the data set that were not left out.

        Computed once: asking again, or for intervals, costs nothing more.
        """
        if self._matches is None:
            found = self._collect()
            arrays = (found.rows, found.boxes, found.scores, found.labels)
            self._matches = match_detections(self._index, *arrays, ious=found.ious).only(self._kept())
        return self._matches

    def _kept(self) -> BoolArray:
        return np.array([int(image_id) not in self._left_out for image_id in self._index.image_ids], bool)

    def _collect(self) -> _Collected:
        if self._collected is None:
            rows = np.concatenate([np.zeros(0, dtype=np.int64), *self._rows])
            boxes = np.concatenate([np.zeros((0, 4)), *self._boxes])
            scores = np.concatenate([np.zeros(0), *self._scores])
            labels = np.concatenate([np.zeros(0, dtype=np.int64), *self._labels])
            ious = own_ious(self._index, rows, boxes, labels)
            edges = None if self._edge_std is None else np.concatenate([np.zeros((0, 4), np.float32), *self._edge_std])
            self._collected = _Collected(rows, boxes, scores, labels, ious, edges)
        return self._collected


def _coco_metrics(
    index: GroundTruth,
    kept: BoolArray,
    rows: IntArray,
    boxes: FloatArray,
    scores: FloatArray,
    labels: IntArray,
    most: int = MOST,
) -> tuple[dict[Stat, float], list[float | None]]:
    """The 12 numbers and C class APs over the images ``kept`` (I,)."""
    evaluation = coco_evaluation(index, kept, rows, boxes, scores, labels, most)
    evaluation.accumulate()
    evaluation.summary_lines()  # fills .stats as summarize() does, but prints nothing
    stats = {name: _nan_if_absent(value) for name, value in zip(STATS, evaluation.stats, strict=True)}
    curves: Any = evaluation.eval
    precision = curves["precision"][:, :, :, 0, -1]  # IoU x recall x class at all areas, 100 detections
    return stats, [_none_if_nan(_nan_if_absent(precision[:, :, c].mean())) for c in range(len(index.names))]


def coco_evaluation(
    index: GroundTruth,
    kept: BoolArray,
    rows: IntArray,
    boxes: FloatArray,
    scores: FloatArray,
    labels: IntArray,
    most: int = MOST,
) -> hotcoco.COCOeval:
    """What hotcoco matched over the images ``kept`` (I,); the only place that hands data to it.

    The evaluator gets ids of ours: images 1..I in the order of the data set's ids (COCO breaks ties between
    images by it), classes 1..C, boxes 1..N, since an annotation with id 0 counts as unmatched in COCO's code and
    large ids do not fit a float. ``most`` detections of a class in an image take the place of COCO's 100.
    """
    rank = np.empty(len(index.image_ids), dtype=np.int64)
    rank[np.argsort(index.image_ids, kind="stable")] = np.arange(1, len(rank) + 1)
    counts = np.diff(index.box_start)
    own = np.repeat(kept, counts)  # The boxes of these images.
    truth = hotcoco.COCO.from_arrays(
        [{"id": i, "width": 1, "height": 1} for i in sorted(rank[kept].tolist())],
        [{"id": c, "name": str(c)} for c in range(1, len(index.names) + 1)],
        np.repeat(rank, counts)[own],
        index.labels[own].astype(np.int64) + 1,
        to_xywh(index.boxes[own].astype(np.float64)),
        area=index.area[own].astype(np.float64),
        iscrowd=(index.crowd | index.ignore)[own],
    )
    found = truth.load_res(np.column_stack([rank[rows], to_xywh(boxes.astype(np.float64)), scores, labels + 1.0]))
    evaluation = hotcoco.COCOeval(truth, found, "bbox")
    evaluation.params.max_dets = [1, 10, most]
    evaluation.evaluate()
    return evaluation


def _nan_if_absent(value: float) -> float:
    """COCO says -1 where there is nothing to find."""
    return math.nan if value < 0 else float(value)


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
