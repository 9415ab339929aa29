"""Every valid detector x quality x box representation on the small pyramid: learns, finds, is saved, loads.

`make test` runs a part in which every detector, quality and representation occurs; `make test-all` runs all of it.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfocal.boxes import aligned_iou
from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import DetectionDataset, make_loader
from gfocal.detector import DenseDetector
from gfocal.evaluation.evaluator import evaluate
from gfocal.recipe import AXES, DETECTORS, load_recipe
from gfocal.recipe.forms import ASSIGNERS, BOX_WEIGHTS, BOXES, QUALITIES
from gfocal.representation import MinedSoftmax, ScoreWeight, TargetWeight
from gfocal.runs.checkpoint import load_detector, save_detector
from gfocal.structures import Batch, Targets
from gfocal.zoo import add_assistant, build_detector
from helpers.small_runs import small_recipe

POINTS = {name: row["model"]["points"]["kind"] for name, row in DETECTORS.items()}
WEIGHTS = {name: row["model"]["box_weight"] for name, row in DETECTORS.items()}


def pairs() -> list[tuple[str, str, str]]:
    """(detector, quality, boxes) of all that is not refused; boxes with a code where it is not the row's."""
    found = []
    for detector in DETECTORS:
        axes = AXES[POINTS[detector]]
        for quality, boxes in itertools.product(axes["quality.kind"], axes["boxes.kind"]):
            fits = BOXES[boxes].bins or not QUALITIES[quality].bins
            if fits and (QUALITIES[quality].target or not BOX_WEIGHTS[WEIGHTS[detector]].target):
                found.append((detector, quality, boxes))
    return [*found, ("atss", "centerness", "dirac distances"), ("foveabox", "none", "dirac distances")]


# The fast part: each row as published, and what the paper tries on them.
CHOSEN = {
    ("fcos", "centerness", "dirac"),
    ("fcos", "iou", "gaussian"),
    ("fcos", "joint", "general_dfl"),
    ("atss", "centerness", "dirac"),
    ("atss", "iou_guided", "dirac"),
    ("atss", "centerness_guided", "general"),
    ("atss", "joint_v2", "general_dfl"),
    ("atss", "centerness", "dirac distances"),
    ("gfl", "joint", "general_dfl"),
    ("retinanet", "none", "dirac"),
    ("retinanet", "joint", "dirac"),
    ("foveabox", "none", "dirac"),
    ("foveabox", "joint", "gaussian"),
    ("ssd", "softmax_mined", "dirac"),
    ("ssd", "joint", "dirac"),
    ("nanodet_plus", "joint", "general_dfl"),
    ("picodet", "varifocal", "general_dfl"),
    ("picodet_lcnet", "varifocal_aligned", "general_dfl"),
}


def fast() -> set[tuple[str, str, str]]:
    """The chosen ones, and the first pair of every form that is not among them: a new form is tried at once."""
    found = set(CHOSEN)
    for pair in pairs():
        if any(pair[place] not in {other[place] for other in found} for place in range(3)):
            found.add(pair)
    return found


FAST = fast()


def test_what_is_chosen_exists() -> None:
    assert set(pairs()) >= CHOSEN


CASES = [
    pytest.param(*pair, [], id="-".join(pair).replace(" ", "_"), marks=[] if pair in FAST else pytest.mark.slow)
    for pair in pairs()
]

# By predictions: each row as it is, and with what the target of the alignment is for. One anchor a location, several.
ALIGNED_FAST = {("gfl", "joint", "general_dfl"), ("fcos", "centerness", "dirac"), ("ssd", "softmax_mined", "dirac")}
ALIGNED = {
    *ALIGNED_FAST,
    *((row, name, "dirac") for row in DETECTORS for name in ("joint", "iou_guided") if row != "gfl"),
    *((row, "joint_v2", "general_dfl") for row in DETECTORS if POINTS[row] == "square"),
    ("atss", "iou", "gaussian"),
    ("retinanet", "none", "dirac"),
    ("foveabox", "none", "dirac"),
}
CASES += [
    pytest.param(
        *row,
        ["model.assigner.kind=task_aligned", *(["model.box_weight=target"] if row[1].startswith("joint") else [])],
        id="-".join(row) + "-task_aligned",
        marks=[] if row in ALIGNED_FAST else pytest.mark.slow,
    )
    for row in sorted(ALIGNED)
]
CASES += [
    pytest.param(*row, [f"model.assigner.kind={name}"], id="-".join(row) + f"-{name}", marks=marks)
    for name in ("dsla", "sim_ota")
    for row, marks in (
        (("gfl", "joint", "general_dfl"), []),
        (("retinanet", "none", "dirac"), pytest.mark.slow),
        (("fcos", "centerness", "gaussian"), pytest.mark.slow),
        (("ssd", "softmax_mined", "dirac"), pytest.mark.slow),
    )
]


# An assistant decides: with its own row, and with others and their assigners.
CASES += [
    pytest.param(
        *row,
        [f"model.assigner.kind={name}", "model.assistant.kind=agm", *more],
        id="-".join(row) + f"-{name}-agm",
        marks=[] if row[0] == "nanodet_plus" else pytest.mark.slow,
    )
    for row, name, *more in (
        (("nanodet_plus", "joint", "general_dfl"), "dsla"),
        (("picodet", "varifocal", "general_dfl"), "sim_ota"),
        (("gfl", "joint", "general_dfl"), "task_aligned", "model.box_weight=target"),
        (("atss", "joint_v2", "general_dfl"), "dsla"),
        (("fcos", "centerness", "gaussian"), "sim_ota"),
    )
]


