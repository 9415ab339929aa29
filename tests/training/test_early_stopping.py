"""A run ends when its AP has not risen for some epochs, and a resumed one ends at the same place."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.runs.checkpoint import BEST, load_detector
from gfocal.training import trainer as trainer_module
from gfocal.training.early_stopping import Best
from gfocal.training.train import train
from gfocal.training.trainer import TrainResult
from helpers.small_runs import assert_identical, assert_same_weights, cut_run, metrics_of, rewritten, small, state_of

APS = (0.0, 0.1, 0.3, 0.3, 0.2, 0.25, 0.5, 0.6)
LONG = (
    "schedule.epochs=8",
    "schedule.eval_every=1",
    "schedule.save_every=2",
    "schedule.ema=0.9",
    "schedule.patience=2",
)


def measure(patch: pytest.MonkeyPatch, aps: Sequence[float | None]) -> None:
    """Set the AP of each epoch; the rest of the evaluation is real."""
    real, keep = trainer_module.evaluate, trainer_module.Trainer._evaluate
    epochs: list[int] = []

    def evaluate(detector: object, *args: object, **options: object) -> object:
        found = real(detector, *args, **options)
        stats = {**found.result.stats, "AP": aps[epochs[-1] - 1]}
        return replace(found, result=replace(found.result, stats=stats))

    def remember(trainer: trainer_module.Trainer, bar: object) -> None:
        epochs.append(trainer.epoch)
        keep(trainer, bar)

    patch.setattr(trainer_module, "evaluate", evaluate)
    patch.setattr(trainer_module.Trainer, "_evaluate", remember)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measure(monkeypatch, APS)


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex, val_index: DataIndex
) -> tuple[TrainResult, str]:
    """A run that stopped after its fifth epoch, and what it said."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        measure(patch, APS)
        result = train(small(*LONG), train_index, val_index, out)
    return result, said.getvalue()


@pytest.fixture
def whole(stopped: tuple[TrainResult, str]) -> Path:
    return stopped[0].out


def test_the_rule() -> None:
    best = Best()
    said = [(best.take(ap, epoch), best.is_stale(2, epoch)) for epoch, ap in enumerate(APS, 1)]
    # AP 0 is better than nothing; an equal AP is no better; two epochs after epoch 3 nothing better has come.
    assert [taken for taken, _ in said] == [True, True, True, False, False, False, True, True]
    assert [stale for _, stale in said] == [False, False, False, False, True, True, False, False]
    assert not Best(0.3, 1).is_stale(None, 100)
    assert not Best(0.0, 1).is_stale(2, 100), "what finds nothing yet has not begun"
    assert not Best().is_stale(2, 100)
    assert not best.take(None, 9)


def test_a_run_stops_and_keeps_the_best(
    measured: None,
    stopped: tuple[TrainResult, str],
    tmp_path: Path,
    train_index: DataIndex,
    val_index: DataIndex,
) -> None:
    result, said = stopped
    assert (result.steps, result.stopped_early, result.interrupted) == (15, True, False)
    assert (result.best_ap, result.best_epoch) == (0.3, 3)
    assert load_detector(result.out)[2].notes["epoch"] == 3
    assert (
        "stopped early after epoch 5: no better AP for 2 epochs (schedule.patience=2); best was epoch 3 with AP 0.300"
    ) in said
    assert metrics_of(result.out)[-1] == {
        "kind": "stop",
        "step": 15,
        "epoch": 5,
        "patience": 2,
        "best_ap": 0.3,
        "best_epoch": 3,
    }
    # Without patience the same run is longer, and the same as far as it goes.
    endless = small(*LONG, "schedule.patience=null")
    longer = train(endless, train_index, val_index, tmp_path / "whole", progress=False)
    assert (longer.steps, longer.stopped_early, longer.best_epoch) == (24, False, 8)
    steps = metrics_of(result.out)[:-1]
    assert metrics_of(tmp_path / "whole")[: len(steps)] == steps


@pytest.mark.parametrize("steps", [pytest.param(12, marks=pytest.mark.slow), 14])
def test_a_resumed_run_stops_at_the_same_place(
    steps: int, measured: None, whole: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    cut_run(small(*LONG), train_index, tmp_path / "cut", steps, val_index)
    result = train(small(*LONG), train_index, val_index, tmp_path / "cut", resume=True, progress=False)
    assert (result.steps, result.stopped_early, result.best_epoch) == (15, True, 3)
    assert_same_weights(whole, tmp_path / "cut")
    assert metrics_of(whole) == metrics_of(tmp_path / "cut")
    assert_identical(*(load_file(run / BEST) for run in (whole, tmp_path / "cut")), BEST)


def test_a_stopped_run_can_go_on(
    measured: None, whole: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    again = train(small(*LONG), train_index, val_index, tmp_path / "run", resume=True, progress=False)
    assert (again.steps, again.stopped_early) == (15, True)
    assert len(metrics_of(tmp_path / "run", "stop")) == 1
    more = small(*LONG, "schedule.patience=4")
    result = train(more, train_index, val_index, tmp_path / "run", resume=True, progress=False)
    assert (result.steps, result.stopped_early, result.best_epoch) == (24, False, 8)
    assert metrics_of(tmp_path / "run", "stop") == []


def test_the_last_epoch_is_no_early_stop(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(monkeypatch, (0.3, 0.2))
    short = small(*LONG, "schedule.epochs=2", "schedule.patience=1")
    result = train(short, train_index, val_index, tmp_path / "run", progress=False)
    assert (result.steps, result.stopped_early) == (6, False)
    assert state_of(tmp_path / "run")["best_epoch"] == 1


def test_patience_needs_something_to_measure(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    with pytest.raises(UsageError, match=r"patience=2 stops .* but there are none: give some with --val"):
        train(small(*LONG), train_index, None, tmp_path / "run", progress=False)
    empty = rewritten(val_index, tmp_path, lambda content: content.update(annotations=[]))
    assert np.size(empty.labels) == 0
    with pytest.raises(UsageError, match="holds no object"):
        train(small(*LONG), train_index, empty, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
