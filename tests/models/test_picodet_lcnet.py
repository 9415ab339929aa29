"""PicoDet of 2022: every tensor by PaddleDetection's name, and what PaddleDetection's own code answers."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.models.backbones.lcnet import SIZES, LcNet
from gfocal.recipe import load_recipe
from gfocal.structures import HeadOutput, Targets
from gfocal.zoo import build_detector
from helpers.known_answers import RECORDED, assert_known, read_answers
from helpers.mmdetection_files import rule_weights

SMALL = ("model.channels=32",)
ANSWERS = RECORDED.parent / "paddledetection"
UNUSED = re.compile(r"head\.(p\d_feat\.scale_reg|distribution_project\.project)")
TERMS = {"cls": "loss_vfl", "box": "loss_bbox", "dfl": "loss_dfl"}

_LAYERS = {"0": "conv", "1": "bn"}
_SEPARABLE = {"0": "dw_conv.conv", "1": "dw_conv.bn", "3": "pw_conv.conv", "4": "pw_conv.bn"}
_ATTENTIVE = {**_SEPARABLE, "3.fc1": "se.conv1", "3.fc2": "se.conv2", "4": "pw_conv.conv", "5": "pw_conv.bn"}
_HALVING = {"0": "dwconv", "1": "bn1", "3": "pwconv", "4": "bn2"}
_TOWER = {"0": ("dw", "conv"), "1": ("dw", "norm"), "3": ("pw", "conv"), "4": ("pw", "norm")}
_SE = {"gate": "fc", "mix.0": "conv.conv", "mix.1": "conv.norm"}


def paddle_name(name: str) -> str:
    """PaddleDetection's name of a tensor of ours."""
    rules = (
        (r"backbone\.stem\.0\.([01])", lambda m: f"backbone.conv1.{_LAYERS[m[1]]}"),
        (r"backbone\.stem\.1\.(\d)", lambda m: f"backbone.blocks2.0.{_SEPARABLE[m[1]]}"),
        (r"backbone\.stem\.2\.(\d)\.(\d)", lambda m: f"backbone.blocks3.{m[1]}.{_SEPARABLE[m[2]]}"),
        (
            r"backbone\.stages\.([01])\.(\d)\.(\d)",
            lambda m: f"backbone.blocks{int(m[1]) + 4}.{m[2]}.{_SEPARABLE[m[3]]}",
        ),
        (r"backbone\.stages\.2\.(\d)\.(\d(?:\.fc\d)?)", lambda m: f"backbone.blocks6.{m[1]}.{_ATTENTIVE[m[2]]}"),
        (r"neck\.lateral\.(\d)\.([01])", lambda m: f"neck.conv_t.convs.{m[1]}.{_LAYERS[m[2]]}"),
        (r"neck\.down_blocks\.(\d)\.(\d)\.(\d)", lambda m: f"neck.top_down_blocks.{m[1]}.{m[2]}.{_SEPARABLE[m[3]]}"),
        (r"neck\.up_blocks\.(\d)\.(\d)\.(\d)", lambda m: f"neck.bottom_up_blocks.{m[1]}.{m[2]}.{_SEPARABLE[m[3]]}"),
        (r"neck\.halvings\.(\d)\.(\d)", lambda m: f"neck.downsamples.{m[1]}.{_HALVING[m[2]]}"),
        (r"neck\.extra\.lateral\.(\d)", lambda m: f"neck.first_top_conv.{_HALVING[m[1]]}"),
        (r"neck\.extra\.level\.(\d)", lambda m: f"neck.second_top_conv.{_HALVING[m[1]]}"),
        (
            r"head\.blocks\.(\d)\.(\d)\.(\d)",
            lambda m: "head.conv_feat.cls_conv_{2}{0}.{1}.{3}".format(m[1], m[2], *_TOWER[m[3]]),
        ),
        (r"head\.attention\.(\d)\.(gate|mix\.\d)", lambda m: f"head.conv_feat.se.{m[1]}.{_SE[m[2]]}"),
        (r"head\.class_out\.(\d)", lambda m: f"head.head_cls{m[1]}"),
        (r"head\.box_out\.(\d)", lambda m: f"head.head_reg{m[1]}"),
        (r"head\.quality_out\.(\d)\.(\d)", lambda m: f"head.cls_align.{m[1]}.{_HALVING[m[2]]}"),
    )
    module, _, tensor = name.rpartition(".")
    theirs = next(to(match) for pattern, to in rules if (match := re.fullmatch(pattern, module)))
    return f"{theirs}.{ {'running_mean': '_mean', 'running_var': '_variance'}.get(tensor, tensor) }"


@functools.cache
def recorded() -> tuple[DenseDetector, dict[str, np.ndarray]]:
    """The small detector with the weights of the recorded one, and its answers."""
    detector = build_detector(
        load_recipe("picodet_xs_lcnet", SMALL), [str(i) for i in range(6)], pretrained=False
    ).eval()
    weights = rule_weights(ANSWERS / "picodet_lcnet_small.txt")
    own = {name: tensor for name, tensor in detector.state_dict().items() if "num_batches" not in name}
    detector.load_state_dict(
        {**detector.state_dict(), **{name: weights.pop(paddle_name(name)).view_as(own[name]) for name in own}}
    )
    assert all(UNUSED.fullmatch(name) for name in weights)
    return detector, read_answers(ANSWERS / "picodet_lcnet_small.npz")


