"""Intervals of edges: which scale is taken, what it may not do, coverage where it is known, and extremes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gfocal.calibration import EdgeCalibration, EdgeFeatures, EdgeSamples, cross_fitted, fit_edges
from gfocal.calibration.edges import intervals
from gfocal.calibration.edges_fit import _unseen_scale
from gfocal.calibration.quantiles import LEVELS
from gfocal.calibration.scale import KINDS, Scale
from gfocal.calibration.scale_fit import fit_scale, possible_kinds
from gfocal.errors import UsageError


def made(count: int = 600, seed: int = 0, **changes: Any) -> EdgeSamples:
    """Boxes whose errors are normal, with a deviation of 0.3 edge_std on the coarse level and 0.6 on the fine one."""
    random = np.random.default_rng(seed)
    corner, sides = random.uniform(0, 400, (count, 2)), np.exp(random.normal(4, 0.7, (count, 2)))
    levels = random.integers(0, 2, count)
    std = np.tile(sides, 2) * random.uniform(0.02, 0.3, (count, 4))
    features = {
        "boxes": np.concatenate([corner, corner + sides], 1),
        "edge_std": std,
        "scores": random.uniform(0.05, 0.95, count),
        "levels": levels,
        "image_size": np.tile([2000.0, 2000.0], (count, 1)),
        **changes,
    }
    errors = random.normal(size=(count, 4)) * std * np.where(levels, 0.3, 0.6)[:, None]
    return EdgeSamples(
        EdgeFeatures(**features), errors, np.arange(count) // 4, random.integers(0, 2, count), ("a", "b")
    )


def held(samples: EdgeSamples, found: EdgeCalibration, level: float, *, whole_box: bool = False) -> np.ndarray:
    half = found.half_widths(samples.features, samples.labels, samples.names, level, whole_box=whole_box)
    return np.abs(samples.errors) <= half


def test_the_model_learns_what_errors_follow() -> None:
    found = fit_edges(made())
    assert found.scale.kind == "model"
    assert min(found.candidates, key=lambda kind: found.candidates[kind]) == "model"
    assert found.candidates["edge_std"] < found.candidates["size"]
    assert found.candidates["constant"] == 1
    scale = found.scale.of(made(seed=1).features, 600)
    truth = made(seed=1)
    assert truth.features.edge_std is not None
    assert truth.features.levels is not None
    expected = truth.features.edge_std * np.where(truth.features.levels, 0.3, 0.6)[:, None]
    ratio = scale / expected
    assert ratio.std() / ratio.mean() < 0.1, "up to a factor the scale is the deviation of the errors"


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_new_boxes_are_covered(level: float) -> None:
    found = fit_edges(made(800))
    new = made(4000, seed=5)
    edges, boxes = held(new, found, level), held(new, found, level, whole_box=True).all(1)
    # 800 boxes, 400 of a class: their own quantiles vary by sqrt(p (1 - p) / 400) for each edge and class.
    chance = 4 * math.sqrt(level * (1 - level) / 400)
    for share in (edges.mean(), *edges.mean(0)):
        assert abs(share - level) < chance
    assert abs(boxes.mean() - level) < chance
    assert (edges.mean() <= boxes.mean() + chance) or level > 0.9


def test_cross_fitting_says_what_new_boxes_will_see() -> None:
    samples = made(400)
    edges, boxes = cross_fitted(samples, (0.8, 0.9))
    inside = np.abs(samples.errors) <= edges
    assert abs(inside[0].mean() - 0.8) < 0.04
    assert abs(inside[1].mean() - 0.9) < 0.03
    assert abs((np.abs(samples.errors) <= boxes)[1].all(1).mean() - 0.9) < 0.06
    assert (boxes >= edges).all()


def test_a_fold_never_sees_its_own_images() -> None:
    """Errors of one image that are a thousand times as large change what others get, not its own intervals."""
    samples = made(200)
    before = cross_fitted(samples, (0.5,))[0][0]
    errors = samples.errors.copy()
    errors[samples.images == 3] *= 1000
    after = cross_fitted(replace(samples, errors=errors), (0.5,))[0][0]
    mine = samples.images == 3
    assert np.array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])


def test_the_scale_of_an_image_is_chosen_and_fitted_without_it() -> None:
    samples = made(200)
    before = _unseen_scale(samples, "model", 0)
    errors = samples.errors.copy()
    errors[samples.images == 3] *= 1000
    after = _unseen_scale(replace(samples, errors=errors), "model", 0)
    mine = samples.images == 3
    assert np.array_equal(before[mine], after[mine])
    assert not np.array_equal(before[~mine], after[~mine])


def test_beyond_what_was_seen_a_model_goes_on_as_at_the_end() -> None:
    """A distribution far wider than any before has the interval of the widest: nobody knows how it goes on."""
    samples = made()
    scale = fit_scale("model", samples.features, samples.errors)
    base = samples.features.only([0, 0, 0])
    assert base.boxes is not None
    sides = np.tile(base.boxes[0, 2:] - base.boxes[0, :2], 2)
    widest = scale.of(replace(base, edge_std=sides * np.array([[0.1], [10], [1000]])), 3)
    assert (widest[1] > widest[0]).all()
    assert np.array_equal(widest[1], widest[2])


def test_a_wider_distribution_and_a_lower_score_never_narrow_an_interval() -> None:
    samples = made(seed=2)
    # Errors that shrink as edge_std grows, and grow with the score: a free fit would follow them.
    std, scores = samples.features.edge_std, samples.features.scores
    assert std is not None
    assert scores is not None
    errors = np.random.default_rng(0).normal(size=std.shape) * 20 / std * (0.1 + scores[:, None])
    scale = fit_scale("model", samples.features, errors)
    steps = np.linspace(0.01, 1, 50)
    base = samples.features.only(np.zeros(50, int))
    assert base.edge_std is not None
    wider = scale.of(replace(base, edge_std=base.edge_std * 10 * steps[:, None]), 50)
    surer = scale.of(replace(base, scores=steps * 0.99), 50)
    assert (np.diff(wider, axis=0) >= 0).all()
    assert (np.diff(surer, axis=0) <= 0).all()
    natural = fit_scale("model", samples.features, samples.errors)
    assert (np.diff(natural.of(replace(base, edge_std=base.edge_std * steps[:, None]), 50), axis=0) >= 0).all()
    assert (np.ptp(natural.of(replace(base, edge_std=base.edge_std * steps[:, None]), 50), 0) > 0).all()


@pytest.mark.parametrize("kind", ["size", "edge_std", "quantiles", "model"])
def test_an_image_of_twice_the_size_has_twice_the_intervals(kind: Any) -> None:
    random = np.random.default_rng(4)
    probs = random.dirichlet(np.ones(8), (300, 4))
    samples = made(300, edge_probs=probs)
    found = fit_edges(samples, kinds=[kind])
    own = samples.features
    assert own.boxes is not None
    assert own.edge_std is not None
    assert own.image_size is not None
    twice = replace(own, boxes=2 * own.boxes, edge_std=2 * own.edge_std, image_size=2 * own.image_size)
    half = found.half_widths(own, None, (), 0.9)
    assert np.allclose(found.half_widths(twice, None, (), 0.9), 2 * half)


def test_classes_with_enough_boxes_have_quantiles_of_their_own() -> None:
    samples = made(400)
    labels = np.where(np.arange(400) < 99, 0, 1)
    found = fit_edges(replace(samples, labels=labels, errors=np.where(labels[:, None], 1, 5) * samples.errors))
    assert [(group.name, group.matches) for group in found.groups] == [("b", 301), ("", 400)], "99 are too few"
    labels = np.where(np.arange(400) < 100, 0, 1)
    found = fit_edges(replace(samples, labels=labels, errors=np.where(labels[:, None], 1, 5) * samples.errors))
    assert [group.name for group in found.groups] == ["a", "b", ""]
    same = samples.features.only([0, 0, 0])
    a, b, other = found.half_widths(same, np.array([0, 1, 2]), ("a", "b", "c"), 0.9)
    assert (a > 3 * b).all()
    assert (other > b).all()
    double = fit_edges(replace(samples, names=("a", "a")))
    assert [group.name for group in double.groups] == [""], "two classes of one name share"


def test_by_hand() -> None:
    """20 boxes of two images, constant intervals: 19 errors of 1 to 19 and one of 100, to either side."""
    errors = np.array([*range(1, 20), 100.0])[:, None] * np.array([1, -1, 1, -1]) * np.array([1, 2, 3, 4])
    samples = EdgeSamples(EdgeFeatures(boxes=np.tile([5.0, 5, 50, 50], (20, 1))), errors, np.arange(20) % 2)
    found = fit_edges(samples, kinds=["constant"])
    half = found.half_widths(samples.features, None, (), 0.9)
    assert half[0].tolist() == [19, 38, 57, 76], "ceil(21 x 0.9) = 19"
    assert found.half_widths(samples.features, None, (), 0.95)[0].tolist() == [100, 200, 300, 400]
    assert np.isinf(found.half_widths(samples.features, None, (), 0.96)).all(), "20 / 21 = 0.952 is the most"
    limits = np.tile([640.0, 480, 640, 480], (20, 1))
    low_high = intervals(samples.features.boxes, half, limits)[0].tolist()  # type: ignore[arg-type]
    assert low_high == [[0, 24], [0, 43], [0, 107], [0, 126]]
    wide = intervals(samples.features.boxes, np.full((20, 4), np.inf), limits)[0].tolist()  # type: ignore[arg-type]
    assert wide == [[0, 640], [0, 480], [0, 640], [0, 480]]


def test_errors_that_are_all_zero_give_intervals_of_no_width() -> None:
    samples = replace(made(100), errors=np.zeros((100, 4)))
    found = fit_edges(samples)
    half = found.half_widths(samples.features, samples.labels, samples.names, 0.9)
    assert np.isfinite(half).all()
    assert (half == 0).all()


def test_levels_hold_each_other() -> None:
    samples = made(150)
    found = fit_edges(samples)
    known = (samples.features, samples.labels, samples.names)
    for whole in (False, True):
        half = np.array([found.half_widths(*known, level, whole_box=whole) for level in LEVELS])
        assert (half[1:] >= half[:-1]).all()


@pytest.mark.parametrize(("count", "images"), [(0, 1), (1, 1), (19, 10), (50, 1)])
def test_too_few_are_refused(count: int, images: int) -> None:
    samples = replace(made(60).only(np.arange(count)), images=np.arange(count) % images)
    with pytest.raises(UsageError, match="too few to calibrate"):
        fit_edges(samples)


def test_too_few_to_measure_are_refused() -> None:
    with pytest.raises(UsageError, match="give more pictures"):
        cross_fitted(made(22), (0.9,))


@pytest.mark.parametrize("name", ["boxes", "edge_std", "scores", "image_size"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(name: str, value: float) -> None:
    own = made(30)
    changed = np.array(getattr(own.features, name))
    changed[3] = value
    with pytest.raises(UsageError, match=name):
        EdgeSamples(replace(own.features, **{name: changed}), own.errors, own.images)
    errors = own.errors.copy()
    errors[0, 0] = value
    with pytest.raises(UsageError, match="errors"):
        EdgeSamples(own.features, errors, own.images)


def test_shapes_that_do_not_fit_are_refused() -> None:
    own = made(30)
    with pytest.raises(UsageError, match="shape"):
        EdgeSamples(own.features, own.errors[:, :2], own.images)
    with pytest.raises(UsageError, match="boxes must have 29 rows"):
        EdgeSamples(own.features, own.errors[:29], own.images[:29])


def test_what_a_scale_looks_at_must_be_there() -> None:
    found = fit_edges(made())
    assert set(found.scale.needs) == {"boxes", "scores", "image_size", "edge_std", "levels"}
    for name in found.scale.needs:
        with pytest.raises(UsageError, match=f"scaled by {name}"):
            found.half_widths(replace(made(5).features, **{name: None}), None, (), 0.9)
    dirac = replace(made(), features=replace(made().features, edge_std=None, levels=None))
    assert possible_kinds(dirac.features) == ["constant", "size", "model"]
    assert fit_edges(dirac).scale.kind in ("size", "model")
    assert set(KINDS) == {"constant", "size", "edge_std", "quantiles", "model"}


def test_no_boxes_have_no_intervals() -> None:
    found = fit_edges(made())
    none = made(5).features.only(np.zeros(0, int))
    assert found.half_widths(none, np.zeros(0, int), ("a", "b"), 0.9).shape == (0, 4)


@pytest.mark.parametrize("extreme", ["flat", "tiny", "huge", "scores of 0 and 1"])
def test_extremes_stay_finite(extreme: str) -> None:
    samples = made(100)
    own = samples.features
    assert own.boxes is not None
    changes: dict[str, Any] = {
        "flat": {"edge_std": np.zeros((100, 4))},
        "tiny": {"boxes": own.boxes * [1, 1, 0, 0] + own.boxes[:, [0, 1, 0, 1]] * [0, 0, 1, 1]},
        "huge": {"boxes": own.boxes * 1e6},
        "scores of 0 and 1": {"scores": np.arange(100) % 2 * 1.0},
    }[extreme]
    changed = replace(samples, features=replace(own, **changes))
    found = fit_edges(changed)
    assert np.isfinite(found.half_widths(changed.features, samples.labels, samples.names, 0.9)).all()


def test_quantiles_of_a_distribution() -> None:
    """All in one bin of two: no spread is known but edge_std. Evenly over ten bins: 10 to 90 % are eight of them."""
    probs = np.zeros((2, 4, 10))
    probs[0, :, 4] = 1
    probs[1] = 0.1
    deviation = math.sqrt(np.var(np.arange(10)))
    features = EdgeFeatures(edge_std=np.array([[0.5] * 4, [16 * deviation] * 4]), edge_probs=probs)
    scale = Scale("quantiles").of(features, 2)
    assert scale[0].tolist() == [0.5] * 4
    assert scale[1].tolist() == pytest.approx([16 * 8 / 2] * 4)
