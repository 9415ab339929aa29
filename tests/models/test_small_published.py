"""NanoDet-Plus-m and PicoDet-S of our parts: with the published weights they say what other runners recorded."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gfocal.detector import DenseDetector
from gfocal.recipe import load_recipe
from gfocal.structures import HeadOutput
from gfocal.zoo import build_detector


def plus_name(name: str) -> str:
    """NanoDet-Plus's name of a tensor of ours."""
    name = re.sub(r"^neck\.lateral\.(\d)\.0\.", r"fpn.reduce_layers.\1.conv.", name)
    name = re.sub(r"^neck\.lateral\.(\d)\.1\.", r"fpn.reduce_layers.\1.bn.", name)
    name = re.sub(r"^neck\.down_blocks\.(\d)\.", r"fpn.top_down_blocks.\1.blocks.0.", name)
    name = re.sub(r"^neck\.up_blocks\.(\d)\.", r"fpn.bottom_up_blocks.\1.blocks.0.", name)
    name = re.sub(r"\.(first|second)\.primary\.", lambda m: f".ghost{1 + (m[1] == 'second')}.primary_conv.", name)
    name = re.sub(r"\.(first|second)\.cheap\.", lambda m: f".ghost{1 + (m[1] == 'second')}.cheap_operation.", name)
    name = re.sub(r"^neck\.halvings\.(\d)\.", r"fpn.downsamples.\1.", name)
    name = re.sub(r"^neck\.extra\.lateral\.", "fpn.extra_lvl_in_conv.0.", name)
    name = re.sub(r"^neck\.extra\.level\.", "fpn.extra_lvl_out_conv.0.", name)
    name = re.sub(r"^head\.blocks\.(\d)\.(\d)\.", r"head.cls_convs.\1.\2.", name)
    name = re.sub(r"^head\.out\.(\d)\.", r"head.gfl_cls.\1.", name)
    parts = {"0": "depthwise", "1": "dwnorm", "3": "pointwise", "4": "pwnorm"}
    return re.sub(
        r"^((?:fpn\.(?:downsamples|extra_lvl_\w+)|head\.cls_convs\.\d)\.\d)\.([0134])\.",
        lambda m: f"{m[1]}.{parts[m[2]]}.",
        name,
    )


def pico_name(name: str) -> str:
    """PaddleDetection's name of a tensor of ours."""
    layer = {"0": "conv", "1": "bn"}

    def stage(match: re.Match[str]) -> str:
        blocks = {
            "short.0": "_conv_dw_1",
            "short.1": "_conv_linear_1",
            "main.0": "_conv_pw_2",
            "main.1": "_conv_dw_2",
            "main.2": "_se",
            "main.3": "_conv_linear_2",
            "join.0": "_conv_dw_mv1",
            "join.1": "_conv_pw_mv1",
            "first": "_conv_pw",
            "depthwise": "_conv_dw",
            "attention": "_se",
            "last": "_conv_linear",
        }
        return f"backbone.{int(match[1]) + 2}_{int(match[2]) + 1}.{blocks[match[3]]}."

    name = re.sub(r"^backbone\.stem\.0\.", "backbone._conv1.", name)
    name = re.sub(r"^backbone\.stages\.(\d)\.(\d)\.((?:short|main|join)\.\d|[a-z]+)\.", stage, name)
    name = re.sub(r"(^backbone\..*_(?:conv\w*|se))\.fc([12])\.", r"\1.conv\2.", name)
    if name.startswith("backbone."):
        name = re.sub(r"\.([01])\.(\w+)$", lambda m: f".{('_conv', '_batch_norm')[int(m[1])]}.{m[2]}", name)
    name = re.sub(r"^neck\.lateral\.(\d)\.([01])\.", lambda m: f"neck.conv_t.convs.{m[1]}.{layer[m[2]]}.", name)
    name = re.sub(r"^neck\.down_blocks\.", "neck.top_down_blocks.", name)
    name = re.sub(r"^neck\.up_blocks\.", "neck.bottom_up_blocks.", name)
    name = re.sub(r"\.main\.0\.([01])\.", lambda m: f".main_conv.{layer[m[1]]}.", name)
    name = re.sub(r"\.main\.1\.([01])\.", lambda m: f".blocks.0.conv1.{layer[m[1]]}.", name)
    name = re.sub(r"\.short\.([01])\.", lambda m: f".short_conv.{layer[m[1]]}.", name)
    name = re.sub(r"\.join\.([01])\.", lambda m: f".final_conv.{layer[m[1]]}.", name)
    parts = {"0": "dwconv", "1": "bn1", "3": "pwconv", "4": "bn2"}
    name = re.sub(r"\.main\.2\.([0134])\.", lambda m: f".blocks.0.conv2.{parts[m[1]]}.", name)
    name = re.sub(r"^neck\.halvings\.(\d)\.([0134])\.", lambda m: f"neck.downsamples.{m[1]}.{parts[m[2]]}.", name)
    tops = {"lateral": "first_top_conv", "level": "second_top_conv"}
    name = re.sub(r"^neck\.extra\.(\w+)\.([0134])\.", lambda m: f"neck.{tops[m[1]]}.{parts[m[2]]}.", name)
    convs = {"0": ("dw", "conv"), "1": ("dw", "norm"), "3": ("pw", "conv"), "4": ("pw", "norm")}

    def tower(match: re.Match[str]) -> str:
        kind, part = convs[match[3]]
        return f"head.conv_feat.cls_conv_{kind}{match[1]}.{match[2]}.{part}."

    name = re.sub(r"^head\.blocks\.(\d)\.(\d)\.([0134])\.", tower, name)
    name = re.sub(r"^head\.out\.(\d)\.", r"head.head_cls\1.", name)
    return name.replace("running_mean", "_mean").replace("running_var", "_variance")


