"""Calibrated edges for any detector with distributions: YOLOv8 and its kin, D-FINE, GFL of other projects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gfocal.calibration.edges import EdgeCalibration
from gfocal.calibration.edges_fit import fit_edges
from gfocal.calibration.features import EdgeFeatures, EdgeSamples
from gfocal.calibration.quantiles import FloatArray
from gfocal.errors import UsageError


@dataclass(frozen=True)
class DistributionCalibration:
    """What :func:`calibrate_distributions` found.

    Attributes:
        edges: which scale was taken, what the others cost, and the quantiles.
        logits: whether distributions are given as logits.
    """

    edges: EdgeCalibration
    logits: bool

    def half_widths(
        self, distributions: ArrayLike, positions: ArrayLike, level: float, *, whole_box: bool = False
    ) -> FloatArray:
        """(N, 4) pixels, how far each edge may be off to either side; infinite where there are too few boxes to say.

        Args:
            distributions, positions: as :func:`calibrate_distributions` takes them, of any boxes.
            level: share of edges, or of whole boxes, that lie inside.
            whole_box: for all four edges together.

        Raises:
            UsageError: shapes do not fit, a number is not finite, or the level is out of range.
        """
        features = features_of(distributions, positions, logits=self.logits)
        return self.edges.half_widths(features, None, (), level, whole_box=whole_box)


def calibrate_distributions(
    distributions: ArrayLike,
    positions: ArrayLike,
    errors: ArrayLike,
    *,
    images: ArrayLike,
    logits: bool = True,
    seed: int = 0,
) -> DistributionCalibration:
    """Conformal intervals for edges with a distribution over bins, of any detector; nothing of gfocal's is needed.

    Tries constant intervals, and such as are proportional to the deviation or to the 10-90 % spread of each
    distribution, and takes what has the smallest interval score on images that were not used.

    Args:
        distributions: (N, 4, n + 1) logits or probabilities of the bins of left, top, right, bottom, of N boxes that
            found an object (such as IoU 0.5, best score first).
        positions: where the bins are, in pixels and equally far apart: (n + 1,), or (N, n + 1) where strides or images
            differ; such as ``stride * np.arange(16)`` for YOLOv8.
        errors: (N, 4) position of the object's edge less that of the box, pixels.
        images: (N,) a number for the image of each box. Boxes of one image are alike, so folds go by images.
        logits: whether ``distributions`` are logits; False: probabilities, whose sums are 1.
        seed: of the folds.

    Raises:
        UsageError: shapes do not fit, a number is not finite, bins are not equally far apart, probabilities do not add
            up to 1, or there are fewer than 20 boxes or only one image.

    Example:
        >>> random = np.random.default_rng(0)
        >>> wide = np.repeat([1.0, 4.0], 200)[:, None, None]
        >>> logits = -0.5 * ((np.arange(17) - 8) / wide) ** 2 * np.ones((400, 4, 1))
        >>> errors = 8 * wide[:, :, 0] * random.normal(size=(400, 4))
        >>> found = calibrate_distributions(logits, 8.0 * np.arange(17), errors, images=np.arange(400) // 4)
        >>> sharp, vague = found.half_widths(logits[[0, -1]], 8.0 * np.arange(17), 0.9)[:, 0]
        >>> bool(vague > 3 * sharp)
        True
    """
    features = features_of(distributions, positions, logits=logits)
    own = np.asarray(errors, np.float64)
    samples = EdgeSamples(features, own, np.asarray(images))
    return DistributionCalibration(fit_edges(samples, seed=seed), logits)


def features_of(distributions: ArrayLike, positions: ArrayLike, *, logits: bool) -> EdgeFeatures:
    """Deviation and probabilities of distributions over bins, see :func:`calibrate_distributions`."""
    values, places = np.asarray(distributions, np.float64), np.asarray(positions, np.float64)
    if values.ndim != 3 or values.shape[1] != 4 or values.shape[2] < 2:
        raise UsageError(f"distributions must have shape (N, 4, n + 1) with two bins or more, got {values.shape}")
    count, bins = len(values), values.shape[2]
    if places.shape not in ((bins,), (count, bins)):
        raise UsageError(f"positions must have shape ({bins},) or ({count}, {bins}), got {places.shape}")
    if not (np.isfinite(values).all() and np.isfinite(places).all()):
        raise UsageError("distributions and positions must be finite: leave boxes with other numbers out")
    steps = np.diff(places, axis=-1)
    if len(places) and not (np.allclose(steps, steps[..., :1]) and (steps > 0).all()):
        raise UsageError("positions must ascend by equal steps")
    if logits:
        values = np.exp(values - values.max(-1, keepdims=True))
        values = values / values.sum(-1, keepdims=True)
    elif values.min(initial=0.0) < 0 or not np.allclose(values.sum(-1), 1, atol=1e-3):
        raise UsageError("probabilities must not be negative, and those of an edge add up to 1; or say logits=True")
    places = np.broadcast_to(places, (count, bins))[:, None, :]
    mean = (values * places).sum(-1, keepdims=True)
    std = np.sqrt((values * (places - mean) ** 2).sum(-1))
    return EdgeFeatures(edge_std=std, edge_probs=values)
