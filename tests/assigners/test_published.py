"""The positives of an independent implementation, read from its gradients."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.assigners import Assigner, AtssAssigner, FcosAssigner, FoveaAssigner, MaxIouAssigner
from gfocal.points import Points, make_anchors, make_points, octave_shapes, ssd_shapes
from gfocal.structures import IGNORED
from helpers.known_answers import known_head

STRIDES = (8, 16, 32, 64, 128)
GRIDS = ((20, 28), (10, 14), (5, 7), (3, 4), (2, 2))

CASES: dict[str, tuple[Assigner, Points]] = {
    "atss": (AtssAssigner(), make_points(GRIDS, STRIDES, anchor_scale=8, offset=0)),
    "fcos_giou": (FcosAssigner(), make_points(GRIDS, STRIDES, anchor_scale=8, offset=0.5)),
    "fovea": (FoveaAssigner(), make_points(GRIDS, STRIDES, anchor_scale=4, offset=0.5)),
    "retina": (MaxIouAssigner(0.5, 0.4, "all"), make_anchors(GRIDS, STRIDES, octave_shapes(STRIDES), offset=0)),
}


def rows(answers: numpy.lib.npyio.NpzFile, key: str, image: int, anchors: int) -> Tensor:
    """(P, channels of an anchor) of an image, levels one after the other."""
    maps = [torch.from_numpy(answers[f"{key}_{level}"][image]) for level in range(len(GRIDS))]
    return torch.cat([m.permute(1, 2, 0).reshape(-1, m.shape[0] // anchors) for m in maps])


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_positives_labels_and_ignored_ones(shared: Path, name: str, image: int) -> None:
    assigner, points = CASES[name]
    answers = numpy.load(shared / "oracle" / f"head_{name}_small.npz")
    boxes = torch.from_numpy(answers[f"gt_bboxes_{image}"])
    labels = torch.from_numpy(answers[f"gt_labels_{image}"])
    gt_index = assigner(points, boxes).gt_index
    positive = gt_index >= 0
    anchors = (points.per_location or (1,))[0]
    slope = rows(answers, "out_cls_grad", image, anchors)
    # Focal loss pulls up the logit of the label alone, pushes all others down, and leaves ignored anchors in peace.
    assert torch.equal((slope < 0).any(1), positive)
    assert torch.equal((slope == 0).all(1), gt_index == IGNORED)
    assert torch.equal(slope[positive].argmin(1), labels[gt_index[positive]])
    # A code may stand still: where a distance is limited to 0, or a difference to its target is.
    learns = (rows(answers, "out_reg_grad", image, anchors) != 0).any(1)
    moving = (rows(answers, "out_reg", image, anchors) > 0).any(1) if name == "fcos_giou" else torch.tensor(True)
    assert torch.equal(learns, positive & (learns | moving))
    assert positive.any() or len(boxes) == 0


def test_ssd_by_its_box_loss() -> None:
    """No gradients at the outputs here: the box loss of each image, from the head's own weights, must come out."""
    answers = known_head("ssd512_small")
    sizes, aspects = (20, 51, 133, 215, 296, 378, 460, 542), [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]]
    strides = [8 * 2**level for level in range(7)]
    grids = [(64 >> level, 64 >> level) for level in range(7)]
    points = make_anchors(grids, strides, ssd_shapes(sizes, aspects), offset=0.5)
    codes = []
    for level in range(7):
        weight, bias = (torch.from_numpy(answers[f"state/reg_convs.{level}.0.{n}"]) for n in ("weight", "bias"))
        out = F.conv2d(torch.from_numpy(answers[f"feat_{level}"]), weight, bias, padding=1)
        codes.append(out.permute(0, 2, 3, 1).reshape(2, -1, 4))
    code = torch.cat(codes, 1)
    sums, positives = [], 0
    for image in range(2):
        boxes = torch.from_numpy(answers[f"gt_bboxes_{image}"])
        found = MaxIouAssigner(0.5, 0.5, "first")(points, boxes).gt_index
        assert not (found == IGNORED).any()
        target = boxes[found[found >= 0]]
        anchor = points.anchors[found >= 0]
        size, other = anchor[:, 2:] - anchor[:, :2], target[:, 2:] - target[:, :2]
        shift = (target[:, :2] + target[:, 2:] - anchor[:, :2] - anchor[:, 2:]) / 2 / size
        deltas = torch.cat((shift / 0.1, (other / size).log() / 0.2), 1)
        sums.append(F.smooth_l1_loss(code[image][found >= 0], deltas, reduction="sum"))
        positives += int((found >= 0).sum())
    assert torch.allclose(torch.stack(sums) / positives, torch.from_numpy(answers["loss/loss_bbox"]), rtol=1e-5)