def built(recipe: str) -> DenseDetector:
    names = [str(i) for i in range(80)]
    return build_detector(load_recipe(recipe), names, pretrained=False).eval()


def with_weights(recipe: str, weights: Mapping[str, Tensor], name_of: object) -> DenseDetector:
    detector = built(recipe)
    own = detector.state_dict()
    placed = {name: weights[name_of(name)] for name in own if "num_batches" not in name}  # type: ignore[operator]
    detector.load_state_dict({**own, **placed})
    return detector


def raw(detector: DenseDetector, images: Tensor) -> HeadOutput:
    with torch.no_grad():
        return detector(images)


@pytest.mark.parametrize(
    ("recipe", "numbers"),
    [
        ("nanodet_plus_m", 1_197_924),
        ("nanodet_plus_m_1.5x", 2_477_792),
        ("picodet_s", 992_715),  # published as 0.99, 2.15 and 3.30 million
        ("picodet_m", 2_152_554),
        ("picodet_l", 3_305_009),
        ("picodet_xs_lcnet", 704_254),  # published as 0.70, 1.18, 3.46 and 5.80 million
        ("picodet_s_lcnet", 1_186_492),
        ("picodet_m_lcnet", 3_465_316),
        ("picodet_l_lcnet", 5_804_500),
    ],
)
def test_as_many_numbers_as_published(recipe: str, numbers: int) -> None:
    assert sum(p.numel() for p in built(recipe).parameters()) == numbers


def test_nanodet_plus_with_the_published_weights(shared: Path) -> None:
    state = torch.load(shared / "weights/nanodet_plus_m_416.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix("model."): value.float() for name, value in state.items()}
    detector = with_weights("nanodet_plus_m", weights, plus_name)
    known = np.load(shared / "weights/nanodet_plus_m_416_raw.npz")
    images = torch.from_numpy(known["pictures"]).permute(0, 3, 1, 2).flip(1).contiguous()  # the detector takes RGB
    out = raw(detector, images)
    for i in range(len(images)):
        rows = torch.cat((out.class_logits[i], out.box[i]), 1)[:: int(known["step"])].numpy()
        assert np.abs(rows - known[f"raw_{i}"]).max() < 1e-3 * np.abs(known[f"raw_{i}"]).max()


def test_picodet_with_the_published_weights(shared: Path) -> None:
    with (shared / "weights/picodet_s_320_coco.pdparams").open("rb") as file:
        state = pickle.load(file)
    weights = {name: torch.from_numpy(value).float() for name, value in state.items() if isinstance(value, np.ndarray)}
    detector = with_weights("picodet_s", weights, pico_name)
    known = np.load(shared / "weights/picodet_s_320_raw.npz")
    images = torch.from_numpy(known["pictures"]).permute(0, 3, 1, 2).flip(1).contiguous()
    out = raw(detector, images)
    for i in range(len(images)):
        rows = torch.cat((out.class_logits[i].sigmoid(), out.box[i]), 1)[:: int(known["step"])].numpy()
        assert np.abs(rows[:, :80] - known[f"raw_{i}"][:, :80]).max() < 1e-4
        scale = np.abs(known[f"raw_{i}"][:, 80:]).max()
        assert np.abs(rows[:, 80:] - known[f"raw_{i}"][:, 80:]).max() < 1e-3 * scale
