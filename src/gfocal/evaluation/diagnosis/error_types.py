"""What kinds of error a detector makes, and what AP would gain without each; after TIDE (Bolya et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gfocal.evaluation.coco import coco_evaluation
from gfocal.evaluation.ground_truth import BoolArray
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import IOU

BACKGROUND_IOU = 0.1
"""A detection that overlaps every object by less is of the background."""
_KEYS: Mapping[str, str] = {
    "localisation": "Loc",
    "class": "Cls",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
KINDS = tuple(_KEYS)
"""localisation: the right class, IoU from 0.1 to 0.5. class: a wrong one, IoU of at least 0.5. both: a wrong one, IoU
from 0.1 to 0.5. duplicate: the right class on an object that a better detection found. background: nothing is there.
missed: an object that none of these detections is about."""


@dataclass(frozen=True)
class ErrorType:
    """One of :data:`KINDS`.

    Attributes:
        kind: which.
        above: how many there are among the detections above the score, and objects that these miss.
        gain: what AP50 would gain if every error of that kind were mended, over all scores, in [0, 1].
    """

    kind: str
    above: int
    gain: float


@dataclass(frozen=True)
class ErrorTypes:
    """All kinds.

    Attributes:
        score: detections above it are counted.
        iou: from where on a detection has found an object.
        background_iou: below which there is nothing.
        ap50: without mending, of the classes with objects.
        types: one of each kind, that of the largest gain first.
    """

    score: float
    iou: float
    background_iou: float
    ap50: float
    types: tuple[ErrorType, ...]


def error_types(findings: Findings, score: float) -> ErrorTypes | None:
    """Errors by kind; each detection and each object is in one of them at most.

    The gains do not add up: mending one kind changes what the others cost. Computed by hotcoco's TIDE; 100 detections
    of a class in an image count at most.

    Args:
        findings: of all images.
        score: detections above it are counted; the gains are of all.

    Returns:
        None without an object to find.
    """
    if not (~(findings.index.crowd | findings.index.ignore)).any() or not findings.kept.any():
        return None
    whole = _tide(findings, findings.scores >= 0)
    counts = _tide(findings, findings.scores > score)["counts"]
    types = [ErrorType(kind, int(counts[key]), float(whole["delta_ap"][key])) for kind, key in _KEYS.items()]
    types.sort(key=lambda one: (-one.gain, KINDS.index(one.kind)))
    return ErrorTypes(score, IOU, BACKGROUND_IOU, float(whole["ap_base"]), tuple(types))


def _tide(findings: Findings, chosen: BoolArray) -> Mapping[str, Any]:
    rows, labels = findings.rows[chosen], findings.labels[chosen]
    boxes, scores = findings.boxes[chosen], findings.scores[chosen]
    evaluation = coco_evaluation(findings.index, findings.kept, rows, boxes, scores, labels)
    found: Mapping[str, Any] = evaluation.tide_errors(pos_thr=IOU, bg_thr=BACKGROUND_IOU)
    return found
