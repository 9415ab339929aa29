"""Fitting intervals of edges: scales by cross-fitting over images, then conformal quantiles of the scaled errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gfocal.calibration.edges import EdgeCalibration, EdgeGroup, intervals
from gfocal.calibration.features import EdgeSamples, IntArray
from gfocal.calibration.measures import interval_score
from gfocal.calibration.quantiles import FloatArray, box_table, conformal_quantile, edge_table
from gfocal.calibration.scale import ScaleKind
from gfocal.calibration.scale_fit import fit_scale, possible_kinds
from gfocal.errors import UsageError
from gfocal.utils.text import counted

FOLDS = 5
LEAST_MATCHES = 20
"""Fewer boxes say nothing of an error that one in 20 goes beyond."""
OWN_GROUP = 100
"""From this many boxes on a class has quantiles of its own."""
REPORTED = (0.5, 0.8, 0.9, 0.95)
"""Levels that scales are chosen for, and that reports show."""


def fit_edges(samples: EdgeSamples, *, kinds: Sequence[ScaleKind] | None = None, seed: int = 0) -> EdgeCalibration:
    """Intervals for edges like these.

    Images are divided into five folds. The errors of each are divided by a scale that was fitted on the other four, so
    that they are as large as they will be on new images. The kind of scale with the smallest interval score, relative
    to constant intervals and averaged over the levels 50, 80, 90 and 95 %, is taken and fitted on all images. Quantiles
    are those of the divided errors, edge by edge (of whole boxes by the max-rank rule), and of each class that has at
    least 100 boxes; all others share theirs.

    Args:
        samples: boxes that found an object, of images that the detector did not learn from.
        kinds: of scales to try; by default those that the samples have what it takes for.
        seed: of the folds.

    Raises:
        UsageError: fewer than 20 boxes, or of a single image.
    """
    if len(samples) < LEAST_MATCHES or len(np.unique(samples.images)) < 2:
        raise UsageError(
            f"{counted(len(samples), 'found object')} on {counted(len(np.unique(samples.images)), 'picture')} are too "
            f"few to calibrate edges: it takes {LEAST_MATCHES} on two pictures"
        )
    scales = {kind: _unseen_scale(samples, kind, seed) for kind in kinds or possible_kinds(samples.features)}
    base = _costs(samples, np.ones_like(samples.errors))
    candidates = {kind: float(np.mean(_costs(samples, scale) / base)) for kind, scale in scales.items()}
    best = min(scales, key=lambda kind: candidates[kind])
    return EdgeCalibration(
        scale=fit_scale(best, samples.features, samples.errors),
        groups=_groups(np.abs(samples.errors) / scales[best], samples),
        candidates={str(kind): cost for kind, cost in candidates.items()},
        matches=len(samples),
        images=len(np.unique(samples.images)),
    )


def _unseen_scale(samples: EdgeSamples, kind: ScaleKind, seed: int) -> FloatArray:
    """(N, 4) the scale of each box by a fit that has not seen its image."""
    if kind != "model":
        return fit_scale(kind, samples.features, samples.errors).of(samples.features, len(samples))
    fold = samples.folds(FOLDS, seed)
    scale = np.empty_like(samples.errors)
    for own in np.unique(fold):
        rest, mine = samples.only(fold != own), fold == own
        fitted = fit_scale(kind, rest.features, rest.errors)
        scale[mine] = fitted.of(samples.features.only(mine), int(mine.sum()))
    return scale


def _costs(samples: EdgeSamples, scale: FloatArray) -> FloatArray:
    """(R,) mean interval score at each of :data:`REPORTED`; those for which there are too few boxes are left out."""
    boxes = np.zeros_like(samples.errors) if samples.features.boxes is None else samples.features.boxes
    limits = None if samples.features.boxes is None else samples.features.limits
    scores, costs = np.abs(samples.errors) / scale, []
    for level in REPORTED:
        factors = np.array([conformal_quantile(scores[:, k], level) for k in range(4)])
        if np.isfinite(factors).all():
            found = intervals(boxes, factors * scale, limits)
            costs.append(float(interval_score(found, boxes + samples.errors, level).mean()))
    return np.maximum(costs, 1e-12)  # errors that are all 0 have intervals of no width


def _groups(scores: FloatArray, samples: EdgeSamples) -> tuple[EdgeGroup, ...]:
    """Of each class with enough boxes, and last of all others: of all boxes where the others are too few."""
    rest = np.ones(len(scores), bool)
    groups = []
    if samples.labels is not None:
        counts = np.bincount(samples.labels, minlength=len(samples.names))
        for label in np.flatnonzero(counts >= OWN_GROUP).tolist():
            # Two classes of one name cannot be told apart by it.
            if samples.names.count(samples.names[label]) == 1:
                mine = samples.labels == label
                groups.append(_group(samples.names[label], scores[mine]))
                rest &= ~mine
    return (*groups, _group("", scores[rest] if rest.sum() >= OWN_GROUP else scores))


def _group(name: str, scores: FloatArray) -> EdgeGroup:
    def rows(table: FloatArray) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(_rounded_up(value) for value in row) for row in table.tolist())

    return EdgeGroup(name, len(scores), rows(edge_table(scores)), rows(box_table(scores)))


def _rounded_up(value: float) -> float:
    """To five digits, upwards, so that no promise is lost; NaN for infinite, which files do not have."""
    if not math.isfinite(value):
        return math.nan
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 4)
    return float(f"{math.ceil(value / step * (1 - 1e-12)) * step:.10g}")


def cross_fitted(
    samples: EdgeSamples, levels: Sequence[float], *, kinds: Sequence[ScaleKind] | None = None, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Half-widths that say what a calibration is worth: each box by one that has not seen its image.

    Args:
        samples: see :func:`fit_edges`.
        levels: R of them.
        kinds: of scales to try; one alone is taken as it is.
        seed: of the folds, outer and inner.

    Returns:
        (R, N, 4) pixels of each edge, and (R, N, 4) of whole boxes.
    """
    fold = outer_folds(samples, seed)
    edges = np.empty((len(levels), *samples.errors.shape))
    boxes = np.empty_like(edges)
    for own in np.unique(fold):
        mine = fold == own
        fitted = fit_edges(samples.only(~mine), kinds=kinds, seed=seed)
        held = samples.only(mine)
        for i, level in enumerate(levels):
            known = (held.features, held.labels, held.names, level)
            edges[i, mine] = fitted.half_widths(*known)
            boxes[i, mine] = fitted.half_widths(*known, whole_box=True)
    return edges, boxes


def outer_folds(samples: EdgeSamples, seed: int) -> IntArray:
    """(N,) folds of :func:`cross_fitted`, others than those inside of it.

    Raises:
        UsageError: without one of them too few boxes are left.
    """
    fold = samples.folds(FOLDS, seed + 1000)
    left = len(samples) - int(np.bincount(fold).max()) if len(samples) else 0
    if left < LEAST_MATCHES:
        raise UsageError(
            f"{counted(len(samples), 'found object')} are too few to measure a calibration on some and fit it on the "
            f"others: give more pictures"
        )
    return fold
