from __future__ import annotations

import ast
import functools
import importlib
import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.recipe import DETECTORS, Recipe, build_recipe, load_recipe, recipe_names
from gfocal.recipe.forms import ASSIGNERS, BACKBONES, BOX_WEIGHTS, BOXES, HEADS, NECKS, QUALITIES
from gfocal.recipe.hints import _ALIASES
from gfocal.recipe.network import LossWeights
from gfocal.recipe.training import PredictRecipe, ResizeRecipe
from gfocal.structures import Targets
from gfocal.zoo import add_assistant, build_detector
from helpers.paths import PACKAGE


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The dotted names of all values of a section."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += leaves(field.annotation, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


# --- recipes that come with the package -----------------------------------------------------------------------------


def test_the_recipes_of_the_package() -> None:
    assert {"gfl_nano", "gfl_r18", "gfl_r50"} <= set(recipe_names())
    assert recipe_names() == sorted(recipe_names())


LARGEST = "ssd512_vgg16"


@pytest.mark.parametrize(
    "name", [pytest.param(LARGEST, marks=pytest.mark.slow), *(name for name in recipe_names() if name != LARGEST)]
)
def test_every_recipe_builds_a_detector_that_sees(name: str) -> None:
    ssd512 = name == LARGEST
    recipe = load_recipe(name, ["model.pretrained=false", *([] if ssd512 else ["data.resize.size=64"])])
    height, width = (512, 512) if ssd512 else (64, 96)
    detector = build_detector(recipe, ["a", "b", "c"]).eval()
    assert detector.names == ("a", "b", "c")
    with torch.no_grad():
        out = detector(torch.zeros(1, 3, height, width, dtype=torch.uint8))
    logits = 4 if recipe.model.quality.kind == "softmax_mined" else 3
    assert out.class_logits.shape == (1, len(detector.points(height, width)), logits)
    numbers = 4 if recipe.model.boxes.kind == "dirac" else 4 * (recipe.model.boxes.reg_max + 1)
    assert out.box.shape[-1] == numbers
    branch = recipe.model.quality.kind in ("centerness", "iou", "varifocal_aligned")
    assert (out.quality_logits is not None) == branch


@pytest.mark.parametrize(
    ("name", "override", "channels"),
    [
        ("gfl_nano", "model.channels=40", 40),
        ("gfl_nano", "model.head=conv", 96),
        ("gfl_r18", "model.head=depthwise", 256),
    ],
)
def test_neck_and_head_are_equally_wide(name: str, override: str, channels: int) -> None:
    recipe = load_recipe(name, [override, "model.pretrained=false"])
    detector = build_detector(recipe, ["a"]).eval()
    with torch.no_grad():
        levels = detector.neck(detector.backbone(torch.zeros(1, 3, 64, 64)))
        assert {level.shape[1] for level in levels} == {channels}
        assert detector.head(levels).class_logits.shape == (1, len(detector.points(64, 64)), 1)


def test_the_published_settings() -> None:
    r50, nano = load_recipe("gfl_r50"), load_recipe("gfl_nano")
    # arXiv 2006.04388, section 4: beta 2, n = 16, weights 2 and 1/4, ATSS; 12 epochs of 16 images from lr 0.01.
    weights = r50.model.loss_weights
    assert (weights.cls, weights.box, weights.dfl) == (1, 2, 0.25)
    assert (r50.model.quality.beta, r50.model.boxes.reg_max, r50.model.assigner.top_k) == (2, 16, 9)
    assert (r50.model.points.scale, r50.model.points.offset) == (8, 0)
    assert (r50.optim.lr, r50.optim.momentum, r50.optim.weight_decay) == (0.01, 0.9, 1e-4)
    assert (r50.schedule.epochs, r50.schedule.batch_size, r50.schedule.milestones) == (12, 16, (8, 11))
    parameters = sum(p.numel() for p in build_detector(nano, ["c"] * 80).parameters())
    assert parameters == pytest.approx(0.95e6, rel=0.01)


