"""From detections to samples and tables: who is matched, what is counted, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gfocal.calibration import fit_scores, share_of
from gfocal.detections import Detections
from gfocal.evaluation import CocoEvaluator
from gfocal.evaluation.trust.check import _drops, check_calibration
from gfocal.evaluation.trust.samples import light, matched_samples, score_samples
from gfocal.evaluation.trust.tables import IntervalTable, LevelRow, interval_table, score_row, thirds_of
from helpers.calibrated import calibration
from helpers.made_detections import data_set
from oracles import calibration as oracle


def detections(boxes: Any, scores: Any, labels: Any, **more: Any) -> Detections:
    arrays: Any = np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)
    return Detections(*arrays, ("a", "b"), **more)


def added(evaluator: CocoEvaluator, index: Any, rows: Any, boxes: Any, scores: Any, labels: Any) -> None:
    for row, image_id in enumerate(index.image_ids.tolist()):
        mine = rows == row
        evaluator.update([image_id], [Detections(boxes[mine], scores[mine], labels[mine], index.names)])


def truth(**changes: Any) -> Any:
    """Two images of two and one objects, an empty one, and one with a crowd."""
    from types import SimpleNamespace

    boxes = np.array([[0.0, 0, 40, 40], [50, 50, 110, 90], [10, 10, 30, 30], [0, 0, 100, 100]])
    values = {
        "image_ids": np.array([5, 3, 9, 7]),
        "box_start": np.array([0, 2, 3, 3, 4]),
        "boxes": boxes,
        "labels": np.array([0, 1, 0, 1]),
        "crowd": np.array([False, False, False, True]),
        "ignore": np.zeros(4, bool),
        "area": np.array([1600.0, 2400, 400, 10000]),
        "names": ("a", "b"),
    }
    return SimpleNamespace(**{**values, **changes})


FOUND = {
    5: detections(
        [[2, 1, 41, 38], [0, 0, 41, 41], [52, 48, 100, 91]], [0.6, 0.9, 0.5], [0, 0, 1], image_size=(100, 100)
    ),
    3: detections([[10, 10, 30, 30]], [0.8], [1], image_size=(100, 100)),
    9: detections([[10, 10, 30, 30]], [0.7], [0], image_size=(100, 100)),
    7: detections([[0, 0, 50, 100]], [0.4], [1], image_size=(100, 100)),
}


def test_who_found_an_object_and_how_far_off() -> None:
    found = matched_samples(truth(), list(FOUND), list(FOUND.values()))
    assert found is not None
    # The better one of the two took the first object; the second object ends at 110, beyond its image of 100.
    assert found.edges.errors.tolist() == [[0, 0, -1, -1], [-2, 2, 0, -1]]
    assert found.edges.images.tolist() == [0, 0]
    assert found.edges.labels is not None
    assert found.edges.labels.tolist() == [0, 1]
    assert found.sizes.tolist() == [40, pytest.approx(math.sqrt(2400))]
    assert found.edges.features.limits is not None
    assert found.edges.features.limits.tolist() == [[100] * 4] * 2
    free = [replace(one, image_size=None) for one in FOUND.values()]
    unclipped = matched_samples(truth(), list(FOUND), free)
    assert unclipped is not None
    assert unclipped.edges.errors[1].tolist() == [-2, 2, 10, -1]
    assert matched_samples(truth(), [], []) is None


def test_every_detection_is_right_or_wrong_but_for_those_in_crowds() -> None:
    evaluator = CocoEvaluator(truth())
    evaluator.update(list(FOUND), list(FOUND.values()))
    found = score_samples(evaluator.findings())
    assert found.scores.tolist() == pytest.approx([0.6, 0.9, 0.5, 0.8, 0.7])
    assert found.ious.tolist() == pytest.approx([0, 1600 / 1681, 48 * 40 / (2400 + 48 * 43 - 48 * 40), 0, 0])
    assert found.images.tolist() == [0, 0, 0, 1, 2]
    assert found.objects.tolist() == [2, 1, 0, 0]
    partly = CocoEvaluator(truth())
    partly.update([5, 9, 7], [FOUND[i] for i in (5, 9, 7)])
    partly.leave_out([3])
    left = score_samples(partly.findings())
    assert (left.images.tolist(), left.objects.tolist()) == ([0, 0, 0, 1], [2, 0, 0])


@pytest.mark.parametrize("seed", range(4))
def test_right_ones_are_those_of_coco(seed: int) -> None:
    index, (rows, boxes, scores, labels) = data_set(seed)
    evaluator = CocoEvaluator(index)
    added(evaluator, index, rows, boxes, scores, labels)
    found, matches = score_samples(evaluator.findings()), evaluator.matches()
    counted = ~matches.ignored[0]
    assert len(found) == counted.sum()
    assert sorted(found.scores[found.ious > 0]) == pytest.approx(sorted(matches.scores[matches.right[0]]))
    assert found.objects.sum() == matches.objects.sum()
    assert ((found.ious == 0) | (found.ious >= 0.5 - 1e-9)).all()


def test_ap_is_the_same_after_calibration() -> None:
    """Many detections of equal chances, ties of scores among them."""
    for seed in range(3):
        index, (rows, boxes, scores, labels) = data_set(seed, images=20, tied=True)
        fitted = None
        stats = []
        for _ in range(2):
            evaluator = CocoEvaluator(index)
            own = scores if fitted is None else fitted.of(scores)
            added(evaluator, index, rows, boxes, own, labels)
            stats.append(evaluator.compute().stats)
            fitted = fit_scores(score_samples(evaluator.findings()), resamples=0)
            assert fitted.kind in ("isotonic", "platt")
        assert stats[0] == pytest.approx(stats[1], abs=0, nan_ok=True)


def test_a_table_by_hand() -> None:
    found = matched_samples(truth(), list(FOUND), list(FOUND.values()))
    assert found is not None

    def widths(level: float, whole: bool) -> np.ndarray:
        return np.full((2, 4), 2.0 if whole else 10 * level - 8)

    table = interval_table(found, widths, (0.9,), 0.9)
    (row,) = table.levels
    # Half-widths of 1: errors of 2 to the left and to the top of the second box are outside. Intervals of left and top
    # of the first box begin at 0, right of the second ends at 100: 1 pixel each is cut off.
    assert row.edges.share == 6 / 8
    assert [share.share for share in row.each] == [0.5, 0.5, 1, 1]
    assert row.box.share == 1
    assert row.width == pytest.approx((8 * 2 - 3) / 8)
    assert row.score == pytest.approx((8 * 2 - 3 + 2 * 20 * 1) / 8)
    assert [group.edges.count for group in table.sizes] == [4, 0, 4]
    assert table.sizes[1].smallest is None
    assert table.classes == ()


def test_thirds() -> None:
    masks = thirds_of(np.array([1.0, 5, 2, 9, 9, 3]))
    assert [mask.tolist() for mask in masks] == [
        [True, False, True, False, False, False],
        [False, True, False, False, False, True],
        [False, False, False, True, True, False],
    ]
    assert [mask.sum() for mask in thirds_of(np.full(6, 2.0))] == [6, 0, 0], "equal sizes stay together"


def test_scores_by_hand() -> None:
    evaluator = CocoEvaluator(truth())
    evaluator.update(list(FOUND), list(FOUND.values()))
    own = score_samples(evaluator.findings())
    row = score_row(own, own.scores)
    assert row.d_ece == pytest.approx(oracle.d_ece(own.scores.tolist(), own.right.tolist(), 25))
    # The best kept ones: 0.9 alone (1 found, 2 missed), or all of 0.5 and above (2 found, 3 wrong, 1 missed).
    first = (1 - 1600 / 1681) / 0.5
    assert row.lrp == pytest.approx((first + 2) / 3)
    assert row.brier == pytest.approx(float(((own.scores - own.right) ** 2).mean()))
    mapped = score_row(own, own.scores**3)
    assert mapped.lrp == row.lrp


def test_nothing_to_check() -> None:
    evaluator = CocoEvaluator(truth())
    evaluator.update(list(FOUND), list(FOUND.values()))
    arguments = (truth(), list(FOUND), list(FOUND.values()), evaluator.findings())
    assert check_calibration(*arguments) is None
    unfit = [replace(one, calibration=calibration().used_with(tile=64)) for one in FOUND.values()]
    assert check_calibration(*arguments[:2], unfit, arguments[3]) is None
    none = {i: replace(one[:0], calibration=calibration("size")) for i, one in FOUND.items()}
    empty = CocoEvaluator(truth())
    empty.update(list(none), list(none.values()))
    found = check_calibration(truth(), list(none), list(none.values()), empty.findings())
    assert found is not None
    assert (found.intervals, found.before, found.after, found.drops) == (None, None, None, ())


def test_distributions_stay_where_they_are_looked_at() -> None:
    probs = np.full((3, 4, 8), 1 / 8)
    found = replace(FOUND[5], edge_probs=probs, edge_std=np.ones((3, 4)))  # type: ignore[arg-type]
    assert light(found).edge_probs is None
    assert light(replace(found, calibration=calibration("edge_std"))).edge_probs is None
    assert light(replace(found, calibration=calibration("quantiles"))).edge_probs is probs


def test_a_drop_is_flagged_beyond_chance_alone() -> None:
    """The calibration was chance, too: 86 % of 4,000 edges may be so after 50 boxes, not after 2,000."""

    def table(hits: np.ndarray) -> Any:
        share = share_of(hits, np.arange(len(hits)))
        row = LevelRow(
            0.9, share, (share,) * 4, share_of(np.ones(len(hits), bool), np.arange(len(hits))), 1.0, 1.0, 1.0
        )
        return IntervalTable(len(hits), (row,), 0.9, (), ())

    random = np.random.default_rng(0)
    low, as_promised = (random.random((1000, 4)) < share for share in (0.86, 0.9))
    assert _drops(table(low), 50) == []
    (line,) = _drops(table(low), 2000)
    assert "intervals of 90 % hold 8" in line
    assert "of edges here" in line
    assert _drops(table(as_promised), 2000) == []
    # Images whose boxes are all inside or all outside say less.
    alike = np.repeat(random.random((100, 1)) < 0.86, 10, 0) & np.ones((1000, 4), bool)
    share = share_of(alike, np.repeat(np.arange(100), 10))
    row = LevelRow(0.9, share, (share,) * 4, share_of(np.ones(1000, bool), np.arange(1000)), 1.0, 1.0, 1.0)
    assert _drops(IntervalTable(1000, (row,), 0.9, (), ()), 2000) == []
