"""All 12 numbers at all sizes, and how far they move: against hotcoco, and the interval that eval prints."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gfocal.evaluation import STATS, ap_intervals, match_detections
from gfocal.evaluation.coco import coco_evaluation
from gfocal.evaluation.diagnosis.intervals import Interval, intervals
from helpers.made_detections import data_set
from helpers.made_findings import by_hand, findings


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("scale", [1, 4])
def test_the_values_are_those_of_hotcoco(seed: int, scale: int) -> None:
    index, (rows, boxes, scores, labels) = data_set(seed, tied=seed % 2 == 0)
    index.boxes, index.area, boxes = index.boxes * scale, index.area * scale**2, boxes * scale
    kept = np.random.default_rng(seed).random(12) > 0.2
    own = kept[rows]
    found = findings(index, (rows[own], boxes[own], scores[own], labels[own]), kept.tolist())
    evaluation = coco_evaluation(index, kept, found.rows, found.boxes, found.scores, found.labels)
    evaluation.accumulate()
    evaluation.summary_lines()
    now = intervals(found, resamples=2).stats
    assert list(now) == list(STATS)
    for name, expected in zip(STATS, evaluation.stats, strict=True):
        assert now[name].value == (None if expected < 0 else pytest.approx(expected, abs=1e-9)), name


def test_the_interval_of_ap_is_the_one_that_eval_prints() -> None:
    index, found = data_set(3)
    own = intervals(findings(index, found), resamples=200)
    expected = ap_intervals(match_detections(index, *found), resamples=200)
    for name in ("AP", "AP50", "AP75"):
        assert (own.stats[name].low, own.stats[name].high) == pytest.approx(expected[name])
    for one in own.stats.values():
        assert one.value is None or one.low is None or one.low <= one.value + 1e-9


def test_classes_have_their_own() -> None:
    right = [((0.0, 0.0, 50.0, 50.0), 0)], [((0.0, 0.0, 50.0, 50.0), 0, 0.9)]
    missed = [((0.0, 0.0, 50.0, 50.0), 1)], []
    found = intervals(by_hand(["a", "b", "c", "c"], [right, missed, right]), resamples=50).per_class
    assert list(found) == ["a", "b", "c", "c (2)"]
    assert found["a"].ap == Interval(1.0, 1.0, 1.0)
    assert found["b"].ap50 == Interval(0.0, 0.0, 0.0)
    assert found["c"].ap == Interval(None)


def test_nothing_to_find_and_a_single_picture() -> None:
    nothing = intervals(by_hand(["a"], [([], [((0.0, 0.0, 9.0, 9.0), 0, 0.5)]), ([], [])]))
    assert set(nothing.stats.values()) == {Interval(None)}
    one = intervals(by_hand(["a"], [([((0.0, 0.0, 9.0, 9.0), 0)], [((0.0, 0.0, 9.0, 9.0), 0, 0.5)])]))
    assert one.stats["AP"] == Interval(1.0)
    assert one.stats["APl"] == Interval(None)
    assert all(math.isfinite(each.value) for each in one.stats.values() if each.value is not None)