def test_the_fine_recipe_is_the_usual_one_with_four_bins_a_stride() -> None:
    usual, fine = load_recipe("gfl_nano"), load_recipe("gfl_nano_fine")
    assert (fine.model.boxes.delta, fine.model.boxes.reg_max) == (0.25, 28)
    reach = [one.model.boxes.delta * one.model.boxes.reg_max for one in (usual, fine)]
    assert reach == [7, 7]  # strides
    assert load_recipe("gfl_nano_fine", ["model.boxes.delta=1.0", "model.boxes.reg_max=7"]) == usual


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_survives_json(name: str) -> None:
    recipe = load_recipe(name, ["data.scale=[0.5, 2]", "model.quality.alpha=null"])
    content = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.model_validate(content) == recipe
    assert build_recipe(content) == recipe
    assert build_recipe(content, ["optim.lr=0.5"]).optim.lr == 0.5
    assert content == recipe.to_dict()  # overrides do not reach what was given


# --- files and overrides --------------------------------------------------------------------------------------------


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {boxes: {reg_max: 8}}\noptim: {lr: 1e-3}\n")
    recipe = load_recipe(path, ["schedule.epochs=3"])
    assert (recipe.model.boxes.reg_max, recipe.optim.lr, recipe.schedule.epochs) == (8, 0.001, 3)
    assert recipe.data == Recipe().data  # the rest keeps its defaults
    path.write_text("")
    assert load_recipe(path) == Recipe()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optim.lr=1e-3", "optim.lr", 0.001),  # YAML 1.1 itself reads a word
        ("model.boxes.kind=dirac", "model.boxes.kind", "dirac"),
        (" model.boxes.reg_max = 8", "model.boxes.reg_max", 8),
        ("data.scale=[0.5, 1.5]", "data.scale", (0.5, 1.5)),
        ("data.scale=null", "data.scale", None),
        ("model.pretrained=weights/a=b.pth", "model.pretrained", "weights/a=b.pth"),
        ("runtime.channels_last=false", "runtime.channels_last", False),
        ("schedule={epochs: 5, batch_size: 2}", "schedule.epochs", 5),
    ],
)
def test_overrides(override: str, key: str, value: Any) -> None:
    found: Any = load_recipe("gfl_nano", [override])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins() -> None:
    assert load_recipe("gfl_nano", ["optim.lr=1", "optim.lr=2"]).optim.lr == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optm.lr=1", "unknown key optm (did you mean optim?)"),
        ("model.boxes.regmax=3", "unknown key model.boxes.regmax (did you mean model.boxes.reg_max?)"),
        ("lr=0.1", "unknown key lr (did you mean optim.lr?)"),
        ("optim.learning_rate=3", "unknown key optim.learning_rate (did you mean optim.lr?)"),
        ("batch=3", "unknown key batch (did you mean schedule.batch_size?)"),
        ("train.num_workers=3", "unknown key train (did you mean data.workers?)"),
        ("optim.zzz=3", "unknown key optim.zzz (optim has kind, lr, reference_batch, momentum, betas, "),
        ("zzz=3", "unknown key zzz (a recipe has model, data, optim, schedule, predict, runtime)"),
        ("optim.betas=[1, 1]", "optim.betas.0: input should be less than 1 (got 1)"),
        ("runtime.seed=9223372036854775808", "runtime.seed: input should be less than 9223372036854775808"),
        ("optim.lr=abc", "optim.lr: input should be a valid number"),
        ("optim.lr=-1", "optim.lr: input should be greater than 0 (got -1)"),
        ("optim.lr=nan", "optim.lr"),
        ("schedule.epochs=1.5", "schedule.epochs: input should be a valid integer"),
        ("model.backbone=50", "model.backbone: input should be a valid string (got 50)"),
        ("model.boxes.kind=gauss", "model.boxes.kind: input should be 'dirac', 'gaussian', "),
        ("model.boxes.kind=gauss", " or 'general_dfl' (got 'gauss')"),
        ("model.detector=yolo", "model.detector: input should be 'fcos', 'atss', 'gfl', 'retinanet', 'foveabox', "),
        ("model.detector=[gfl]", "model.detector: input should be 'fcos', 'atss', 'gfl', 'retinanet', 'foveabox', "),
        ("model.anchor_scale=8", "unknown key model.anchor_scale (did you mean model.points.scale?)"),
        ("data.scale=[1, 2, 3]", "data.scale"),
        ("data.scale=[2, 1]", "data: scale must be [lowest, highest], got [2.0, 1.0]"),
        ("model.strides=[8, 16]", "backbone shufflenet_v2_x1_0 gives strides [8, 16, 32], not [8, 16]"),
        ("model.frozen=[head]", "model.frozen.0: input should be 'backbone' or 'neck' (got 'head')"),
        ("optim=3", "optim: input should be a valid dictionary"),
        ("optim.lr.x=3", "--set optim.lr.x=3: optim.lr is a value, not a section"),
        ("optim.lr", "--set takes key=value, for example optim.lr=0.01; got 'optim.lr'"),
        ("=3", "--set takes key=value"),
        ("optim.lr=[1", "--set optim.lr=[1: the value is not valid YAML"),
    ],
)
def test_what_is_refused_and_what_is_said(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("gfl_nano", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.channels=100"], "channels must be a multiple of 32"),
        (["model.neck=light_pan"], "light_pan makes the strides .*, not .*; neck fpn makes any"),
        (["model.neck=ghost_pan"], r"ghost_pan adds 1 level .* not those of strides \[64, 128\]; neck fpn adds any"),
        (
            ["model.neck=csp_pan", "model.strides=[8, 16, 32]", "model.channels=97"],
            "multiple of 2 for neck csp_pan, got 97",
        ),
        (["model.strides=[8, 16, 32, 60]"], "each stride must be twice the one before"),
        (["model.strides=[]"], r"strides must start at one that backbones have .*, got \[\]"),
        (["model.strides=[64, 128]"], r"strides must start at one that backbones have .*, got \[64, 128\]"),
        (["data.resize.short_side=1400"], "short_side must not be over long_side, got 1400 and 1333"),
    ],
)
def test_what_does_not_fit_together(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("gfl_r50", overrides)


def test_a_neck_that_makes_any_level_adds_to_those_of_a_backbone() -> None:
    recipe = load_recipe("gfl_nano", ["model.neck=fpn", "model.strides=[8, 16, 32, 64]"])
    out = build_detector(recipe, ["a"]).eval()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert out.class_logits.shape == (1, 64 + 16 + 4 + 1, 1)


def test_a_side_that_is_not_used_may_be_anything() -> None:
    assert load_recipe("gfl_nano", ["data.resize.short_side=1400"]).data.resize.short_side == 1400
    assert load_recipe("gfl_nano", ["runtime.seed=9223372036854775807"]).runtime.seed == 2**63 - 1


def test_other_names_lead_to_keys_that_exist() -> None:
    assert set(_ALIASES.values()) <= set(leaves(Recipe))
    assert not {key.rpartition(".")[2] for key in leaves(Recipe)} & _ALIASES.keys()


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"optim\.lr.*; .*schedule\.epochs"):
        load_recipe("gfl_nano", ["optim.lr=-1", "schedule.epochs=0"])


