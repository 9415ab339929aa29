"""No positives that cannot hold their box, unless an object has no others; of either kind of assigner."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.assigners import (
    AtssAssigner,
    DynamicAssigner,
    DynamicWithinReach,
    TaskAlignedAssigner,
    WithinReach,
    lattice,
)
from gfocal.assigners.protocols import Keep
from gfocal.points import Points, make_points
from gfocal.representation import GeneralBoxes
from gfocal.structures import IGNORED, NEGATIVE, Assignment, Targets


def points() -> Points:
    """Two levels of an image of 32 x 32: 16 points of stride 8 and 4 of stride 16, in the middle of their cells."""
    return make_points([(4, 4), (2, 2)], (8, 16), anchor_scale=2.0, offset=0.5, device="cpu")


class Fixed:
    """Gives what it was made with."""

    def __init__(self, index: list[int]) -> None:
        self.index = torch.tensor(index)

    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        return Assignment(self.index)


def test_by_hand() -> None:
    # Reach: 2 bins of a stride: 16 pixels on the first level, 32 on the second.
    boxes = torch.tensor([[0.0, 0.0, 30.0, 30.0], [2.0, 2.0, 10.0, 10.0]])
    index = [NEGATIVE] * 20
    index[0] = 1  # (4, 4): 2, 2, 6, 6 pixels to the edges of box 1: within reach
    index[5] = 0  # (12, 12): 12, 12, 18, 18 to those of box 0: 18 > 16, beyond it
    index[10] = 0  # (20, 20): 20 > 16, beyond it
    index[15] = IGNORED
    index[16] = 0  # (8, 8) on the second level: at most 22 <= 32, within reach
    found = WithinReach(Fixed(index), GeneralBoxes(reg_max=2, delta=1.0).truncated)(points(), boxes).gt_index.tolist()
    expected = list(index)
    expected[5] = expected[10] = NEGATIVE
    assert found == expected
    index[16] = NEGATIVE  # now nothing reaches box 0: its positives stay
    found = WithinReach(Fixed(index), GeneralBoxes(reg_max=2, delta=1.0).truncated)(points(), boxes).gt_index.tolist()
    assert found == index


def test_nothing_to_reject() -> None:
    everywhere = make_points([(8, 8), (4, 4)], (8, 16), anchor_scale=5.0, offset=0.5, device="cpu")
    boxes = torch.tensor([[5.0, 5.0, 40.0, 45.0], [10.0, 12.0, 20.0, 30.0]])
    plain = AtssAssigner()
    same = WithinReach(plain, GeneralBoxes(reg_max=16, delta=1.0).truncated)
    assert torch.equal(same(everywhere, boxes).gt_index, plain(everywhere, boxes).gt_index)
    assert plain(everywhere, boxes).positive.any()
    none = same(everywhere, torch.zeros(0, 4)).gt_index
    assert (none == NEGATIVE).all()
    assert len(none) == 80


def test_no_edge_of_a_reachable_object_is_cut_off() -> None:
    generator = torch.Generator().manual_seed(0)
    everywhere = make_points([(40, 40), (20, 20), (10, 10)], (8, 16, 32), anchor_scale=5.0, offset=0.5, device="cpu")
    corner = torch.rand(60, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + 8 + torch.rand(60, 2, generator=generator) * 110], 1)
    short = GeneralBoxes(reg_max=3, delta=1.0)
    plain = AtssAssigner()(everywhere, boxes).gt_index
    fitting = WithinReach(AtssAssigner(), short.truncated)(everywhere, boxes).gt_index

    def cut(index: Tensor) -> Tensor:
        rows = (index >= 0).nonzero().squeeze(1)
        return short.truncated(everywhere[rows], boxes[index[rows]]).any(1), index[rows]

    before, owner_before = cut(plain)
    after, owner_after = cut(fitting)
    assert set(owner_before.tolist()) == set(owner_after.tolist()), "no object loses its last point"
    reachable = set(owner_before[~before].tolist())
    assert before.sum() > 100
    assert not reachable & set(owner_after[after].tolist())


# --- assigners that look at predictions -----------------------------------------------------------------------------


class Best:
    """Gives each object in turn the ``count`` points of highest score, out of the pairs that it was made with."""

    def __init__(self, pairs: list[tuple[int, int]], count: int) -> None:
        self.pairs, self.count = torch.tensor(pairs).view(-1, 2), count

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return self.pairs[:, 0], self.pairs[:, 1]

    def assign(
        self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor, keep: Keep | None = None
    ) -> Assignment:
        gt, point = self.candidates(points, targets.boxes)
        kept = torch.ones_like(gt, dtype=torch.bool) if keep is None else keep(gt, point)
        index = torch.full((len(points),), NEGATIVE)
        for g in range(len(targets)):
            own = point[kept & (gt == g)]
            index[own[scores[own, 0].argsort(descending=True)[: self.count]]] = g
        return Assignment(index)


def learners(found: Assignment) -> dict[int, int]:
    """Object of each positive point."""
    return {int(p): int(found.gt_index[p]) for p in found.positive.nonzero()}


def test_predictions_by_hand() -> None:
    # The points and objects of the first test: of box 0 the points 5 and 10 are beyond reach, 16 is within; both best
    # scores are those of 5 and 10.
    objects = Targets(torch.tensor([[0.0, 0.0, 30.0, 30.0], [2.0, 2.0, 10.0, 10.0]]), torch.tensor([0, 0]))
    scores = torch.zeros(20, 1)
    scores[5], scores[10], scores[16], scores[0] = 0.9, 0.8, 0.1, 0.5
    truncated = GeneralBoxes(reg_max=2, delta=1.0).truncated
    pairs = [(0, 5), (0, 10), (0, 16), (1, 0), (1, 5)]
    plain = Best(pairs, 2)
    short = DynamicWithinReach(plain, truncated)
    assert learners(plain.assign(points(), objects, scores, scores)) == {5: 1, 10: 0, 0: 1}
    assert learners(short.assign(points(), objects, scores, scores)) == {16: 0, 0: 1}
    assert torch.stack(short.candidates(points(), objects.boxes), 1).tolist() == [[0, 16], [1, 0]]
    # Nothing reaches box 0: it chooses as without.
    short = DynamicWithinReach(Best(pairs[:2], 1), truncated)
    assert learners(short.assign(points(), objects, scores, scores)) == {5: 0}
    assert torch.stack(short.candidates(points(), objects.boxes), 1).tolist() == [[0, 5], [0, 10]]
    assert isinstance(short, DynamicAssigner)

    # What its own caller excludes does not count as reachable.
    def no_16(gt: Tensor, point: Tensor) -> Tensor:
        return point != 16

    short = DynamicWithinReach(plain, truncated)
    assert learners(short.assign(points(), objects, scores, scores, no_16)) == {5: 0, 10: 0, 0: 1}


def crowd(seed: int) -> tuple[Points, Targets, Tensor, Tensor]:
    """Points, 40 objects, and scores and boxes that a network might give."""
    generator = torch.Generator().manual_seed(seed)
    everywhere = make_points([(40, 40), (20, 20), (10, 10)], (8, 16, 32), anchor_scale=5.0, offset=0.5, device="cpu")
    corner = torch.rand(40, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + 8 + torch.rand(40, 2, generator=generator) * 110], 1)
    scores = torch.rand(len(everywhere), 1, generator=generator)
    return everywhere, Targets(boxes, torch.zeros(40).long()), scores, everywhere.anchors


def test_task_aligned_within_reach_chooses_among_those_that_reach() -> None:
    short = GeneralBoxes(reg_max=3, delta=1.0)
    plain = TaskAlignedAssigner()
    fitting = DynamicWithinReach(plain, short.truncated)
    lost = 0
    for seed in range(5):
        everywhere, objects, scores, boxes = crowd(seed)
        gt, point = plain.candidates(everywhere, objects.boxes)
        reached = ~short.truncated(everywhere[point], objects.boxes[gt]).any(1)
        reachable = set(gt[reached].tolist())
        for g in range(len(objects)):  # one by one: none takes another's
            one = Targets(objects.boxes[g : g + 1], objects.labels[g : g + 1])
            before, after = (a.assign(everywhere, one, scores, boxes) for a in (plain, fitting))
            if g not in reachable:
                assert torch.equal(before.gt_index, after.gt_index)
                assert torch.equal(before.alignment, after.alignment)
                continue
            own = point[reached & (gt == g)]
            positive = after.positive.nonzero().squeeze(1)
            assert set(positive.tolist()) <= set(own.tolist())
            assert len(positive) == min(13, len(own))
            lost += not set(before.positive.nonzero().squeeze(1).tolist()) & set(own.tolist())
        together = fitting.assign(everywhere, objects, scores, boxes)
        rows = together.positive.nonzero().squeeze(1)
        cut = short.truncated(everywhere[rows], objects.boxes[together.gt_index[rows]]).any(1)
        assert not reachable & set(together.gt_index[rows[cut]].tolist())
        nothing = fitting.assign(everywhere, Targets.empty(), scores, boxes)
        assert (nothing.gt_index == NEGATIVE).all()
    assert lost > 0  # objects whose best 13 are all beyond reach, though others are not


@pytest.mark.parametrize("chunk", [1, 100, 10**9])
def test_the_size_of_a_chunk_changes_nothing_within_reach(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere, objects, scores, boxes = crowd(0)
    fitting = DynamicWithinReach(TaskAlignedAssigner(), GeneralBoxes(reg_max=3, delta=1.0).truncated)
    expected = fitting.assign(everywhere, objects, scores, boxes)
    monkeypatch.setattr(lattice, "_CHUNK", chunk)
    found = fitting.assign(everywhere, objects, scores, boxes)
    assert torch.equal(found.gt_index, expected.gt_index)
    assert torch.allclose(found.alignment, expected.alignment, rtol=1e-14, atol=0)
