"""How much a Kalman filter should believe each edge: the covariance of a box as trackers measure it."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np

from gfocal.calibration.quantiles import FloatArray, check_level
from gfocal.detections import Detections
from gfocal.errors import UsageError, require_number

MeasurementForm = Literal["xyxy", "cxcywh", "cxcyah", "cxcysr"]
FORMS: tuple[MeasurementForm, ...] = get_args(MeasurementForm)
LEAST_STD = 0.5
"""Pixels. A filter that is told of no error at all follows every jump of that edge."""
_LEAST_SIDE = 1.0  # pixels: the ratio of thinner boxes says nothing, and its derivative has no end
_LEVEL = 0.9


def box_measurement(boxes: FloatArray, form: MeasurementForm = "xyxy") -> FloatArray:
    """Boxes as trackers measure them.

    Args:
        boxes: (N, 4) xyxy in pixels.
        form: "xyxy"; "cxcywh", centre, width and height; "cxcyah", centre, width / height and height; or "cxcysr",
            centre, area and width / height. Sides count as 1 pixel at least.

    Returns:
        (N, 4) float64.

    Raises:
        UsageError: another shape, numbers that are not finite, or no such form.

    Example:
        >>> box_measurement(np.array([[10.0, 20.0, 50.0, 40.0]]), "cxcysr").tolist()
        [[30.0, 30.0, 800.0, 2.0]]
    """
    _check_form(form)
    edges = _rows("boxes", boxes)
    if form == "xyxy":
        return edges
    centre, (width, height) = (edges[:, :2] + edges[:, 2:]) / 2, _sides(edges)
    rest = {"cxcywh": (width, height), "cxcyah": (width / height, height), "cxcysr": (width * height, width / height)}
    return np.concatenate([centre, np.stack(rest[form], 1)], 1)


def box_covariance(
    boxes: FloatArray, edge_std: FloatArray, form: MeasurementForm = "xyxy", *, least: float = LEAST_STD
) -> FloatArray:
    """The covariance of :func:`box_measurement`, of edges that err independently: R of a Kalman filter.

    J diag(edge_std²) Jᵀ, where J has the derivatives of the measurement with respect to left, top, right and bottom.
    That is exact for "xyxy" and "cxcywh". For the area and the ratio it is the first order, good while deviations are
    small beside the sides: of an area it leaves out the product of the variances of width and height.

    It is not diagonal but for "xyxy": where the right edge is less certain than the left one, the centre and the width
    err together.

    Args:
        boxes: (N, 4) xyxy in pixels.
        edge_std: (N, 4) standard deviation of left, top, right and bottom, pixels, not below 0.
        form: see :func:`box_measurement`.
        least: smaller deviations count as this, pixels, above 0.

    Returns:
        (N, 4, 4) float64, symmetric and positive definite; pixels² for pixels.

    Raises:
        UsageError: a shape does not fit, a number is not finite or a deviation is negative, or there is no such form.

    Example:
        >>> box_covariance(np.array([[10.0, 20.0, 50.0, 40.0]]), np.array([[1.0, 2.0, 3.0, 2.0]]), "cxcywh")[0].tolist()
        [[2.5, 0.0, 4.0, 0.0], [0.0, 2.0, 0.0, 0.0], [4.0, 0.0, 10.0, 0.0], [0.0, 0.0, 0.0, 8.0]]
    """
    _check_form(form)
    require_number("least", least)
    if not 0 < least < math.inf:
        raise UsageError(f"least must be a number of pixels above 0, got {least:g}")
    edges, std = _rows("boxes", boxes), _rows("edge_std", edge_std)
    if len(std) != len(edges):
        raise UsageError(f"edge_std must have a row for each of {len(edges)} boxes, got {len(std)}")
    if (std < 0).any():
        raise UsageError("edge_std has a negative number: it is the standard deviation of an edge")
    spread = _derivatives(edges, form) * np.maximum(std, least)[:, None, :]
    covariance: FloatArray = spread @ spread.transpose(0, 2, 1)
    return covariance


def measurement_noise(
    found: Detections, form: MeasurementForm = "xyxy", *, level: float = _LEVEL, least: float = LEAST_STD
) -> FloatArray:
    """How far off each detection may be, as the measurement noise R of a Kalman tracker.

    Of a calibrated detector from its intervals, else from ``edge_std``, which may be too wide or too narrow as a whole
    by a factor of two and more. See docs/tracking.md.

    Args:
        found: detections of one image.
        form: what the tracker measures, see :func:`box_measurement`.
        level: of the calibrated intervals that deviations are read from, as if errors were normal; real errors have
            more that are far off, so that a higher level gives larger deviations, and a filter that follows them less.
        least: smaller deviations count as this, pixels.

    Returns:
        (N, 4, 4) float64, see :func:`box_covariance`.

    Raises:
        UsageError: there are neither distributions nor a calibration; the calibration does not hold as the detector is
            used, or has too few objects for the level; or an argument is out of its range.
    """
    check_level(level)
    own = found.numpy()
    boxes = np.asarray(own.boxes, np.float64)
    if found.calibration is not None:
        ends = np.asarray(found.calibration.edge_interval(own, level), np.float64)
        # Intervals are as wide to both sides, but end at the image: the longer side is the whole half-width.
        half = np.maximum(boxes - ends[..., 0], ends[..., 1] - boxes)
        if not np.isfinite(half).all():
            raise UsageError(
                f"the calibration had too few objects for intervals of {100 * level:g} %: take a lower level"
            )
        return box_covariance(boxes, half / NormalDist().inv_cdf((1 + level) / 2), form, least=least)
    if own.edge_std is None:
        raise UsageError(
            "these boxes have no distributions of their edges, and the detector is not calibrated: nothing says how "
            "far they may be off. `gfocal calibrate MODEL --data DATA` finds it out"
        )
    return box_covariance(boxes, np.asarray(own.edge_std, np.float64), form, least=least)


def _derivatives(edges: FloatArray, form: MeasurementForm) -> FloatArray:
    """(N, 4, 4): of each number of the measurement (rows), by left, top, right and bottom (columns)."""
    found = np.zeros((len(edges), 4, 4))
    if form == "xyxy":
        found[:] = np.eye(4)
        return found
    width, height = _sides(edges)
    by_width, by_height = np.array([-1.0, 0.0, 1.0, 0.0]), np.array([0.0, -1.0, 0.0, 1.0])
    found[:, 0], found[:, 1] = np.abs(by_width) / 2, np.abs(by_height) / 2
    ratio = by_width / height[:, None] - (width / height**2)[:, None] * by_height
    if form == "cxcywh":
        found[:, 2], found[:, 3] = by_width, by_height
    elif form == "cxcyah":
        found[:, 2], found[:, 3] = ratio, by_height
    else:
        found[:, 2] = height[:, None] * by_width + width[:, None] * by_height
        found[:, 3] = ratio
    return found


def _sides(edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    sides = np.maximum(edges[:, 2:] - edges[:, :2], _LEAST_SIDE)
    return sides[:, 0], sides[:, 1]


def _rows(name: str, values: Any) -> FloatArray:
    rows = np.array(values, np.float64)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise UsageError(f"{name} must have shape (N, 4), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise UsageError(f"{name} has numbers that are infinite or not a number")
    return rows


def _check_form(form: object) -> None:
    if form not in FORMS:
        raise UsageError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
