"""Measurement noise of trackers: hand-worked, at its limits, against samples, of nothing, and of extreme boxes."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.calibration import box_covariance, box_measurement, measurement_noise
from gfocal.calibration.tracking import FORMS
from gfocal.detections import Detections
from gfocal.errors import UsageError
from helpers.calibrated import calibration

BOX = np.array([[10.0, 20.0, 50.0, 40.0]])  # centre 30, 30; 40 wide, 20 high
STD = np.array([[1.0, 2.0, 3.0, 4.0]])


def detections(count: int = 5, **changes: Any) -> Detections:
    random = np.random.default_rng(0)
    corner = random.uniform(50, 200, (count, 2))
    fields: dict[str, Any] = {
        "boxes": np.concatenate([corner, corner + random.uniform(20, 80, (count, 2))], 1),
        "scores": np.linspace(0.9, 0.2, count),
        "labels": np.arange(count) % 2,
        "names": ("cat", "dog"),
        "edge_std": random.uniform(1, 8, (count, 4)),
        "levels": np.arange(count) % 3,
        "image_size": (400, 500),
    }
    return Detections(**fields | changes)


# --- hand-worked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "measured"),
    [("xyxy", BOX[0]), ("cxcywh", [30, 30, 40, 20]), ("cxcyah", [30, 30, 2, 20]), ("cxcysr", [30, 30, 800, 2])],
)
def test_measurements_by_hand(form: Any, measured: list[float]) -> None:
    assert box_measurement(BOX, form).tolist() == [list(measured)]


@pytest.mark.parametrize(
    ("form", "covariance"),
    [
        ("xyxy", np.diag([1, 4, 9, 16])),
        # Centre: (1 + 9) / 4 and (4 + 16) / 4; sides: 10 and 20; between them half of 9 - 1 and of 16 - 4.
        ("cxcywh", [[2.5, 0, 4, 0], [0, 5, 0, 6], [4, 0, 10, 0], [0, 6, 0, 20]]),
        # The ratio by width 1/20, by height -40/400: 10/400 + 20/100; with cx 4/20, cy 6 * -0.1, height 20 * -0.1.
        ("cxcyah", [[2.5, 0, 0.2, 0], [0, 5, -0.6, 6], [0.2, -0.6, 0.225, -2], [0, 6, -2, 20]]),
        # The area by width 20, by height 40: 400 * 10 + 1600 * 20; with cx 20 * 4, cy 40 * 6; with the ratio
        # 20 * 10 / 20 - 40 * 20 / 10.
        ("cxcysr", [[2.5, 0, 80, 0.2], [0, 5, 240, -0.6], [80, 240, 36000, -70], [0.2, -0.6, -70, 0.225]]),
    ],
)
def test_covariances_by_hand(form: Any, covariance: Any) -> None:
    np.testing.assert_allclose(box_covariance(BOX, STD, form)[0], covariance, rtol=1e-12, atol=1e-12)


def test_deviations_of_a_calibration_are_read_from_its_intervals() -> None:
    found = detections(calibration=calibration("edge_std"))
    own = calibration("edge_std").edge_interval(found, 0.9)
    deviation = (own[..., 1] - own[..., 0]) / 2 / NormalDist().inv_cdf(0.95)
    diagonal = np.diagonal(measurement_noise(found), axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, np.maximum(deviation, 0.5) ** 2, rtol=1e-9)
    assert not np.allclose(diagonal, np.maximum(found.edge_std, 0.5) ** 2, rtol=0.1)  # type: ignore[call-overload]


def test_without_a_calibration_edge_std_is_the_deviation() -> None:
    found = detections()
    for form in FORMS:
        wanted = box_covariance(found.boxes, found.edge_std, form)  # type: ignore[arg-type]
        assert np.array_equal(measurement_noise(found, form), wanted)


def test_intervals_that_the_image_cuts_off_count_whole() -> None:
    """A box at the left border: its interval has one side alone."""
    inside, border = (np.array([[x, 100.0, x + 60, 180.0]]) for x in (200.0, 0.0))
    noise = [
        measurement_noise(
            replace(detections(1, edge_std=np.full((1, 4), 20.0)), boxes=box, calibration=calibration("edge_std"))  # type: ignore[arg-type]
        )
        for box in (inside, border)
    ]
    np.testing.assert_allclose(noise[0], noise[1], rtol=1e-12)


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_certain_edges_are_as_uncertain_as_the_least(form: Any) -> None:
    none, least = np.zeros((1, 4)), np.full((1, 4), 0.25)
    assert np.array_equal(box_covariance(BOX, none, form, least=0.25), box_covariance(BOX, least, form, least=0.01))
    assert np.linalg.eigvalsh(box_covariance(BOX, none, form))[0].min() > 0


def test_a_much_less_certain_edge_rules_centre_and_width() -> None:
    """Then the centre errs by half of what the width errs by: their correlation goes to 1."""
    covariance = box_covariance(BOX, np.array([[1.0, 1.0, 1e6, 1.0]]), "cxcywh")[0]
    assert covariance[0, 2] / np.sqrt(covariance[0, 0] * covariance[2, 2]) == pytest.approx(1, abs=1e-9)
    assert covariance[0, 2] == pytest.approx(5e11)


def test_alike_edges_have_independent_centre_and_sides() -> None:
    assert np.array_equal(box_covariance(BOX, np.full((1, 4), 2.0), "cxcywh")[0], np.diag([2.0, 2.0, 8.0, 8.0]))


def test_a_higher_level_gives_no_narrower_noise_than_heavy_tails_do() -> None:
    """Of normal errors, which these calibrations were fitted on, levels agree."""
    found = detections(calibration=calibration("edge_std"))
    low, high = (np.sqrt(np.diagonal(measurement_noise(found, level=level)[0])) for level in (0.68, 0.95))
    np.testing.assert_allclose(low, high, rtol=0.15)


# --- against samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("box", [[10.0, 20.0, 210.0, 100.0], [-40.0, 300.0, 20.0, 620.0]])
def test_covariances_are_those_of_samples(form: Any, box: list[float]) -> None:
    random, std = np.random.default_rng(1), np.array([0.5, 2.0, 1.0, 3.0])
    drawn = np.array(box) + std * random.normal(size=(400_000, 4))
    sampled = np.cov(box_measurement(drawn, form).T)
    found = box_covariance(np.array([box]), std[None], form, least=0.1)[0]
    scale = np.sqrt(np.outer(np.diag(sampled), np.diag(sampled)))
    np.testing.assert_allclose(found / scale, sampled / scale, atol=0.02)  # 1.3 % is the second order of the ratio


# --- nothing, and extremes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_no_boxes(form: Any) -> None:
    none = detections(0)
    assert measurement_noise(none, form).shape == (0, 4, 4)
    assert measurement_noise(replace(none, calibration=calibration()), form).shape == (0, 4, 4)
    assert box_measurement(np.zeros((0, 4)), form).shape == (0, 4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "box", [[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 3.0, 3.0], [0.0, 0.0, 1e5, 1.0], [0.0, 0.0, 1e-9, 1e5]]
)
def test_boxes_without_a_side_and_very_long_ones(form: Any, box: list[float]) -> None:
    covariance = box_covariance(np.array([box]), STD, form)[0]
    assert np.isfinite(covariance).all()
    assert np.array_equal(covariance, covariance.T)
    assert np.isfinite(np.linalg.cholesky(covariance)).all()
    assert np.isfinite(box_measurement(np.array([box]), form)).all()


def test_tensors_and_half_precision() -> None:
    found = detections()
    tensors = found.map(lambda values: torch.from_numpy(values))  # type: ignore[arg-type]
    half = replace(tensors, boxes=tensors.boxes.bfloat16(), edge_std=tensors.edge_std.bfloat16())  # type: ignore[union-attr]
    assert np.array_equal(measurement_noise(tensors), measurement_noise(found))
    assert measurement_noise(half).dtype == np.float64
    np.testing.assert_allclose(measurement_noise(half, "cxcysr"), measurement_noise(found, "cxcysr"), rtol=0.1, atol=30)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: box_covariance(BOX[0], STD), r"boxes must have shape \(N, 4\), got \(4,\)"),
        (lambda: box_covariance(BOX, STD[:, :2]), r"edge_std must have shape \(N, 4\), got \(1, 2\)"),
        (lambda: box_covariance(BOX, np.ones((2, 4))), "a row for each of 1 boxes, got 2"),
        (lambda: box_covariance(BOX, -STD), "edge_std has a negative number"),
        (lambda: box_covariance(BOX, STD * np.nan), "edge_std has numbers that are infinite or not a number"),
        (lambda: box_covariance(BOX * np.inf, STD), "boxes has numbers that are infinite"),
        (lambda: box_covariance(BOX, STD, least=0), "least must be a number of pixels above 0, got 0"),
        (lambda: box_covariance(BOX, STD, least=np.inf), "least must be a number of pixels above 0, got inf"),
        (lambda: box_covariance(BOX, STD, "xywh"), "form must be one of xyxy, cxcywh, cxcyah, cxcysr, got 'xywh'"),  # type: ignore[arg-type]
        (lambda: box_measurement(BOX, "tlwh"), "form must be one of"),  # type: ignore[arg-type]
        (lambda: measurement_noise(detections(edge_std=None)), "nothing says how far they may be off"),
        (lambda: measurement_noise(detections(), level=1.0), "level must be"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_a_calibration_that_does_not_hold_is_refused_rather_than_left_aside() -> None:
    found = detections(calibration=calibration("edge_std").used_with(tile=640))
    with pytest.raises(UsageError, match="tiles of 640 pixels"):
        measurement_noise(found)


def test_too_few_objects_for_the_level_are_said() -> None:
    own = calibration("edge_std")
    empty = tuple(tuple(np.nan for _ in row) for row in own.edges.groups[-1].edges)
    groups = tuple(replace(group, edges=empty) for group in own.edges.groups)
    few = replace(own, edges=replace(own.edges, groups=groups))
    with pytest.raises(UsageError, match="too few objects for intervals of 90 %"):
        measurement_noise(detections(calibration=few, image_size=None))
