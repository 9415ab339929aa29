from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from gfocal.errors import UsageError
from gfocal.models import PostProcess
from gfocal.models.postprocess import suppress
from gfocal.points import make_points
from gfocal.representation import DiracBoxes, GeneralBoxes, NoQuality
from gfocal.structures import HeadOutput

POINTS = make_points([(2, 3), (1, 2)], [8, 16], anchor_scale=8, offset=0)


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def random_boxes(count: int, seed: int, *, low: float = 0, side: float = 100) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = low + 200 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((corner, corner + 1 + side * torch.rand(count, 2, generator=generator)), 1)
    # A permutation of distinct scores: among equals the reference promises nothing.
    scores = torch.randperm(count, generator=generator).float() / max(count, 1)
    return boxes, scores, torch.randint(0, 3, (count,), generator=generator)


@pytest.mark.parametrize("iou", [0.1, 0.5, 0.6, 0.95])
@pytest.mark.parametrize("count", [1, 50, 299, 301, 1500])
def test_suppression_agrees_with_torchvision(count: int, iou: float) -> None:
    boxes, scores, labels = random_boxes(count, seed=count)
    expected = batched_nms(boxes, scores, labels, iou)
    for limit in (1, 20, 100, 2000):
        assert suppress(boxes, scores, labels, iou=iou, limit=limit).tolist() == expected[:limit].tolist()


@pytest.mark.parametrize("iou", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("count", [1, 50, 301, 1500])
def test_class_agnostic_suppression_is_torchvision_s_without_offsets(count: int, iou: float) -> None:
    boxes, scores, labels = random_boxes(count, seed=count)
    expected = nms(boxes, scores, iou)
    for limit in (1, 100, None):
        kept = suppress(boxes, scores, labels, iou=iou, limit=limit, class_agnostic=True)
        assert kept.tolist() == expected[:limit].tolist()
    if count > 1 and iou == 0.1:
        assert kept.tolist() != suppress(boxes, scores, labels, iou=iou).tolist()


def test_suppression_goes_on_while_too_few_are_left() -> None:
    # 2000 boxes in two clumps: the first 300 of the ranking leave a handful.
    boxes, scores, labels = random_boxes(2000, seed=0, side=2)
    boxes[:, :2] = (boxes[:, :2] / 100).floor() * 100
    boxes[:, 2:] = boxes[:, :2] + 50 + boxes[:, 2:] % 10
    expected = batched_nms(boxes, scores, labels, 0.9)
    assert suppress(boxes, scores, labels, iou=0.9, limit=100).tolist() == expected[:100].tolist()


def test_classes_do_not_meet_also_left_of_zero() -> None:
    # The same box in four classes, far left and right: a shift that only looks at the largest coordinate would
    # bring neighbours together.
    box = torch.tensor([-1000.0, -1000, 10, 10])
    boxes, labels = box.repeat(8, 1), torch.tensor([0, 1, 2, 3]).repeat(2)
    kept = suppress(boxes, torch.arange(8.0), labels, iou=0.5, limit=100)
    assert kept.tolist() == [7, 6, 5, 4]


def test_only_more_overlap_than_the_limit_suppresses() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1]])  # IoU is exactly 1/2
    scores, labels = torch.tensor([0.5, 0.9]), torch.zeros(2, dtype=torch.int64)
    assert suppress(boxes, scores, labels, iou=0.5, limit=9).tolist() == [1, 0]
    assert suppress(boxes, scores, labels, iou=0.499, limit=9).tolist() == [1]


def test_of_equal_scores_the_first_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(400, 1)
    scores, labels = torch.full((400,), 0.5), torch.arange(400) % 2
    assert suppress(boxes, scores, labels, iou=0.5, limit=9).tolist() == [0, 1]


def test_nothing_to_suppress() -> None:
    none = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert suppress(*none, iou=0.5, limit=9).shape == (0,)
    assert suppress(*none).shape == (0,)


