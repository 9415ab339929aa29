"""Known answers of an independent implementation for six whole heads: outputs, losses, gradients, detections.

Each head stands in the detector that its recipe builds, so that assigner, boxes, quality, normalisers and thresholds
are those that a person gets. Where the other implementation differs on purpose, the recipe key that reproduces it is
set here, and the default is shown to differ.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gfocal.boxes import clip_boxes
from gfocal.detector import DenseDetector
from gfocal.interop.mmdetection import our_names
from gfocal.models import ConvHead, PlainHead
from gfocal.models.heads import flatten_level
from gfocal.models.postprocess import to_original
from gfocal.models.protocols import HeadShape
from gfocal.recipe import load_recipe
from gfocal.structures import HeadOutput, Targets
from gfocal.zoo import build_detector
from helpers.known_answers import assert_known, known_head


@dataclass(frozen=True)
class Case:
    """How a head of the oracle is built here, and the keys that make ours do what theirs does."""

    recipe: str
    keys: tuple[str, ...] = ()
    shape: HeadShape | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 6


SHAPE = HeadShape(16, 5, class_outputs=6, box_outputs=4)
BRANCH = replace(SHAPE, quality_outputs=1)
SMALL: dict[str, Any] = {"channels": 32, "head_depth": 2}
BARE = {**SMALL, "head_norm": "none", "level_scales": False}
CASES = {
    "gfl_small": Case("gfl_r50", shape=replace(SHAPE, box_outputs=68), head={**SMALL, "groups": 8}),
    "atss_small": Case("atss_r50", ("model.norm=picture",), BRANCH, {**SMALL, "groups": 8}),
    "fcos_giou_small": Case("fcos_r50", shape=BRANCH, head={**SMALL, "groups": 8, "tower_bias": True}),
    "retina_small": Case("retinanet_r50", ("model.norm=picture",), replace(SHAPE, anchors=9), BARE),
    "fovea_small": Case("foveabox_r50", ("predict.clip_margin=1",), SHAPE, BARE),
    "ssd512_small": Case("ssd512_vgg16", ("model.norm=picture",), classes=3),
}
SSD_CHANNELS, SSD_ANCHORS = [16, 24, 16, 8, 8, 8, 8], [4, 6, 6, 6, 6, 4, 4]
TERMS = {"cls": "loss_cls", "box": "loss_bbox", "dfl": "loss_dfl", "quality": "loss_centerness"}


@dataclass
class Run:
    name: str
    known: dict[str, np.ndarray]
    detector: DenseDetector
    features: list[Tensor]
    out: HeadOutput

    @property
    def size(self) -> tuple[int, int]:
        return (512, 512) if self.name.startswith("ssd") else (160, 224)

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.known[key]))

    def targets(self) -> list[Targets]:
        return [
            Targets(self.tensor(f"gt_bboxes_{i}").float().view(-1, 4), self.tensor(f"gt_labels_{i}")) for i in range(2)
        ]

    def losses(self) -> dict[str, Tensor]:
        images = torch.zeros(2, 3, *self.size)
        return self.detector.losses(self.out, self.detector.assign_batch(images, self.targets()), self.size)

    def flat(self, key: str, like: Tensor) -> Tensor:
        """The levels' maps of the file in the order of our points."""
        levels = range(len(self.features))
        return torch.cat([flatten_level(self.tensor(f"{key}_{level}"), like.shape[-1]) for level in levels], 1)


@functools.cache
def built(name: str, keys: bool) -> DenseDetector:
    """The detector of the recipe with the oracle's kind of head."""
    case = CASES[name]
    # Backbone and neck are thrown away below: a small one is made sooner.
    small = () if case.shape is None else ("model.backbone=test_resnet",)
    recipe = load_recipe(case.recipe, [*(case.keys if keys else ()), "model.pretrained=false", *small])
    detector = build_detector(recipe, [str(i) for i in range(case.classes)], pretrained=False).eval()
    detector.backbone, detector.neck = nn.Identity(), nn.Identity()
    if case.shape is None:
        detector.head = PlainHead(HeadShape(SSD_CHANNELS, 7, class_outputs=4, box_outputs=4, anchors=SSD_ANCHORS))
    else:
        detector.head = ConvHead(case.shape, **case.head)
    return detector


def open_case(name: str, known: dict[str, np.ndarray], *, keys: bool = True) -> Run:
    detector = built(name, keys)
    detector.zero_grad()
    detector.head.load_state_dict(ours(known, "state/"))
    count = sum(key.startswith("feat_") and key.removeprefix("feat_").isdigit() for key in known)
    features = [torch.from_numpy(known[f"feat_{level}"]).requires_grad_() for level in range(count)]
    return Run(name, known, detector, features, detector.head(features))


