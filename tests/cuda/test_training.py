"""Steps, whole runs, their continuation and their measurement on a device."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gfocal.boxes import aligned_iou
from gfocal.cli.app import app
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import batches_from
from gfocal.evaluation.evaluator import evaluate
from gfocal.evaluation.positives import find_positives
from gfocal.recipe import load_recipe, recipe_names
from gfocal.runs.checkpoint import load_detector
from gfocal.runtime.layout import in_layout
from gfocal.runtime.machine import boxes_on_device, half_precision
from gfocal.training import batch_size as batch_module
from gfocal.training.batch_size import find_batch_size, largest_batch
from gfocal.training.optimizer import AveragedWeights, make_optimizer
from gfocal.training.step import make_accelerator, optimizer_step
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import EVERY_STEP, assert_same_weights, cut_run, metrics_of, small

pytestmark = pytest.mark.cuda

GB = 2**30
STEPS = 8  # the scaler of fp16 begins too high and leaves out the first ones
DYNAMIC = ("task_aligned", "dsla", "sim_ota")
SQUARE = ("data.resize.kind=square", "data.resize.size=128", "data.workers=0", "schedule.batch_size=2")
ROWS = [
    *((name, "") for name in recipe_names()),
    *(("gfl_nano", f"model.assigner.kind={kind}") for kind in DYNAMIC),
]


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_a_step(row: tuple[str, str], precision: str, device: torch.device, train_index: DataIndex) -> None:
    name, override = row
    if device.type == "cpu" and not name.endswith("_nano"):
        pytest.skip("takes a CPU minutes")
    size = ["data.resize.size=512"] if name.startswith("ssd512") else []
    start = ["model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false"]
    recipe = load_recipe(
        name, [*SQUARE, *size, *start, "runtime.precision=" + precision, *([override] * bool(override))]
    )
    accelerator = make_accelerator(precision)
    assert accelerator.device.type == device.type
    torch.manual_seed(0)
    detector = in_layout(build_detector(recipe, train_index.names, pretrained=False), "auto")
    model, optimizer = accelerator.prepare(detector, make_optimizer(detector, recipe.optim))
    average = AveragedWeights(detector, 0.9)
    before = {key: value.detach().clone() for key, value in detector.named_parameters()}
    loader = batches_from(recipe, train_index, detector.resize, 0, 6, False)
    norms = []
    for batch in islice(loader, STEPS):
        done = optimizer_step(detector, model, optimizer, accelerator, [batch], lr=1e-3, clip_norm=35)
        average.update(detector)
        assert all(torch.isfinite(torch.tensor(value)) for value in done.losses.values())
        norms.append(done.grad_norm)
    assert torch.isfinite(torch.tensor(norms[-1]))
    assert (accelerator.scaler is not None) == (precision == "fp16")
    for value in detector.parameters():
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
    moved = [key for key, value in detector.named_parameters() if not torch.equal(value, before[key])]
    assert len(moved) > len(before) / 2


@pytest.mark.parametrize("name", ["gfl_nano", "ssd_nano", "retinanet_nano"])
def test_precisions_agree(name: str, precision: str, device: torch.device, train_index: DataIndex) -> None:
    """The first step's loss is that of float32 on a CPU."""
    recipe = load_recipe(name, [*SQUARE, "model.pretrained=false", "data.flip=0", "data.photometric=0"])
    torch.manual_seed(0)
    detector = build_detector(recipe, train_index.names, pretrained=False).train()
    batch = next(iter(batches_from(recipe, train_index, detector.resize, 0, 6, False)))
    assignment = detector.assign_batch(batch.images, batch.targets, detector(batch.images))
    here = detector.losses(detector(batch.images), assignment, (128, 128))
    detector = detector.to(device)
    half = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with torch.autocast(device.type, dtype=half, enabled=precision != "fp32"):
        out = detector(batch.images.to(device))
        there = detector.losses(out, assignment.to(device), (128, 128))
    for term, value in here.items():
        assert there[term].dtype == torch.float32
        rough = 1e-3 if precision == "fp32" else 0.1
        torch.testing.assert_close(there[term].detach().cpu(), value.detach(), rtol=rough, atol=rough, msg=term)


