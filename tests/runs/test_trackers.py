"""Trackers: what they hold, that a resumed run goes on with them, and that they never end a training."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.runs import trackers as module
from gfocal.training.train import train
from helpers.small_runs import EVERY_STEP, assert_same_weights, cut_run, metrics_of, small

# What their packages import says more than this project would.
pytestmark = pytest.mark.filterwarnings("ignore")


class Fake:
    """A tracker that writes down what it is told."""

    def __init__(self, fail_at: str = "") -> None:
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.fail_at = fail_at

    def _maybe(self, what: str) -> None:
        if self.fail_at == what:
            raise ConnectionError(f"no route\nto host ({what})")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._maybe("store")
        self.settings = values

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= 2:
            self._maybe("log")
        self.logged.append((step, values))

    def finish(self) -> None:
        self._maybe("finish")
        self.finished += 1


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Fake, Any]]:
    """Trackers named wandb that were started, and the run that each was asked to go on with."""
    started: list[tuple[Fake, Any]] = []

    def start(folder: Path, run: str | None, step: int) -> tuple[Fake, str]:
        if fakes_fail[0] == "start":
            raise ConnectionError("no login")
        started.append((Fake(fakes_fail[0]), run))
        return started[-1][0], run or "run-1"

    fakes_fail[0] = ""
    monkeypatch.setitem(module._STARTS, "wandb", start)
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    return started


fakes_fail = [""]


def test_numbers_and_settings(fakes: list, tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    train(small("runtime.trackers=[wandb]"), train_index, val_index, tmp_path / "run", progress=False)
    fake, run = fakes[0]
    assert run is None
    assert fake.settings["optim.lr"] == 0.001
    assert fake.settings["model.strides"] == "[8, 16, 32]"
    assert fake.settings["schedule.patience"] == "null"
    by_step = [(step, values["train/loss"]) for step, values in fake.logged if "train/loss" in values]
    assert by_step == [(line["step"], line["loss"]) for line in metrics_of(tmp_path / "run", "train")]
    val = [values["val/AP"] for _, values in fake.logged if "val/AP" in values]
    assert val == [line["AP"] for line in metrics_of(tmp_path / "run", "val")]
    assert any("epoch/truncated_share" in values for _, values in fake.logged)
    assert fake.finished == 1


def test_a_resumed_run_goes_on_with_its_tracker(fakes: list, tmp_path: Path, train_index: DataIndex) -> None:
    recipe = small(EVERY_STEP, "runtime.trackers=[wandb]")
    cut_run(recipe, train_index, tmp_path / "run", 2)
    assert json.loads((tmp_path / "run" / "trackers.json").read_text()) == {"wandb": "run-1"}
    train(recipe, train_index, None, tmp_path / "run", resume=True, progress=False)
    assert [run for _, run in fakes] == [None, "run-1"]
    assert fakes[1][0].settings == {}, "stored once"
    steps = [step for fake, _ in fakes for step, values in fake.logged if "train/loss" in values]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("when", ["start", "store", "log", "finish"])
def test_a_tracker_that_fails_never_ends_a_training(
    when: str, fakes: list, tmp_path: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes_fail[0] = when
    train(small("runtime.trackers=[wandb]"), train_index, None, tmp_path / "run", progress=False)
    fakes_fail[0] = ""
    said = capsys.readouterr().err
    assert said.count("warning: the tracker wandb failed (no ") == 1, "once"
    assert "WANDB_MODE=offline" in said
    assert "training continues without it" in said
    assert len(metrics_of(tmp_path / "run", "train")) == 6


def test_trackers_do_not_change_the_training(fakes: list, tmp_path: Path, train_index: DataIndex) -> None:
    train(small(), train_index, None, tmp_path / "plain", progress=False)
    train(small("runtime.trackers=[wandb]"), train_index, None, tmp_path / "tracked", progress=False)
    assert_same_weights(tmp_path / "plain", tmp_path / "tracked")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_told_at_the_start(
    name: str, tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"{name} is not installed: pip install 'gfocal\[{name}\]'"):
        train(small(f"runtime.trackers=[{name}]"), train_index, None, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# --- the real ones, offline -----------------------------------------------------------------------------------------


def installed(name: str) -> ModuleType:
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install 'gfocal[{name}]'")


@pytest.mark.slow
def test_mlflow(tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = installed("mlflow")
    for key in [key for key in module.os.environ if key.startswith("MLFLOW_")]:
        monkeypatch.delenv(key)
    recipe = small(EVERY_STEP, "runtime.trackers=[mlflow]")
    cut_run(recipe, train_index, tmp_path / "run", 4, val_index)
    run = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
    train(recipe, train_index, val_index, tmp_path / "run", resume=True, progress=False)
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    found = client.get_run(run)
    assert found.info.status == "FINISHED"
    assert found.data.params["optim.kind"] == "adamw"
    assert found.data.params["model.boxes.reg_max"] == "7"
    losses = {(metric.step, metric.value) for metric in client.get_metric_history(run, "train/loss")}
    assert losses == {(line["step"], line["loss"]) for line in metrics_of(tmp_path / "run", "train")}
    assert found.data.metrics["val/AP"] == metrics_of(tmp_path / "run", "val")[-1]["AP"]


@pytest.mark.slow
def test_wandb(tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = installed("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    recipe = small(EVERY_STEP, "runtime.trackers=[wandb]")
    cut_run(recipe, train_index, tmp_path / "run", 2)
    train(recipe, train_index, None, tmp_path / "run", resume=True, progress=False)
    run = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
    wandb.teardown()  # it writes in a process of its own
    kept = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb"))
    assert kept, "the run is on the disk, to be sent by `wandb sync`"
    content = b"".join(file.read_bytes() for file in kept)
    for word in (b"train/loss", b"epoch/truncated_share", b"optim.weight_decay"):
        assert word in content