def ours(known: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    """The head's tensors of the file under our names, by the importer's own mapping."""
    theirs = {k.removeprefix(prefix): torch.from_numpy(np.asarray(v)) for k, v in known.items() if k.startswith(prefix)}
    names = our_names(f"bbox_head.{name}" for name in theirs)
    assert len(theirs) - len(names) <= 1  # GFL's 0, 1, ..., n
    return {mine.removeprefix("head."): theirs[name.removeprefix("bbox_head.")] for name, mine in names.items()}


@pytest.fixture(params=[(name, form) for form in ("recorded", "full") for name in CASES], ids="-".join)
def run(request: pytest.FixtureRequest) -> Run:
    """A head beside the numbers that the repository holds, and beside all of them where `shared` exists."""
    name, form = request.param
    if form == "recorded":
        return open_case(name, known_head(name))
    return open_case(name, dict(np.load(request.getfixturevalue("shared") / "oracle" / f"head_{name}.npz")))


def test_losses_of_every_term(run: Run) -> None:
    losses = run.losses()
    theirs = {term: float(run.known[f"loss/{key}"].sum()) for term, key in TERMS.items() if f"loss/{key}" in run.known}
    assert {term: value.item() for term, value in losses.items()} == pytest.approx(theirs, rel=1e-4)
    assert sum(v.item() for v in losses.values()) == pytest.approx(sum(theirs.values()), rel=1e-4)
    if "loss_total" in run.known:
        assert sum(theirs.values()) == pytest.approx(float(run.known["loss_total"]), rel=1e-5)


def test_gradients_at_outputs_features_and_parameters(run: Run) -> None:
    outputs = {"cls": run.out.class_logits, "reg": run.out.box, "aux": run.out.quality_logits}
    for value in outputs.values():
        if value is not None:
            value.retain_grad()
    torch.stack(list(run.losses().values())).sum().backward()
    for name, value in outputs.items():
        if value is None or f"out_{name}_0" not in run.known:
            continue
        expected, gradient = run.flat(f"out_{name}", value), run.flat(f"out_{name}_grad", value)
        if run.name == "fcos_giou_small" and name == "reg":
            # Their head cuts distances at 0 itself: its output and the gradient there stand after the cut.
            assert_known(value.clamp(min=0), expected, 1e-5)
            gradient = gradient.masked_fill(expected <= 0, 0)
        else:
            assert_known(value, expected, 1e-5)
        assert_known(value.grad, gradient, 1e-3)
    for level, features in enumerate(run.features):
        assert_known(features.grad, run.tensor(f"feat_grad_{level}"), 1e-3)
    gradients = ours(run.known, "param_grad/")
    assert gradients.keys() in (set(), dict(run.detector.head.named_parameters()).keys())
    for name, expected in gradients.items():
        assert_known(run.detector.head.get_parameter(name).grad, expected, 1e-3)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("run", [(name, "full") for name in CASES if name != "ssd512_small"], indirect=True)
def test_candidates_before_suppression(run: Run, image: int) -> None:
    detector, out, points = run.detector, run.out[image], run.detector.points(*run.size)
    place, label, candidate = detector.postprocess.candidates(out, points, detector.quality)
    height, width = (side - detector.postprocess.clip_margin for side in run.size)
    boxes = clip_boxes(detector.box_coder.decode(points[place], out.box[place]), height, width)
    scores = detector.quality.scores(candidate, out[place])
    if run.name != "fovea_small":  # whose configuration keeps boxes without area
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, scores, label = boxes[solid], scores[solid], label[solid]
    expected = {key: run.tensor(f"raw_{image}/{key}") for key in ("boxes", "scores", "labels")}
    torch.testing.assert_close(scores, expected["scores"], rtol=1e-5, atol=1e-6)
    # Scores that rounding alone tells apart may have changed places.
    ours, theirs = (
        within_ties(expected["scores"], *pair) for pair in ((label, boxes), (expected["labels"], expected["boxes"]))
    )
    assert torch.equal(label[ours], expected["labels"][theirs])
    torch.testing.assert_close(boxes[ours], expected["boxes"][theirs], rtol=0, atol=1e-3)


def within_ties(scores: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
    """An order by score in which scores that are equal up to 1e-6 stand by label and box."""
    ties = torch.cat((torch.zeros(1), (scores[:-1] - scores[1:] > 1e-6).float())).cumsum(0)
    return torch.from_numpy(np.lexsort((boxes[:, 0].detach().numpy(), labels.numpy(), ties.numpy())))


@pytest.mark.parametrize("image", [0, 1])
def test_detections(run: Run, image: int) -> None:
    detector, (height, width) = run.detector, run.size
    found = detector.postprocess(
        run.out[image], detector.points(height, width), detector.box_coder, detector.quality, height=height, width=width
    )
    kinds = [("det", found)]
    if f"rescaled_{image}/boxes" in run.known:
        # The width was halved and the height taken times 0.8 on the way in, from 200 x 448 to 160 x 224.
        kinds.append(("rescaled", to_original(found, (height, width), (200, 448))))
    for kind, detections in kinds:
        assert torch.equal(detections.labels, run.tensor(f"{kind}_{image}/labels"))
        torch.testing.assert_close(detections.scores, run.tensor(f"{kind}_{image}/scores"), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(detections.boxes, run.tensor(f"{kind}_{image}/boxes"), rtol=0, atol=1e-3)


# --- where ours differs on purpose: the key matters -----------------------------------------------------------------


def test_a_background_image_weakens_the_others_only_on_request() -> None:
    # The second image has no object: mmdetection adds 1 to the divisor, we do not.
    theirs, default = (open_case("atss_small", known_head("atss_small"), keys=keys) for keys in (True, False))
    assignment = default.detector.assign_batch(torch.zeros(2, 3, *default.size), default.targets())
    positives = int(assignment.counts.sum())
    assert assignment.counts[1] == 0
    expected = theirs.losses()["cls"].item() * (positives + 1) / positives
    assert default.losses()["cls"].item() == pytest.approx(expected, rel=1e-5)


def test_boxes_reach_the_border_unless_told_otherwise() -> None:
    found = []
    for keys in (True, False):
        run = open_case("fovea_small", known_head("fovea_small"), keys=keys)
        detector, (height, width) = run.detector, run.size
        post = detector.postprocess
        found.append(
            post(
                run.out[0],
                detector.points(height, width),
                detector.box_coder,
                detector.quality,
                height=height,
                width=width,
            )
        )
    assert (found[0].boxes[:, 2].max(), found[0].boxes[:, 3].max()) == (223, 159)
    assert (found[1].boxes[:, 2].max(), found[1].boxes[:, 3].max()) == (224, 160)
