"""From raw outputs to detections: suppression, and the choice of candidates before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from gfocal.models.postprocess import PostProcess, suppress
from gfocal.points import grid_sizes, make_points
from gfocal.representation import JointQuality
from gfocal.structures import HeadOutput
from harness import Candidate, Row, compare


def clusters(count: int, objects: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in bunches around objects, as a dense detector gives them."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(objects, 2, generator=generator) * 1000
    side = 20 + 200 * torch.rand(objects, 2, generator=generator)
    kind = torch.randint(0, classes, (objects,), generator=generator)
    own = torch.randint(0, objects, (count,), generator=generator)
    shift = torch.randn(count, 2, generator=generator) * side[own] * 0.15
    size = side[own] * (1 + 0.15 * torch.randn(count, 2, generator=generator)).clamp(min=0.3)
    middle = centre[own] + shift
    scores = torch.rand(count, generator=generator) ** 3
    return torch.cat((middle - size / 2, middle + size / 2), 1), scores, kind[own]


def suppression_case(count: int, objects: int, repeats: int) -> list[Row]:
    for seed in range(8):
        boxes, scores, labels = clusters(count, objects, 80, seed)
        wanted = batched_nms(boxes, scores, labels, 0.6)[:100]
        got = suppress(boxes, scores, labels, iou=0.6, limit=100)
        if not torch.equal(got, wanted):
            raise AssertionError(f"other boxes are kept (seed {seed})")
    boxes, scores, labels = clusters(count, objects, 80, 0)
    candidates = [
        Candidate("torchvision batched_nms", lambda: batched_nms(boxes, scores, labels, 0.6)[:100]),
        Candidate(
            "gfocal suppress",
            lambda: suppress(boxes, scores, labels, iou=0.6, limit=100),
            True,
            "the same indices in the same order, 8 problems",
        ),
    ]
    return compare(f"NMS {count:,} boxes of {objects} objects, 100 kept", candidates, repeats=5 * repeats, warmup=5)


def sigmoid_of_all(logits: Tensor, counts: list[int], threshold: float, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of everything, then the threshold, then the best of every level."""
    place, label, score, start = [], [], [], 0
    for count in counts:
        scores = logits[start : start + count].sigmoid()
        index = (scores > threshold).nonzero()
        values, order = scores[index[:, 0], index[:, 1]].sort(descending=True, stable=True)
        index = index[order[:top_k]]
        place.append(index[:, 0] + start)
        label.append(index[:, 1])
        score.append(values[:top_k])
        start += count
    return torch.cat(place), torch.cat(label), torch.cat(score)


def candidate_case(height: int, width: int, strides: tuple[int, ...], repeats: int) -> list[Row]:
    torch.manual_seed(0)
    points = make_points(grid_sizes(height, width, strides), strides, anchor_scale=8, offset=0.0)
    out = HeadOutput(torch.randn(len(points), 80) * 1.5 - 6, torch.zeros(len(points), 4))
    post, quality = PostProcess(), JointQuality()

    def plain() -> tuple[Tensor, Tensor, Tensor]:
        return sigmoid_of_all(out.class_logits, points.level_counts, post.score_threshold, post.pre_nms_top_k)

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        return post.candidates(out, points, quality)

    same = all(torch.equal(a, b) for a, b in zip(ours()[:2], plain()[:2], strict=True))
    close = torch.allclose(ours()[2], plain()[2], rtol=0, atol=1e-6)
    if not (same and close):
        raise AssertionError("other candidates are chosen")
    candidates = [
        Candidate("sigmoid of all, then threshold", plain),
        Candidate("gfocal, threshold on the logit", ours, True, f"the same {len(ours()[0])} pairs"),
    ]
    name = f"candidates of {len(points):,} points x 80 classes"
    return compare(name, candidates, repeats=2 * repeats)


def rows(repeats: int) -> list[Row]:
    return [
        *suppression_case(50, 10, repeats),
        *suppression_case(1_000, 60, repeats),
        *suppression_case(5_000, 200, repeats),
        *candidate_case(320, 320, (8, 16, 32), repeats),
        *candidate_case(800, 1344, (8, 16, 32, 64, 128), repeats),
    ]
