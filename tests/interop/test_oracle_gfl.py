"""Known answers of an independent implementation for a whole GFL head, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner
from gfocal.boxes import clip_boxes
from gfocal.criterion import detection_losses, match
from gfocal.detector import to_original
from gfocal.interop.mmdetection import our_names
from gfocal.models import ConvHead, PostProcess
from gfocal.models.heads import flatten_level
from gfocal.points import Points, grid_sizes, make_points
from gfocal.representation import GeneralBoxes, JointQuality
from gfocal.structures import HeadOutput, Targets

HEIGHT, WIDTH, STRIDES = 160, 224, (8, 16, 32, 64, 128)
BOXES, QUALITY = GeneralBoxes(16), JointQuality()


@dataclass
class Head:
    known: dict[str, np.ndarray]
    head: ConvHead
    features: list[Tensor]
    points: Points
    out: HeadOutput

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.known[name]))


@pytest.fixture
def run(shared: Path) -> Head:
    """The head of the file with its weights, run on its features."""
    known = dict(np.load(shared / "oracle" / "head_gfl_small.npz"))
    state = {
        f"bbox_head.{k.removeprefix('state/')}": torch.from_numpy(np.asarray(v))
        for k, v in known.items()
        if k.startswith("state/")
    }
    head = ConvHead(16, 5, class_outputs=6, box_outputs=68, channels=32, num_convs=2, groups=8)
    head.load_state_dict({k.removeprefix("head."): v for k, v in ours(state).items()})
    features = [torch.from_numpy(known[f"feat_{level}"]).requires_grad_() for level in range(5)]
    points = make_points(grid_sizes(HEIGHT, WIDTH, STRIDES), STRIDES, anchor_scale=8, offset=0)
    return Head(known, head, features, points, head(features))


def ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names."""
    return {name: state[theirs] for theirs, name in our_names(state).items()}


def losses(run: Head) -> dict[str, Tensor]:
    targets = [Targets(run.tensor(f"gt_bboxes_{i}"), run.tensor(f"gt_labels_{i}")) for i in range(2)]
    matched = match(run.points, targets, AtssAssigner(9), BOXES)
    weights = {"cls": 1.0, "box": 2.0, "dfl": 0.25}
    return detection_losses(run.out, run.points, matched, BOXES, QUALITY, box_weight="score", loss_weights=weights)


def flat(run: Head, name: str, outputs: int) -> Tensor:
    """The levels' maps of the file in the order of our points."""
    return torch.cat([flatten_level(run.tensor(f"{name}_{level}"), outputs) for level in range(5)], 1)


def assert_relative(value: Tensor, expected: Tensor, tolerance: float) -> None:
    """Largest difference against the largest expected value."""
    assert value.shape == expected.shape
    assert float((value.detach() - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_raw_outputs(run: Head) -> None:
    assert_relative(run.out.class_logits, flat(run, "out_cls", 6), 1e-5)
    assert_relative(run.out.box, flat(run, "out_reg", 68), 1e-5)


def test_losses_of_every_term(run: Head) -> None:
    ours = losses(run)
    for name, theirs in (("cls", "loss_cls"), ("box", "loss_bbox"), ("dfl", "loss_dfl")):
        assert ours[name].item() == pytest.approx(float(run.known[f"loss/{theirs}"].sum()), rel=1e-4)
    assert sum(v.item() for v in ours.values()) == pytest.approx(float(run.known["loss_total"]), rel=1e-4)


def test_gradients_at_outputs_features_and_parameters(run: Head) -> None:
    run.out.class_logits.retain_grad()
    run.out.box.retain_grad()
    torch.stack(list(losses(run).values())).sum().backward()
    assert_relative(run.out.class_logits.grad, flat(run, "out_cls_grad", 6), 1e-3)
    # The file's gradients are those of the head's output, after the level's factor, as ours are.
    assert_relative(run.out.box.grad, flat(run, "out_reg_grad", 68), 1e-3)
    for level, features in enumerate(run.features):
        assert_relative(features.grad, run.tensor(f"feat_grad_{level}"), 1e-3)
    theirs = {
        f"bbox_head.{k.removeprefix('param_grad/')}": v for k, v in run.known.items() if k.startswith("param_grad/")
    }
    gradients = {f"head.{name}": p.grad for name, p in run.head.named_parameters()}
    expected = ours({k: torch.from_numpy(np.asarray(v)) for k, v in theirs.items()})
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert_relative(gradient, expected[name], 1e-3)


@pytest.mark.parametrize("picture", [0, 1])
def test_candidates_before_suppression(run: Head, picture: int) -> None:
    out = run.out[picture]
    place, label, score = PostProcess().candidates(out, run.points, QUALITY)
    boxes = clip_boxes(BOXES.decode(run.points[place], out.box[place]), HEIGHT, WIDTH)
    torch.testing.assert_close(score, run.tensor(f"raw_{picture}/scores"), rtol=1e-5, atol=1e-6)
    assert torch.equal(label, run.tensor(f"raw_{picture}/labels"))
    torch.testing.assert_close(boxes, run.tensor(f"raw_{picture}/boxes"), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("picture", [0, 1])
def test_detections(run: Head, picture: int) -> None:
    found = PostProcess()(run.out[picture], run.points, BOXES, QUALITY, height=HEIGHT, width=WIDTH)
    assert torch.equal(found.labels, run.tensor(f"det_{picture}/labels"))
    torch.testing.assert_close(found.scores, run.tensor(f"det_{picture}/scores"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.boxes, run.tensor(f"det_{picture}/boxes"), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("picture", [0, 1])
def test_detections_in_pixels_of_the_original(run: Head, picture: int) -> None:
    # The file: width was halved and height taken times 0.8 on the way in, from 200 x 448 to 160 x 224.
    found = PostProcess()(run.out[picture], run.points, BOXES, QUALITY, height=HEIGHT, width=WIDTH)
    original = to_original(found, (HEIGHT, WIDTH), (200, 448))
    torch.testing.assert_close(original.boxes, run.tensor(f"rescaled_{picture}/boxes"), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(original.scores, run.tensor(f"rescaled_{picture}/scores"), rtol=1e-5, atol=1e-6)
    assert torch.equal(original.labels, run.tensor(f"rescaled_{picture}/labels"))
