"""How good a detector is and how fast: the COCO metrics, what scores and edge_std are worth, and speed."""

from gfocal.evaluation.agreement import own_ious, score_iou_correlation, spearman
from gfocal.evaluation.bootstrap import ap_intervals, resampled_weights, weighted_ap, weighted_correlation
from gfocal.evaluation.coco import STATS, CocoEvaluator, EvalResult
from gfocal.evaluation.ground_truth import GroundTruth
from gfocal.evaluation.matches import Matches, match_detections
from gfocal.evaluation.matches_file import load_matches, save_matches
from gfocal.evaluation.speed import measure, measure_interleaved, paired_ratio
from gfocal.evaluation.thresholds.best_f1 import BestF1
from gfocal.evaluation.thresholds.confusion import Confusion
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.folder import confusion_at, write_evaluation
from gfocal.evaluation.uncertainty import EdgeUncertainty

__all__ = [
    "STATS",
    "BestF1",
    "CocoEvaluator",
    "Confusion",
    "EdgeUncertainty",
    "EvalResult",
    "Findings",
    "GroundTruth",
    "Matches",
    "ap_intervals",
    "confusion_at",
    "load_matches",
    "match_detections",
    "measure",
    "measure_interleaved",
    "own_ious",
    "paired_ratio",
    "resampled_weights",
    "save_matches",
    "score_iou_correlation",
    "spearman",
    "weighted_ap",
    "weighted_correlation",
    "write_evaluation",
]
