"""How good a detector is and how fast: the COCO metrics, what scores and edge_std are worth, and speed."""

from gfocal.evaluation.agreement import own_ious, score_iou_correlation, spearman
from gfocal.evaluation.bootstrap import ap_intervals, resampled_weights, weighted_ap, weighted_correlation
from gfocal.evaluation.coco import STATS, CocoEvaluator, EvalResult
from gfocal.evaluation.ground_truth import GroundTruth
from gfocal.evaluation.matches import Matches, match_detections
from gfocal.evaluation.matches_file import load_matches, save_matches
from gfocal.evaluation.speed import measure, measure_interleaved, paired_ratio
from gfocal.evaluation.uncertainty import EdgeUncertainty

__all__ = [
    "STATS",
    "CocoEvaluator",
    "EdgeUncertainty",
    "EvalResult",
    "GroundTruth",
    "Matches",
    "ap_intervals",
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
]
