"""Precision, recall and F1 at a score, and the score where F1 is best."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from gfocal.evaluation import CocoEvaluator, Findings
from gfocal.evaluation.thresholds.best_f1 import BestF1, best_f1
from gfocal.evaluation.thresholds.curve import THRESHOLDS, Curve, Point, best_threshold, curves
from gfocal.evaluation.thresholds.matching import match
from gfocal.utils.records import from_json, to_json
from helpers.made_detections import data_set
from helpers.made_findings import by_hand, findings
from oracles import thresholds as oracle

A, B, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (80.0, 80.0, 90.0, 90.0)


def of(found: Findings) -> tuple[list[Curve], Curve, BestF1]:
    each, micro = curves(found, match(found))
    return each, micro, best_f1(found.index.names, each, micro)


def test_hand_worked() -> None:
    # Scores .9 right, .7 of nothing, .6 right, .3 the first object again; 3 objects.
    # Above .6 (excluded) precision 1/2, recall 1/3; above .3: 2/3, 2/3, F1 2/3; above 0: 2/4, 2/3, F1 4/7.
    found = by_hand(
        ["a"], [([(A, 0), (B, 0), (FAR, 0)], [(A, 0, 0.9), ((50, 50, 60, 60), 0, 0.7), (B, 0, 0.6), (A, 0, 0.3)])]
    )
    (curve,), micro, best = of(found)
    assert curve.at(0.6) == Point(0.6, 1 / 2, 1 / 3, 2 / 5)
    assert curve.at(0.95) == Point(0.95, None, 0.0, 0.0)
    assert curve.at(0.0) == Point(0.0, 2 / 4, 2 / 3, 4 / 7)
    # Any threshold from .3 up to below .6 lets the same three pass: the middle one of .300, ..., .599.
    assert best.micro == Point(0.45, 2 / 3, 2 / 3, 2 / 3) == best.macro == best.per_class["a"].best
    assert micro.at(None) == Point(None, None, 0.0, 0.0)


def test_where_all_pass_the_best_threshold_is_just_below_the_lowest_score() -> None:
    # What scores below .42 was perhaps never asked for: no lower threshold is known to give the same.
    _, _, best = of(by_hand(["a"], [([(A, 0), (B, 0)], [(A, 0, 0.9), (B, 0, 0.4205)])]))
    assert best.micro == Point(0.42, 1.0, 1.0, 1.0)


def test_micro_pools_and_macro_averages() -> None:
    # a: three objects found at .8. b: one object, found at .4, and a box of nothing at .6. c: no objects, a box at .9.
    objects = [(A, 0), (B, 0), (FAR, 0), ((40.0, 40.0, 50.0, 50.0), 1)]
    boxes = [(A, 0, 0.8), (B, 0, 0.8), (FAR, 0, 0.8), ((40.0, 40.0, 50.0, 50.0), 1, 0.4), ((60, 0, 70, 9), 1, 0.6)]
    _, _, best = of(by_hand("abc", [(objects, [*boxes, ((0, 60, 9, 70), 2, 0.9)])]))
    # Above .6: 3 of 4 boxes right, 3 of 4 objects, F1 3/4; above .8: nothing right; all: 4 of 6, 4 of 4, F1 8/10.
    assert best.micro.f1 == pytest.approx(8 / 10)
    assert (best.micro.threshold, best.micro.precision, best.micro.recall) == (0.399, 4 / 6, 1.0)
    # All: a 1 and b 2/3 (1 of 2 boxes), mean 5/6; above .6: a 1, b 0. c has no part in the mean.
    assert best.macro == Point(0.399, pytest.approx(3 / 4), 1.0, pytest.approx(5 / 6))
    assert best.per_class["c"].best == Point(None, None, None, None)
    assert best.per_class["c"].at_micro == Point(0.399, 0.0, None, None)
    assert best.per_class["b"].best == Point(0.399, 0.5, 1.0, pytest.approx(2 / 3))
    assert [own.objects for own in best.per_class.values()] == [3, 1, 0]


def test_a_class_without_detections_has_no_precision_and_no_part_in_its_mean() -> None:
    _, _, best = of(by_hand("ab", [([(A, 0), (B, 1)], [(A, 0, 0.8)])]))
    assert best.per_class["b"].best == Point(None, None, 0.0, 0.0)
    assert best.macro == Point(0.799, 1.0, 0.5, 0.5)
    assert best.micro == Point(0.799, 1.0, 0.5, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("objects", "boxes", "expected"),
    [
        ([], [], Point(None, None, None, None)),
        ([], [(A, 0, 0.5)], Point(None, None, None, None)),
        ([(A, 0)], [], Point(None, None, 0.0, 0.0)),
        ([(A, 0)], [(FAR, 0, 0.5)], Point(None, None, 0.0, 0.0)),
    ],
    ids=["nothing", "no objects", "no detections", "nothing right"],
)
def test_where_nothing_can_be_right_there_is_no_threshold(
    objects: list[object], boxes: list[object], expected: Point
) -> None:
    _, _, best = of(by_hand(["a"], [(objects, boxes)]))  # type: ignore[list-item]
    assert best.micro == best.per_class["a"].best == expected
    assert from_json(BestF1, to_json(best)) == best


def test_crowds_and_images_left_out_do_not_count() -> None:
    # Inside the crowd two boxes are neither right nor wrong; the second image is left out with its object and found
    # nothing, as an image that could not be read.
    inside = [((41.0, 41.0, 45.0, 45.0), 0, 0.9), ((45.0, 45.0, 49.0, 49.0), 0, 0.8)]
    images = [([(A, 0), ((40.0, 40.0, 60.0, 60.0), 0)], [(A, 0, 0.5), *inside]), ([(A, 0)], [])]
    _, _, best = of(by_hand(["a"], images, crowd=[1], kept=[True, False]))
    assert best.per_class["a"].objects == 1
    assert best.micro == Point(0.499, 1.0, 1.0, 1.0)


def test_each_object_is_found_once_and_by_the_better_score() -> None:
    # The better placed box comes second: the object is taken.
    close = (1.0, 0.0, 11.0, 10.0)
    each, _, _ = of(by_hand(["a"], [([(A, 0)], [(close, 0, 0.9), (A, 0, 0.8)])]))
    assert each[0].right.tolist() == [1, 1]
    assert each[0].detections.tolist() == [1, 2]


def test_of_equal_overlaps_the_last_object_is_taken_as_in_coco() -> None:
    # The first box lies between two objects (IoU 2/3 with each), the second on the first of them.
    first, last = (0.0, 0.0, 10.0, 10.0), (4.0, 0.0, 14.0, 10.0)
    each, _, _ = of(by_hand(["a"], [([(first, 0), (last, 0)], [((2, 0, 12, 10), 0, 0.9), (first, 0, 0.8)])]))
    assert each[0].right.tolist() == [1, 2]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_independent_computation_agrees_at_every_threshold(seed: int, tied: bool) -> None:
    index, found = data_set(seed, tied=tied)
    each, micro, best = of(findings(index, found))
    for threshold in (0.0, 0.1, 0.25, 0.5, 0.8, 0.97):
        for label, curve in [*enumerate(each), (None, micro)]:
            point = curve.at(threshold)
            expected = oracle.precision_recall_f1(index, found, threshold, label)
            assert (point.precision, point.recall, point.f1) == pytest.approx(expected)
    for label, (name, curve) in enumerate(zip(index.names, each, strict=True)):
        own = best.per_class[name]
        point = oracle.precision_recall_f1(index, found, own.best.threshold, label)
        assert (own.best.precision, own.best.recall, own.best.f1) == pytest.approx(point)
        assert own.best.f1 == pytest.approx(np.nanmax(curve.f1_at(THRESHOLDS)))
        # No score of the data gives a better one, up to what three digits cannot tell apart.
        finest = max(oracle.precision_recall_f1(index, found, max(s - 1e-9, 0), label)[2] or 0 for s in found[2])
        assert own.best.f1 >= finest - 0.06 if not tied else own.best.f1 == pytest.approx(finest)


def test_macro_is_the_largest_mean_of_the_classes() -> None:
    index, found = data_set(5, images=8)
    _, _, best = of(findings(index, found))
    means = [
        np.mean([oracle.precision_recall_f1(index, found, t, label)[2] for label in range(3)])
        for t in (0.0, 0.2, 0.4, 0.6, 0.8, best.macro.threshold)
    ]
    assert best.macro.f1 == pytest.approx(means[-1])
    assert max(means) == means[-1]


def coco_precision(index: object, found: tuple[np.ndarray, ...]) -> np.ndarray:
    """(101, C) interpolated precision at IoU 0.5, all sizes, 100 detections, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows, boxes, scores, labels = found
    truth, results = COCO(), COCO()
    image_of = np.repeat(index.image_ids, np.diff(index.box_start))  # type: ignore[attr-defined]
    ids = [{"id": int(i)} for i in sorted(index.image_ids)]  # type: ignore[attr-defined]
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(index.names)]  # type: ignore[attr-defined]

    def records(
        image_ids: np.ndarray, boxes: np.ndarray, labels: np.ndarray, **more: np.ndarray
    ) -> list[dict[str, object]]:
        xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        return [
            {"id": n + 1, "image_id": int(image), "bbox": box, "area": box[2] * box[3], "category_id": int(label) + 1}
            | {name: float(values[n]) for name, values in more.items()}
            for n, (image, box, label) in enumerate(zip(image_ids, xywh.tolist(), labels, strict=True))
        ]

    crowd = (index.crowd | index.ignore).astype(int)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = records(image_of, index.boxes, index.labels, iscrowd=crowd)  # type: ignore[attr-defined]
        truth.dataset = {"images": ids, "categories": categories, "annotations": annotations}
        ours = records(index.image_ids[rows], boxes, labels, score=scores, iscrowd=np.zeros(len(rows)))  # type: ignore[attr-defined]
        results.dataset = {"images": ids, "categories": categories, "annotations": ours}
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][0, :, :, 0, -1]