def test_a_run_and_its_continuation(
    precision: str, device: torch.device, tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    recipe = small(f"runtime.precision={precision}", EVERY_STEP, "schedule.ema=0.9", "schedule.eval_every=2")
    whole = train(recipe, train_index, val_index, tmp_path / "whole", progress=False)
    assert whole.steps == 6
    assert whole.metrics
    cut_run(recipe, train_index, tmp_path / "cut", 4, val_index)
    rest = train(recipe, train_index, val_index, tmp_path / "cut", resume=True, progress=False)
    assert rest.steps == 6
    one, other = (metrics_of(tmp_path / name, "train") for name in ("whole", "cut"))
    assert [line["step"] for line in one] == [line["step"] for line in other] == list(range(1, 7))
    assert other[4]["loss"] == pytest.approx(one[4]["loss"], rel=0.2)
    card = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert device.type == "cpu" or torch.cuda.get_device_name() in [
        gpu["name"] for gpu in card["calls"][0]["host"]["gpus"]
    ]


def test_a_deterministic_run(device: torch.device, tmp_path: Path, train_index: DataIndex) -> None:
    """Bit for bit, cut off and resumed."""
    recipe = small("runtime.deterministic=true", EVERY_STEP, "schedule.ema=0.9", "runtime.precision=fp32")
    train(recipe, train_index, None, tmp_path / "whole", progress=False)
    cut_run(recipe, train_index, tmp_path / "cut", 4)
    train(recipe, train_index, None, tmp_path / "cut", resume=True, progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture(scope="module")
def trained(device: torch.device, tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex) -> Path:
    """A run that finds something."""
    out = tmp_path_factory.mktemp("trained") / "run"
    recipe = small("schedule.epochs=60", "schedule.save_every=1000", "optim.lr=0.005", "runtime.precision=fp32")
    train(recipe, train_index, None, out, progress=False)
    return out


@pytest.mark.timeout(120)
def test_measuring(trained: Path, precision: str, device: torch.device, train_index: DataIndex) -> None:
    detector, _, _ = load_detector(trained)
    here = evaluate(detector, train_index, workers=0)
    assert here.result.stats["AP"] > 0.01
    marked = find_positives(detector, train_index)
    detector = detector.to(device)
    there = evaluate(detector, train_index, workers=0, precision=precision)
    assert there.result.stats["AP"] == pytest.approx(here.result.stats["AP"], abs=0.01 if precision == "fp32" else 0.1)
    also = find_positives(detector, train_index, precision=precision)
    assert len(also.ious) == len(marked.ious)
    assert also.ious.mean() == pytest.approx(marked.ious.mean(), abs=0.01)


def test_prediction(trained: Path, device: torch.device, train_index: DataIndex) -> None:
    detector, _, _ = load_detector(trained)
    paths = [train_index.path(i) for i in range(4)]
    here = detector.predict(paths, score_threshold=0.1)
    there = detector.to(device).predict(paths, score_threshold=0.1)
    tiled = detector.predict(paths[0], tile=48)
    assert tiled.boxes.device.type == "cpu"
    assert sum(len(found) for found in here) > 3
    for one, other in zip(here, there, strict=True):
        assert other.boxes.device.type == "cpu"
        assert abs(len(one) - len(other)) <= 1
        near = aligned_iou(one.boxes[:, None], other.boxes).amax(1) if len(one) and len(other) else torch.ones(1)
        assert (near > 0.98).float().mean() > 0.9


@pytest.mark.parametrize("verb", ["predict", "eval"])
def test_commands(verb: str, trained: Path, device: torch.device, train_index: DataIndex, tmp_path: Path) -> None:
    last = str(trained / "last.safetensors")
    images = train_index.path(0).parent
    words = {
        "predict": ["predict", last, str(images), "--out", str(tmp_path / "found")],
        "eval": ["eval", last, "--data", str(images.parent), "--split", "train", "--json"],
    }[verb]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def test_batch_auto(device: torch.device, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "available_memory", lambda _: 2 * GB)  # several tests share the device
    found = find_batch_size(small("data.resize.size=320"), train_index, device)
    assert 1 <= found <= len(train_index)


def test_largest_batch(device: torch.device, train_index: DataIndex) -> None:
    if device.type == "cpu":
        pytest.skip("counts a CUDA device's memory")
    recipe = small("data.resize.size=320")
    detector = build_detector(recipe, train_index.names).to(device)
    limit = 2 * GB
    found = largest_batch(lambda size: batch_module.step_peak(detector, recipe, size), limit)
    assert 0.7 * limit < batch_module.step_peak(detector, recipe, found) <= limit


def test_doctor(device: torch.device) -> None:
    assert device.type in boxes_on_device()
    assert device.type in half_precision()
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
