"""No positives that cannot hold their box, unless an object has no others; of either kind of assigner."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner, DynamicAssigner, DynamicWithinReach, TaskAlignedAssigner, WithinReach
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


class FixedDynamic:
    """The same for predictions; its candidates are the pairs that it was made with."""

    def __init__(self, index: list[int], alignment: list[float] | None, pairs: list[tuple[int, int]]) -> None:
        self.found = Assignment(torch.tensor(index), None if alignment is None else torch.tensor(alignment))
        self.pairs = torch.tensor(pairs).view(-1, 2)

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return self.pairs[:, 0], self.pairs[:, 1]

    def assign(self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor) -> Assignment:
        return self.found


def test_predictions_by_hand() -> None:
    # The points and objects of the first test: of box 0 the points 5 and 10 are beyond reach, 16 is within.
    objects = Targets(torch.tensor([[0.0, 0.0, 30.0, 30.0], [2.0, 2.0, 10.0, 10.0]]), torch.tensor([0, 0]))
    index, alignment = [NEGATIVE] * 20, [0.0] * 20
    index[0], index[5], index[10], index[16] = 1, 0, 0, 0
    alignment[0], alignment[5], alignment[16] = 0.25, 0.75, 0.5
    pairs = [(0, 5), (0, 10), (0, 16), (1, 0), (1, 5)]
    for chosen in (alignment, None):
        fixed = FixedDynamic(index, chosen, pairs)
        short = DynamicWithinReach(fixed, GeneralBoxes(reg_max=2, delta=1.0).truncated)
        found = short.assign(points(), objects, torch.zeros(20, 1), torch.zeros(20, 4))
        assert found.positive.nonzero().flatten().tolist() == [0, 16]
        assert found.gt_index[[0, 16]].tolist() == [1, 0]
        # What a positive was measured at stays with it.
        assert (None if found.alignment is None else found.alignment[[0, 16]].tolist()) == (chosen and [0.25, 0.5])
        assert torch.stack(short.candidates(points(), objects.boxes), 1).tolist() == [[0, 16], [1, 0]]
        assert fixed.found.gt_index.tolist() == index, "the assigner's own answer is left alone"
    # Nothing reaches box 0: its positives and candidates stay.
    index[16] = NEGATIVE
    short = DynamicWithinReach(FixedDynamic(index, alignment, pairs[:2]), GeneralBoxes(2, 1.0).truncated)
    found = short.assign(points(), objects, torch.zeros(20, 1), torch.zeros(20, 4))
    assert found.positive.nonzero().flatten().tolist() == [0, 5, 10]
    assert torch.stack(short.candidates(points(), objects.boxes), 1).tolist() == [[0, 5], [0, 10]]
    assert isinstance(short, DynamicAssigner)


def test_task_aligned_within_reach() -> None:
    generator = torch.Generator().manual_seed(0)
    everywhere = make_points([(40, 40), (20, 20), (10, 10)], (8, 16, 32), anchor_scale=5.0, offset=0.5, device="cpu")
    corner = torch.rand(40, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + 8 + torch.rand(40, 2, generator=generator) * 110], 1)
    objects, scores = Targets(boxes, torch.zeros(40).long()), torch.rand(len(everywhere), 1, generator=generator)
    plain, short = TaskAlignedAssigner(), GeneralBoxes(reg_max=3, delta=1.0)
    fitting = DynamicWithinReach(plain, short.truncated)
    before, after = (a.assign(everywhere, objects, scores, everywhere.anchors) for a in (plain, fitting))
    cut = before.gt_index != after.gt_index
    rows = cut.nonzero().squeeze(1)
    assert len(rows) > 50
    assert (after.gt_index[rows] == NEGATIVE).all()
    assert short.truncated(everywhere[rows], objects.boxes[before.gt_index[rows]]).any(1).all()
    assert set(before.gt_index.tolist()) == set(after.gt_index.tolist()), "no object loses its last point"
    assert torch.equal(before.alignment[after.positive], after.alignment[after.positive])
    nothing = fitting.assign(everywhere, Targets.empty(), scores, everywhere.anchors)
    assert (nothing.gt_index == NEGATIVE).all()
