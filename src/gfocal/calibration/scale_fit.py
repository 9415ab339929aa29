"""Fitting the scale of edges' errors."""

from __future__ import annotations

import numpy as np

from gfocal.calibration.features import EdgeFeatures
from gfocal.calibration.quantiles import FloatArray
from gfocal.calibration.scale import KINDS, LOGARITHMS, Scale, ScaleKind, ScaleModel, columns_of, logarithms_of

POWER = 1.5
"""The model fits the mean of ``|error| ** POWER``: between the mean and the square, so that the tails, which wide
intervals are about, have their say without one error deciding all."""
_RIDGE = 1e-3
_SMALLEST = 1e-4  # of an error over the side of its box: below labels are not that exact
_SIGNS = {"edge_std": 1, "score": -1}


def possible_kinds(features: EdgeFeatures) -> list[ScaleKind]:
    """The scales that these boxes have what it takes for."""
    return [kind for kind, needs in KINDS.items() if all(getattr(features, name) is not None for name in needs)]


def fit_scale(kind: ScaleKind, features: EdgeFeatures, errors: FloatArray) -> Scale:
    """A scale of a kind; only the model has something to learn.

    Args:
        kind: one of :func:`possible_kinds`.
        features: of N boxes, at least one.
        errors: (N, 4) pixels.
    """
    return Scale(kind, _fit_model(features, errors) if kind == "model" else None)


def _fit_model(features: EdgeFeatures, errors: FloatArray) -> ScaleModel:
    """Minimise the mean of y / s + log s over the edges, s = exp(columns @ weights + offset), y = |error / side|^POWER.

    That is the likelihood of exponentially distributed y with mean s: convex in the weights. A weight of the wrong sign
    is set to 0 and the rest fitted again: a wider distribution never has a narrower interval, a better score never a
    wider one.
    """
    pieces = logarithms_of(features)
    kinds = [name for name in LOGARITHMS if name in pieces]
    knots = tuple(float(np.median(pieces[name])) for name in kinds)
    names = [f"{name} {side}" for name in kinds for side in "<>"]
    if features.levels is not None:
        names += [f"level {level}" for level in np.unique(features.levels).tolist()[1:]]
    columns = columns_of(features, knots, tuple(names)).reshape(-1, len(names))
    assert features.boxes is not None
    sides = np.maximum(features.boxes[:, 2:] - features.boxes[:, :2], 1e-3)[:, [0, 1, 0, 1]]
    target = np.maximum(np.abs(errors) / sides, _SMALLEST).ravel() ** POWER
    spread = columns.std(0)
    signs = np.array([_SIGNS.get(name[:-2], 0) for name in names])
    free = spread > 1e-9
    while True:
        weights = np.zeros(len(names))
        own, offset = _solve(columns[:, free] / spread[free], target)
        weights[free] = own / spread[free] / POWER
        wrong = signs * weights < 0
        if not wrong.any():
            break
        free &= ~wrong
    return ScaleModel(
        columns=tuple(names),
        knots=knots,
        lows=tuple(columns.min(0).tolist()),
        highs=tuple(columns.max(0).tolist()),
        weights=tuple(weights.tolist()),
        offset=offset / POWER,
    )


def _solve(columns: FloatArray, target: FloatArray) -> tuple[FloatArray, float]:
    """Newton's method; columns of deviation 1, weights drawn towards 0 by a little."""
    centre = columns.mean(0)
    design = np.concatenate([columns - centre, np.ones((len(columns), 1))], 1)
    weights = np.zeros(design.shape[1])
    weights[-1] = np.log(target.mean())
    ridge = _RIDGE * len(target) * np.diag([1.0] * len(centre) + [0.0])
    for _ in range(100):
        share = target * np.exp(-(design @ weights))
        slope = design.T @ (1 - share) + ridge @ weights
        curve = (design * share[:, None]).T @ design + ridge + 1e-9 * len(target) * np.eye(len(weights))
        step = np.clip(np.linalg.solve(curve, slope), -1, 1)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights[:-1], float(weights[-1] - centre @ weights[:-1])
