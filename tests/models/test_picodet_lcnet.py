"""PicoDet of 2022: what PaddleDetection's own code answers."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.interop.picodet_names import names_of
from gfocal.models.backbones.lcnet import SIZES, lc_net
from gfocal.recipe import load_recipe
from gfocal.structures import HeadOutput, Targets
from gfocal.zoo import build_detector
from helpers.known_answers import RECORDED, assert_known, read_answers
from helpers.mmdetection_files import rule_weights

SMALL = ("model.channels=32",)
ANSWERS = RECORDED.parent / "paddledetection"
TERMS = {"cls": "loss_vfl", "box": "loss_bbox", "dfl": "loss_dfl"}


@functools.cache
def recorded() -> tuple[DenseDetector, dict[str, np.ndarray]]:
    """The small detector with the weights of the recorded one, and its answers."""
    detector = build_detector(
        load_recipe("picodet_xs_lcnet", SMALL), [str(i) for i in range(6)], pretrained=False
    ).eval()
    weights = rule_weights(ANSWERS / "picodet_lcnet_small.txt")
    by = names_of("lcnet_x0_35", "lc_pan", "pico_se")
    detector.load_state_dict(by.place(weights, detector.state_dict(), "recorded"))
    return detector, read_answers(ANSWERS / "picodet_lcnet_small.npz")


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
    backbone = lc_net(name).eval()
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
    own = lc_net("lcnet_x0_75").eval()
    state = own.state_dict()
    assert [t.shape for t in state.values()] == [t.shape for t in timms.state_dict().values()]
    own.load_state_dict(dict(zip(state, timms.state_dict().values(), strict=True)))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(own(images), timms(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_frozen_parts_and_their_norms() -> None:
    backbone = lc_net("lcnet_x0_35", norm_eval=True, frozen_stages=2).train()
    assert not any(p.requires_grad for part in (backbone.stem, backbone.stages[0]) for p in part.parameters())
    assert all(p.requires_grad for part in backbone.stages[1:] for p in part.parameters())
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


def test_weights_of_a_file(tmp_path: Path) -> None:
    first = lc_net("lcnet_x0_35")
    torch.save(first.state_dict(), tmp_path / "lcnet.pth")
    second = lc_net("lcnet_x0_35", pretrained=str(tmp_path / "lcnet.pth"))
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
            lc_net(name, pretrained=pretrained)
