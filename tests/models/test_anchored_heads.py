"""Heads of several anchors a location, and what is optional in them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gfocal.models import AttentionHead, ConvHead, DepthwiseHead, PlainHead
from gfocal.models.heads import flatten_level, flatten_levels
from gfocal.models.protocols import KINDS, HeadShape, OutputKind
from gfocal.structures import HeadOutput

GRIDS = ((3, 2), (2, 2), (1, 1))
CLASS_BIAS = -math.log(99)  # a probability of 0.01


def levels(channels: int = 8) -> list[Tensor]:
    return [torch.randn(2, channels, *grid) for grid in GRIDS]


def numbered(convs: nn.Module) -> None:
    """Every output of a convolution gives its own number, whatever it sees."""
    for conv in convs.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.zeros_(conv.weight)
            conv.bias.data = torch.arange(float(len(conv.bias)))


# --- order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_all_levels_at_once(layout: torch.memory_format) -> None:
    maps = [torch.randn(2, 6, *grid).to(memory_format=layout) for grid in GRIDS]
    assert torch.equal(flatten_levels(maps, 3), torch.cat([flatten_level(x, 3) for x in maps], 1))


def test_outputs_of_the_towers_stand_anchor_by_anchor() -> None:
    head = ConvHead(
        HeadShape(8, 3, class_outputs=3, box_outputs=4, quality_outputs=2, anchors=2), channels=8, head_depth=1
    )
    for conv in (head.class_out, head.box_out, head.quality_out):
        numbered(conv)
    out = head(levels())
    # Two anchors of 3 + 4 + 2 numbers at each of 6 + 4 + 1 locations.
    assert out.class_logits[1].tolist() == [[0, 1, 2], [3, 4, 5]] * 11
    assert out.box[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] * 11
    assert out.quality_logits[1].tolist() == [[0, 1], [2, 3]] * 11


def test_outputs_of_each_level_stand_anchor_by_anchor() -> None:
    outputs = {"class_outputs": 2, "box_outputs": 4, "quality_outputs": 1}
    plain = PlainHead(HeadShape((8, 8, 8), 3, anchors=(1, 3, 2), **outputs))
    numbered(plain)
    small = DepthwiseHead(HeadShape(8, 3, anchors=(1, 3, 2), **outputs), channels=8)
    numbered(small.out)
    for head, step in ((plain, (2, 4, 1)), (small, (7, 7, 7))):
        out = head(levels())
        assert out.box.shape == (2, 6 * 1 + 4 * 3 + 1 * 2, 4)
        anchors = [0] * 6 + [0, 1, 2] * 4 + [0, 1]
        # PlainHead numbers each kind by itself; in the other head an anchor has 2 classes, 4 of the box, 1 quality.
        start = (0, 0, 0) if head is plain else (0, 2, 6)
        for values, first, each in zip((out.class_logits, out.box, out.quality_logits), start, step, strict=True):
            assert values[1, :, 0].tolist() == [first + each * anchor for anchor in anchors]
            assert torch.equal(values[1] - values[1, :, :1], torch.arange(values.shape[-1]).expand_as(values[1]))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_rows_of_a_cell(level: int) -> None:
    counts = (1, 3, 2)
    plain = PlainHead(HeadShape((1, 1, 1), 3, class_outputs=1, box_outputs=1, anchors=counts))
    small = DepthwiseHead(HeadShape(1, 3, class_outputs=1, box_outputs=1, anchors=counts), channels=1, head_depth=0)
    convs = [*plain.class_out, *plain.box_out, *small.out]
    for conv in convs:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        with torch.no_grad():
            conv.weight[..., conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    height, width = GRIDS[level]
    maps = [torch.zeros(1, 1, *grid) for grid in GRIDS]
    maps[level][0, 0, height - 1, 0] = 7
    before = sum(h * w * n for (h, w), n in zip(GRIDS[:level], counts[:level], strict=True))
    first = before + (height - 1) * width * counts[level]
    for head in (plain, small):
        out = head(maps)
        for values in (out.class_logits, out.box):
            assert values[0, :, 0].nonzero().flatten().tolist() == list(range(first, first + counts[level]))


def test_attention_by_hand() -> None:
    head = AttentionHead(
        HeadShape(2, 1, class_outputs=1, box_outputs=1, quality_outputs=1), channels=2, head_depth=0
    ).eval()
    attention = head.attention[0]
    # The second channel is weighted by the mean of the first, the first by a half; nothing is mixed.
    attention.gate.weight.data = torch.tensor([[0.0, 0], [1, 0]])[..., None, None]
    attention.mix[0].weight.data = torch.eye(2)[..., None, None]
    for conv, row in ((head.class_out[0], [1.0, 0]), (head.box_out[0], [0.0, 1])):
        conv.weight.data = torch.tensor([row])[..., None, None]
        conv.bias.data.zero_()
    first, second = torch.tensor([[1.0, 3], [5, 7]]), torch.tensor([[8.0, 16], [0, -8]])
    with torch.no_grad():
        out = head([torch.stack((first, second))[None]])
    weighted = first / 2, second * torch.tensor(4.0).sigmoid()
    for values, channel in zip((out.class_logits, out.box), weighted, strict=True):
        expected = nn.functional.hardswish(channel).flatten()
        torch.testing.assert_close(values[0, :, 0], expected, rtol=1e-4, atol=1e-5)
    # The quality sees the features before the attention.
    with torch.no_grad():
        attention.gate.bias.fill_(-50)
        assert torch.equal(head([torch.stack((first, second))[None]]).quality_logits, out.quality_logits)


def test_a_channel_attention_head_without_quality() -> None:
    head = AttentionHead(HeadShape(8, 3, class_outputs=2, box_outputs=4), channels=8)
    assert head(levels()).quality_logits is None
    assert not any("quality" in name for name in head.state_dict())


# --- start ----------------------------------------------------------------------------------------------------------


def test_values_at_the_start() -> None:
    torch.manual_seed(0)
    head = ConvHead(HeadShape(64, 3, class_outputs=20, box_outputs=4, quality_outputs=1, anchors=9), channels=64)
    for name, conv in head.named_modules():
        if isinstance(conv, nn.Conv2d):
            assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05), name
            assert abs(conv.weight.mean().item()) < 1e-3
    torch.testing.assert_close(head.class_out.bias.detach(), torch.full((180,), CLASS_BIAS))
    assert not head.box_out.bias.any()
    assert not head.quality_out.bias.any()
    assert [scale.scale.item() for scale in head.scales] == [1, 1, 1]


def test_classes_start_low_on_every_anchor() -> None:
    small = DepthwiseHead(
        HeadShape(8, 3, class_outputs=2, box_outputs=4, quality_outputs=1, anchors=(1, 3, 2)), channels=8
    )
    for count, conv in zip((1, 3, 2), small.out, strict=True):
        expected = torch.tensor([CLASS_BIAS, CLASS_BIAS, 0, 0, 0, 0, 0] * count)
        torch.testing.assert_close(conv.bias.detach(), expected)
    torch.manual_seed(0)
    plain = PlainHead(HeadShape((64, 32), 2, class_outputs=21, box_outputs=4, quality_outputs=1, anchors=(4, 6)))
    for conv, channels, count in zip(plain.class_out, (64, 32), (4, 6), strict=True):
        torch.testing.assert_close(conv.bias.detach(), torch.full((21 * count,), CLASS_BIAS))
        # Xavier: uniform within the root of 6 / (fan in + fan out).
        bound = math.sqrt(6 / (9 * channels + 9 * 21 * count))
        assert bound * 0.99 < conv.weight.abs().max().item() <= bound
    assert not any(conv.bias.any() for conv in (*plain.box_out, *plain.quality_out))
    attentive = AttentionHead(HeadShape(8, 2, class_outputs=2, box_outputs=2, box_bias=(1.0, 3.0), anchors=(1, 3)))
    for count, classes, boxes in zip((1, 3), attentive.class_out, attentive.box_out, strict=True):
        torch.testing.assert_close(classes.bias.detach(), torch.full((2 * count,), CLASS_BIAS))
        assert boxes.bias.tolist() == [1, 3] * count


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "layers", "biased"),
    [
        ({}, [nn.Conv2d, nn.GroupNorm, nn.ReLU], False),
        ({"head_norm": "none"}, [nn.Conv2d, nn.ReLU], True),
        ({"tower_bias": True}, [nn.Conv2d, nn.GroupNorm, nn.ReLU], True),
    ],
    ids=["gfl", "retinanet", "fcos"],
)
def test_norms_and_biases_of_the_towers(options: dict[str, int], layers: list[type], biased: bool) -> None:
    head = ConvHead(HeadShape(8, 3, class_outputs=2, box_outputs=4), channels=8, head_depth=2, **options)
    for tower in (head.class_tower, head.box_tower):
        assert [type(layer) for layer in tower] == layers * 2
        convs = [layer for layer in tower if isinstance(layer, nn.Conv2d)]
        assert [conv.bias is not None for conv in convs] == [biased] * 2
        assert not any(conv.bias.any() for conv in convs if biased)


def test_boxes_without_factors_of_the_levels() -> None:
    head = ConvHead(HeadShape(8, 3, class_outputs=2, box_outputs=4), channels=8, head_depth=1, level_scales=False)
    assert not any("scales" in name for name in head.state_dict())
    x = torch.randn(1, 8, 3, 2)
    with torch.no_grad():
        box = head([x, x, x]).box[0].unflatten(0, (3, 6))
    assert torch.equal(box[0], box[2])
    with pytest.raises(ValueError, match="argument"):
        head([x, x])


def test_names_of_parameters_stay() -> None:
    head = ConvHead(HeadShape(8, 2, class_outputs=2, box_outputs=4, quality_outputs=1), channels=8, head_depth=1)
    towers = [f"{t}_tower.{k}" for t in ("class", "box") for k in ("0.weight", "1.weight", "1.bias")]
    outs = [f"{k}_out.{p}" for k in ("class", "box", "quality") for p in ("weight", "bias")]
    assert list(head.state_dict()) == [*towers, *outs, "scales.0.scale", "scales.1.scale"]
    plain = PlainHead(HeadShape((8, 8), 2, class_outputs=2, box_outputs=4, anchors=(1, 2)))
    names = [f"{kind}_out.{i}.{p}" for kind in ("class", "box") for i in (0, 1) for p in ("weight", "bias")]
    assert list(plain.state_dict()) == names
    small = DepthwiseHead(HeadShape(8, 2, class_outputs=2, box_outputs=4, anchors=3), channels=8, head_depth=0)
    assert {k: tuple(v.shape) for k, v in small.state_dict().items()} == {
        "out.0.weight": (18, 8, 1, 1),
        "out.0.bias": (18,),
        "out.1.weight": (18, 8, 1, 1),
        "out.1.bias": (18,),
    }


def test_as_many_anchors_as_levels() -> None:
    with pytest.raises(ValueError, match="anchors of 2 levels are needed, got 3"):
        PlainHead(HeadShape((8, 8), 2, class_outputs=2, box_outputs=4, anchors=(1, 2, 3)))
    with pytest.raises(ValueError, match="anchors of 2 levels are needed, got 1"):
        DepthwiseHead(HeadShape(8, 2, class_outputs=2, box_outputs=4, anchors=(1,)))
    with pytest.raises(ValueError, match="channels of 3 levels are needed, got 2"):
        PlainHead(HeadShape((8, 8), 3, class_outputs=2, box_outputs=4))
    with pytest.raises(ValueError, match="same number of channels on all levels, got 8, 16"):
        DepthwiseHead(HeadShape((8, 16), 2, class_outputs=2, box_outputs=4))
    with pytest.raises(ValueError, match="same number of anchors on all levels, got 1, 2"):
        ConvHead(HeadShape(8, 2, class_outputs=2, box_outputs=4, anchors=(1, 2)), channels=8)
    with pytest.raises(ValueError, match="argument"):
        PlainHead(HeadShape((8, 8), 2, class_outputs=2, box_outputs=4, anchors=(1, 2)))([torch.zeros(1, 8, 2, 2)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_behind_each_kind_of_output(kind: OutputKind) -> None:
    which = KINDS.index(kind)
    for head, layers in zip(heads(), (1, 3, 3, 3), strict=True):
        maps, count = levels(), head.outputs[which]
        before = head(maps)
        # The number that output i of anchor a is to give.
        wanted = torch.arange(2.0)[:, None] + torch.arange(count) / 10
        found = head.output_layers(kind)
        assert len(found) == layers
        for layer in found:
            assert layer.weight.shape[:2] == (2, count)
            layer.weight.zero_()
            layer.bias.copy_(wanted)
        after = head(maps)
        values = [(out.class_logits, out.box, out.quality_logits) for out in (before, after)]
        for other in {0, 1, 2} - {which}:
            assert torch.equal(values[0][other], values[1][other])
        assert torch.equal(values[1][which], wanted.repeat(11, 1).expand(2, 22, count))


def test_no_quality_branch_has_no_layers() -> None:
    for head in heads(quality_outputs=0):
        assert head.output_layers("quality") == []


def heads(quality_outputs: int = 1) -> list[nn.Module]:
    outputs = {"class_outputs": 3, "box_outputs": 4, "quality_outputs": quality_outputs}
    return [
        ConvHead(HeadShape(8, 3, anchors=2, **outputs), channels=8, head_depth=1),
        PlainHead(HeadShape((8, 8, 8), 3, anchors=(2, 2, 2), **outputs)),
        AttentionHead(HeadShape(8, 3, anchors=2, **outputs), channels=8),
        DepthwiseHead(HeadShape(8, 3, anchors=2, **outputs), channels=8),
    ]


@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_gradients_reach_every_parameter(head: nn.Module) -> None:
    torch.manual_seed(0)
    out = head(levels())
    assert isinstance(out, HeadOutput)
    # Not of x itself: what a norm gives sums to 0.
    torch.cat([x.add(1).pow(2).flatten() for x in (out.class_logits, out.box, out.quality_logits)]).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.any(), name


@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_heads_in_half_precision(head: nn.Module) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = head(levels())
    assert out.box.shape == (2, 22, 4)
    assert torch.isfinite(out.class_logits).all()


@pytest.mark.parametrize("head", heads(), ids=lambda head: type(head).__name__)
def test_a_batch_of_no_images(head: nn.Module) -> None:
    out = head([level[:0] for level in levels()])
    assert (out.class_logits.shape, out.box.shape, out.quality_logits.shape) == ((0, 22, 3), (0, 22, 4), (0, 22, 1))
