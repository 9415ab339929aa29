"""What a ranking is worth: AUROC, and precision among the first."""

from __future__ import annotations

import numpy as np

from gfocal.evaluation.ground_truth import BoolArray, FloatArray


def auroc(scores: FloatArray, faulty: BoolArray) -> float | None:
    """The chance that a fault ranks above what is none; ties count half. None without one of either.

    Args:
        scores: (N,), the larger the more suspect.
        faulty: (N,).
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    bad, good = int(faulty.sum()), int((~faulty).sum())
    if not bad or not good:
        return None
    return float((ranks[faulty].sum() - bad * (bad + 1) / 2) / (bad * good))


def precision_at(scores: FloatArray, faulty: BoolArray, first: int = 50) -> float | None:
    """Share of faults among the first, of fewer where there are fewer; of equal scores all count in part.

    None without any.
    """
    count = min(first, len(scores))
    if not count:
        return None
    last = np.sort(scores)[::-1][count - 1]
    above, tied = scores > last, scores == last
    right = faulty[above].sum() + faulty[tied].mean() * (count - above.sum())
    return float(right / count)
