"""Training from weights made for inference: batch norms get statistics first, all outputs stay, and the run says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.images.io import read_image
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import load_detector, save_detector
from gfocal.runtime.norm_statistics import norms_without_statistics
from gfocal.training import norm_statistics, trainer
from gfocal.training.lr_finder import find_lr
from gfocal.training.norm_statistics import complete_norms
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import ASSISTED, assert_same_weights, cut_run, small, state_of

CPU = torch.device("cpu")
STEPS = ("schedule.epochs=1", "schedule.batch_size=4")


def norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose batch norms are identities and a bias."""
    return folded_in(tmp_path_factory.mktemp("folded"), small())


def folded_in(folder: Path, recipe: Recipe) -> Path:
    torch.manual_seed(3)
    detector = build_detector(recipe, ("cat", "dog"), pretrained=False)
    for norm in norms_of(detector):
        norm.bias.data.uniform_(-1, 1)
        norm.weight.data.uniform_(0.2, 0.6)
    assert len(norms_without_statistics(detector)) == len(norms_of(detector)) > 5
    path = folder / "best.safetensors"
    save_detector(path, detector.state_dict(), recipe, ("cat", "dog"))
    return path


def outputs(detector: DenseDetector, index: DataIndex) -> Tensor:
    images = torch.stack([detector.resize(read_image(index.path(i))) for i in range(4)])
    with torch.no_grad():
        out = detector.eval()(images)
    return torch.cat((out.class_logits, out.box), -1)


def test_outputs_stay_and_training_can_normalise(folded: Path, train_index: DataIndex) -> None:
    own, _, _ = load_detector(folded)
    wanted = outputs(own, train_index)
    done = complete_norms(own, small(*STEPS), train_index, CPU, skip_broken=False)
    assert done is not None
    assert (done.norms, done.images) == (len(norms_of(own)), 12)  # an epoch
    assert norms_without_statistics(own) == []
    torch.testing.assert_close(outputs(own, train_index), wanted, rtol=1e-4, atol=1e-4)
    assert float(wanted.std()) > 0.01
    assert complete_norms(own, small(*STEPS), train_index, CPU, skip_broken=False) is None


def test_as_many_images_as_it_takes(folded: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole batches, whatever an epoch's steps are."""
    monkeypatch.setattr(norm_statistics, "IMAGES", 5)
    own, _, _ = load_detector(folded)
    recipe = small(*STEPS, "schedule.epoch_steps=1", "schedule.accumulate=3")
    done = complete_norms(own, recipe, train_index, CPU, skip_broken=False)
    assert done is not None
    assert done.images == 8


@pytest.mark.parametrize("overrides", [("model.norm_eval=true",), ("model.frozen=[backbone]",)])
def test_norms_that_keep_their_statistics_are_left_alone(
    folded: Path, train_index: DataIndex, overrides: tuple[str, ...]
) -> None:
    weights, recipe = load_detector(folded)[0].state_dict(), small(*STEPS, *overrides)
    own = build_detector(recipe, ("cat", "dog"), pretrained=False)
    own.load_state_dict(weights)
    others = [norm for name, norm in own.named_modules() if norm in norms_of(own) and "backbone" not in name]
    done = complete_norms(own, recipe, train_index, CPU, skip_broken=False)
    assert (0 if done is None else done.norms) == len(others)
    backbone = {name: value for name, value in own.state_dict().items() if name.startswith("backbone.")}
    assert all(torch.equal(value, weights[name]) for name, value in backbone.items())
    assert any(name.endswith("running_mean") for name in backbone)


def test_new_weights_are_no_folded_ones(train_index: DataIndex) -> None:
    own = build_detector(small(*STEPS), ("cat", "dog"), pretrained=False)
    assert complete_norms(own, small(*STEPS), train_index, CPU, skip_broken=False) is None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[DenseDetector]:
    """The detectors that trainings begin with, copied."""
    found: list[DenseDetector] = []
    real = trainer.Trainer.run_all

    def run_all(self: trainer.Trainer, **options: Any) -> Any:
        copy = build_detector(self.recipe, self.detector.names, pretrained=False)
        copy.load_state_dict(self.detector.state_dict())
        found.append(copy)
        return real(self, **options)

    monkeypatch.setattr(trainer.Trainer, "run_all", run_all)
    return found


def test_a_run_begins_with_the_same_function_and_says_so(
    folded: Path,
    tmp_path: Path,
    train_index: DataIndex,
    started: list[DenseDetector],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(small(*STEPS), train_index, None, tmp_path / "run", init=folded, progress=True)
    (own,) = started
    assert norms_without_statistics(own) == []
    theirs = load_detector(folded)[0]
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():  # class outputs are of other classes
        torch.testing.assert_close(own.eval()(images).box, theirs(images).box, rtol=1e-4, atol=1e-4)
    count = len(norms_of(own))
    line = (
        f"init: {count} batch norms of the weights had no statistics, as in files made for inference: measured on 12 "
        "training pictures, which leaves all outputs as they were"
    )
    assert line in capsys.readouterr().err
    assert json.loads((tmp_path / "run/run.json").read_text())["init"]["norm_statistics"] == {
        "norms": count,
        "images": 12,
    }


def test_a_run_from_trained_weights_measures_nothing(
    folded: Path, tmp_path: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small(*STEPS), train_index, None, tmp_path / "a", init=folded, progress=False)
    train(small(*STEPS), train_index, None, tmp_path / "b", init=tmp_path / "a", progress=True)
    assert "statistics" not in capsys.readouterr().err
    assert json.loads((tmp_path / "b/run.json").read_text())["init"]["norm_statistics"] is None


def test_resumed_runs_end_alike(folded: Path, tmp_path: Path, train_index: DataIndex) -> None:
    recipe = small(*STEPS)
    train(recipe, train_index, None, tmp_path / "whole", init=folded, progress=False)
    cut_run(recipe, train_index, tmp_path / "cut", 2, init=folded)
    train(recipe, train_index, None, tmp_path / "cut", init=folded, resume=True, progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_sweep_begins_with_what_a_run_begins_with(
    folded: Path, tmp_path: Path, train_index: DataIndex, started: list[DenseDetector]
) -> None:
    recipe = small(*STEPS, "optim.lr=1e-9", "schedule.warmup_steps=0")
    train(recipe, train_index, None, tmp_path / "run", init=folded, progress=False)
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    sweep = find_lr(recipe, train_index, steps=10, low=1e-12, high=1e-11, init=folded)
    assert sweep.losses[0] == pytest.approx(first["loss"], rel=1e-5)


def test_the_neck_of_an_assistant_is_copied_with_its_statistics(tmp_path: Path, train_index: DataIndex) -> None:
    recipe = small(*STEPS, *ASSISTED, "model.neck=ghost_pan")
    init = folded_in(tmp_path, recipe)
    cut_run(recipe, train_index, tmp_path / "run", 0, init=init)
    state = state_of(tmp_path / "run")
    own = {name.removeprefix("neck."): v for name, v in state["model"].items() if name.startswith("neck.")}
    assert all(bool((v - 1).abs().max() > 0.01) for name, v in own.items() if name.endswith("running_var"))
    assert all(torch.equal(state["assistant"][f"neck.{name}"], value) for name, value in own.items())
