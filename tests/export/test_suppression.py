"""Suppression as a mask, as a loop and in numpy: all of them keep what :func:`gfocal.suppress` keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gfocal.export.suppression import greedy_mask, greedy_mask_op
from gfocal.exported.suppression import suppress_arrays
from gfocal.models.postprocess import suppress


def crowd(seed: int, count: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes that overlap often, by score; the last quarter is no candidate."""
    made = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=made) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=made) * 30], 1)
    scores = torch.rand(count, generator=made).sort(descending=True).values
    scores[count - count // 4 :] = -1
    return boxes, scores, torch.randint(classes, (count,), generator=made)


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("iou", [0.0, 0.5, 1.0])
def test_a_batch_is_suppressed_as_its_images_one_by_one(iou: float, limit: int) -> None:
    images = [crowd(seed, 60) for seed in range(3)]
    boxes, scores, labels = (torch.stack(each) for each in zip(*images, strict=True))
    mask = greedy_mask(boxes, scores, labels, iou=iou, limit=limit)
    for own, (b, s, c) in zip(mask, images, strict=True):
        there = s > 0
        assert own.nonzero().squeeze(1).tolist() == sorted(
            suppress(b[there], s[there], c[there], iou=iou, limit=limit).tolist()
        )


def test_images_without_candidates_and_without_an_end_to_wait_for() -> None:
    boxes, scores, labels = (each[None].repeat(2, *(1 for _ in each.shape)) for each in crowd(0, 20))
    scores[0] = -1
    mask = greedy_mask(boxes, scores, labels, iou=0.5, limit=5)
    assert mask.sum(1).tolist() == [0, 5]


def test_equal_scores_go_to_the_first() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]])
    mask = greedy_mask(boxes, torch.full((1, 3), 0.5), torch.zeros(1, 3, dtype=torch.int64), iou=0.5, limit=2)
    assert mask.tolist() == [[True, False, True]]


def test_the_node_of_a_graph_is_the_same() -> None:
    boxes, scores, labels = (each[None] for each in crowd(1, 40))
    node = greedy_mask_op(boxes, scores, labels, 3, 0.5, 20)
    assert torch.equal(node, greedy_mask(boxes, scores, labels, iou=0.5, limit=20))
    torch.library.opcheck(greedy_mask_op, (boxes, scores, labels, 3, 0.5, 20), test_utils="test_faketensor")


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("limit", [4, 50])
def test_numpy_s_is_the_same(agnostic: bool, limit: int) -> None:
    for seed in range(4):
        boxes, scores, labels = crowd(seed, 80)
        wanted = suppress(boxes, scores, labels, iou=0.45, limit=limit, class_agnostic=agnostic)
        found = suppress_arrays(boxes.numpy(), labels.numpy(), iou=0.45, limit=limit, class_agnostic=agnostic)
        assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("agnostic", [False, True])
def test_so_it_is_of_many_boxes_apart_of_which_few_are_wide(agnostic: bool) -> None:
    """As tiles give them; whole numbers, so that boxes touch, and begin and end where others do."""
    for seed in range(4):
        random = np.random.default_rng(seed)
        corner, sides = random.integers(0, 300, (400, 2)), random.choice([1, 8, 12, 30, 250], (400, 2))
        boxes = torch.from_numpy(np.concatenate([corner, corner + sides], 1).astype(np.float32))
        scores = torch.linspace(0.9, 0.1, 400)
        labels = torch.from_numpy(random.integers(0, 2, 400))
        for iou in (0.05, 0.45):
            wanted = suppress(boxes, scores, labels, iou=iou, class_agnostic=agnostic)
            found = suppress_arrays(boxes.numpy(), labels.numpy(), iou=iou, limit=400, class_agnostic=agnostic)
            assert found.tolist() == wanted.tolist()
            assert len(found) < 400


def test_numpy_s_of_nothing_is_nothing() -> None:
    assert suppress_arrays(np.zeros((0, 4)), np.zeros(0, np.int64), iou=0.5, limit=3).shape == (0,)