@pytest.mark.parametrize("seed", range(4))
def test_points_of_the_curve_are_pycocotools(seed: int) -> None:
    index, found = data_set(seed, images=20)
    expected = coco_precision(index, found)
    each, _, _ = of(findings(index, found))
    for label, curve in enumerate(each):
        envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
        at = np.searchsorted(curve.recall, np.linspace(0, 1, 101), side="left")
        mine = np.where(at < len(envelope), envelope[np.minimum(at, len(envelope) - 1)], 0.0)
        assert mine == pytest.approx(expected[:, label], abs=1e-12)


def test_eighty_classes_of_which_most_are_absent() -> None:
    index, found = data_set(1, images=6)
    index.names = tuple(f"class {n}" for n in range(80))
    _, _, best = of(findings(index, found))
    assert len(best.per_class) == 80
    assert sum(own.best.f1 is not None for own in best.per_class.values()) == len(set(index.labels.tolist()))
    assert best.micro.f1 == pytest.approx(oracle.precision_recall_f1(index, found, best.micro.threshold)[2])


def test_the_middle_of_a_plateau_and_the_largest_of_equal_ones() -> None:
    scores, f1 = np.array([0.9, 0.5]), np.zeros(1000)
    f1[500:900] = 0.5
    assert best_threshold(scores, f1) == 0.7
    assert best_threshold(scores, np.full(1000, np.nan)) is None
    f1[:] = 0.5  # two plateaus of the same height, one below .5 and one above: that of the higher scores
    assert best_threshold(np.array([0.9, 0.5]), np.where(THRESHOLDS < 0.9, 0.5, 0.0)) == 0.7


def test_the_evaluator_reports_it() -> None:
    import torch

    from gfocal import Detections

    index, (rows, boxes, scores, labels) = data_set(3)
    evaluator = CocoEvaluator(index)
    for row, image_id in enumerate(index.image_ids.tolist()):
        mine = rows == row
        parts = (torch.from_numpy(values[mine]) for values in (boxes, scores, labels))
        evaluator.update([image_id], [Detections(*parts)])
    result = evaluator.compute()
    expected = of(findings(index, (rows, boxes, scores, labels)))[2]
    assert result.best_f1 == expected
    written = result.to_dict()
    assert written["best_f1"]["micro"]["threshold"] == expected.micro.threshold
    assert written["best_f1"]["per_class"]["a"]["at_micro"]["threshold"] == expected.micro.threshold
    del written["best_f1"]  # of an earlier version
    assert from_json(type(result), written).best_f1 is None