def test_unknown_recipes_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe 'gfl_nan' \(did you mean gfl_nano\?\); there are .*gfl_r50"):
        load_recipe("gfl_nan")
    with pytest.raises(UsageError, match=r"there is no recipe file .*none\.yaml"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "broken.yaml"
    for text, message in (
        ("model: [", "not valid YAML"),
        ("- 1\n", "must hold sections"),
        ("modle: {}", "did you mean"),  # codespell:ignore modle
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            load_recipe(path)
    path.write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"broken\.yaml cannot be read as UTF-8 text"):
        load_recipe(path)


def test_a_recipe_does_not_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("gfl_nano").optim.lr = 1.0  # type: ignore[misc]


# --- a key that does nothing is a defect ----------------------------------------------------------------------------

R18 = ["model.backbone=test_resnet", "model.pretrained=false", "model.channels=64", "model.head_depth=1"]
OCTAVE = [
    "model.assigner.kind=max_iou",
    "model.boxes.kind=dirac",
    "model.boxes.code=deltas",
]
SSD = [
    *OCTAVE,
    "model.points.kind=ssd",
    "model.points.sizes=[.1, .2, .4, .8]",
    "model.points.aspects=[[2], [2, 3], [2, 3]]",
    "model.strides=[8, 16, 32]",
    "model.head=plain",
    "data.resize.kind=square",
]
TASK = ["model.assigner.kind=task_aligned"]
# What each key of the detector is set to, and what else must hold for it to matter.
CHANGES: dict[str, tuple[str, list[str]]] = {
    "model.backbone": ("resnet34", []),
    "model.deformable": ("[4]", []),
    "model.modulated": ("false", ["model.deformable=[4]"]),
    "model.pretrained": ("/no/such/file.pth", []),
    "model.frozen_stages": ("2", []),
    "model.frozen": ("[neck]", []),
    "model.norm_eval": ("false", []),
    "model.neck": ("light_pan", ["model.strides=[8, 16, 32]"]),
    "model.head": ("depthwise", []),
    "model.channels": ("96", []),
    "model.head_depth": ("2", []),
    "model.strides": ("[8, 16, 32, 64]", []),
    "model.style": ("caffe", ["model.backbone=resnet50"]),
    "model.extra_from": ("input", []),
    "model.relu_before_extra": ("true", []),
    "model.head_norm": ("none", []),
    "model.tower_bias": ("true", []),
    "model.deformable_tower": ("true", []),
    "model.level_scales": ("false", []),
    "model.quality_on": ("class", ["model.quality.kind=iou"]),
    "model.points.kind": ("octave", OCTAVE),
    "model.points.scale": ("5", []),
    "model.points.offset": ("0.5", []),
    "model.points.scales_per_octave": ("2", [*OCTAVE, "model.points.kind=octave"]),
    "model.points.ratios": ("[1]", [*OCTAVE, "model.points.kind=octave"]),
    "model.points.sizes": ("[.1, .2, .3, .5]", SSD),
    "model.points.aspects": ("[[2], [2], [2]]", SSD),
    "model.assigner.kind": ("fcos", []),
    "model.assigner.top_k": ("3", []),
    "model.assigner.radius": ("3", ["model.assigner.kind=fcos"]),
    "model.assigner.sigma": ("0.3", ["model.assigner.kind=fovea"]),
    "model.assigner.positive_iou": ("0.6", ["model.assigner.kind=max_iou"]),
    "model.assigner.negative_iou": ("0.3", ["model.assigner.kind=max_iou"]),
    "model.assigner.low_quality": ("none", ["model.assigner.kind=max_iou"]),
    "model.assigner.alpha": ("2", TASK),
    "model.assigner.beta": ("2", TASK),
    "model.assigner.positives": ("9", TASK),
    "model.assigner.static_epochs": ("2", TASK),
    "model.assigner.in_padding": ("true", []),
    "model.assistant.kind": ("agm", TASK),
    "model.assistant.detach_after": ("3", [*TASK, "model.assistant.kind=agm"]),
    "model.assigner.within_reach": ("true", []),
    "model.quality.kind": ("none", []),
    "model.quality.beta": ("1.5", []),
    "model.quality.alpha": ("0.5", ["model.quality.kind=none"]),
    "model.quality.gamma": ("1", ["model.quality.kind=none"]),
    "model.quality.eta": ("1", ["model.quality.kind=iou_guided"]),
    "model.quality.negatives": ("2", [*SSD, "model.quality.kind=softmax_mined"]),
    "model.boxes.kind": ("general", []),
    "model.boxes.reg_max": ("8", []),
    "model.boxes.delta": ("0.5", []),
    "model.boxes.code": ("deltas", ["model.boxes.kind=dirac"]),
    "model.boxes.stds": ("[1, 1, 1, 1]", ["model.boxes.kind=dirac", "model.boxes.code=deltas"]),
    "model.boxes.loss": ("l1", ["model.boxes.kind=dirac"]),
    "model.boxes.smooth_beta": ("2", ["model.boxes.kind=dirac", "model.boxes.loss=smooth_l1"]),
    "model.box_weight": ("none", []),
    "model.norm": ("picture", []),
    "model.loss_weights.quality": ("3", []),
    "model.loss_weights.nll": ("3", []),
    "model.loss_weights.cls": ("3", []),
    "model.loss_weights.box": ("3", []),
    "model.loss_weights.dfl": ("3", []),
    "model.pixels.order": ("bgr", []),
    "model.pixels.mean": ("[1, 2, 3]", []),
    "model.pixels.std": ("[1, 2, 3]", []),
    "data.resize.kind": ("square", []),
    "data.resize.size": ("64", ["data.resize.kind=square"]),
    "data.resize.short_side": ("400", []),
    "data.resize.long_side": ("900", []),
    "data.resize.pad": ("mean", []),
    "data.range": ("[0, 4095]", []),
    "predict.score_threshold": ("0.3", []),
    "predict.pre_nms_top_k": ("7", []),
    "predict.nms_iou": ("0.3", []),
    "predict.max_detections": ("7", []),
    "predict.clip_margin": ("1", []),
    "predict.class_agnostic": ("true", []),
    "predict.voting": ("0.02", []),
}


def fingerprint(detector: DenseDetector) -> str:
    """All that a recipe can decide in a detector, without the random values."""
    parts: list[Any] = [
        detector.pixels.mean.flatten().tolist(),
        detector.pixels.scale.flatten().tolist(),
        detector.pixels.order,
        {name: tuple(value.shape) for name, value in detector.state_dict().items()},
        [name for name, p in detector.named_parameters() if not p.requires_grad],
        [m.training for m in detector.train().modules() if isinstance(m, nn.BatchNorm2d)],
        detector.strides,
        [len(detector.points(64, 64)), detector.points(64, 64).anchors.sum(0), detector.points(64, 64).xy.sum(0)],
        [(m.stride, m.bias is None) for m in detector.modules() if isinstance(m, nn.Conv2d)],
        detector.neck.relu_before_extra if hasattr(detector.neck, "relu_before_extra") else None,
        getattr(detector.head, "quality_on", None),
        detector.count_rule,
        detector.assign_in_padding,
        *((type(part).__name__, vars(part)) for part in (detector.assigner, detector.box_coder, detector.quality)),
        (type(detector.static_assigner).__name__, detector.static_epochs if detector.static_assigner else None),
        detector.resize,
        detector.value_range,
        detector.postprocess,
        detector.box_weight,
        detector.loss_weights,
        None if detector.assistant is None else (detector.assistant.detach_after, str(detector.assistant)),
    ]
    return repr(parts)


@functools.cache
def built(*overrides: str) -> str:
    recipe = load_recipe("gfl_r18", [*R18, *overrides])
    detector = build_detector(recipe, ["a", "b"])
    add_assistant(detector, recipe)
    return fingerprint(detector)


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_of_the_detector_changes_the_detector(key: str) -> None:
    value, needed = CHANGES[key]
    change = [*needed, f"{key}={value}"]
    if key == "model.pretrained":
        with pytest.raises(UsageError, match=value):
            built(*change)
        return
    assert built(*change) != built(*needed)


def test_the_same_recipe_gives_the_same_detector() -> None:
    assert built.__wrapped__() == built()


def test_no_key_of_the_detector_is_left_out() -> None:
    keys = {key for key in leaves(Recipe) if key.startswith(("model.", "data.resize.", "data.range", "predict."))}
    assert keys == CHANGES.keys() | {"model.detector"}  # whose own test is below
    assert leaves(ResizeRecipe) == ["kind", "size", "short_side", "long_side", "pad"]
    assert set(leaves(PredictRecipe)) == {
        "score_threshold",
        "pre_nms_top_k",
        "nms_iou",
        "max_detections",
        "clip_margin",
        "class_agnostic",
        "voting",
    }


FORMS = {
    "assigner.kind": ASSIGNERS,
    "boxes.kind": BOXES,
    "quality.kind": QUALITIES,
    "backbone": BACKBONES,
    "head": HEADS,
    "neck": NECKS,
    "box_weight": BOX_WEIGHTS,
}


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, forms in FORMS.items() for name in forms])
def test_every_form_can_be_built(key: str, name: str) -> None:
    form = FORMS[key][name]
    recipe = "gfl_nano" if "square" in form.points else "ssd_nano"
    if name in ("ssd", "vgg16"):  # which go with each other alone
        recipe = "ssd512_vgg16"
    detector = build_detector(
        load_recipe(recipe, [f"model.{key}={name}", "model.channels=96"]), ["a"], pretrained=False
    )
    part = getattr(detector, {"boxes.kind": "box_coder"}.get(key, key.partition(".")[0]))
    if form.place is None:
        assert part is None
        return
    module, _, maker = form.place.partition(":")
    made = getattr(importlib.import_module(f"gfocal.{module}"), maker)
    assert type(part) is (made if isinstance(made, type) else get_type_hints(made)["return"])


