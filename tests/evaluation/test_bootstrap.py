"""Matches by COCO's rules, and how far AP moves with the images."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gfocal.evaluation import (
    ap_intervals,
    bootstrap,
    match_detections,
    own_ious,
    resampled_weights,
    score_iou_correlation,
    weighted_ap,
    weighted_correlation,
)
from gfocal.evaluation.bootstrap import weighted_mean
from gfocal.evaluation.coco import _coco_metrics
from helpers.made_detections import data_set


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_with_every_image_once_it_is_cocos_ap(seed: int, tied: bool) -> None:
    index, found = data_set(seed, tied=tied)
    stats, _ = _coco_metrics(index, np.ones(12, bool), *found)
    aps = weighted_ap(match_detections(index, *found), np.ones((1, 12), int))[0]
    assert [aps.mean(), aps[0], aps[5]] == pytest.approx([stats["AP"], stats["AP50"], stats["AP75"]], abs=1e-12)


def test_what_found_each_object() -> None:
    """Two objects of class 0 overlap by a half; detections in the order of their scores take what is free."""
    index = SimpleNamespace(
        image_ids=np.array([7, 3]),
        box_start=np.array([0, 3, 5]),
        boxes=np.array([[0, 0, 10, 10], [0, 5, 10, 15], [50, 0, 60, 10], [0, 0, 10, 10], [0, 0, 20, 10]], float),
        labels=np.array([0, 0, 1, 0, 1]),
        crowd=np.array([False, False, False, False, True]),
        ignore=np.zeros(5, bool),
        names=("a", "b"),
    )
    rows = np.array([0, 0, 0, 1, 1])
    boxes = [[0, 2, 10, 12], [0, 0, 10, 10], [50, 0, 60, 4], [0, 0, 10, 9], [0, 0, 10, 10]]
    scores, labels = np.array([0.9, 0.8, 0.7, 0.2, 0.3]), np.array([0, 0, 1, 0, 1])
    matches = match_detections(index, rows, np.array(boxes, float), scores, labels)
    # The best lies 2 below the first object (IoU 80 / 120) and 3 above the second (70 / 130): it takes the first.
    # So the exact box of the first finds nothing: with the second its IoU is 50 / 150. Four tenths of a box find
    # nothing, nor is a crowd found.
    np.testing.assert_allclose(matches.found.scores, [0.9, np.nan, np.nan, 0.2, np.nan])
    np.testing.assert_allclose(matches.found.ious, [2 / 3, np.nan, np.nan, 0.9, np.nan])
    np.testing.assert_array_equal(matches.found.images, [0, 0, 0, 1, 1])
    second = matches.only(np.array([False, True])).found
    np.testing.assert_array_equal(second.images, [0, 0])
    np.testing.assert_allclose(second.ious, [0.9, np.nan])


@pytest.mark.parametrize("seed", range(3))
def test_as_many_objects_are_found_as_detections_are_right(seed: int) -> None:
    index, found = data_set(seed)
    matches = match_detections(index, *found)
    there = np.isfinite(matches.found.scores)
    assert there.sum() == matches.right[0].sum() > 5
    np.testing.assert_array_equal(np.sort(matches.found.scores[there]), np.sort(matches.scores[matches.right[0]]))
    assert not there[index.crowd | index.ignore].any()


def test_a_weighted_mean_is_that_of_copies() -> None:
    images, values = np.array([2, 0, 2, 1]), np.array([1.0, 4.0, 3.0, 10.0])
    # Image 0 once, image 2 twice: (4 + 2 * 1 + 2 * 3) / 5.
    means = weighted_mean(images, values, np.array([[1, 0, 2], [0, 0, 0]]))
    np.testing.assert_allclose(means, [12 / 5, np.nan])


def test_images_that_are_left_out() -> None:
    index, found = data_set(7)
    kept = np.arange(12) % 3 != 0
    mine = kept[found[0]]
    stats, _ = _coco_metrics(index, kept, *(values[mine] for values in found))
    matches = match_detections(index, *found).only(kept)
    assert weighted_ap(matches, np.ones((1, 8), int)).mean() == pytest.approx(stats["AP"], abs=1e-12)


def test_a_weight_is_that_many_copies_of_a_image() -> None:
    index, (rows, boxes, scores, labels) = data_set(3)
    weights = np.random.default_rng(0).integers(0, 3, 12)
    parts = [np.arange(index.box_start[i], index.box_start[i + 1]) for i in range(12)]
    copies = [i for i in range(12) for _ in range(weights[i])]
    truth = np.concatenate([parts[i] for i in copies])
    names = ("boxes", "labels", "crowd", "ignore", "area")
    repeated = SimpleNamespace(
        image_ids=np.arange(len(copies)),
        box_start=np.cumsum([0, *(len(parts[i]) for i in copies)]),
        names=index.names,
        **{name: getattr(index, name)[truth] for name in names},
    )
    own = [np.flatnonzero(rows == i) for i in copies]
    again = np.concatenate(own)
    new_rows = np.repeat(np.arange(len(copies)), [len(part) for part in own])
    # Copies tie, and of tied detections COCO takes the first: far from a tie, copies of one detection stand together.
    stats, _ = _coco_metrics(repeated, np.ones(len(copies), bool), new_rows, boxes[again], scores[again], labels[again])
    aps = weighted_ap(match_detections(index, rows, boxes, scores, labels), weights[None])
    assert aps.mean() == pytest.approx(stats["AP"], abs=1e-12)


def test_a_hundred_detections_a_class_in_a_image() -> None:
    index = SimpleNamespace(
        image_ids=np.array([5]),
        box_start=np.array([0, 1]),
        boxes=np.array([[0.0, 0, 10, 10]]),
        labels=np.array([0]),
        crowd=np.zeros(1, bool),
        ignore=np.zeros(1, bool),
        area=np.array([100.0]),
        names=("a", "b"),
    )
    boxes = np.tile([[50.0, 50, 60, 60]], (101, 1))
    boxes[100] = [0, 0, 10, 10]
    for place, right in ((100, 0), (99, 1)):
        scores = np.linspace(1, 0.5, 101)
        scores[100] = scores[place] + (1e-6 if place < 100 else 0)
        matches = match_detections(index, np.zeros(101, int), boxes, scores, np.zeros(101, int))
        assert matches.right[0].sum() == right
        assert len(matches.images) == 100


def test_of_two_objects_with_one_iou_the_last_is_taken() -> None:
    # The first detection overlaps both objects by 9 / 11. It takes the last, as COCO does, so the second detection,
    # which overlaps only that one by half (8 / 12), finds nothing.
    index = SimpleNamespace(
        image_ids=np.array([1]),
        box_start=np.array([0, 2]),
        boxes=np.array([[0.0, 0, 10, 10], [2, 0, 12, 10]]),
        labels=np.zeros(2, int),
        crowd=np.zeros(2, bool),
        ignore=np.zeros(2, bool),
        area=np.full(2, 100.0),
        names=("a",),
    )
    found = np.zeros(2, int), np.array([[1.0, 0, 11, 10], [4, 0, 14, 10]]), np.array([0.9, 0.8]), np.zeros(2, int)
    matches = match_detections(index, *found)
    assert matches.right[0].tolist() == [True, False]
    stats, _ = _coco_metrics(index, np.ones(1, bool), *found)
    assert weighted_ap(matches, np.ones((1, 1), int)).mean() == pytest.approx(stats["AP"], abs=1e-12)


def test_intervals_are_those_of_the_sampling() -> None:
    # One object an image, found at IoU 1 in 60 % of them: AP is the share found, whose standard deviation over samples
    # of n images is sqrt(.6 * .4 / n); 95 % lie within 1.96 of them. (Precision is 1 throughout, and AP counts the
    # recalls 0, .01, ..., .6 of 101, so it is 61 / 101 and moves in steps of .01.)
    images = 600
    index = SimpleNamespace(
        image_ids=np.arange(images),
        box_start=np.arange(images + 1),
        boxes=np.tile([[0.0, 0, 10, 10]], (images, 1)),
        labels=np.zeros(images, int),
        crowd=np.zeros(images, bool),
        ignore=np.zeros(images, bool),
        area=np.full(images, 100.0),
        names=("a",),
    )
    rows = np.arange(images)[np.arange(images) % 5 < 3]
    matches = match_detections(
        index, rows, index.boxes[rows], np.random.default_rng(0).random(len(rows)), np.zeros(len(rows), int)
    )
    intervals = ap_intervals(matches, resamples=2000)
    half = 1.96 * (0.6 * 0.4 / images) ** 0.5
    assert intervals["AP"] == pytest.approx((61 / 101 - half, 61 / 101 + half), abs=0.006)
    assert intervals["AP"] == intervals["AP50"] == intervals["AP75"]
    assert intervals == ap_intervals(matches, resamples=2000), "the same pictures are drawn each time"


def test_nothing_to_resample() -> None:
    index, found = data_set(1, images=1)
    assert ap_intervals(match_detections(index, *found)) == {}
    index, _ = data_set(2)
    nothing = match_detections(index, np.zeros(0, int), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert ap_intervals(nothing)["AP"] == (0.0, 0.0)
    assert (resampled_weights(5, 7).sum(1) == 5).all()


@pytest.mark.parametrize("tied", [False, True])
def test_with_every_image_once_it_is_the_correlation(tied: bool) -> None:
    index, (rows, boxes, scores, labels) = data_set(4, 40, tied=tied)
    matches = match_detections(index, rows, boxes, scores, labels)
    ious = own_ious(index, rows, boxes, labels)
    expected = score_iou_correlation(scores, ious)
    assert expected is not None
    assert abs(expected) > 0.01, "a correlation of nothing would hide a lost sign"
    assert weighted_correlation(matches, np.ones((2, 40), int)) == pytest.approx([expected] * 2, abs=1e-12)
    order = np.lexsort((rows, scores))
    assert sorted(zip(matches.scores, matches.ious, strict=True)) == sorted(
        zip(scores[order], ious[order], strict=True)
    ), "each score beside the IoU of the same detection"


@pytest.mark.parametrize("tied", [False, True])
def test_the_correlation_of_copies_of_images(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    index, found = data_set(9, tied=tied)
    matches = match_detections(index, *found)
    weights = resampled_weights(12, 7)
    copies = [np.repeat(np.arange(len(matches.scores)), own[matches.images]) for own in weights]
    expected = [score_iou_correlation(matches.scores[rows], matches.ious[rows]) for rows in copies]
    assert len(set(expected)) == 7
    assert weighted_correlation(matches, weights) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 200)  # a resample or two at a time
    assert weighted_correlation(matches, weights) == pytest.approx(expected, abs=1e-12)


def test_correlation_of_nothing() -> None:
    index, (rows, boxes, scores, labels) = data_set(9)
    matches = match_detections(index, rows, boxes, scores, labels)
    assert np.isnan(weighted_correlation(matches, np.zeros((2, 12), int))).all()
    constant = match_detections(index, rows, boxes, np.full_like(scores, 0.5), labels)
    assert np.isnan(weighted_correlation(constant, np.ones((1, 12), int))).all()
    weak = match_detections(index, rows, boxes, np.full_like(scores, 0.04), labels)
    assert np.isnan(weighted_correlation(weak, np.ones((3, 12), int))).tolist() == [True] * 3
    # Of one image that is drawn, two detections are drawn: too few, and enough when it is drawn twice.
    two = matches.only(np.arange(12) == int(matches.images[0]))
    counted = np.flatnonzero((two.scores >= 0.05) & (two.ious >= 0.1))[:2]
    kept = np.isin(np.arange(len(two.scores)), counted)
    two = replace(two, images=two.images[kept], scores=two.scores[kept], ious=two.ious[kept])
    values = weighted_correlation(two, np.array([[1], [2]]))
    assert np.isnan(values).tolist() == [True, False]
