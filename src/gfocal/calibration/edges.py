"""Intervals of edges: a scale, and how many times it errors may be at each level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.calibration.features import EdgeFeatures, IntArray
from gfocal.calibration.quantiles import FloatArray, level_index
from gfocal.calibration.scale import Scale


@dataclass(frozen=True)
class EdgeGroup:
    """The quantiles of a class, or of all others.

    Attributes:
        name: of the class; "" for all that have no group of their own.
        matches: boxes that they come from.
        edges: (4, L) of left, top, right, bottom at :data:`~gfocal.calibration.quantiles.LEVELS`, in units of the
            scale; NaN where there are too few boxes for the level: no error is too large then.
        box: (4, L) the same for all four together.
    """

    name: str
    matches: int
    edges: tuple[tuple[float, ...], ...]
    box: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class EdgeCalibration:
    """How far edges may be off.

    Attributes:
        scale: what intervals are proportional to.
        groups: the classes with quantiles of their own, and last the one for all others.
        candidates: by kind of scale, the mean over levels of its interval score over that of constant intervals, each
            box measured by scales that were fitted without its image: the smallest was taken.
        matches: boxes that found an object.
        images: that they are on.
    """

    scale: Scale
    groups: tuple[EdgeGroup, ...]
    candidates: dict[str, float]
    matches: int
    images: int

    def half_widths(
        self,
        features: EdgeFeatures,
        labels: IntArray | None,
        names: tuple[str, ...],
        level: float,
        *,
        whole_box: bool = False,
    ) -> FloatArray:
        """(N, 4) pixels, how far each edge may be off to either side; infinite where there are too few boxes to say.

        Args:
            features: of the boxes.
            labels: (N,) class of each; None: the group of all others.
            names: of the classes.
            level: the share of edges, or of whole boxes, that lie inside.
            whole_box: for all four edges together.

        Raises:
            UsageError: a level out of range, or features that the scale needs are missing.
        """
        place = level_index(level)
        count = len(next(values for values in vars(features).values() if values is not None))
        tables = [np.array(group.box if whole_box else group.edges)[:, place] for group in self.groups]
        factors = np.where(np.isnan(tables), np.inf, tables)
        chosen = np.full(count, len(self.groups) - 1)
        if labels is not None:
            own = {group.name: i for i, group in enumerate(self.groups[:-1])}
            by_label = np.array([own.get(name, len(self.groups) - 1) for name in names], np.int64)
            chosen = by_label[labels] if len(names) else chosen
        return factors[chosen] * self.scale.of(features, count)


def intervals(boxes: FloatArray, half_widths: FloatArray, limits: FloatArray | None) -> FloatArray:
    """(N, 4, 2) lowest and highest position of each edge, inside the image where its size is known.

    Objects lie inside their image: cutting an interval off there loses none.

    Args:
        boxes: (N, 4) xyxy in pixels.
        half_widths: (N, 4) pixels.
        limits: (N, 4) largest position of each edge; None if not known.
    """
    low, high = boxes - half_widths, boxes + half_widths
    if limits is not None:
        low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
    return np.stack([low, high], -1)
