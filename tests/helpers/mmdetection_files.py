"""Files as mmdetection writes them, from the lists of names and shapes of its models."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PYTORCH = "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True"
CAFFE = "mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], to_rgb=False"
SSD = "mean=[123.675, 116.28, 103.53], std=[1, 1, 1], to_rgb=True"
_STRIDES = "strides=[8, 16, 32, 64, 128]"
_SQUARE = f"anchor_generator=dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1, {_STRIDES})"
_OCTAVE = f"anchor_generator=dict(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0], {_STRIDES})"
_SSD_ANCHORS = (
    "anchor_generator=dict(type='SSDAnchorGenerator', input_size=512, strides=[8, 16, 32, 64, 128, 256, 512], "
    "ratios=[[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]], basesize_ratio_range=(0.1, 0.9))"
)
_CODER = "bbox_coder=dict(target_means=[.0, .0, .0, .0], target_stds=[0.1, 0.1, 0.2, 0.2])"
_HEADS = {
    "gfl_r50": f"type='GFLHead', num_classes=80, {_SQUARE}, reg_max=16",
    "atss_r50": f"type='ATSSHead', {_SQUARE}, {_CODER}",
    "fcos_r50_giou": f"type='FCOSHead', {_STRIDES}, norm_on_bbox=True, centerness_on_reg=True, conv_bias=True",
    "retinanet_r50": f"type='RetinaHead', {_OCTAVE}, bbox_coder=dict(target_stds=[1.0, 1.0, 1.0, 1.0])",
    "foveabox_r50": f"type='FoveaHead', {_STRIDES}, base_edge_list=[16, 32, 64, 128, 256]",
    "ssd512_vgg16": f"type='SSDHead', {_SSD_ANCHORS}, {_CODER}",
}
_NMS = {"retinanet_r50": 0.5, "foveabox_r50": 0.5, "ssd512_vgg16": 0.45}


def rule_weights(keys: Path) -> dict[str, Tensor]:
    """The weights of a whole detector by the rule that its answers were made with."""
    state = {}
    for line in keys.read_text().splitlines():
        name, text = line.split("\t")
        shape = () if text == "scalar" else tuple(int(n) for n in text.split("x"))
        x = np.asarray(np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape))
        if name.endswith("num_batches_tracked"):
            value = np.zeros((), np.int64)
        elif name.endswith("project"):
            value = np.arange(shape[0])
        elif len(shape) == 4:
            value = x * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("running_var", "_variance")):
            value = 1 + 0.1 * np.abs(x)
        elif name.endswith(("running_mean", "_mean", "bias")):
            value = 0.1 * x
        else:
            value = 1 + 0.1 * x
        state[name] = torch.from_numpy(np.asarray(value)).to(torch.int64 if value.dtype.kind == "i" else torch.float32)
    return state


def empty_weights(keys: Path, changes: dict[str, tuple[int, ...] | None] | None = None) -> dict[str, Tensor]:
    """Tensors of these names and shapes that take no memory; ``changes`` replaces shapes, None removes."""
    state = {}
    for line in keys.read_text().splitlines():
        name, text = line.split("\t")
        state[name] = torch.zeros(()).expand(() if text == "scalar" else tuple(int(n) for n in text.split("x")))
    for name, shape in (changes or {}).items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(()).expand(shape)
    return state


def config_text(model: str, *, pixels: str | None = None, head: str = "", style: str | None = None) -> str:
    """The configuration in a file of 2.x, shortened to what matters and to what must not disturb."""
    ssd, caffe = model.startswith("ssd"), model.startswith("fcos")
    norm = pixels or (SSD if ssd else CAFFE if caffe else PYTORCH)
    style = style or ("caffe" if caffe else "pytorch")
    backbone = "type='SSDVGG', depth=16" if ssd else f"type='ResNet', depth=50, style='{style}'"
    relu = ", add_extra_convs='on_output', relu_before_extra_convs=True" if caffe else ""
    resize = "dict(type='Resize', keep_ratio=False)" if ssd else "dict(type='Resize', keep_ratio=True)"
    thresholds = "score_thr=0.02, max_per_img=200" if ssd else "score_thr=0.05, max_per_img=100"
    return f"""
img_norm_cfg = dict({norm})
model = dict(
    type='Detector',
    backbone=dict({backbone}),
    neck=dict(type='FPN'{relu}),
    bbox_head=dict({_HEADS[model]}{head}),
    train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, nms=dict(type='nms', iou_threshold={_NMS.get(model, 0.6)}),
                  {thresholds}))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale={(512, 512) if ssd else (1333, 800)},
        flip=False,
        transforms=[{resize}, dict(type='Normalize', {norm}), dict(type='Pad', size_divisor=32)])
]
data = dict(samples_per_gpu=2, test=dict(type='CocoDataset', pipeline=test_pipeline))
optimizer = dict(type='SGD', lr=0.01, paramwise_cfg=dict(bias_lr_mult=2.0))
work_dir = './work'
"""


def config_text_3(model: str) -> str:
    """The same in a file of 3.x."""
    mean, std, rgb = ([102.9801, 115.9465, 122.7717], [1.0] * 3, False) if model.startswith("fcos") else (
        [123.675, 116.28, 103.53], [58.395, 57.12, 57.375], True)  # fmt: skip
    return f"""
default_scope = 'mmdet'
model = dict(
    backbone=dict(type='ResNet', depth=50, style='{"pytorch" if rgb else "caffe"}'),
    bbox_head=dict({_HEADS[model]}),
    data_preprocessor=dict(type='DetDataPreprocessor', mean={mean}, std={std}, bgr_to_rgb={rgb}, pad_size_divisor=32),
    neck=dict(add_extra_convs='on_output'),
    test_cfg=dict(max_per_img=100, nms=dict(iou_threshold={_NMS.get(model, 0.6)}), nms_pre=1000, score_thr=0.05))
test_pipeline = [
    dict(backend_args=None, type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(1333, 800), type='Resize'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline, metainfo=None), sampler=dict(shuffle=False))
"""


class HistoryBuffer:
    """Stands for the objects of an engine that a file of 3.x holds."""

    def __init__(self) -> None:
        self._log_history = np.arange(3.0)


def save_as(path: Path, state: dict[str, Tensor], meta: dict[str, Any], form: str) -> Path:
    """A file as 2.x writes it, as torch before 1.6 wrote it ("legacy"), or as 3.x does."""
    content: dict[str, Any] = {"meta": meta, "state_dict": OrderedDict(state)}
    if form == "3.x":
        content |= {"message_hub": {"log_scalars": {"loss": HistoryBuffer()}}, "param_schedulers": [{"last_step": 12}]}
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    return path
