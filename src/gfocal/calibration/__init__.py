"""Calibration: intervals that hold the true edge as often as they say, and scores that are chances. Needs numpy alone.

:func:`calibrate_distributions` is for detectors of other projects; what ``gfocal calibrate`` does is made of the rest.
"""

from gfocal.calibration.distributions import DistributionCalibration, calibrate_distributions
from gfocal.calibration.edges import EdgeCalibration
from gfocal.calibration.edges_fit import cross_fitted, fit_edges
from gfocal.calibration.features import EdgeFeatures, EdgeSamples
from gfocal.calibration.measures import d_ece, interval_score, la_ece, lrp, share_of
from gfocal.calibration.quantiles import box_table, conformal_quantile, edge_table
from gfocal.calibration.scores import ScoreCalibration, Threshold
from gfocal.calibration.scores_fit import ScoreSamples, cross_fitted_scores, fit_scores
from gfocal.calibration.stored import Calibration
from gfocal.calibration.tracking import box_covariance, box_measurement, measurement_noise

__all__ = [
    "Calibration",
    "DistributionCalibration",
    "EdgeCalibration",
    "EdgeFeatures",
    "EdgeSamples",
    "ScoreCalibration",
    "ScoreSamples",
    "Threshold",
    "box_covariance",
    "box_measurement",
    "box_table",
    "calibrate_distributions",
    "conformal_quantile",
    "cross_fitted",
    "cross_fitted_scores",
    "d_ece",
    "edge_table",
    "fit_edges",
    "fit_scores",
    "interval_score",
    "la_ece",
    "lrp",
    "measurement_noise",
    "share_of",
]