def test_without_a_limit_all_that_is_left_stays() -> None:
    # More than the 300 of the first look, and 0.6 by default, as in the recipes.
    boxes, scores, labels = random_boxes(1500, seed=5, side=40)
    kept = suppress(boxes, scores, labels)
    assert kept.tolist() == batched_nms(boxes, scores, labels, 0.6).tolist()
    assert len(kept) > 300
    assert suppress(boxes, scores, labels, limit=0).tolist() == []


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "iou", "message"),
    [
        (torch.zeros(4), torch.zeros(4), torch.zeros(4), 0.5, r"got \(4,\), \(4,\) and \(4,\)"),
        (torch.zeros(3, 4), torch.zeros(3, 2), torch.zeros(3), 0.5, r"\(N, 4\), \(N,\) and \(N,\), got .* \(3, 2\)"),
        (torch.zeros(3, 4), torch.zeros(3), torch.zeros(1), 0.5, r"and \(1,\)"),
        (torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), 50.0, "iou must be between 0 and 1, got 50.0"),
        (torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), math.nan, "iou must be between 0 and 1, got nan"),
    ],
)
def test_what_cannot_be_suppressed_is_refused(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        suppress(boxes, scores, labels, iou=iou)


def test_an_object_of_two_classes_is_one_detection_where_classes_exclude_each_other() -> None:
    # Point 0 answers to both classes with one box, point 5 of the other level far away to the second.
    out = output({(0, 0): 0.6, (0, 1): 0.8, (5, 1): 0.5})
    found = {}
    for agnostic in (False, True):
        post = PostProcess(class_agnostic=agnostic)
        found[agnostic] = post(out, POINTS, DiracBoxes(code="distances"), NoQuality(), height=64, width=64)
    assert found[False].labels.tolist() == [1, 0, 1]
    assert found[True].labels.tolist() == [1, 1]
    assert found[True].scores.tolist() == pytest.approx([0.8, 0.5])


def output(scores: dict[tuple[int, int], float], classes: int = 2) -> HeadOutput:
    """Logits of some (point, class) pairs, everything else far below any threshold; boxes of 8 pixels a side."""
    logits = torch.full((len(POINTS), classes), -20.0)
    for pair, score in scores.items():
        logits[pair] = logit(score)
    return HeadOutput(logits, torch.full((len(POINTS), 4), 0.5))


def candidates(post: PostProcess, out: HeadOutput) -> list[tuple[int, int]]:
    place, label, _ = post.candidates(out, POINTS, NoQuality())
    return list(zip(place.tolist(), label.tolist(), strict=True))


def test_candidates_must_score_higher_than_the_threshold() -> None:
    out = output({(0, 0): 0.5, (1, 1): 0.50001, (2, 0): 0.49999})
    assert candidates(PostProcess(score_threshold=0.5), out) == [(1, 1)]
    assert len(candidates(PostProcess(score_threshold=0), out)) == 2 * len(POINTS)
    place, _, scores = PostProcess(score_threshold=0.3).candidates(out, POINTS, NoQuality())
    assert place.tolist() == [1, 0, 2]
    assert scores.tolist() == pytest.approx([0.50001, 0.5, 0.49999], abs=1e-6)


def test_the_best_of_each_level_are_kept() -> None:
    # Points 0..5 are level 0, points 6 and 7 level 1.
    out = output({(0, 0): 0.6, (0, 1): 0.9, (3, 1): 0.7, (5, 0): 0.8, (6, 0): 0.2, (7, 1): 0.3, (7, 0): 0.1})
    assert candidates(PostProcess(pre_nms_top_k=2), out) == [(0, 1), (5, 0), (7, 1), (6, 0)]


def test_equal_candidates_come_in_the_order_of_the_points() -> None:
    out = output({(4, 0): 0.5, (1, 1): 0.5, (1, 0): 0.5, (6, 1): 0.5})
    assert candidates(PostProcess(pre_nms_top_k=2), out) == [(1, 0), (1, 1), (6, 1)]


def test_undefined_scores_are_no_candidates() -> None:
    out = output({(0, 0): 0.5})
    out.class_logits[3] = math.nan
    assert candidates(PostProcess(), out) == [(0, 0)]


def test_from_outputs_to_detections_by_hand() -> None:
    # Point 1 is at (8, 0), stride 8, point 4 at (8, 8), point 7 at (16, 0), stride 16; half a stride to each side.
    out = output({(1, 0): 0.6, (4, 1): 0.7, (7, 1): 0.9})
    found = PostProcess()(out, POINTS, DiracBoxes(), NoQuality(), height=10, width=20, names=("a", "b"))
    assert found.labels.tolist() == [1, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    # Clipped to 20 x 10: [8, -8, 24, 8], [4, 4, 12, 12], [4, -4, 12, 4].
    assert found.boxes.tolist() == [[8, 0, 20, 8], [4, 4, 12, 10], [4, 0, 12, 4]]
    assert found.names == ("a", "b")
    assert found.edge_std is None
    assert found.edge_probs is None


def test_at_most_so_many_detections_and_only_one_an_object() -> None:
    pairs = {(i, 0): 0.9 - i / 100 for i in range(len(POINTS))}
    limited = PostProcess(max_detections=3)(output(pairs), POINTS, DiracBoxes(), NoQuality(), height=99, width=99)
    assert limited.scores.tolist() == pytest.approx([0.9, 0.89, 0.88])
    # Edges 12 strides away: the boxes of a level are nearly the same, one class, one survivor.
    same = HeadOutput(output(pairs).class_logits, torch.full((len(POINTS), 4), 12.0))
    single = PostProcess()(same, POINTS, DiracBoxes(), NoQuality(), height=64, width=64)
    assert single.scores.tolist() == pytest.approx([0.9])


def test_uncertainty_goes_with_its_detection() -> None:
    boxes = GeneralBoxes(4)
    out = output({(0, 0): 0.6, (6, 1): 0.9})
    code = torch.randn(len(POINTS), boxes.channels, generator=torch.Generator().manual_seed(0))
    found = PostProcess()(HeadOutput(out.class_logits, code), POINTS, boxes, NoQuality(), height=99, width=99)
    rows = torch.tensor([6, 0])
    torch.testing.assert_close(found.edge_std, boxes.edge_std(POINTS[rows], code[rows]))
    torch.testing.assert_close(found.edge_probs, boxes.edge_probs(code[rows]))


def test_nothing_found() -> None:
    boxes = GeneralBoxes(4)
    out = HeadOutput(output({}).class_logits, torch.zeros(len(POINTS), boxes.channels))
    found = PostProcess()(out, POINTS, boxes, NoQuality(), height=9, width=9)
    assert len(found) == 0
    assert found.edge_probs.shape == (0, 4, 5)
    assert found.to_coco() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score_threshold", 2.0),
        ("score_threshold", 1.0),
        ("score_threshold", -1.0),
        ("score_threshold", math.nan),
        ("nms_iou", 1.1),
        ("nms_iou", -0.1),
        ("pre_nms_top_k", 0),
        ("max_detections", 0),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(UsageError, match=f"{field} must be .*, got {value}"):
        PostProcess(**fields)


def test_boxes_without_width_or_height_are_left_out() -> None:
    # Four distances each; the second place has width 0, the third height 0, the fourth lies outside the image.
    points = make_points([(1, 4)], [8], anchor_scale=8, offset=0.5)
    code = torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 1]])
    out = HeadOutput(torch.tensor([[1.0], [2], [3], [4]]), code)
    found = PostProcess(nms_iou=1)(out, points, DiracBoxes(), NoQuality(), height=16, width=24)
    assert found.boxes.tolist() == [[0, 0, 12, 12]]
    assert found.levels is not None
    assert found.levels.tolist() == [0]


def test_boxes_keep_a_margin_on_request() -> None:
    points = make_points([(1, 1)], [8], anchor_scale=8, offset=0.5)
    out = HeadOutput(torch.ones(1, 1), torch.full((1, 4), 9.0))
    found = [
        PostProcess(clip_margin=margin)(out, points, DiracBoxes(), NoQuality(), height=16, width=24)
        for margin in (0, 1)
    ]
    assert [f.boxes.tolist() for f in found] == [[[0, 0, 24, 16]], [[0, 0, 23, 15]]]
    with pytest.raises(UsageError, match="clip_margin"):
        PostProcess(clip_margin=-1)
