from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models import (
    ConvHead,
    DepthwiseHead,
    FeaturePyramid,
    LightPan,
    ShuffleNetBackbone,
    TimmBackbone,
    VggBackbone,
)
from gfocal.models.heads import flatten_level
from gfocal.models.protocols import HeadShape
from gfocal.points import grid_sizes, make_points
from gfocal.structures import HeadOutput

SIZES = [(64, 96), (96, 32), (32, 32), (70, 33)]


def centre_tap(conv: nn.Module) -> None:
    """Make a convolution of one channel to one channel the identity."""
    assert isinstance(conv, nn.Conv2d)
    nn.init.zeros_(conv.weight)
    with torch.no_grad():
        conv.weight[..., conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


# --- backbones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maps_of_a_backbone_have_the_sizes_of_the_points(size: tuple[int, int]) -> None:
    images = torch.zeros(2, 3, *size)
    for backbone in (ShuffleNetBackbone(), TimmBackbone("resnet18", (8, 16, 32))):
        with torch.no_grad():
            maps = backbone.eval()(images)
        assert [m.shape[1] for m in maps] == list(backbone.channels)
        assert tuple(m.shape[-2:] for m in maps) == grid_sizes(*size, (8, 16, 32))


def test_the_small_backbone_leaks() -> None:
    backbone = ShuffleNetBackbone()
    kinds = {type(m) for m in backbone.modules()}
    assert nn.ReLU not in kinds
    assert {m.negative_slope for m in backbone.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}


def test_frozen_stages_and_norms_keep_their_values() -> None:
    backbone = TimmBackbone("resnet18", (8, 16, 32), frozen_stages=1, norm_eval=True)
    frozen = {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    learnt = {name.split(".")[1] for name, p in backbone.named_parameters() if p.requires_grad}
    assert learnt == {"layer2", "layer3", "layer4"}
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone.train()
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    plain = TimmBackbone("resnet18", (8, 16, 32)).train()
    assert all(p.requires_grad for p in plain.parameters())
    before = {name: value.clone() for name, value in plain.named_buffers() if "running_mean" in name}
    plain(torch.randn(2, 3, 64, 64))
    assert not any(torch.equal(value, before[name]) for name, value in plain.named_buffers() if name in before)


def test_small_backbone_norms_can_stay_too() -> None:
    backbone = ShuffleNetBackbone(norm_eval=True).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    assert backbone.training


def test_backbone_weights_from_a_file(tmp_path: Path) -> None:
    import timm
    from torchvision.models import shufflenet_v2_x1_0

    small, large = shufflenet_v2_x1_0(), timm.create_model("resnet18")
    torch.save(small.state_dict(), tmp_path / "small.pth")
    torch.save(large.state_dict(), tmp_path / "large.pth")
    read = ShuffleNetBackbone(pretrained=str(tmp_path / "small.pth")).state_dict()
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in read.items())
    body = TimmBackbone("resnet18", pretrained=str(tmp_path / "large.pth")).body.state_dict()
    assert all(torch.equal(value, large.state_dict()[name]) for name, value in body.items())


def test_what_a_backbone_cannot_do_is_said() -> None:
    with pytest.raises(UsageError, match=r"no model 'resnet19'.*resnet18"):
        TimmBackbone("resnet19")
    with pytest.raises(UsageError, match=r"not \[12\]"):
        TimmBackbone("resnet18", (8, 12))
    for build in (lambda p: TimmBackbone("resnet18", pretrained=p), lambda p: ShuffleNetBackbone(pretrained=p)):
        with pytest.raises(UsageError, match=r"there is no file /no/such\.pth"):
            build("/no/such.pth")


@pytest.mark.parametrize(
    ("make", "load", "name"),
    [
        (
            lambda: TimmBackbone("resnet18").body,
            lambda p: TimmBackbone("resnet18", pretrained=p),
            "layer1.0.conv1.weight",
        ),
        (ShuffleNetBackbone, lambda p: ShuffleNetBackbone(pretrained=p), "stage2.0.branch1.0.weight"),
        (VggBackbone, lambda p: VggBackbone(pretrained=p), "features.0.weight"),
    ],
    ids=["timm", "shufflenet", "vgg"],
)
def test_damaged_weights_of_a_backbone_are_refused(
    make: Callable[[], nn.Module], load: Callable[[str], nn.Module], name: str, tmp_path: Path
) -> None:
    path, state = tmp_path / "weights.pth", make().state_dict()
    torch.save(state, path)
    content = path.read_bytes()
    numbers = state[name].numpy().tobytes()
    path.write_bytes(content.replace(numbers, bytes([numbers[0] ^ 1]) + numbers[1:]))
    with pytest.raises(UsageError, match=rf"model\.pretrained: .*not what was written: {name}"):
        load(str(path))
    state[name].view(-1)[5] = torch.nan
    torch.save(state, path)
    with pytest.raises(UsageError, match=rf"infinite or not a number: 1 of [\d,]+ in .*{name.rpartition('layer')[2]}"):
        load(str(path))


@pytest.mark.parametrize(
    ("make", "load"),
    [
        (lambda: TimmBackbone("resnet18").body, lambda p: TimmBackbone("resnet18", pretrained=p)),
        (ShuffleNetBackbone, lambda p: ShuffleNetBackbone(pretrained=p)),
    ],
    ids=["timm", "shufflenet"],
)
def test_variances_below_0_of_a_backbone_are_refused(
    make: Callable[[], nn.Module], load: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    path, state = tmp_path / "weights.pth", make().state_dict()
    name = next(name for name in state if name.endswith("running_var"))
    state[name][2] = -1e-3
    torch.save(state, path)
    with pytest.raises(UsageError, match=rf"model\.pretrained: .*variances below 0: 1 of \d+ in {name}"):
        load(str(path))


@pytest.mark.parametrize(
    "build",
    [lambda path: TimmBackbone("resnet18", pretrained=path), lambda path: ShuffleNetBackbone(pretrained=path)],
    ids=["timm", "torchvision"],
)
def test_files_that_hold_no_weights_of_it(build: Callable[[str], nn.Module], tmp_path: Path) -> None:
    path = tmp_path / "some.pth"

    def text() -> None:
        path.write_text("root:x:0:0\n")

    for write in (text, lambda: torch.save({"a.b": torch.zeros(2)}, path), lambda: torch.save([1, 2], path)):
        write()
        with pytest.raises(UsageError, match=r"weights of .* could not be loaded from .*some\.pth \(.+\)") as caught:
            build(str(path))
        message = str(caught.value)
        assert "\n" not in message
        for key in ("model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false"):
            assert f"--set {key}" in message


class Hostile:
    """Unpickled without care it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "build", [lambda p: TimmBackbone("resnet18", pretrained=p), lambda p: ShuffleNetBackbone(pretrained=p)]
)
def test_code_in_a_file_of_weights_is_not_run(build: Callable[[str], nn.Module], tmp_path: Path) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "trace"
    torch.save({"conv1.weight": Hostile(trace)}, path)
    with pytest.raises(UsageError, match="could not be loaded"):
        build(str(path))
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file does no harm at all"


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    import torchvision.models

    def offline(*args: object, **options: object) -> None:
        raise ConnectionError("no network\nmore words")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(torchvision.models, "shufflenet_v2_x1_0", offline)
    for build in (lambda: TimmBackbone("resnet18", pretrained=True), lambda: ShuffleNetBackbone(pretrained=True)):
        with pytest.raises(UsageError, match=r"could not be loaded \(no network\); give .*frozen_stages=0"):
            build()


def test_a_network_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    real, built = timm.create_model, []

    def count(*args: object, **options: object) -> nn.Module:
        built.append(args)
        return real(*args, **options)

    monkeypatch.setattr(timm, "create_model", count)
    TimmBackbone("resnet18", (8, 16, 32))
    assert len(built) == 1


def test_layers_that_nothing_uses_are_left_out() -> None:
    backbone = TimmBackbone("resnet18", (4, 16))
    assert {name.split(".")[1] for name, _ in backbone.named_parameters()} == {
        "conv1", "bn1", "layer1", "layer2", "layer3",
    }  # fmt: skip
    with torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1:] for m in maps] == [(64, 16, 16), (256, 4, 4)]
    assert backbone.channels == (64, 256)


def test_frozen_stages_of_other_networks() -> None:
    convnext = TimmBackbone("convnext_atto", (8, 16, 32), frozen_stages=1)
    frozen = {name.split(".")[1] for name, p in convnext.named_parameters() if not p.requires_grad}
    assert frozen == {"stem_0", "stem_1", "stages_0"}
    mobile = TimmBackbone("mobilenetv3_small_050", (8, 16, 32), frozen_stages=1)
    learnt = {name.split(".")[2] for name, p in mobile.named_parameters() if p.requires_grad}
    assert learnt == {"1", "2", "3", "4", "5"}, "block 0 ends at stride 4"


# --- necks ----------------------------------------------------------------------------------------------------------


def test_pyramid_by_hand() -> None:
    neck = FeaturePyramid((1, 1, 1), levels=5, channels=1)
    for conv in (*neck.lateral, *neck.output, *neck.extra):
        centre_tap(conv)
    # Odd sizes: 3 x 5, 2 x 3, 1 x 2. Values 100, 10, 1 tell which maps a cell has seen.
    maps = [torch.full((1, 1, 3, 5), 100.0), torch.full((1, 1, 2, 3), 10.0), torch.tensor([[[[1.0, 2.0]]]])]
    p3, p4, p5, p6, p7 = (level[0, 0].tolist() for level in neck(maps))
    assert p5 == [[1, 2]]
    # Nearest neighbour from 2 to 3 columns: column i sees floor(2 i / 3) = 0, 0, 1.
    assert p4 == [[11, 11, 12]] * 2
    # From 3 to 5 columns: floor(3 i / 5) = 0, 0, 1, 1, 2.
    assert p3 == [[111, 111, 111, 111, 112]] * 3
    assert p6 == [[1]]  # stride 2 takes the first column of P5
    assert p7 == [[1]]


def test_extra_levels_from_the_input() -> None:
    neck = FeaturePyramid((1, 1), levels=4, channels=1, extra_from="input", relu_before_extra=True)
    for conv in (*neck.lateral, *neck.output, *neck.extra):
        centre_tap(conv)
    with torch.no_grad():
        neck.output[1].bias += 5  # seen by the output alone
    maps = [torch.zeros(1, 1, 8, 8), torch.full((1, 1, 4, 4), -3.0)]
    levels = neck(maps)
    assert [tuple(level.shape[-2:]) for level in levels] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    # No ReLU before the first extra level, one before the second.
    assert [level.unique().tolist() for level in levels] == [[-3], [2], [-3], [0]]


def test_light_pan_by_hand() -> None:
    neck = LightPan((1, 1, 1), levels=3, channels=1)
    for conv in neck.lateral:
        centre_tap(conv)
    maps = [torch.full((1, 1, 5, 4), 100.0), torch.full((1, 1, 3, 2), 10.0), torch.full((1, 1, 2, 1), 1.0)]
    levels = neck(maps)
    # Down: 10 + 1 = 11, 100 + 11 = 111. Up: 11 + 111 = 122, 1 + 122 = 123. Resizing keeps constants.
    assert [level.unique().tolist() for level in levels] == [[111], [122], [123]]
    assert [tuple(level.shape[-2:]) for level in levels] == [(5, 4), (3, 2), (2, 1)]


def test_light_pan_resizes_bilinearly() -> None:
    neck = LightPan((1, 1, 1), levels=3, channels=1)
    for conv in neck.lateral:
        centre_tap(conv)
    ramp = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    for turned in (False, True):
        middle = ramp.T if turned else ramp
        fine, between, coarse = neck([torch.zeros(1, 1, 4, 4), middle[None, None], torch.zeros(1, 1, 1, 1)])
        # Down: pixel centres at -1/4, 1/4, 3/4, 5/4 of the two, and those beyond the ends stay there.
        expected = torch.tensor([0, 0.25, 0.75, 1]).expand(4, 4)
        assert torch.equal(fine[0, 0], expected.T if turned else expected)
        # Up: half-way between neighbours, (0 + 1/4) / 2 and (3/4 + 1) / 2, on top of 0 and 1; then half-way again.
        expected = torch.tensor([0.125, 1.875]).expand(2, 2)
        assert torch.equal(between[0, 0], expected.T if turned else expected)
        assert coarse.item() == 1


def test_one_cell_is_enough() -> None:
    maps = [torch.zeros(1, c, 1, 1) for c in (4, 8, 16)]
    assert [tuple(level.shape) for level in FeaturePyramid((4, 8, 16), levels=5, channels=32)(maps)] == [
        (1, 32, 1, 1)
    ] * 5
    assert [tuple(level.shape) for level in LightPan((4, 8, 16), levels=3, channels=12)(maps)] == [(1, 12, 1, 1)] * 3


# --- heads ----------------------------------------------------------------------------------------------------------

GRIDS, STRIDES = ((5, 3), (3, 2), (1, 1)), (8, 16, 32)


def test_flattening_follows_rows_then_anchors() -> None:
    # Two anchors of three outputs; the value is 100 * anchor + 10 * output + cell.
    x = torch.tensor(
        [[[[100.0 * (c // 3) + 10 * (c % 3) + 2 * y + i for i in range(2)] for y in range(2)] for c in range(6)]]
    )
    assert flatten_level(x, 3)[0].tolist() == [
        [100 * anchor + cell, 100 * anchor + 10 + cell, 100 * anchor + 20 + cell]
        for cell in range(4)
        for anchor in range(2)
    ]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_outputs_stand_in_the_order_of_the_points(level: int) -> None:
    points = make_points(GRIDS, STRIDES, anchor_scale=8, offset=0)
    height, width = GRIDS[level]
    row, column = height // 2, width - 1
    levels = [torch.zeros(1, 1, *grid) for grid in GRIDS]
    levels[level][0, 0, row, column] = 7.0
    head = ConvHead(
        HeadShape(1, 3, class_outputs=1, box_outputs=1, quality_outputs=1), channels=1, head_depth=0, head_norm="none"
    )
    for conv in (head.class_out, head.box_out, head.quality_out):
        assert conv is not None
        centre_tap(conv)
    small = DepthwiseHead(HeadShape(1, 3, class_outputs=1, box_outputs=1, quality_outputs=1), channels=1, head_depth=0)
    for conv in small.out:
        centre_tap(conv)
    stride = STRIDES[level]
    for out in (head(levels), small(levels)):
        for values in (out.class_logits, out.box, out.quality_logits):
            assert values.shape == (1, len(points), 1)
            (index,) = values[0, :, 0].nonzero().flatten().tolist()
            assert values[0, index, 0].item() == 7
            assert points.xy[index].tolist() == [column * stride, row * stride]
            assert points.level[index].item() == level


def build(kind: type[nn.Module], quality_outputs: int) -> nn.Module:
    return kind(HeadShape(32, 3, class_outputs=4, box_outputs=20, quality_outputs=quality_outputs), channels=32)


@pytest.mark.parametrize("kind", [ConvHead, DepthwiseHead])
@pytest.mark.parametrize("quality_outputs", [0, 1])
def test_shapes_and_first_scores(kind: type[nn.Module], quality_outputs: int) -> None:
    torch.manual_seed(0)
    head = build(kind, quality_outputs).eval()
    levels = [torch.randn(2, 32, *grid) for grid in GRIDS]
    with torch.no_grad():
        out = head(levels)
    assert isinstance(out, HeadOutput)
    count = 15 + 6 + 1
    assert out.class_logits.shape == (2, count, 4)
    assert out.box.shape == (2, count, 20)
    assert (out.quality_logits is not None) == bool(quality_outputs)
    # At the start every class is at 0.01 nearly everywhere.
    assert out.class_logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("kind", [ConvHead, DepthwiseHead])
def test_images_of_a_batch_do_not_mix(kind: type[nn.Module]) -> None:
    head = build(kind, 1).eval()
    levels = [torch.randn(3, 32, *grid) for grid in GRIDS]
    with torch.no_grad():
        together, alone = head(levels), head([level[1:2] for level in levels])
    torch.testing.assert_close(together.box[1:2], alone.box)
    torch.testing.assert_close(together.class_logits[1:2], alone.class_logits)


def test_narrow_heads_work_on_one_cell() -> None:
    head = build(ConvHead, 0)
    out = head([torch.randn(1, 32, 1, 1)] * 3)
    assert torch.isfinite(out.class_logits).all()
    assert head.class_tower[1].num_groups == 16
    wide = ConvHead(HeadShape(64, 3, class_outputs=4, box_outputs=4), channels=64)
    assert wide.class_tower[1].num_groups == 32


def test_each_level_has_its_factor_on_the_box_alone() -> None:
    head = build(ConvHead, 0).eval()
    levels = [torch.randn(1, 32, *grid) for grid in GRIDS]
    with torch.no_grad():
        before = head(levels)
        head.scales[1].scale.fill_(3.0)
        after = head(levels)
    factor = torch.ones(22)
    factor[15:21] = 3
    torch.testing.assert_close(after.box[0], before.box[0] * factor[:, None])
    assert torch.equal(after.class_logits, before.class_logits)


@pytest.mark.parametrize(("quality_on", "same"), [("box", "class_tower"), ("class", "box_tower")])
def test_the_quality_branch_stands_on_one_tower(quality_on: str, same: str) -> None:
    torch.manual_seed(0)
    head = ConvHead(
        HeadShape(32, 3, class_outputs=4, box_outputs=4, quality_outputs=1),
        channels=32,
        head_depth=1,
        quality_on=quality_on,
    )
    levels = [torch.randn(1, 32, *grid) for grid in GRIDS]

    def quality() -> Tensor:
        with torch.no_grad():
            return head(levels).quality_logits

    before = quality()
    nn.init.zeros_(getattr(head, same)[0].weight)
    assert torch.equal(quality(), before)
    nn.init.zeros_(getattr(head, "box_tower" if same == "class_tower" else "class_tower")[0].weight)
    assert not torch.equal(quality(), before)
