"""How good a detector is and how fast: the COCO metrics, the agreement of score and IoU, and speed."""

from gfocal.evaluation.agreement import own_ious, score_iou_correlation, spearman
from gfocal.evaluation.coco import STATS, CocoEvaluator, EvalResult
from gfocal.evaluation.ground_truth import GroundTruth
from gfocal.evaluation.speed import measure

__all__ = [
    "STATS",
    "CocoEvaluator",
    "EvalResult",
    "GroundTruth",
    "measure",
    "own_ious",
    "score_iou_correlation",
    "spearman",
]
