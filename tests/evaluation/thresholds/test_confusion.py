"""What is taken for what."""

from __future__ import annotations

import numpy as np
import pytest

from gfocal.evaluation import Confusion, Findings, confusion_at
from gfocal.evaluation.thresholds.confusion import CONFUSED, OUT, RIGHT, WRONG, judge
from gfocal.evaluation.thresholds.curve import curves
from gfocal.evaluation.thresholds.examples import Tally, choose, tallies
from gfocal.evaluation.thresholds.matching import match
from helpers.made_detections import data_set
from helpers.made_findings import by_hand, findings
from oracles import thresholds as oracle

A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 50.0, 10.0)
FAR = (80.0, 80.0, 90.0, 90.0)


def street() -> Findings:
    """A cat found, a dog taken for a cat, a dog missed, a dog of nothing; a poor box; a found cat seen as a dog too."""
    objects = [(A, 0), (B, 1), (C, 1)]
    boxes = [(A, 0, 0.9), (B, 0, 0.8), (FAR, 1, 0.7), (A, 1, 0.6), (C, 1, 0.2)]
    return by_hand(["cat", "dog"], [(objects, boxes), ([], [(FAR, 0, 0.95)]), ([(A, 1)], [])])


def test_hand_worked() -> None:
    found = street()
    matrix = confusion_at(found, 0.5).matrix
    # Rows cat, dog, nothing; columns cat, dog, missed. The second dog of C is below the score.
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 2], [1, 2, 0]]
    assert confusion_at(found, 0.6).matrix.tolist() == [[1, 0, 0], [1, 0, 2], [1, 1, 0]], "higher, not equal"
    assert confusion_at(found, 0.1).matrix.tolist() == [[1, 0, 0], [1, 1, 1], [1, 2, 0]]
    verdicts = judge(found, match(found), 0.5)
    assert verdicts.detections.tolist() == [RIGHT, CONFUSED, WRONG, WRONG, OUT, WRONG]
    assert verdicts.objects.tolist() == [RIGHT, CONFUSED, WRONG, WRONG]
    assert verdicts.partner.tolist() == [0, 1, -1, -1, -1, -1]


def test_the_own_class_comes_first_whatever_scores_higher() -> None:
    # The dog's box is better placed and scores higher, but the cat is found: no confusion, a wrong box.
    found = by_hand(["cat", "dog"], [([(A, 0)], [(A, 1, 0.9), ((1.0, 0.0, 11.0, 10.0), 0, 0.6)])])
    assert confusion_at(found, 0.5).matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert confusion_at(found, 0.7).matrix.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_crowds_are_neither_found_nor_missed_and_hide_boxes_of_their_class_alone() -> None:
    crowd = (0.0, 0.0, 60.0, 60.0)
    found = by_hand(["cat", "dog"], [([(crowd, 0)], [(A, 0, 0.9), (B, 1, 0.8)])], crowd=[0])
    assert confusion_at(found, 0.5).matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("score", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_an_independent_computation_agrees(seed: int, score: float) -> None:
    index, found = data_set(seed)
    mine = confusion_at(findings(index, found), score).matrix
    assert mine.tolist() == oracle.confusion(index, found, score).tolist()


def test_sums_are_those_of_precision_and_recall() -> None:
    index, found = data_set(7, images=30)
    both = findings(index, found)
    each, _ = curves(both, match(both))
    matrix = confusion_at(both, 0.4).matrix
    for label, curve in enumerate(each):
        point = curve.at(0.4)
        assert matrix[label].sum() == curve.objects
        assert matrix[label, label] / matrix[:, label].sum() == pytest.approx(point.precision)
        assert matrix[label, label] / matrix[label].sum() == pytest.approx(point.recall)
    assert matrix[-1, -1] == 0


def test_the_score_of_the_best_f1_is_taken_by_itself() -> None:
    found = by_hand(["cat"], [([(A, 0)], [(A, 0, 0.9), (FAR, 0, 0.5)])])
    assert confusion_at(found, None).score == 0.7
    nothing = by_hand(["cat"], [([(A, 0)], [])])
    assert confusion_at(nothing, None) == Confusion(0.3, 0.5, ("cat",), np.zeros(0))
    assert confusion_at(nothing, None).to_dict() == {
        "score": 0.3,
        "iou": 0.5,
        "rows_are_truth": True,
        "labels": ["cat", "background"],
        "matrix": [[0, 1], [0, 0]],
    }


def test_no_objects_anywhere() -> None:
    found = by_hand(["cat", "dog"], [([], [(A, 1, 0.9)]), ([], [])])
    assert confusion_at(found, None).matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert confusion_at(by_hand(["cat"], []), None).matrix.tolist() == [[0, 0], [0, 0]]


def test_worst_images_have_the_most_faults() -> None:
    found = street()
    counts = tallies(found, judge(found, match(found), 0.5))
    assert counts == [Tally(1, 1, 1, 2), Tally(0, 0, 0, 1), Tally(0, 1, 0, 0)]
    assert [count.faults for count in counts] == [4, 1, 1]
    assert choose(found, counts, 1) == ([0], [1]) or choose(found, counts, 1) == ([0], [2])
    assert choose(found, counts, 0) == ([], [])
    assert choose(found, counts, 9) == ([0, 1, 2], [])
    assert choose(found, counts, 2, seed=1) == choose(found, counts, 2, seed=1)


def test_images_that_were_left_out_are_not_chosen() -> None:
    found = by_hand(["cat"], [([(A, 0)], []), ([(A, 0)], []), ([], [])], kept=[True, False, True])
    counts = tallies(found, judge(found, match(found), 0.5))
    assert counts[1] == Tally(0, 0, 0, 0)
    assert choose(found, counts, 5) == ([0], [2])
