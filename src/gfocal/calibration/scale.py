"""How large the error of an edge is expected to be, up to a factor: what conformal intervals are proportional to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gfocal.calibration.features import EdgeFeatures
from gfocal.calibration.quantiles import FloatArray
from gfocal.errors import UsageError

ScaleKind = Literal["constant", "size", "edge_std", "quantiles", "model"]
KINDS: dict[ScaleKind, tuple[str, ...]] = {
    "constant": (),
    "size": ("boxes",),
    "edge_std": ("edge_std",),
    "quantiles": ("edge_std", "edge_probs"),
    "model": ("boxes", "scores", "image_size"),
}
"""What each looks at; ``model`` also at ``edge_std`` and ``levels`` where there are any."""
_LEAST = 1e-4
"""Of a standard deviation over the side of its box: below nothing is told apart, and 0 would promise no error."""
_SPREAD = (0.1, 0.9)


@dataclass(frozen=True)
class ScaleModel:
    """Side of the box times exp(a sum of pieces that are straight in a logarithm, and a step for each level).

    All of it is without a unit but for the side: an image of twice the size has twice the scale.

    Attributes:
        columns: names of the pieces, see :func:`columns_of`.
        knots: where the two straight pieces of each of the first columns meet.
        lows, highs: range of each column where it was fitted: beyond, the scale stays as it is at the end.
        weights: of the columns; not negative for those of ``edge_std``, not positive for those of the score.
        offset: the constant of the sum.
    """

    columns: tuple[str, ...]
    knots: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float


@dataclass(frozen=True)
class Scale:
    """How large errors are expected to be, up to a factor.

    Attributes:
        kind: what it is: "constant"; "size", the square root of the box's area; "edge_std"; "quantiles", half of what
            lies between the 10 % and the 90 % quantile of an edge's distribution; or "model".
        model: of that kind.
    """

    kind: ScaleKind
    model: ScaleModel | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of :class:`EdgeFeatures` that it looks at."""
        own = list(KINDS[self.kind])
        if self.model is not None:
            own += ["edge_std"] * any(name.startswith("edge_std") for name in self.model.columns)
            own += ["levels"] * any(name.startswith("level") for name in self.model.columns)
        return tuple(own)

    def of(self, features: EdgeFeatures, count: int) -> FloatArray:
        """(N, 4) of the edges of ``count`` boxes, above 0.

        Raises:
            UsageError: the boxes lack what it looks at.
        """
        missing = [name for name in self.needs if getattr(features, name) is None]
        if missing:
            raise UsageError(
                f"the edges' intervals are scaled by {', '.join(missing)}, which these detections do not have: "
                "use the detector that was calibrated, or export it again"
            )
        if self.kind == "constant":
            return np.ones((count, 4))
        if self.kind == "size":
            return np.repeat(_size(features), 4, axis=1)
        if self.kind == "edge_std":
            return _std(features)
        if self.kind == "quantiles":
            return _spread(features)
        assert self.model is not None
        raw = columns_of(features, self.model.knots, self.model.columns)
        columns = np.clip(raw, self.model.lows, self.model.highs)
        sum_ = columns @ np.array(self.model.weights) + self.model.offset
        scale: FloatArray = _sides(features) * np.exp(np.clip(sum_, -50, 50))
        return scale


LOGARITHMS = ("edge_std", "score", "aspect", "size")
"""What a model looks at by its logarithm, each in two straight pieces: ``edge_std`` over the side of the box, the odds
of the score, the other side over this one, the side over that of the image."""


def logarithms_of(features: EdgeFeatures) -> dict[str, FloatArray]:
    """(N, 4) of each of :data:`LOGARITHMS` that there is."""
    assert features.boxes is not None
    assert features.scores is not None
    limits = features.limits
    assert limits is not None
    sides = _sides(features)
    chance = np.clip(np.asarray(features.scores, np.float64), 1e-4, 1 - 1e-4)
    found = {} if features.edge_std is None else {"edge_std": np.log(_std(features) / sides)}
    return {
        **found,
        "score": np.repeat(np.log(chance / (1 - chance))[:, None], 4, 1),
        "aspect": np.log(sides[:, [1, 0, 3, 2]] / sides),
        "size": np.log(sides / np.maximum(limits, 1)),
    }


def columns_of(features: EdgeFeatures, knots: tuple[float, ...], names: tuple[str, ...]) -> FloatArray:
    """(N, 4, K) of columns ``names``: "edge_std <" and "edge_std >", the pieces on both sides of a knot; "level 1"."""
    pieces = logarithms_of(features)
    kinds = [name for name in LOGARITHMS if f"{name} <" in names]
    columns: dict[str, FloatArray] = {}
    for kind, knot in zip(kinds, knots, strict=True):
        columns[f"{kind} <"] = np.minimum(pieces[kind] - knot, 0)
        columns[f"{kind} >"] = np.maximum(pieces[kind] - knot, 0)
    if features.levels is not None:
        for name in names:
            if name.startswith("level "):
                columns[name] = np.repeat((features.levels == int(name[6:]))[:, None].astype(np.float64), 4, 1)
    return np.stack([columns[name] for name in names], -1)


def _sides(features: EdgeFeatures) -> FloatArray:
    """(N, 4) length of the box along each edge's axis: width, height, width, height."""
    boxes = np.asarray(features.boxes, np.float64)
    sides: FloatArray = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)[:, [0, 1, 0, 1]]
    return sides


def _size(features: EdgeFeatures) -> FloatArray:
    """(N, 1) square root of the area."""
    sides = _sides(features)
    size: FloatArray = np.sqrt(sides[:, :1] * sides[:, 1:2])
    return size


def _std(features: EdgeFeatures) -> FloatArray:
    least = 1e-6 if features.boxes is None else _LEAST * _sides(features)
    std: FloatArray = np.maximum(np.asarray(features.edge_std, np.float64), least)
    return std


def _spread(features: EdgeFeatures) -> FloatArray:
    """(N, 4) pixels. How far apart bins are follows from ``edge_std``, the same distribution's deviation."""
    probs = np.asarray(features.edge_probs, np.float64)
    bins = np.arange(probs.shape[-1])
    mean = probs @ bins
    deviation = np.sqrt(np.maximum((probs * (bins - mean[..., None]) ** 2).sum(-1), 0))
    below = np.cumsum(probs, -1)
    low, high = (_quantile(below, share) for share in _SPREAD)
    std = _std(features)
    wide: FloatArray = std / np.maximum(deviation, 1e-9) * (high - low) / 2
    return np.where(deviation > 1e-9, np.maximum(wide, 0.1 * std), std)


def _quantile(below: FloatArray, share: float) -> FloatArray:
    """Where cumulative probabilities (..., n + 1) reach a share, in bins, each bin spread over its own width."""
    last = below.shape[-1] - 1
    place = np.minimum((below < share * below[..., -1:]).sum(-1), last)
    before = np.where(place > 0, np.take_along_axis(below, np.maximum(place - 1, 0)[..., None], -1)[..., 0], 0.0)
    own = np.take_along_axis(below, place[..., None], -1)[..., 0] - before
    within = np.where(own > 0, (share * below[..., -1] - before) / np.maximum(own, 1e-12), 0.5)
    quantile: FloatArray = place - 0.5 + np.clip(within, 0, 1)
    return quantile
