"""Correlation of edge_std and the true ambiguity: known answers, who is matched, what is too little to say."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from gfocal.evaluation import EdgeUncertainty
from gfocal.evaluation.uncertainty import (
    MIN_EDGES,
    EdgeCoverage,
    UncertaintyResult,
    edge_coverage,
    interval_coverage,
    match_objects,
)
from gfocal.structures import Detections
from gfocal.utils.records import to_json
from helpers.calibrated import Reach


@dataclass(frozen=True)
class Truth:
    """The least that is read of a data set."""

    image_ids: np.ndarray
    box_start: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    area: np.ndarray
    names: tuple[str, ...]


def truth_of(*images: list[tuple[float, float, float, float]], labels: Any = None, crowd: Any = None) -> Truth:
    """Image i has id 10 + i; all boxes of class 0 unless told."""
    boxes = np.array([box for image in images for box in image], np.float64).reshape(-1, 4)
    count = len(boxes)
    return Truth(
        image_ids=np.arange(10, 10 + len(images)),
        box_start=np.cumsum([0, *map(len, images)]),
        boxes=boxes,
        labels=np.zeros(count, np.int64) if labels is None else np.array(labels),
        crowd=np.zeros(count, bool) if crowd is None else np.array(crowd, bool),
        ignore=np.zeros(count, bool),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        names=("a", "b"),
    )


def found(boxes: Any, std: Any = None, scores: Any = None, labels: Any = None, levels: Any = None) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
        torch.full((count,), 0.5) if scores is None else torch.tensor(scores),
        torch.zeros(count, dtype=torch.int64) if labels is None else torch.tensor(labels),
        ("a", "b"),
        edge_std=None if std is None else torch.tensor(np.array(std), dtype=torch.float32).reshape(-1, 4),
        levels=None if levels is None else torch.tensor(levels, dtype=torch.int64),
    )


def grid_scene(objects: int = 36, images: int = 4) -> Truth:
    """Squares of sides 8, 9, 10, ... far apart, spread over some images."""
    own: list[list[tuple[float, float, float, float]]] = [[] for _ in range(images)]
    for i in range(objects):
        x, y, side = 100.0 * i, 7.0, 8.0 + i
        own[i % images].append((x, y, x + side, y + side))
    return truth_of(*own)


def measured(
    truth: Truth, ambiguity: np.ndarray, std: np.ndarray, levels: np.ndarray | None = None
) -> UncertaintyResult:
    """Every object found where it is."""
    collector = EdgeUncertainty(truth, ambiguity)
    for row, image_id in enumerate(truth.image_ids.tolist()):
        own = slice(truth.box_start[row], truth.box_start[row + 1])
        level = None if levels is None else levels[own].tolist()
        collector.update([image_id], [found(truth.boxes[own], std[own], levels=level)])
    result = collector.compute()
    assert result is not None
    return result


def test_any_rising_function_of_the_truth_scores_one() -> None:
    truth, rng = grid_scene(), np.random.default_rng(0)
    ambiguity = rng.random((36, 4)) * 3
    result = measured(truth, ambiguity, 0.3 + ambiguity**2)
    one = pytest.approx(1.0)
    assert astuple(result.overall) == (one, 144, one, one, 144)
    assert result.mean_over_sizes == pytest.approx(1.0)
    assert [entry.found.edges for entry in result.sizes] == [48, 48, 48]
    assert measured(truth, ambiguity, 5 - ambiguity).mean_over_sizes == pytest.approx(-1.0)


def test_knowing_the_size_alone_is_worth_nothing_within_sizes() -> None:
    # Three sizes; ambiguity and spread both rise with the size, and within a size neither knows of the other.
    sides = np.repeat([10.0, 30.0, 90.0], 100)
    truth = truth_of([(200.0 * i, 0.0, 200.0 * i + side, side) for i, side in enumerate(sides)])
    rng = np.random.default_rng(0)
    ambiguity, std = (sides[:, None] * (1 + rng.random((300, 4))) for _ in range(2))
    result = measured(truth, ambiguity, std)
    assert result.overall.correlation > 0.8
    # Standard deviation of each over 400 edges: 0.05.
    assert abs(result.mean_over_sizes) < 0.1
    spans = [(entry.size, entry.smallest, entry.largest, entry.found.edges) for entry in result.sizes]
    assert spans == [("small", 10, 10, 400), ("medium", 30, 30, 400), ("large", 90, 90, 400)]


def test_it_is_scipys_with_ties_and_the_mean_is_of_the_three() -> None:
    truth, rng = grid_scene(), np.random.default_rng(1)
    ambiguity = np.where(rng.random((36, 4)) < 0.6, 0.0, rng.integers(1, 4, (36, 4)))  # most edges are sharp
    std = np.round(rng.random((36, 4)) + 0.3 * ambiguity, 1)
    levels = (np.arange(36) // 4) % 2
    result = measured(truth, ambiguity, std, levels)
    assert result.overall.correlation == pytest.approx(spearmanr(std.ravel(), ambiguity.ravel()).statistic)
    order = np.argsort(truth.area)
    expected = [spearmanr(std[own].ravel(), ambiguity[own].ravel()).statistic for own in np.split(order, 3)]
    assert [entry.found.correlation for entry in result.sizes] == pytest.approx(expected)
    assert result.mean_over_sizes == pytest.approx(np.mean(expected))
    for entry in result.levels:
        own = levels == entry.level
        assert entry.found.edges == 4 * own.sum()
        assert entry.found.correlation == pytest.approx(spearmanr(std[own].ravel(), ambiguity[own].ravel()).statistic)
    assert [entry.level for entry in result.levels] == [0, 1]


def test_sharp_edges_tie_and_set_the_ceiling() -> None:
    # Of 144 edges 108 are sharp: a perfect predictor without ties reaches sqrt(1 - (108^3 - 108) / (144^3 - 144)).
    truth, ambiguity = grid_scene(), np.zeros((36, 4))
    ambiguity[:, 2] = np.random.default_rng(0).permutation(36) + 1.0
    perfect = ambiguity + np.arange(144).reshape(36, 4) / 1000
    overall = measured(truth, ambiguity, perfect).overall
    assert overall.ceiling == pytest.approx(0.760356, abs=1e-6)
    assert overall.correlation == pytest.approx(overall.ceiling)
    assert overall.uncertain_correlation == pytest.approx(1.0)
    assert overall.uncertain_edges == 36
    # It grades the uncertain edges, but does not tell them from sharp ones; and the other way round.
    grades = np.where(ambiguity > 0, ambiguity, np.random.default_rng(1).uniform(0, 37, (36, 4)))
    result = measured(truth, ambiguity, grades)
    assert abs(result.overall.correlation) < 0.2
    assert result.overall.uncertain_correlation == pytest.approx(1.0)
    assert result.uncertain_mean_over_sizes is None, "12 uncertain edges in each third are too few"
    tells = (ambiguity > 0) + np.random.default_rng(2).random((36, 4)) / 2
    overall = measured(truth, ambiguity, tells).overall
    assert overall.correlation > 0.7
    assert abs(overall.uncertain_correlation) < 0.4


def test_too_few_edges_say_nothing() -> None:
    # 14 objects: 56 edges in all, thirds of 5, 4 and 5 objects, of which the second has fewer than 20 edges.
    truth, rng = grid_scene(14, 2), np.random.default_rng(0)
    ambiguity = rng.random((14, 4))
    result = measured(truth, ambiguity, ambiguity, np.array([0] * 4 + [2] * 10))
    assert MIN_EDGES == 20
    assert (result.overall.correlation, result.overall.edges) == (pytest.approx(1.0), 56)
    assert [entry.found.edges for entry in result.sizes] == [20, 16, 20]
    assert [entry.found.correlation is None for entry in result.sizes] == [False, True, False]
    assert result.mean_over_sizes is None
    few, more = result.levels
    assert (few.level, few.found.correlation, few.found.ceiling, few.found.edges) == (0, None, None, 16)
    assert (more.level, more.found.correlation, more.found.edges) == (2, pytest.approx(1.0), 40)


def test_edges_of_one_ambiguity_say_nothing() -> None:
    truth = grid_scene()
    result = measured(truth, np.zeros((36, 4)), np.random.default_rng(0).random((36, 4)))
    assert (result.overall.correlation, result.overall.ceiling) == (None, None)
    assert (result.overall.edges, result.overall.uncertain_edges) == (144, 0)
    assert result.mean_over_sizes is None


def test_nothing_found_and_nothing_predicted() -> None:
    truth, ambiguity = grid_scene(), np.ones((36, 4))
    empty = EdgeUncertainty(truth, ambiguity)
    assert empty.compute() is None
    empty.update([10, 11], [found(np.zeros((0, 4)), np.zeros((0, 4)), levels=[]), found([[0, 90, 5, 99]], [[1] * 4])])
    result = empty.compute()
    assert result is not None
    nothing = {"correlation": None, "edges": 0, "ceiling": None, "uncertain_correlation": None, "uncertain_edges": 0}
    assert to_json(result.overall) == nothing
    assert to_json(result.sizes[0]) == {"size": "small", "from": None, "to": None, **nothing}
    assert result.mean_over_sizes is result.levels is None
    dirac = EdgeUncertainty(truth, ambiguity)
    dirac.update([10], [found(truth.boxes[:2])])
    assert dirac.compute() is None


def test_objects_of_unknown_ambiguity_do_not_count() -> None:
    truth, rng = grid_scene(), np.random.default_rng(0)
    ambiguity = rng.random((36, 4))
    std = ambiguity.copy()
    ambiguity[3], std[3] = np.nan, 99
    result = measured(truth, ambiguity, std)
    assert (result.overall.correlation, result.overall.edges) == (pytest.approx(1.0), 140)


@pytest.mark.parametrize("edge", range(4))
def test_an_object_with_one_unknown_edge_does_not_count(edge: int) -> None:
    truth, rng = grid_scene(), np.random.default_rng(0)
    ambiguity = rng.random((36, 4))
    std = ambiguity.copy()
    ambiguity[3, edge], std[3] = np.nan, 99
    result = measured(truth, ambiguity, std)
    assert (result.overall.correlation, result.overall.edges) == (pytest.approx(1.0), 140)


def test_matching_by_hand() -> None:
    # Two objects of class 0 (the second a little to the right of the first), one of class 1, one crowd.
    truth = truth_of(
        [(50, 50, 60, 60)],
        [(0, 0, 10, 10), (3, 0, 13, 10), (40, 0, 50, 10), (80, 0, 90, 10)],
        labels=[0, 0, 0, 1, 0],
        crowd=[0, 0, 0, 0, 1],
    )
    boxes = [
        (1, 0, 11, 10),  # 0.4: nearest to the first (9 / 11), but that is taken by the next; the second: 8 / 12
        (0, 0, 10, 10),  # 0.9: the first
        (40, 0, 50, 10),  # 0.8: of class 0 on an object of class 1
        (40, 0, 50, 20),  # 0.7: of class 1, IoU exactly 0.5
        (80, 0, 90, 10),  # 0.6: on the crowd
        (0, 0, 10, 10),  # 0.3: the first is taken, the second too
        (50, 50, 60, 60),  # 0.2: nothing there in this image
    ]
    scores, labels = [0.4, 0.9, 0.8, 0.7, 0.6, 0.3, 0.2], [0, 0, 0, 1, 0, 0, 0]
    mine, theirs = match_objects(truth, 1, found(boxes, scores=scores, labels=labels))
    assert list(zip(mine.tolist(), theirs.tolist(), strict=True)) == [(1, 1), (3, 3), (0, 2)]
    mine, theirs = match_objects(truth, 0, found([]))
    assert len(mine) == len(theirs) == 0
    mine, _ = match_objects(truth, 0, found([(50, 50, 60, 64.9)]))  # IoU 10 / 14.9
    assert mine.tolist() == [0]
    mine, _ = match_objects(truth, 0, found([(50, 50, 60, 70.1)]))  # IoU just below 0.5
    assert mine.tolist() == []


def test_of_equal_scores_the_first_chooses_first() -> None:
    truth = truth_of([(0, 0, 10, 10)])
    mine, _ = match_objects(truth, 0, found([(0, 0, 10, 9), (0, 0, 10, 10)]))
    assert mine.tolist() == [0]


def test_an_unknown_image() -> None:
    with pytest.raises(KeyError):
        EdgeUncertainty(grid_scene(), np.ones((36, 4))).update([99], [found([[0, 0, 1, 1]], [[1] * 4])])


# --- coverage


def test_coverage_by_hand() -> None:
    """90 % of a normal distribution lie within 1.645 standard deviations; two of the eight edges are outside."""
    truth = truth_of([(0, 0, 40, 40)], [(10, 10, 50, 50)])
    one = found([[1.6, -1.6, 41.7, 40]], [[1, 1, 1, 1]])
    other = found([[10, 10, 56, 50], [500, 500, 510, 510]], [[1, 1, 2, 0], [1, 1, 1, 1]], scores=[0.5, 0.9])
    assert edge_coverage(truth, [10, 11], [one, other]) == EdgeCoverage(0.9, 6 / 8, 8)
    wide = edge_coverage(truth, [10, 11], [one, other], nominal=0.99)
    assert wide == EdgeCoverage(0.99, 7 / 8, 8)


def test_coverage_of_nothing() -> None:
    truth = truth_of([(0, 0, 40, 40)])
    assert edge_coverage(truth, [10], [found([], [])]) == EdgeCoverage(0.9, None, 0)
    assert edge_coverage(truth, [10], [found([[0, 0, 40, 40]])]) is None
    assert edge_coverage(truth, [], []) is None


def test_coverage_of_a_calibration_by_hand() -> None:
    """Intervals reach 2 pixels to either side, ends included; three of the eight edges are outside."""
    truth = truth_of([(0, 0, 40, 40)], [(10, 10, 50, 50)])
    one = replace(found([[2, -2, 42.5, 40]]), calibration=Reach(2, level=0.8))
    other = replace(found([[10, 13, 50, 53], [500, 500, 510, 510]], scores=[0.5, 0.9]), calibration=Reach(2, level=0.8))
    assert interval_coverage(truth, [10, 11], [one, other]) == EdgeCoverage(0.8, 5 / 8, 8)
    endless = [replace(each, calibration=Reach(np.inf)) for each in (one, other)]
    assert interval_coverage(truth, [10, 11], endless) == EdgeCoverage(0.9, 1.0, 8)


def test_an_edge_may_be_off_to_either_side() -> None:
    """Left and right lie too low, top and bottom too high: none is within 2 pixels."""
    truth, off = truth_of([(0, 0, 40, 40)]), found([[-3, 3, 37, 43]], [[1, 1, 1, 1]])
    assert edge_coverage(truth, [10], [off]) == EdgeCoverage(0.9, 0.0, 4)
    assert interval_coverage(truth, [10], [replace(off, calibration=Reach(2))]) == EdgeCoverage(0.9, 0.0, 4)


def test_coverage_without_a_calibration_that_holds() -> None:
    truth = truth_of([(0, 0, 40, 40)])
    plain = found([[0, 0, 40, 40]], [[1, 1, 1, 1]])
    assert interval_coverage(truth, [10], [plain]) is None
    assert interval_coverage(truth, [10], [replace(plain, calibration=Reach(1, unfit="tiles"))]) is None
    assert interval_coverage(truth, [10], [replace(found([], []), calibration=Reach(1))]) == EdgeCoverage(0.9, None, 0)
    assert interval_coverage(truth, [], []) is None
