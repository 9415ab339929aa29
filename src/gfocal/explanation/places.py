"""Where the bins of edges lie in an image, and which part of it shows a box."""

from __future__ import annotations

import numpy as np

from gfocal.calibration.quantiles import FloatArray

_LEAST = 1e-4  # bins: a distribution narrower than that tells nothing of how far apart its bins are


def bins_by_origin(origins: FloatArray, steps: FloatArray, count: int) -> FloatArray:
    """(N, 4, count) pixels, where each bin of left, top, right, bottom lies.

    Args:
        origins: (N, 4) pixels, where the first bin of each lies: at the point.
        steps: (N, 4) signed pixels from a bin to the next: negative for left and top.
        count: bins.
    """
    return origins[..., None] + steps[..., None] * np.arange(count)


def bins_by_edge(edges: FloatArray, probs: FloatArray, steps: FloatArray) -> FloatArray:
    """The same where the point is not known: bins lie as far from an edge as from the mean of its distribution.

    Args:
        edges: (N, 4) pixels. Those that were cut off at the border of the image are off, and so are their bins.
        probs: (N, 4, n + 1).
        steps: see :func:`bins_by_origin`.
    """
    bins = np.arange(probs.shape[-1])
    return edges[..., None] + (bins - (probs @ bins)[..., None]) * steps[..., None]


def steps_by_spread(edge_std: FloatArray, probs: FloatArray) -> FloatArray | None:
    """(N, 4) signed pixels from a bin to the next, from standard deviations in pixels and in bins.

    None where distributions are too narrow to tell.
    """
    bins = np.arange(probs.shape[-1])
    spread = np.sqrt((probs * (bins - (probs @ bins)[..., None]) ** 2).sum(-1))
    known = spread > _LEAST
    steps = np.divide(edge_std, spread, out=np.full_like(spread, np.nan), where=known)
    # The edge across has the same steps; where that tells nothing either, those of the other axis are the best guess.
    for other in ([2, 3, 0, 1], [1, 0, 3, 2]):
        steps = np.where(np.isnan(steps), steps[:, other], steps)
    return None if np.isnan(steps).any() else steps * np.array([-1.0, -1, 1, 1])


def window(boxes: FloatArray, height: int, width: int) -> tuple[float, float, float, float]:
    """A crop round some boxes with room for what lies beside them, inside the image: square where that has room.

    Args:
        boxes: (N, 4) xyxy in pixels, N at least 1.
        height, width: of the image.

    Returns:
        xyxy in pixels.
    """
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    size = np.array([width, height], np.float64)
    sides = np.minimum(1.7 * float((high - low).max()) + 12, size)
    corner = np.clip((low + high - sides) / 2, 0, size - sides)
    return float(corner[0]), float(corner[1]), float(corner[0] + sides[0]), float(corner[1] + sides[1])
