"""What a new head's box outputs start at."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gfocal.models import ConvHead, DepthwiseHead, PlainHead
from gfocal.models.heads import CLASS_BIAS
from gfocal.models.protocols import HeadShape
from gfocal.recipe import load_recipe
from gfocal.zoo import build_detector

OUTPUTS = {"class_outputs": 3, "box_outputs": 4, "quality_outputs": 1}
LEVELS = [torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)]


@pytest.mark.parametrize("bias", [None, (1.0, 2.0, 3.0, 4.0)])
@pytest.mark.parametrize(
    "head",
    [
        lambda bias: ConvHead(HeadShape(8, 2, anchors=2, box_bias=bias, **OUTPUTS), channels=8, head_depth=1),
        lambda bias: DepthwiseHead(HeadShape(8, 2, anchors=[1, 3], box_bias=bias, **OUTPUTS), channels=8, head_depth=1),
        lambda bias: PlainHead(HeadShape([8, 8], 2, anchors=[1, 3], box_bias=bias, **OUTPUTS)),
    ],
)
def test_every_anchor_starts_at_the_bias(head, bias: tuple[float, ...] | None) -> None:
    # Features of 0 stay 0 through the towers: what comes out is the bias of the last layer.
    module: nn.Module = head(bias)
    out = module(LEVELS)
    assert torch.equal(out.box, torch.tensor(bias or (0.0,) * 4).expand_as(out.box))
    assert torch.equal(out.class_logits, torch.full_like(out.class_logits, CLASS_BIAS))
    assert torch.equal(out.quality_logits, torch.zeros_like(out.quality_logits))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        (["model.boxes.kind=dirac", "model.boxes.code=distances"], [1.0] * 4),
        (["model.boxes.kind=dirac", "model.boxes.code=deltas"], [0.0] * 4),
        (["model.boxes.kind=gaussian"], [1.0] * 4 + [0.0] * 4),
        (["model.boxes.kind=general_dfl", "model.boxes.reg_max=3"], [0.0] * 16),
    ],
)
def test_a_detector_starts_where_its_boxes_say(changes: list[str], start: list[float]) -> None:
    detector = build_detector(load_recipe("atss_nano", changes), ["a", "b"], pretrained=False)
    for conv in detector.head.out:
        assert conv.bias.tolist() == pytest.approx([CLASS_BIAS] * 2 + start + [0.0])
