"""Scores and edges beside what came of them, by hand and drawn from a known distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gfocal.detections import Detections
from gfocal.evaluation import CocoEvaluator
from gfocal.evaluation.diagnosis.edges import edge_calibration
from gfocal.evaluation.diagnosis.reliability import reliability
from gfocal.evaluation.thresholds.matching import match
from helpers.made_findings import Box, by_hand


def box(x: float, width: float = 10) -> Box:
    return (x, 0.0, x + width, 10.0)


def test_scores_by_hand() -> None:
    objects = [(box(0), 0), (box(50), 0)]
    found = [(box(0), 0, 0.95), (box(50, 8), 0, 0.85), (box(100), 0, 0.9), (box(150), 0, 0.1), (box(150), 0, 0.0)]
    made = by_hand(["a"], [(objects, found)])
    result = reliability(made, match(made))
    counts = {round(one.high, 1): one.detections for one in result.bins if one.detections}
    assert counts == {1.0: 1, 0.9: 2, 0.1: 2}, "a score of 0.9 belongs to (0.8, 0.9]"
    nine = result.bins[8]
    assert (nine.score, nine.right, nine.iou) == (pytest.approx(0.875), 0.5, pytest.approx(0.4))
    assert result.d_ece == pytest.approx((1 * 0.05 + 2 * 0.375 + 2 * 0.05) / 5)
    assert result.iou_ece == pytest.approx((1 * 0.05 + 2 * 0.475 + 2 * 0.05) / 5)


def test_what_is_ignored_does_not_count() -> None:
    made = by_hand(["a"], [([(box(0), 0)], [(box(0), 0, 0.9)])], crowd=[0])
    result = reliability(made, match(made))
    assert (result.detections, result.d_ece) == (0, None)
    assert all(one.score is None for one in result.bins)


def drawn(spread: float, claimed: float, count: int = 3000) -> object:
    """Objects whose edges are found with normal errors; the detector claims another spread."""
    rng = np.random.default_rng(0)
    images, stds = [], []
    for number in range(count):
        side = (40.0, 100.0, 300.0)[number % 3]
        own = spread * (0.5 + rng.random())
        error = rng.normal(0, own, 4)
        truth = (0.0, 0.0, side, side)
        images.append(([(truth, 0)], [(tuple((np.array(truth) + error).tolist()), 0, 0.9)]))
        stds.append([own * claimed / spread] * 4)
    return replace(by_hand(["a"], images), edge_std=np.array(stds, np.float32))


def test_edges_of_a_known_distribution() -> None:
    made = drawn(2.0, 2.0)
    found = edge_calibration(made, match(made))
    assert found is not None
    assert found.overall.objects == 3000
    assert found.overall.inside == pytest.approx((0.5, 0.8, 0.9), abs=0.02)
    assert list(found.sizes) == ["small", "medium", "large"]
    for group in found.sizes.values():
        assert group.objects == 1000
        assert group.inside == pytest.approx((0.5, 0.8, 0.9), abs=0.03)
    assert found.overall.correlation is not None
    assert 0.1 < found.overall.correlation < 0.5
    assert sum(one.edges for one in found.tenths) == 12000
    assert found.tenths[-1].error > 2 * found.tenths[0].error


def test_edges_that_claim_too_much() -> None:
    made = drawn(2.0, 0.5)
    found = edge_calibration(made, match(made))
    assert found is not None
    assert found.overall.inside is not None
    assert found.overall.inside[2] < 0.5


def test_boxes_without_edges_and_without_objects() -> None:
    made = by_hand(["a"], [([(box(0), 0)], [(box(0), 0, 0.9)])])
    assert edge_calibration(made, match(made)) is None
    lost = replace(by_hand(["a"], [([(box(0), 0)], [(box(500), 0, 0.9)])]), edge_std=np.ones((1, 4), np.float32))
    found = edge_calibration(lost, match(lost))
    assert found is not None
    assert (found.overall.objects, found.overall.inside, found.tenths) == (0, None, ())


def seen(count: int, edges: bool) -> Detections:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(count, 1)
    std = torch.arange(4.0).repeat(count, 1) + count if edges else None
    return Detections(boxes, torch.full((count,), 0.5), torch.zeros(count, dtype=torch.int64), edge_std=std)


@pytest.mark.parametrize(("without", "kept"), [(0, True), (1, False)])
def test_every_detection_keeps_its_edges_or_none_does(without: int, kept: bool) -> None:
    evaluator = CocoEvaluator(by_hand(["a"], [([], [])] * 4).index)
    evaluator.update([1, 2], [seen(2, True), seen(0, False)])
    evaluator.update([3, 4], [seen(1, True), seen(without, False)])
    found = evaluator.findings()
    if kept:
        assert found.edge_std is not None
        assert found.edge_std.tolist() == [[2, 3, 4, 5], [2, 3, 4, 5], [1, 2, 3, 4]]
        assert found.rows.tolist() == [0, 0, 2]
    else:
        assert found.edge_std is None
