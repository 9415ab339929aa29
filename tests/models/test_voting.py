"""Variance voting: hand-worked values, limits, a float64 oracle, empties, extremes, and the way through a detector."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import gfocal
from gfocal.boxes import aligned_iou
from gfocal.errors import UsageError
from gfocal.models import PostProcess
from gfocal.models.postprocess import suppress
from gfocal.models.voting import vote_edges
from gfocal.points import make_points
from gfocal.recipe import load_recipe
from gfocal.representation import DiracBoxes, GeneralBoxes, JointQuality
from gfocal.structures import HeadOutput


def spread(*rows: float) -> Tensor:
    return torch.tensor(rows)[:, None].expand(-1, 4)


def some(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = 60 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    side = 5 + 50 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    std = 0.1 + 10 * torch.rand(count, 4, generator=generator, dtype=torch.float64)
    groups = torch.randint(0, 3, (count,), generator=generator)
    kept = torch.randperm(count, generator=generator)[: count // 3]
    return torch.cat((corner, corner + side), 1), std, groups, kept


def test_a_neighbour_moves_an_edge_by_hand() -> None:
    # IoU = 90 / 100; at equal spreads the neighbour's weight is exp(-0.01 / 0.02) = 0.6065.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 10]])
    found = vote_edges(boxes, spread(2.0, 2.0), torch.zeros(2), torch.tensor([0]), scale=0.02)
    weight = math.exp(-0.5)
    torch.testing.assert_close(found, torch.tensor([[0, 0, (10 + 9 * weight) / (1 + weight), 10]]))


def test_a_surer_neighbour_counts_by_the_square_of_its_spread() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 10]])
    found = vote_edges(boxes, spread(2.0, 1.0), torch.zeros(2), torch.tensor([0]), scale=0.02)
    weight = 4 * math.exp(-0.5)
    assert found[0, 2].item() == pytest.approx((10 + 9 * weight) / (1 + weight), abs=1e-5)


def test_each_edge_votes_for_itself() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11]])
    std = torch.tensor([[1e3, 1.0, 1.0, 1e3], [1.0, 1e3, 1e3, 1.0]])
    found = vote_edges(boxes, std, torch.zeros(2), torch.tensor([0]), scale=10.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 10, 11]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("boxes", "groups"),
    [
        ([[0.0, 0, 10, 10], [0, 0, 9, 10]], [0, 1]),  # of another class
        ([[0.0, 0, 10, 10], [10, 0, 19, 10]], [0, 0]),  # beside it
        ([[0.0, 0, 10, 10], [0, 0, 10, 10]], [0, 0]),  # a copy
        ([[0.0, 0, 10, 10], [4, 4, 4, 9]], [0, 0]),  # without area
    ],
)
def test_who_does_not_move_it(boxes: list[list[float]], groups: list[int]) -> None:
    found = vote_edges(torch.tensor(boxes), spread(1.0, 0.1), torch.tensor(groups), torch.tensor([0]), scale=0.02)
    assert found.tolist() == boxes[:1]


def test_a_tiny_scale_leaves_all_as_it_is() -> None:
    boxes, std, groups, kept = some(60, 1)
    torch.testing.assert_close(vote_edges(boxes, std, groups, kept, scale=1e-6), boxes[kept])


@pytest.mark.parametrize("scale", [0.005, 0.02, 0.5])
def test_it_is_the_formula_in_float64(scale: float) -> None:
    boxes, std, groups, kept = some(90, 2)
    found = vote_edges(boxes, std, groups, kept, scale=scale)
    for row, i in enumerate(kept.tolist()):
        sums, weights = [0.0] * 4, [0.0] * 4
        for j in range(len(boxes)):
            overlap = aligned_iou(boxes[i], boxes[j]).item()
            if overlap > 0 and groups[i] == groups[j]:
                for edge in range(4):
                    weight = math.exp(-((1 - overlap) ** 2) / scale) / std[j, edge].item() ** 2
                    sums[edge] += weight * boxes[j, edge].item()
                    weights[edge] += weight
        wanted = [total / weight for total, weight in zip(sums, weights, strict=True)]
        if wanted[2] > wanted[0] and wanted[3] > wanted[1]:
            assert found[row].tolist() == pytest.approx(wanted, abs=1e-9)
    single = vote_edges(boxes.float(), std.float(), groups, kept, scale=scale)
    torch.testing.assert_close(single.double(), found, rtol=0, atol=1e-3)


def test_edges_stay_between_those_that_vote_and_boxes_keep_their_sides() -> None:
    for seed in range(20):
        boxes, std, groups, kept = some(40, seed)
        std = std * 10 ** torch.randint(-6, 3, std.shape, generator=torch.Generator().manual_seed(seed))
        found = vote_edges(boxes, std, groups, kept, scale=5.0)
        assert found.isfinite().all()
        assert (found[:, 2:] > found[:, :2]).all()
        assert found.min() >= boxes.min() - 1e-9
        assert found.max() <= boxes.max() + 1e-9


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes(count: int) -> None:
    boxes = torch.tensor([[3.0, 3, 4, 4]])[:count]
    found = vote_edges(boxes, torch.zeros(count, 4), torch.zeros(count), torch.arange(count), scale=0.02)
    assert found.tolist() == boxes.tolist()


def test_far_from_the_origin_and_in_half_precision() -> None:
    boxes = 8192 + torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 10]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        far = vote_edges(boxes, spread(2.0, 2.0), torch.zeros(2), torch.tensor([0]), scale=0.02)
    assert far.dtype == torch.float32
    assert far[0, 2].item() - 8192 == pytest.approx(9.6225, abs=2e-3)


POINTS = make_points([(4, 4)], [8], anchor_scale=5, offset=0.5)


def output(seed: int) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    return HeadOutput(torch.randn(16, 2, generator=generator), 3 * torch.randn(16, 4 * 9, generator=generator))


def test_detections_vote_and_nothing_else_of_them_changes() -> None:
    coder, quality = GeneralBoxes(reg_max=8), JointQuality()
    plain, voted = (
        PostProcess(score_threshold=0.1, voting=voting)(output(0), POINTS, coder, quality, height=32, width=32)
        for voting in (None, 0.05)
    )
    assert torch.equal(plain.scores, voted.scores)
    assert torch.equal(plain.labels, voted.labels)
    assert plain.edge_std is not None
    assert voted.edge_std is not None
    assert torch.equal(plain.edge_std, voted.edge_std)
    assert not torch.equal(plain.boxes, voted.boxes)
    assert (voted.boxes >= 0).all()
    assert (voted.boxes <= 32).all()


def test_across_classes_where_suppression_is() -> None:
    coder, quality = GeneralBoxes(reg_max=8), JointQuality()
    by_class, agnostic = (
        PostProcess(score_threshold=0.1, nms_iou=0.1, voting=0.5, class_agnostic=across)(
            output(1), POINTS, coder, quality, height=32, width=32
        )
        for across in (False, True)
    )
    shared = agnostic.scores[:, None] == by_class.scores[None]
    rows, columns = shared.nonzero(as_tuple=True)
    assert not torch.equal(agnostic.boxes[rows], by_class.boxes[columns])


def test_boxes_without_a_spread_are_refused() -> None:
    dirac = HeadOutput(torch.ones(16, 2), torch.ones(16, 4))
    with pytest.raises(UsageError, match=r"predict\.voting"):
        PostProcess(voting=0.02)(dirac, POINTS, DiracBoxes(), JointQuality(), height=32, width=32)
    with pytest.raises(UsageError, match=r"predict\.voting"):
        load_recipe("fcos_nano", ["predict.voting=0.02"])
    for wrong in (0, -1, True, "0.02"):
        with pytest.raises(UsageError, match="voting"):
            PostProcess(voting=wrong)  # type: ignore[arg-type]


def test_suppression_is_not_changed_by_it() -> None:
    boxes, std, groups, _ = some(50, 3)
    kept = suppress(boxes, torch.linspace(1, 0.1, 50), groups)
    assert len(vote_edges(boxes, std, groups, kept, scale=0.02)) == len(kept)
    assert gfocal.suppress is suppress
