"""Measuring how fast a machine is leaves everything as it was."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.runtime.distributed import ALONE
from gfocal.training.fitting import pace as pace_module
from gfocal.training.fitting.pace import measure_pace
from gfocal.zoo import build_detector
from helpers.small_runs import assert_identical, small


@pytest.mark.parametrize("workers", [0, 1])
def test_measuring_leaves_no_trace(workers: int, tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    recipe = small(f"data.workers={workers}", "schedule.ema=0.9", "data.scale=[0.6,1.4]", "schedule.accumulate=2")
    detector = build_detector(recipe, train_index.names, pretrained=False).eval()
    before, random = copy.deepcopy(dict(detector.state_dict())), torch.get_rng_state()
    found = measure_pace(
        recipe, detector, train_index, val_index, out=tmp_path / "not" / "there", limit=60.0, processes=ALONE
    )
    # One step for kernels, and those whose images a worker reads ahead: two batches of it are a step here.
    assert found.steps == 10 + 1 + workers
    assert all(0 < seconds < 60 for seconds in (found.step, found.validation, found.saving))
    assert_identical(dict(detector.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert not detector.training
    assert list(tmp_path.iterdir()) == [], "neither a state nor a folder stays"


def test_no_longer_than_the_limit(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    real = pace_module.evaluate

    def counting(*args: object, **options: object) -> object:
        measured.append(len(args[1]))  # type: ignore[arg-type]
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pace_module, "evaluate", counting)
    recipe = small("schedule.batch_size=2")
    detector = build_detector(recipe, train_index.names, pretrained=False)
    found = measure_pace(recipe, detector, train_index, val_index, out=tmp_path, limit=0.0, processes=ALONE)
    assert found.steps == 3
    assert measured == [2, 4], "a part of the validation, then all four images"
    assert measure_pace(recipe, detector, train_index, None, out=tmp_path, limit=0.0, processes=ALONE).validation == 0


def test_a_folder_that_cannot_be_written_is_said_by_the_run_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert math.isfinite(pace_module._saving({"step": 0}, tmp_path / "file" / "run"))
