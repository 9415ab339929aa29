"""Is ``edge_std`` what it says? Errors of edges beside the deviations that were predicted for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.agreement import spearman
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import IOU, Matching
from gfocal.evaluation.uncertainty import MIN_EDGES

NOMINAL = (0.5, 0.8, 0.9)
"""Shares of a normal distribution."""
REACH = (0.6744897501960817, 1.2815515655446004, 1.6448536269514722)
"""Within so many standard deviations of its mean these shares lie."""
_SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class EdgeGroup:
    """Edges of some objects that were found.

    Attributes:
        objects: how many; each has four edges.
        smallest, largest: square root of the area of the objects, pixels; None without objects.
        inside: share of the edges within 0.67, 1.28 and 1.64 standard deviations of the detection's edge: of a normal
            distribution 50, 80 and 90 %; None without objects, as the next two.
        error, edge_std: their median in pixels.
        correlation: Spearman's, of ``edge_std`` and error; None below 20 edges or where one of them is constant.
    """

    objects: int
    smallest: float | None
    largest: float | None
    inside: tuple[float, ...] | None
    error: float | None
    edge_std: float | None
    correlation: float | None


@dataclass(frozen=True)
class EdgeTenth:
    """A tenth of the edges, by ``edge_std``: how many, and the medians of ``edge_std`` and error in pixels."""

    edges: int
    edge_std: float
    error: float


@dataclass(frozen=True)
class EdgeCalibration:
    """What ``edge_std`` is worth.

    Attributes:
        matching_iou: from where on a detection has found an object of its class, greedily in the order of the scores.
        nominal: of ``inside``.
        overall: all objects that were found.
        sizes: thirds of them by size: small, medium, large.
        tenths: of all edges, the surest first; () of fewer than 20 edges.
    """

    matching_iou: float
    nominal: tuple[float, ...]
    overall: EdgeGroup
    sizes: dict[str, EdgeGroup]
    tenths: tuple[EdgeTenth, ...]


def edge_calibration(findings: Findings, matching: Matching) -> EdgeCalibration | None:
    """Errors of the edges of all detections that found an object, beside their ``edge_std``.

    Args:
        findings: of all images.
        matching: what :func:`gfocal.evaluation.thresholds.matching.match` says of them.

    Returns:
        None where the boxes come without ``edge_std``.
    """
    if findings.edge_std is None:
        return None
    own = np.flatnonzero(matching.right)
    truth = np.asarray(findings.index.boxes[matching.object[own]], np.float64).reshape(-1, 4)
    errors = np.abs(findings.boxes[own] - truth)
    stds = findings.edge_std[own].astype(np.float64)
    sides = np.sqrt((truth[:, 2:] - truth[:, :2]).clip(min=0).prod(1))
    bounds = np.quantile(sides, (1 / 3, 2 / 3)) if len(sides) else np.zeros(2)
    third = np.searchsorted(bounds, sides, side="left")  # equal sizes stay together
    sizes = {name: _group(errors[third == i], stds[third == i], sides[third == i]) for i, name in enumerate(_SIZES)}
    return EdgeCalibration(IOU, NOMINAL, _group(errors, stds, sides), sizes, _tenths(errors.ravel(), stds.ravel()))


def _tenths(errors: FloatArray, stds: FloatArray) -> tuple[EdgeTenth, ...]:
    if len(errors) < MIN_EDGES:
        return ()
    parts = np.array_split(np.argsort(stds, kind="stable"), 10)
    return tuple(EdgeTenth(len(own), float(np.median(stds[own])), float(np.median(errors[own]))) for own in parts)


def _group(errors: FloatArray, stds: FloatArray, sides: FloatArray) -> EdgeGroup:
    if not len(sides):
        return EdgeGroup(0, None, None, None, None, None, None)
    return EdgeGroup(
        objects=len(sides),
        smallest=float(sides.min()),
        largest=float(sides.max()),
        inside=tuple(float((errors <= reach * stds).mean()) for reach in REACH),
        error=float(np.median(errors)),
        edge_std=float(np.median(stds)),
        correlation=spearman(stds.ravel(), errors.ravel()) if errors.size >= MIN_EDGES else None,
    )
