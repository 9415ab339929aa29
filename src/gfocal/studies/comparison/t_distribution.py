"""Quantiles of Student's t, for any number of degrees of freedom."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

_MANY = 1e6  # from here on it is a normal distribution, to 5 digits
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def t_quantile(level: float, dof: float) -> float:
    """How many standard errors an interval of confidence ``level`` reaches to each side.

    With t = √ν tan θ the density is proportional to cos θ to the power ν - 1, a smooth function on a bounded range:
    its integral is taken by Gauss-Legendre, and θ found by bisection.

    Args:
        level: in (0, 1), such as 0.95.
        dof: ν >= 1, not necessarily whole; infinity is the normal distribution.

    Returns:
        > 0, to 5 digits: 12.706 for a ``level`` of 0.95 and one degree of freedom, 1.960 for infinitely many.

    Raises:
        ValueError: ``level`` or ``dof`` is out of range.
    """
    if not (0 < level < 1 and dof >= 1):
        raise ValueError(f"no quantile of Student's t at level {level} with {dof} degrees of freedom")
    if dof >= _MANY:
        return NormalDist().inv_cdf((1 + level) / 2)
    scale = 2 * math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2)) / math.sqrt(math.pi)

    def within(angle: float) -> float:
        """The chance of |t| <= √ν tan ``angle``."""
        powers = np.cos((_NODES + 1) * angle / 2) ** (dof - 1)
        return scale * float(_WEIGHTS @ powers) * angle / 2

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < level else (low, middle)
    return math.sqrt(dof) * math.tan((low + high) / 2)