@pytest.mark.parametrize(("detector", "quality", "boxes", "more"), CASES)
def test_a_combination(
    detector: str,
    quality: str,
    boxes: str,
    more: list[str],
    tmp_path: Path,
    train_index: DataIndex,
    val_index: DataIndex,
) -> None:
    kind, _, code = boxes.partition(" ")
    changes = ["model.backbone=test_resnet", "model.pretrained=false", "data.resize.size=64"]
    changes += [f"model.quality.kind={quality}", f"model.boxes.kind={kind}", *more]
    recipe = load_recipe(small_recipe(detector), [*changes, *([f"model.boxes.code={code}"] if code else [])])
    torch.manual_seed(0)
    model = build_detector(recipe, train_index.names)
    add_assistant(model, recipe)
    batch = one_batch(train_index, model)
    before = placed(model, batch)
    # Varifocal loss counts positives by their target: next to nothing at first, and more as boxes come to lie well.
    steps = 25 if quality.startswith("varifocal") else 10
    first, last = learn(model, batch, steps)
    # With better predictions an assigner that looks at them asks for more.
    share = 0.9 if ASSIGNERS[recipe.model.assigner.kind].dynamic else 0.8
    assert last < share * first, f"{steps} steps took the loss from {first:.4g} to {last:.4g}"
    assert placed(model, batch) > before, "boxes of positives lie no better than those of random values"

    model.eval()
    result = evaluate(model, val_index, batch_size=4, workers=0).result
    assert all(0 <= value <= 1 or math.isnan(value) for value in result.stats.values())  # NaN: no such objects
    found = model.predict(batch.images[0], score_threshold=0.0)
    assert 0 < len(found) <= recipe.predict.max_detections
    assert bool(((found.scores >= 0) & (found.scores <= 1)).all())
    assert bool(((found.boxes >= 0) & (found.boxes <= 64)).all())
    assert (found.edge_std is not None) == (kind != "dirac")
    assert (found.edge_probs is not None) == BOXES[kind].bins

    save_detector(tmp_path / "best.safetensors", model.state_dict(), recipe, model.names)
    loaded, _, _ = load_detector(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert len(loaded.eval().predict(batch.images[0], score_threshold=0.0)) == len(found)

    half_precision(model, batch)
    background(model, batch)


def one_batch(index: DataIndex, model: DenseDetector) -> Batch:
    dataset = DetectionDataset(index, EvalTransform(model.resize), seed=0)
    return next(iter(make_loader(dataset, batch_size=4, shuffle=False, workers=0)))


@torch.no_grad()
def placed(model: DenseDetector, batch: Batch) -> float:
    """Mean IoU of the positives' boxes with their objects."""
    model.train()
    out, points = model(batch.images), model.points(64, 64)
    assignment = model.assign_batch(batch.images, batch.targets, out)
    code = out.box.flatten(0, 1)[assignment.positive]
    return float(
        aligned_iou(
            model.box_coder.decode(points[assignment.positive % len(points)], code), assignment.target_boxes
        ).mean()
    )


def learn(model: DenseDetector, batch: Batch, steps: int) -> tuple[float, float]:
    """The loss before the first of some steps on one batch, and after the last."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    values = []
    model.train()
    for step in range(steps + 1):
        loss = total(model, batch.images, batch.targets, whole_weight=True)
        values.append(loss.item())
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 35, error_if_nonfinite=True)
            optimizer.step()
    return values[0], values[-1]


def total(model: DenseDetector, images: Tensor, targets: tuple[Targets, ...], *, whole_weight: bool = False) -> Tensor:
    """The loss of a batch.

    With ``whole_weight``, box terms weighted by scores or targets are a mean: over few objects those of the first steps
    add up to less than the 1 that divides them, and the loss would grow with them.
    """
    out, box_norm = model(images), None
    assignment = model.assign_batch(images, targets, out)
    if whole_weight and model.box_weight in (ScoreWeight(), TargetWeight()):
        box_norm = model.step_sums(out, assignment, (64, 64))[:, 0]
    losses = model.losses(out, assignment, (64, 64), box_norm=box_norm)
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in losses.values())
    return torch.stack(list(losses.values())).sum()


def half_precision(model: DenseDetector, batch: Batch) -> None:
    """bf16 autocast computes the network in half precision and the losses in float32: nearly the same loss."""
    full = total(model, batch.images, batch.targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = total(model, batch.images, batch.targets)
        assert len(model.detect(batch.images)) == 4
    assert half.item() == pytest.approx(full.item(), rel=0.1)
    half.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def background(model: DenseDetector, batch: Batch) -> None:
    """Images without objects, and no images at all: finite, and connected to the graph."""
    empty = tuple(Targets.empty() for _ in batch.targets)
    out = model(batch.images)
    losses = model.losses(out, model.assign_batch(batch.images, empty, out), (64, 64))
    mined = isinstance(model.quality, MinedSoftmax)  # no positive, no negatives to it
    for name in ("cls", "assistant_cls"):
        assert name not in losses or (losses.pop(name).item() == 0) == mined, "background teaches classes"
    assert all(value.item() == 0 for value in losses.values()), "and nothing else"
    for images, targets in ((batch.images, empty), (batch.images[:0], ())):
        model.zero_grad()
        loss = total(model, images, targets)
        loss.backward()
        assert bool(loss.isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
        assert len(model.detect(images)) == len(images)
