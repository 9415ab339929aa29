"""Ask PaddleDetection: ``PYTHONPATH=tests python tests/recorded/record_paddledetection.py``, with numpy < 1.24.

It needs paddlepaddle 3.3.1, paddledet 2.6.0 and torch (for the helpers), not gfocal. A small PicoDet of 2022 gets
weights by the rule of ``helpers.mmdetection_files`` and answers for two images, with its batch norms as in evaluation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from ppdet.modeling.assigners.atss_assigner import ATSSAssigner
from ppdet.modeling.assigners.task_aligned_assigner import TaskAlignedAssigner
from ppdet.modeling.backbones.lcnet import LCNet
from ppdet.modeling.heads.pico_head import PicoFeat, PicoHeadV2
from ppdet.modeling.losses.gfocal_loss import DistributionFocalLoss
from ppdet.modeling.losses.iou_loss import GIoULoss
from ppdet.modeling.losses.varifocal_loss import VarifocalLoss
from ppdet.modeling.necks.lc_pan import LCPAN

from helpers.known_answers import write
from helpers.mmdetection_files import rule_weights

FOLDER = Path(__file__).parent / "paddledetection"
CLASSES, CHANNELS, STRIDES = 6, 32, [8, 16, 32, 64]
BOXES = (((10.0, 12, 90, 100), (120, 20, 240, 90), (150, 120, 191, 149)), ((5, 5, 250, 185),))
LABELS = ((1, 4, 0), (5,))


def model() -> paddle.nn.Layer:
    """Backbone, neck and head of configs/picodet/_base_/picodet_v2.yml, small."""
    feat = PicoFeat(CHANNELS, CHANNELS, len(STRIDES), 2, share_cls_reg=True, use_se=True)
    static = ATSSAssigner(9, num_classes=CLASSES, force_gt_matching=False)
    parts = {
        "backbone": LCNet(scale=0.35, feature_maps=[3, 4, 5]),
        "neck": LCPAN([48, 88, 176], CHANNELS, num_features=4, spatial_scales=[1 / 8, 1 / 16, 1 / 32]),
        "head": PicoHeadV2(
            feat,
            num_classes=CLASSES,
            fpn_stride=STRIDES,
            loss_class=VarifocalLoss(use_sigmoid=False, iou_weighted=True, loss_weight=1.0),
            loss_dfl=DistributionFocalLoss(loss_weight=0.5),
            loss_bbox=GIoULoss(loss_weight=2.5),
            static_assigner_epoch=100,
            static_assigner=static,
            assigner=TaskAlignedAssigner(13, alpha=1.0, beta=6.0),
            reg_max=7,
            feat_in_chan=CHANNELS,
            cell_offset=0.5,
        ),
    }
    whole = paddle.nn.Layer()
    for name, part in parts.items():
        whole.add_sublayer(name, part)
    whole.eval()
    return whole


def main() -> None:
    whole = model()
    state = {name: value for name, value in whole.state_dict().items() if "_list." not in name}
    lines = [f"{name}\t{'x'.join(map(str, value.shape))}" for name, value in state.items()]
    keys = FOLDER / "picodet_lcnet_small.txt"
    keys.write_text("".join(f"{line}\n" for line in lines))
    for name, value in rule_weights(keys).items():
        state[name].set_value(value.float().numpy())

    answers = {}
    images = np.random.default_rng(0).standard_normal((2, 3, 192, 256)).astype(np.float32)
    maps = whole.backbone({"image": paddle.to_tensor(images)})
    levels = [level.detach() for level in whole.neck(maps)]
    for name, found in (("backbone", maps), ("level", levels)):
        answers |= {f"{name}_{i}": x.numpy() for i, x in enumerate(found)}
    most = max(map(len, BOXES))
    truth = {
        "gt_class": np.zeros((2, most, 1)),
        "gt_bbox": np.zeros((2, most, 4)),
        "pad_gt_mask": np.zeros((2, most, 1)),
    }
    for i, (boxes, labels) in enumerate(zip(BOXES, LABELS, strict=True)):
        truth["gt_bbox"][i, : len(boxes)] = boxes
        truth["gt_class"][i, : len(boxes), 0] = labels
        truth["pad_gt_mask"][i, : len(boxes)] = 1
        answers |= {f"gt_bboxes_{i}": np.array(boxes, np.float32), f"gt_labels_{i}": np.array(labels)}
    meta = {name: paddle.to_tensor(value.astype(np.float32)) for name, value in truth.items()}
    meta["gt_class"] = meta["gt_class"].astype("int64")
    meta["im_id"] = paddle.to_tensor(np.arange(2).reshape(2, 1))
    for name, epoch in (("static", 0), ("dynamic", 100)):
        for level in levels:
            level.stop_gradient = False
            level.clear_gradient()
        out = whole.head.forward_train(levels)
        answers |= {"scores": out[0].numpy(), "box": out[1].numpy()}
        losses = whole.head.get_loss(out, {**meta, "epoch_id": epoch})
        sum(losses.values()).backward()
        answers |= {f"{name}/{term}": np.float32(value.numpy()) for term, value in losses.items()}
        answers |= {f"{name}/level_{i}_grad": level.grad.numpy() for i, level in enumerate(levels)}
    write(FOLDER / "picodet_lcnet_small.npz", answers)


if __name__ == "__main__":
    main()
