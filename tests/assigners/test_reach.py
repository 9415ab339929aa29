"""No positives that cannot hold their box, unless an object has no others."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner, WithinReach
from gfocal.points import Points, make_points
from gfocal.representation import GeneralBoxes
from gfocal.structures import IGNORED, NEGATIVE, Assignment


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