@pytest.mark.parametrize("key", ["head", "neck", "box_weight"])
def test_a_name_that_is_no_form_is_refused_with_those_that_are(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("gfl_nano", [f"model.{key}=nothing_like_it"])
    assert f"model.{key}" in str(caught.value)
    for name in FORMS[key]:
        assert f"'{name}'" in str(caught.value)


def test_loss_weights_are_named_after_losses() -> None:
    named = set()
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    for changes in ([], ["model.quality.kind=iou", "model.boxes.kind=gaussian"]):
        detector = build_detector(load_recipe("gfl_nano", changes), ["a"])
        named |= detector.losses(
            detector.eval()(images), detector.assign_batch(images, [Targets.empty()]), (64, 64)
        ).keys()
    assert named == set(leaves(LossWeights))


# --- axes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_a_row_of_defaults(name: str) -> None:
    short = {"detector": name, "strides": [8, 16, 32], "head": "depthwise"}
    if name == "ssd":
        short |= {"points": {"sizes": [0.1, 0.2, 0.4, 0.8], "aspects": [[2], [2], [2]]}}
    content = {"model": short, "data": {"resize": {"kind": "square"}}}
    recipe = build_recipe(content)
    names = {"ssd": "ssd512_vgg16", "nanodet_plus": "nanodet_plus_m"}
    names |= {"picodet": "picodet_s", "picodet_lcnet": "picodet_s_lcnet"}
    published = load_recipe(names.get(name, f"{name}_r50"))
    for key in ("assigner", "quality", "boxes", "box_weight", "norm", "loss_weights"):
        assert getattr(recipe.model, key) == getattr(published.model, key)
    assert recipe.predict == published.predict
    assert recipe.model.points.kind == published.model.points.kind
    # What a recipe says comes before the row.
    changed = build_recipe(content, ["model.loss_weights.box=7", "predict.nms_iou=0.3"])
    assert (changed.model.loss_weights.box, changed.predict.nms_iou) == (7, 0.3)
    assert changed.model.loss_weights.cls == recipe.model.loss_weights.cls


@pytest.mark.parametrize(
    ("name", "published"),
    [("nanodet_plus", "nanodet_plus_m"), ("picodet", "picodet_s"), ("picodet_lcnet", "picodet_s_lcnet")],
)
def test_a_row_that_was_published_as_a_network_is_one(name: str, published: str) -> None:
    recipe, named = build_recipe({"model": {"detector": name}}), load_recipe(published)
    assert recipe.model == named.model
    assert recipe.data.resize == named.data.resize
    assert recipe.optim == named.optim
    for key in ("kind", "final_lr", "warmup_start", "ema"):  # how long is the recipe's own
        assert getattr(recipe.schedule, key) == getattr(named.schedule, key)
    changed = build_recipe({"model": {"detector": name, "neck": "fpn", "strides": [8, 16, 32]}, "optim": {"lr": 0.5}})
    assert (changed.model.neck, changed.model.strides, changed.model.head) == ("fpn", (8, 16, 32), named.model.head)
    assert (changed.optim.lr, changed.optim.kind) == (0.5, named.optim.kind)


def test_another_detector_under_the_keys_of_this_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"this is a recipe of gfl, .* start from fcos_nano or fcos_r50, or write"):
        load_recipe("gfl_nano", ["model.detector=fcos"])
    assert load_recipe("gfl_nano", ["model.detector=gfl"]) == load_recipe("gfl_nano")


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        (
            "retinanet_r50",
            ["model.boxes.kind=general_dfl"],
            ("boxes.kind general_dfl", "retinanet", "what goes: dirac"),
        ),
        (
            "retinanet_r50",
            ["model.assigner.kind=atss"],
            ("assigner.kind atss", "what goes: max_iou, task_aligned"),
        ),
        ("retinanet_r50", ["model.quality.kind=centerness"], ("centerness", "what goes: none, iou, iou_guided, joint")),
        ("retinanet_r50", ["model.boxes.code=distances"], ("boxes.code distances", "what goes: deltas")),
        ("retinanet_r50", ["model.box_weight=centerness"], ("box_weight centerness", "what goes: score, target, none")),
        (
            "retinanet_r50",
            ["model.box_weight=target"],
            (
                "box_weight target is the target that the quality learns, and quality.kind none learns none",
                "what goes: quality.kind centerness, iou, centerness_guided, iou_guided, joint, joint_v2, varifocal",
                "or box_weight score, centerness, none",
            ),
        ),
        (
            "ssd_nano",
            ["model.box_weight=target", "model.assigner.kind=task_aligned"],
            ("box_weight target", "quality.kind softmax_mined learns none"),
        ),
        ("gfl_nano", ["model.assigner.kind=task_aligned", "model.assigner.alpha=-1"], ("model.assigner.alpha",)),
        ("gfl_nano", ["model.assigner.kind=task_aligned", "model.assigner.beta=.inf"], ("model.assigner.beta",)),
        ("gfl_nano", ["model.assigner.kind=task_aligned", "model.assigner.positives=0"], ("model.assigner.positives",)),
        ("gfl_nano", ["model.assigner.static_epochs=-1"], ("model.assigner.static_epochs",)),
        ("gfl_nano", ["model.assigner.static_epochs=0.5"], ("model.assigner.static_epochs",)),
        (
            "ssd_nano",
            ["model.quality.kind=joint_v2"],
            ("joint_v2", "what goes: none, iou, iou_guided,"),
        ),
        ("atss_r50", ["model.quality.kind=softmax_mined"], ("softmax_mined", "what goes: none, centerness, iou")),
        (
            "atss_r50",
            ["model.quality.kind=joint_v2"],
            ("joint_v2", "dirac", "what goes: boxes.kind general or general_dfl"),
        ),
        ("fcos_r50", ["model.quality.kind=joint_v2", "model.boxes.kind=gaussian"], ("joint_v2", "gaussian")),
        ("ssd_nano", ["model.head=conv"], ("head conv", "use plain or pico_se or pico or depthwise_5x5 or depthwise")),
        ("ssd_nano", ["model.points.aspects=[[2]]"], ("needs aspects for each of the 3 levels", "got 1 and 4")),
        ("ssd_nano", ["data.resize.kind=short_long"], ("data.resize.kind=square",)),
        ("picodet_s", ["data.resize.kind=short_long"], ("backbone esnet_x0_75 weighs", "data.resize.kind=square")),
        ("picodet_l_lcnet", ["data.resize.kind=short_long"], ("backbone lcnet_x2_0 and head pico_se weigh channels",)),
        ("gfl_r50", ["model.backbone=lcnet_x1_0", "model.strides=[8, 16, 32]"], ("backbone lcnet_x1_0", "square")),
        (
            "gfl_nano",
            ["model.head=pico_se", "data.resize={kind: short_long, short_side: 320, long_side: 500}"],
            ("head pico_se weighs channels",),
        ),
        ("ssd512_vgg16", ["data.resize.size=320"], ("512 pixels, not 320",)),
        ("ssd512_vgg16", ["model.neck=fpn"], ("vgg16 and neck ssd go with each other",)),
        ("ssd512_vgg16", ["model.head=depthwise"], ("use head plain",)),
        ("ssd512_vgg16", ["model.strides=[8, 16, 32]"], ("neck ssd makes the strides",)),
        ("ssd512_vgg16", ["model.frozen_stages=4"], ("vgg16 has 3 stages to freeze, not 4",)),
        ("gfl_nano", ["model.style=caffe"], ("style caffe", "shufflenet_v2_x1_0")),
        ("retinanet_r50", ["model.assigner.negative_iou=0.6"], ("negative_iou must not be over positive_iou",)),
        ("foveabox_r50", ["model.assigner.sigma=0"], ("model.assigner.sigma: input should be greater than 0",)),
        ("retinanet_r50", ["model.assigner.positive_iou=0"], ("positive_iou: input should be greater than 0",)),
        ("retinanet_r50", ["model.points.ratios=[]"], ("model.points.ratios", "at least 1 item")),
        ("ssd_nano", ["model.points.sizes=[.001, .1, .2, .4]"], ("0.001 is less than one pixel", "320 pixels")),
        ("ssd512_vgg16", ["data.resize.kind=short_long"], ("recipe ssd512_vgg16: points.kind ssd has",)),
        ("gfl_r50", ["model.strides=[2, 4]"], ("(4, 8, 16, 32), got [2, 4]",)),
    ],
)
def test_pairs_that_make_no_sense_are_refused_with_those_that_do(
    recipe: str, overrides: list[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe, overrides)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def reads() -> set[tuple[str, str]]:
    """(name before the dot, name after it) of every attribute that the package reads, recipe/ itself apart."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "recipe":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = node.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                found.add((name, node.attr))
    return found


def test_every_other_key_is_read_somewhere() -> None:
    read = reads()
    keys = [key for key in leaves(Recipe) if not key.startswith(("model.", "data.resize.", "data.range", "predict."))]
    assert len(keys) > 20
    unread = [k for k in keys if not {(name, k.split(".")[1]) for name in (k.split(".")[0], "recipe")} & read]
    assert unread == []


# --- recipes of strangers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        "model.channels=16777216", "model.head_depth=1000000", "model.boxes.reg_max=100000000",
        "model.points.scales_per_octave=1000000000", "model.points.ratios=[" + "1," * 100 + "1]",
        "data.resize.size=10000000", "data.workers=100000", "data.multi_scale=[0.1,1e12]", "data.mix=[1e15]",
        "runtime.threads=1000000000",
    ],
)  # fmt: skip
def test_values_that_no_memory_holds_are_refused(override: str) -> None:
    with pytest.raises(UsageError, match=override.partition("=")[0].replace(".", r"\.")) as error:
        load_recipe("gfl_nano", [override])
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
        "e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n",
        "model: &a [*a]",
        "model: " + "[" * 50 + "]" * 50,
        "model: " + "[" * 5000 + "]" * 5000,
        "# " + "x" * 1_000_001,
    ],
)
def test_files_that_no_recipe_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"no recipe|without end|at most 1,000,000") as error:
        load_recipe(file)
    assert len(str(error.value)) < 500
