"""Known answers of an independent implementation for six whole detectors, through files and their import."""

from __future__ import annotations

from dataclasses import dataclass
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
from gfocal.structures import HeadOutput
from helpers.known_answers import assert_known, keys_of, known_whole
from helpers.mmdetection_files import config_text, config_text_3, rule_weights, save_as

FORMS = {
    "gfl_r50": "3.x",
    "atss_r50": "2.x",
    "fcos_r50_giou": "2.x",
    "retinanet_r50": "legacy",
    "foveabox_r50": "2.x",
    "ssd512_vgg16": "legacy",
}
RECIPES = {name: name.removesuffix("_giou") for name in FORMS}


@dataclass
class Imported:
    model: str
    report: ImportReport
    detector: DenseDetector
    recipe: Recipe
    state: dict[str, Tensor]
    maps: list[Tensor]
    levels: list[Tensor]
    out: HeadOutput


# The slow ones add the other forms of file, the other style of ResNet, and VGG. All six heads are in
# test_oracle_heads.py.
FAST = ("gfl_r50",)


@pytest.fixture(params=[m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in FORMS], scope="module")
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    model, form = request.param, FORMS[request.param]
    folder = tmp_path_factory.mktemp(model)
    state = rule_weights(keys_of(model))
    meta: dict[str, Any] = {"config": config_text(model), "CLASSES": COCO_NAMES, "epoch": 12}
    if form == "3.x":
        meta = {"cfg": config_text_3(model), "dataset_meta": {"classes": COCO_NAMES, "palette": [(0, 0, 0)]}}
    report = import_weights(save_as(folder / f"{model}.pth", state, meta, form), folder)
    (folder / f"{model}.pth").unlink()
    detector, recipe, _ = load_detector(report.file)
    report.file.unlink()  # six of them would be a gigabyte
    size = tuple(known_whole(model)["input_shape"])
    with torch.no_grad():
        maps = detector.backbone(torch.from_numpy(np.random.default_rng(0).standard_normal(size)).float())
        levels = detector.neck(maps)
        return Imported(model, report, detector, recipe, state, maps, levels, detector.head(levels))


@pytest.mark.parametrize("form", ["recorded", "full"])
def test_backbone_pyramid_and_outputs_are_the_known_ones(
    imported: Imported, form: str, request: pytest.FixtureRequest
) -> None:
    known, out = known_whole(imported.model), imported.out
    if form == "full":
        known = dict(np.load(request.getfixturevalue("shared") / "oracle" / f"whole_{imported.model}.npz"))
    # The files of ResNets have the map of stride 4 first, which nothing uses; of each map they keep a thinned part.
    first = 0 if imported.model.startswith("ssd") else 1
    for i, x in enumerate(imported.maps, start=first):
        assert_known(x[0, ::16, ::2, ::2], known[f"backbone_{i}"], 1e-3)
    start = 0
    for i, x in enumerate(imported.levels):
        assert_known(x[0, ::16, ::2, ::2], known[f"pyramid_{i}"], 1e-3)
        for name, rows in (("cls", out.class_logits), ("box", out.box), ("aux", out.quality_logits)):
            if rows is None:
                assert f"{name}_{i}" not in known
                continue
            shape, outputs = tuple(known[f"{name}_{i}_shape"]), rows.shape[-1]
            count = shape[1] * shape[2] * shape[3] // outputs
            ours = rows[:, start : start + count]
            if name == "box" and imported.model.startswith("fcos"):  # theirs is in pixels already, and not negative
                ours = ours.clamp(min=0) * imported.recipe.model.strides[i]
            theirs = torch.full(shape, torch.nan)
            theirs[0, ::4] = torch.from_numpy(known[f"{name}_{i}"])
            assert_known(ours, flatten_level(theirs, outputs), 1e-3)
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
