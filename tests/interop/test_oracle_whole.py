"""Known answers of an independent implementation for six whole detectors, through files and their import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gfocal.data.formats.coco.classes import COCO_NAMES
from gfocal.detector import DenseDetector
from gfocal.interop.load import import_weights
from gfocal.interop.report import ImportReport
from gfocal.models.heads import flatten_level
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import load_detector
from helpers.mmdetection_files import config_text, config_text_3, rule_weights, save_as

FORMS = {
    "gfl_r50": "2.x",
    "atss_r50": "3.x",
    "fcos_r50_giou": "2.x",
    "retinanet_r50": "legacy",
    "foveabox_r50": "2.x",
    "ssd512_vgg16": "2.x",
}
RECIPES = {name: name.removesuffix("_giou") for name in FORMS}


@dataclass
class Imported:
    model: str
    report: ImportReport
    detector: DenseDetector
    recipe: Recipe
    state: dict[str, Tensor]
    known: dict[str, np.ndarray]


@pytest.fixture(params=FORMS, scope="module")
def imported(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    model, form = request.param, FORMS[request.param]
    folder = tmp_path_factory.mktemp(model)
    state = rule_weights(shared / "oracle" / "checkpoint_keys" / f"{model}.txt")
    meta: dict[str, Any] = {"config": config_text(model), "CLASSES": COCO_NAMES, "epoch": 12}
    if form == "3.x":
        meta = {"cfg": config_text_3(model), "dataset_meta": {"classes": COCO_NAMES, "palette": [(0, 0, 0)]}}
    report = import_weights(save_as(folder / f"{model}.pth", state, meta, form), folder)
    (folder / f"{model}.pth").unlink()
    detector, recipe, _ = load_detector(report.file)
    report.file.unlink()  # six of them would be a gigabyte
    known = dict(np.load(shared / "oracle" / f"whole_{model}.npz"))
    return Imported(model, report, detector, recipe, state, known)


def assert_relative(value: Tensor, expected: np.ndarray, tolerance: float = 1e-3) -> None:
    """Largest difference against the largest expected value."""
    theirs = torch.from_numpy(expected)
    assert value.shape == theirs.shape
    assert float((value - theirs).abs().max()) <= tolerance * float(theirs.abs().max())


def test_backbone_pyramid_and_outputs_are_the_known_ones(imported: Imported) -> None:
    known, detector = imported.known, imported.detector
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(known["input_shape"]))).float()
    with torch.no_grad():
        maps = detector.backbone(pictures)
        levels = detector.neck(maps)
        out = detector.head(levels)
    # The files of ResNets have the map of stride 4 first, which nothing uses; of each map they keep a thinned part.
    first = 0 if imported.model.startswith("ssd") else 1
    for i, x in enumerate(maps, start=first):
        assert_relative(x[0, ::16, ::2, ::2], known[f"backbone_{i}"])
    start = 0
    for i, x in enumerate(levels):
        assert_relative(x[0, ::16, ::2, ::2], known[f"pyramid_{i}"])
        for name, rows in (("cls", out.class_logits), ("box", out.box), ("aux", out.quality_logits)):
            if rows is None:
                assert f"{name}_{i}" not in known
                continue
            shape, outputs = tuple(known[f"{name}_{i}_shape"]), rows.shape[-1]
            count = shape[1] * shape[2] * shape[3] // outputs
            ours = rows[:, start : start + count]
            if name == "box" and imported.model.startswith("fcos"):  # theirs is in pixels already, and not negative
                ours = ours.clamp(min=0) * imported.recipe.model.strides[i]
            theirs = torch.zeros(shape)
            theirs[0, ::4] = torch.from_numpy(known[f"{name}_{i}"])
            kept = torch.zeros(shape)
            kept[0, ::4] = 1
            mask = flatten_level(kept, outputs)
            assert_relative(ours * mask, flatten_level(theirs, outputs).numpy())
        start += count
    assert start == out.box.shape[1]


def test_every_tensor_is_used_or_named(imported: Imported) -> None:
    report, ours = imported.report, imported.detector.state_dict()
    assert report.unused == (("bbox_head.integral.project",) if imported.model == "gfl_r50" else ())
    assert report.used == len(ours) == len(imported.state) - len(report.unused)
    # All values arrived, each once: sums over everything that is used agree.
    used = [v.double().sum() for k, v in imported.state.items() if k not in report.unused]
    assert float(sum(v.double().sum() for v in ours.values())) == pytest.approx(float(sum(used)), rel=1e-9)


def test_the_recipe_is_the_one_of_the_file(imported: Imported) -> None:
    recipe, detector, report = imported.recipe, imported.detector, imported.report
    caffe, ssd = imported.model.startswith("fcos"), imported.model.startswith("ssd")
    assert report.recipe == RECIPES[imported.model]
    assert report.notes == ()
    assert detector.names == COCO_NAMES
    assert recipe.model.style == ("caffe" if caffe else "pytorch")
    pixels = recipe.model.pixels
    assert pixels.order == ("bgr" if caffe else "rgb")
    assert pixels.mean == ((102.9801, 115.9465, 122.7717) if caffe else (123.675, 116.28, 103.53))
    assert pixels.std == ((1, 1, 1) if caffe or ssd else (58.395, 57.12, 57.375))
    assert recipe.model.quality_on == "box"
    resize = recipe.data.resize
    assert (resize.kind, resize.size if ssd else (resize.short_side, resize.long_side)) == (
        ("square", 512) if ssd else ("short_long", (800, 1333))
    )
    nms = 0.45 if ssd else 0.5 if imported.model in ("retinanet_r50", "foveabox_r50") else 0.6
    predict = recipe.predict
    assert (predict.nms_iou, predict.score_threshold, predict.max_detections, predict.pre_nms_top_k) == (
        (nms, 0.02, 200, 1000) if ssd else (nms, 0.05, 100, 1000)
    )
    foreign = {name.rpartition(".")[2] for name in report.foreign}
    assert ("HistoryBuffer" in foreign) == (FORMS[imported.model] == "3.x")
