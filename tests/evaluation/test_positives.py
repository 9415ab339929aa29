"""What is said of positives, against one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import read_indexed
from gfocal.evaluation.positives import find_positives
from gfocal.structures import Targets
from gfocal.zoo import build_detector
from helpers.small_runs import TASK_ALIGNED, small


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("joint", []),
        ("centerness", []),
        ("joint", [TASK_ALIGNED]),
        # What a trained detector's positives are, whatever assigned in its first epochs.
        ("centerness", [TASK_ALIGNED, "model.assigner.static_epochs=9", "model.assigner.positives=30"]),
    ],
)
def test_positives_of_a_data_set(kind: str, more: list[str], val_index: DataIndex) -> None:
    torch.manual_seed(0)
    detector = build_detector(small(f"model.quality.kind={kind}", *more), val_index.names, pretrained=False).train()
    found = find_positives(detector, val_index, batch_size=3)
    assert detector.training
    detector.eval()
    rows, scores, ious = [], [], []
    for i in range(len(val_index)):
        image = read_indexed(val_index, i)
        resized, truth = detector.resize(image), val_index.targets(i)
        height, width = resized.shape[-2:]
        scale = torch.tensor([width / image.shape[-1], height / image.shape[-2]]).repeat(2)
        points = detector.points(height, width)
        with torch.no_grad():
            out = detector.raw(resized[None])
        if more:
            seen = out[0].class_logits.sigmoid(), detector.box_coder.decode(points, out[0].box)
            owners = detector.assigner.assign(points, Targets(truth.boxes * scale, truth.labels), *seen).gt_index
        else:
            owners = detector.assigner(points, truth.boxes * scale).gt_index
        for place in (owners >= 0).nonzero().flatten().tolist():
            owner = int(owners[place])
            score = out.class_logits[0, place, truth.labels[owner]].sigmoid()
            if kind == "centerness":
                score = score * out.quality_logits[0, place].sigmoid()
            box = detector.box_coder.decode(points[[place]], out.box[0, [place]])
            rows.append(i)
            scores.append(float(score))
            ious.append(float(box_iou(box, truth.boxes[[owner]] * scale)))
    assert len(rows) > 50
    np.testing.assert_array_equal(found.images, rows)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(found.ious, ious, atol=1e-5)
