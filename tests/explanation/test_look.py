"""What led to a detection: the same detections as a prediction, parts of scores, points, runners-up, bins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gfocal.detector import DenseDetector
from gfocal.explanation.look import Labels, look_at
from gfocal.explanation.places import bins_by_edge, bins_by_origin, steps_by_spread, window
from gfocal.models import PostProcess
from gfocal.models.postprocess import Choice
from gfocal.prediction.open import load
from gfocal.representation.quality.mined import MinedSoftmax
from gfocal.structures import HeadOutput
from helpers.exporting import NAMES, checkpoint, small_square, stirred

KINDS = ("none", "centerness", "iou", "centerness_guided", "joint", "joint_v2", "varifocal", "varifocal_aligned")
COMBINED = {
    "centerness": lambda parts: parts["class"] * parts["centerness"],
    "iou": lambda parts: parts["class"] * parts["IoU"],
    "joint_v2": lambda parts: parts["class"] * parts["quality of the distributions"],
    "varifocal_aligned": lambda parts: (parts["class"] * parts["quality"]) ** 0.5,
}


def image_of(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def small_detector(*overrides: str) -> DenseDetector:
    return stirred(small_square(*overrides))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_come_from_their_parts(kind: str) -> None:
    detector = small_detector(f"model.quality.kind={kind}")
    look = look_at(detector, image_of(), score=0.05, top=100)
    assert len(look.found) > 3
    assert detector.quality.score_rule
    for score, parts in zip(look.found.scores.tolist(), look.parts, strict=True):
        named = {part.name: part.value for part in parts}
        assert score == pytest.approx(COMBINED.get(kind, lambda own: own["class"])(named), rel=1e-5)


def test_a_softmax_has_a_part_for_the_background() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    out = HeadOutput(logits, torch.zeros(2, 4))
    parts = MinedSoftmax().score_parts(torch.tensor([0, 1]), out)
    shares = logits.softmax(-1)
    assert parts["class"].tolist() == pytest.approx([float(shares[0, 0]), 1 / 3])
    assert parts["background"].tolist() == pytest.approx([float(shares[0, 2]), 1 / 3])
    candidates = MinedSoftmax().class_logits(out).sigmoid()
    assert candidates[[0, 1], [0, 1]].tolist() == pytest.approx(parts["class"].tolist(), rel=1e-5)


@pytest.mark.parametrize("boxes", ["general_dfl", "general", "gaussian", "dirac"])
@pytest.mark.parametrize("score", [0.02, 0.1, 0.5])
def test_it_finds_what_predict_finds(boxes: str, score: float) -> None:
    detector = small_detector(f"model.boxes.kind={boxes}")
    image = image_of(37, 111)
    expected = detector.predict(image, score_threshold=score).numpy()
    look = look_at(detector, image, score=score, top=5)
    assert look.kind == {"gaussian": "normal", "dirac": "none"}.get(boxes, "bins")
    assert look.found.boxes == pytest.approx(expected.boxes, abs=1e-4)
    assert look.found.scores == pytest.approx(expected.scores, rel=1e-5)
    assert np.array_equal(look.found.labels, expected.labels)
    assert len(look.points) == len(look.parts) == len(look.removed) == len(look.counts) == len(expected)


@pytest.mark.parametrize("boxes", ["general_dfl", "gaussian"])
def test_means_are_the_edges_before_the_border_cuts_them_off(boxes: str) -> None:
    image = image_of(48, 80)
    look = look_at(small_detector(f"model.boxes.kind={boxes}"), image, score=0.02, top=5)
    assert look.means is not None
    edges = np.asarray(look.found.boxes)
    limits = np.array([80, 48, 80, 48])
    assert np.clip(look.means, 0, limits) == pytest.approx(edges, abs=1e-3)
    assert (np.abs(look.means - edges) > 1).any(), "some edge lies beyond the image"


def test_bins_lie_around_the_point_that_found_it() -> None:
    detector = small_detector()
    look = look_at(detector, image_of(64, 128), score=0.02, top=5)
    assert look.bins is not None
    for bins, point in zip(look.bins, look.points, strict=True):
        assert bins[:, 0].tolist() == pytest.approx([point.x, point.y, point.x, point.y])
        assert (bins[0, 1] - bins[0, 0], bins[1, 1] - bins[1, 0]) == pytest.approx((-2 * point.stride, -point.stride))
        assert point.stride == detector.strides[point.level]
    # Where the point is not known, the same comes from edges and deviations, but for edges at the border.
    found = look.found
    probs, std = np.asarray(found.edge_probs, float), np.asarray(found.edge_std, float)
    steps = steps_by_spread(std, probs)
    assert steps is not None
    assert steps == pytest.approx(look.bins[..., 1] - look.bins[..., 0], rel=1e-3)
    inside = np.abs(look.means - np.asarray(found.boxes)) < 1e-3
    assert bins_by_edge(np.asarray(found.boxes, float), probs, steps)[inside] == pytest.approx(
        look.bins[inside], abs=0.05
    )


def test_distributions_in_one_bin_say_nothing_of_its_width() -> None:
    one = np.zeros((1, 4, 3))
    one[..., 1] = 1
    assert steps_by_spread(np.zeros((1, 4)), one) is None
    known = one.copy()
    known[0, 3] = [0.5, 0, 0.5]  # a deviation of one bin
    assert steps_by_spread(np.array([[0, 0, 0, 6.0]]), known) == pytest.approx(np.array([[-6.0, -6, 6, 6]]))


def test_bins_by_their_origin() -> None:
    assert bins_by_origin(np.full((1, 4), 10.0), np.array([[-2.0, -1, 2, 1]]), 3)[0].tolist() == [
        [10, 8, 6],
        [10, 9, 8],
        [10, 12, 14],
        [10, 11, 12],
    ]


def test_who_removed_whom() -> None:
    near, far = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
    boxes = torch.tensor([near, [0, 0, 10, 9], far, near, [50, 50, 60, 59], near])
    choice = Choice(
        place=torch.arange(6),
        label=torch.tensor([0, 0, 0, 1, 0, 1]),
        boxes=boxes,
        scores=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]),
        kept=torch.tensor([0, 2, 3]),
    )
    assert PostProcess().removed_by(choice).tolist() == [-1, 0, -1, -1, 1, 2]
    agnostic = Choice(choice.place, choice.label, boxes, choice.scores, torch.tensor([0, 2]))
    assert PostProcess(class_agnostic=True).removed_by(agnostic).tolist() == [-1, 0, -1, 0, 1, 0]
    none = Choice(choice.place[:0], choice.label[:0], boxes[:0], choice.scores[:0], torch.zeros(0, dtype=torch.int64))
    assert PostProcess().removed_by(none).tolist() == []


def test_every_candidate_is_kept_removed_or_cut_off() -> None:
    detector = small_detector("predict.max_detections=7")
    look = look_at(detector, image_of(), score=0.05, top=7)
    assert len(look.found) == 7
    for box, score, removed, count in zip(look.found.boxes, look.found.scores, look.removed, look.counts, strict=True):
        assert len(removed) == min(count, 8)
        assert [other.score for other in removed] == sorted((other.score for other in removed), reverse=True)
        for other in removed:
            assert other.iou > detector.postprocess.nms_iou
            assert other.score <= score + 1e-6
            assert np.isfinite([*other.box, *box]).all()


def test_runners_up_are_told_of_the_first_alone() -> None:
    look = look_at(small_detector(), image_of(), score=0.05, top=2)
    assert any(look.counts[:2])
    assert all(not removed for removed in look.removed[2:])


def test_the_labels_say_what_a_point_would_learn() -> None:
    image = image_of(64, 64)
    detector = small_detector()
    points = look_at(detector, image, score=0.02, top=1).points
    middle = next(i for i, point in enumerate(points) if point.level == 0 and 20 < point.x < 44 and 20 < point.y < 44)
    x, y = points[middle].x, points[middle].y
    labels = Labels(np.array([[x - 16, y - 16, x + 16, y + 16]]), np.array([0]), np.array([41]))
    look = look_at(detector, image, score=0.02, top=1, labels=labels)
    assert look.assigned[middle] == 41
    far = [learns for learns, point in zip(look.assigned, points, strict=True) if abs(point.x - x) > 16]
    assert far
    assert set(far) == {-1}
    empty = Labels(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert set(look_at(detector, image, score=0.02, top=1, labels=empty).assigned) == {-1}


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2)])
def test_images_of_a_pixel_or_a_row(size: tuple[int, int]) -> None:
    look = look_at(small_detector(), image_of(*size), score=0.02, top=3)
    assert np.isfinite(np.asarray(look.found.boxes)).all()
    assert look.bins is not None
    assert np.isfinite(look.bins).all()


def test_windows_stay_inside() -> None:
    assert window(np.array([[40.0, 40, 60, 50]]), 100, 200) == (27, 22, 73, 68)
    assert window(np.array([[0.0, 0, 200, 10]]), 20, 200) == (0, 0, 200, 20)
    assert window(np.array([[0.0, 0, 1, 1]]), 1, 1) == (0, 0, 1, 1)


def test_a_checkpoint_with_voting(tmp_path: Path) -> None:
    detector = load(checkpoint(tmp_path, "predict.voting=0.02"))
    assert isinstance(detector, DenseDetector)
    look = look_at(detector, image_of(), score=0.05, top=3)
    expected = detector.predict(image_of(), score_threshold=0.05).numpy()
    assert look.found.boxes == pytest.approx(expected.boxes, abs=1e-2)  # those below the score vote, too
    assert look.found.names == NAMES
