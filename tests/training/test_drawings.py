"""What a run draws of itself when it ends, and that nothing of it can end a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError
from gfocal.runs.checkpoint import STATE
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from helpers.image_files import twelve_bits
from helpers.small_runs import small

pytestmark = pytest.mark.usefixtures("drawn")
ONE_EPOCH = "schedule.epochs=1"


def test_a_finished_run_shows_its_curves_and_what_its_best_weights_find(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    out = tmp_path / "run"
    result = train(small(), train_index, val_index, out, progress=False)
    assert result.drawings == [out / "curves.png", out / "evaluation"]
    names = {file.name.partition("-")[0] for file in (out / "evaluation").iterdir()}
    assert names >= {"precision", "f1.png", "confusion.png", "evaluation.json"}
    content = json.loads((out / "evaluation" / "evaluation.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    of_best = next(line for line in lines if line["kind"] == "val" and line["epoch"] == result.best_epoch)
    assert content["best_f1"] == of_best["best_f1"]
    # Started again it has nothing to do, and what the best weights find stays.
    before = {file: file.stat().st_mtime_ns for file in (out / "evaluation").iterdir()}
    again = train(small(), train_index, val_index, out, resume=True, progress=False)
    assert again.drawings == [out / "curves.png"]
    assert before == {file: file.stat().st_mtime_ns for file in (out / "evaluation").iterdir()}


def test_images_of_16_bits_are_drawn_as_the_detector_sees_them(
    tmp_path: Path, scenes: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    folder = twelve_bits(scenes, tmp_path / "twelve")
    train(small(ONE_EPOCH), train_index, val_index, tmp_path / "eight", progress=False)
    recipe = small(ONE_EPOCH, "data.range=[0, 4095]")
    train(recipe, open_dataset(folder, "train"), open_dataset(folder, "val"), tmp_path / "sixteen", progress=False)
    one, other = (sorted((tmp_path / run / "evaluation").glob("worst-*.jpg")) for run in ("eight", "sixteen"))
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        difference = np.asarray(Image.open(a), float) - np.asarray(Image.open(b), float)
        assert np.abs(difference).mean() < 5, "not sixteen times darker"


def test_what_was_measured_before_a_run_was_resumed_is_not_drawn_and_gfocal_says_how(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small(ONE_EPOCH), train_index, val_index, tmp_path, progress=False, plots=False)
    result = train(small(ONE_EPOCH), train_index, val_index, tmp_path, resume=True, progress=True)
    assert result.drawings == [tmp_path / "curves.png"]
    said = " ".join(capsys.readouterr().err.split())
    assert "measured before the run was resumed: gfocal eval" in said


def test_without_plots_or_data_to_measure_on(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    result = train(small(ONE_EPOCH), train_index, val_index, tmp_path / "plain", progress=False, plots=False)
    assert result.drawings == []
    assert not (tmp_path / "plain" / "curves.png").exists()
    result = train(small(ONE_EPOCH), train_index, None, tmp_path / "unmeasured", progress=False)
    assert result.drawings == [tmp_path / "unmeasured" / "curves.png"]


def test_a_run_that_cannot_draw_ends_well_and_says_so(
    tmp_path: Path,
    train_index: DataIndex,
    val_index: DataIndex,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = train(small(ONE_EPOCH), train_index, val_index, tmp_path / "run", progress=True)
    assert result.outcome == "finished"
    assert result.drawings == []
    assert "not all was drawn into" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "run" / STATE).is_file()


def test_a_run_whose_loss_runs_off_shows_how(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trainer_module.optimizer_step
    calls = []

    def fails(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise trainer_module.NotFinite("the loss is not finite")
        return step(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer_module, "optimizer_step", fails)
    with pytest.raises(GfocalError, match="step 3 stopped the run"):
        train(small(), train_index, None, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "curves.png").is_file()