def test_every_published_tensor_has_its_place(shared: Path) -> None:
    detector = build_detector(load_recipe("picodet_s_lcnet"), [str(i) for i in range(80)], pretrained=False)
    ours = {
        paddle_name(name): "x".join(map(str, tensor.shape))
        for name, tensor in detector.state_dict().items()
        if "num_batches" not in name
    }
    lines = (shared / "oracle/checkpoint_keys/picodet_s_lcnet.txt").read_text().split()
    theirs = dict(zip(lines[::2], lines[1::2], strict=True))
    assert sum(bool(UNUSED.fullmatch(name)) for name in theirs) == 5
    twice = {f"head.head_{kind}{i}": f"head.head_{kind}_list.{i}" for kind in ("cls", "reg") for i in range(4)}
    for name, copy in twice.items():
        for tensor in ("weight", "bias"):
            assert theirs.pop(f"{copy}.{tensor}") == theirs[f"{name}.{tensor}"]
    assert ours == {name: shape for name, shape in theirs.items() if not UNUSED.fullmatch(name)}


def test_maps_levels_and_outputs_are_the_recorded_ones() -> None:
    detector, known = recorded()
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 192, 256))).float()
    with torch.no_grad():
        maps = detector.backbone(images)
        levels = detector.neck(maps)
        out = detector.head(levels)
    for name, found in (("backbone", maps), ("level", levels)):
        for i, x in enumerate(found):
            assert_known(x, known[f"{name}_{i}"], 1e-4)
    assert_known(detector.quality.class_logits(out).sigmoid(), known["scores"], 1e-4)
    assert_known(out.box, known["box"], 1e-4)


@pytest.mark.parametrize(("phase", "epoch"), [("static", 19), ("dynamic", 20)])
def test_losses_and_gradients_are_the_recorded_ones(phase: str, epoch: int) -> None:
    detector, known = recorded()
    images = torch.zeros(2, 3, 192, 256)
    with torch.no_grad():
        inputs = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 192, 256))).float()
        levels = detector.neck(detector.backbone(inputs))
    levels = [level.requires_grad_() for level in levels]
    out: HeadOutput = detector.head(levels)
    targets = [
        Targets(torch.from_numpy(known[f"gt_bboxes_{i}"]), torch.from_numpy(known[f"gt_labels_{i}"])) for i in range(2)
    ]
    losses = detector.losses(out, detector.assign_batch(images, targets, out, epoch=epoch), (192, 256))
    theirs = {term: float(known[f"{phase}/{name}"]) for term, name in TERMS.items()}
    assert {term: value.item() for term, value in losses.items()} == pytest.approx(theirs, rel=1e-4)
    torch.stack(list(losses.values())).sum().backward()
    for i, level in enumerate(levels):
        assert_known(level.grad, known[f"{phase}/level_{i}_grad"], 1e-3)


@pytest.mark.parametrize("name", SIZES)
def test_maps_of_each_size(name: str) -> None:
    backbone = LcNet(name).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [x.shape[1:] for x in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(backbone.channels, (8, 16, 32), strict=True)
    ]
    published = {"lcnet_x0_35": (48, 88, 176), "lcnet_x0_75": (96, 192, 384), "lcnet_x2_0": (256, 512, 1024)}
    assert backbone.channels == published.get(name, backbone.channels)


def test_timm_has_the_same_network() -> None:
    import timm

    timms = timm.create_model("lcnet_075", features_only=True, out_indices=(2, 3, 4)).eval()
    own = LcNet("lcnet_x0_75").eval()
    state = own.state_dict()
    assert [t.shape for t in state.values()] == [t.shape for t in timms.state_dict().values()]
    own.load_state_dict(dict(zip(state, timms.state_dict().values(), strict=True)))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(own(images), timms(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_frozen_parts_and_their_norms() -> None:
    backbone = LcNet("lcnet_x0_35", norm_eval=True, frozen_stages=2).train()
    assert not any(p.requires_grad for part in (backbone.stem, backbone.stages[0]) for p in part.parameters())
    assert all(p.requires_grad for part in backbone.stages[1:] for p in part.parameters())
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


def test_weights_of_a_file(tmp_path: Path) -> None:
    first = LcNet("lcnet_x0_35")
    torch.save(first.state_dict(), tmp_path / "lcnet.pth")
    second = LcNet("lcnet_x0_35", pretrained=str(tmp_path / "lcnet.pth"))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    for name, pretrained, message in (
        ("lcnet_x0_35", True, "timm's lcnet_035 is the same network"),
        ("lcnet_x2_0", True, "nobody offers them for PyTorch"),
        ("lcnet_x1_0", str(tmp_path / "lcnet.pth"), "could not be loaded"),
        ("lcnet_x1_0", str(tmp_path / "none.pth"), "there is no file"),
        ("lcnet_x9", False, "there is no LCNet"),
    ):
        with pytest.raises(UsageError, match=message):
            LcNet(name, pretrained=pretrained)
