"""Which random number decides what: pinned, since runs that are resumed go on with the same images."""

from __future__ import annotations

import torch

from gfocal.data.augment.draws import draw_numbers


def test_each_number_keeps_its_place() -> None:
    torch.manual_seed(3)
    draws, following = draw_numbers(), torch.rand(1)
    torch.manual_seed(3)
    numbers = torch.rand(17).tolist()
    assert torch.equal(torch.rand(1), following)
    assert (draws.scale, draws.y, draws.x, draws.photometric) == tuple(numbers[:4])
    assert draws.colours == tuple(numbers[4:10])
    assert (draws.flip, draws.zoom_out) == tuple(numbers[10:12])
    assert draws.canvas == tuple(numbers[12:15])
    assert (draws.iou_crop, draws.vertical_flip) == tuple(numbers[15:])


def test_the_seed_of_a_crop_has_all_bits_of_its_number() -> None:
    torch.manual_seed(0)
    seeds = []
    for _ in range(1000):
        draws = draw_numbers()
        assert draws.crop_seed / 2**24 == draws.iou_crop
        seeds.append(draws.crop_seed)
    assert len(set(seeds)) == 1000
