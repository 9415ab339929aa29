"""Runs with a time budget: the schedule that was laid out is the run's, also when it goes on."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.prediction.load import load_trained
from gfocal.recipe import Recipe, build_recipe, load_recipe
from gfocal.recipe.values import with_values
from gfocal.runs.folder import SavedRun
from gfocal.training.fitting import choices
from gfocal.training.fitting.choices import Choices, chosen_before, fit_schedule
from gfocal.training.fitting.pace import Pace
from gfocal.training.train import train
from helpers.small_runs import EVERY_STEP, assert_same_weights, cut_run, metrics_of, small, state_of

OPTIONS = (
    "runtime.channels_last=true",
    "schedule.epochs=9",
    "schedule.kind=cosine",
    "schedule.final_lr=0.25",
    "optim.lr=0.02",
    EVERY_STEP,
)


def at_pace(monkeypatch: pytest.MonkeyPatch, step: float, validation: float = 0.0) -> None:
    """A machine of that pace."""
    monkeypatch.setattr(choices, "measure_pace", lambda *_, **__: Pace(step, validation, 0.0, 5))


def test_the_schedule_is_that_of_a_run_that_was_told_it(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # 0.92 of 60 s hold 7 steps of 7.5 s: 2 epochs of 3, which is all that these data give. A fifth of 6 is warm-up.
    laid_out = ("schedule.epochs=2", "schedule.epoch_steps=3", "schedule.warmup_steps=1")
    recipe = small(*OPTIONS, "schedule.minutes=1")
    told = small(*OPTIONS, *laid_out)
    with monkeypatch.context() as patch:
        at_pace(patch, 7.5)
        result = train(recipe, train_index, None, tmp_path / "budget")
    assert result.steps == 6
    assert "time budget of 1 min 0 s: measured 7.5 s a step; chosen 2 epochs of 3 steps: about 45 s" in (
        capsys.readouterr().err
    )
    train(told, train_index, None, tmp_path / "told", progress=False)
    assert_same_weights(tmp_path / "told", tmp_path / "budget")
    assert metrics_of(tmp_path / "told") == metrics_of(tmp_path / "budget")
    lr = metrics_of(tmp_path / "budget", "train")[-1]["lr"]
    assert lr == pytest.approx(0.02 * 4 / 16 * 0.25), "it has fallen to its end: of 4 images, for 16, the final share"
    kept = load_recipe(tmp_path / "budget" / "recipe.yaml")
    assert kept.schedule == told.schedule.model_copy(
        update={"eval_every": 2, "milestones": kept.schedule.milestones}
    ), "no budget, which would be laid out again"
    card = json.loads((tmp_path / "budget" / "run.json").read_text())
    assert card["recipe"]["schedule"]["minutes"] is None
    assert card["asked"] == state_of(tmp_path / "budget")["asked"]
    assert (card["asked"]["schedule.minutes"], card["asked"]["schedule.epochs"]) == (1.0, 9)
    monkeypatch.setattr(choices, "measure_pace", None)
    train(kept, train_index, None, tmp_path / "again", progress=False)
    assert_same_weights(tmp_path / "again", tmp_path / "budget")


@pytest.mark.parametrize("by", ["the same recipe", "its own recipe"])
def test_a_run_goes_on_with_what_was_laid_out(
    by: str, tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(*OPTIONS, "schedule.minutes=1", "schedule.eval_every=1")
    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        at_pace(patch, 7.0, validation=6.0)
        cut_run(recipe, train_index, out, 3, val_index)
        train(recipe, train_index, val_index, tmp_path / "whole", progress=False)
    assert state_of(out)["step"] == 3
    asked = state_of(out)["asked"]
    assert (asked["schedule.epochs"], asked["schedule.epoch_steps"], asked["schedule.warmup_steps"]) == (9, None, 2)
    # Nothing is measured again: the machine may be another one, and the rest of the schedule is the rest of the time.
    monkeypatch.setattr(choices, "measure_pace", None)
    for changed, named in (
        ("schedule.minutes=2", "schedule.minutes differ"),
        ("schedule.minutes=null", "schedule.epochs, schedule.epoch_steps, schedule.milestones, schedule.warmup_steps"),
        ("schedule.epochs=8", "schedule.epochs differ"),
        ("schedule.warmup_steps=0", "schedule.warmup_steps differ"),
    ):
        other = small(*OPTIONS, "schedule.minutes=1", "schedule.eval_every=1", changed)
        with pytest.raises(UsageError, match=rf"another recipe \({named}"):
            train(other, train_index, val_index, out, resume=True)
    if by == "its own recipe":
        recipe = load_recipe(out / "recipe.yaml")
    result = train(recipe, train_index, val_index, out, resume=True, progress=False)
    assert state_of(out)["asked"] == asked, "what was asked for when it began"
    assert result.steps == state_of(tmp_path / "whole")["step"] == 6
    assert_same_weights(tmp_path / "whole", out)
    assert metrics_of(tmp_path / "whole") == metrics_of(out)


def test_a_state_of_an_earlier_version_goes_on(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the budget in its recipe, beside what was laid out."""
    recipe = small(*OPTIONS, "schedule.minutes=1")
    at_pace(monkeypatch, 7.5)
    cut_run(recipe, train_index, tmp_path, 3)
    saved = SavedRun.load(tmp_path / "state.pt")
    asked = {key: value for key, value in saved.asked.items() if key != "schedule.minutes"}
    older = with_values(build_recipe(saved.recipe), {"schedule.minutes": 1.0})
    saved = replace(saved, recipe=older.to_dict(), asked=asked)
    assert chosen_before(recipe, saved) == Choices(older, asked)
    assert chosen_before(older, saved) == Choices(older, asked)


def test_too_little_time_leaves_nothing(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_pace(monkeypatch, 70.0)
    with pytest.raises(UsageError, match=r"schedule\.minutes is too short"):
        train(small(*OPTIONS, "schedule.minutes=1"), train_index, None, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_budget_for_real(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    started = time.perf_counter()
    train(small("schedule.minutes=0.4"), train_index, val_index, tmp_path / "run", progress=False)
    assert 10 < time.perf_counter() - started < 36, "24 s, on a machine that may be busy with other things"


# --- the demo's schedule --------------------------------------------------------------------------------------------


@pytest.fixture
def sixteen_epochs(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr("gfocal.training.fitting.memory_layout.LEAST_PIXELS", 1)
    return small("runtime.channels_last=true", "schedule.epochs=16", "schedule.kind=cosine", "schedule.eval_every=4")


@pytest.mark.parametrize(
    ("step", "steps", "planned"),
    [
        (1.0, 48, "all of the schedule, within 1 min 0 s"),
        (1.6, 33, "as fits into 1 min 0 s"),  # 55.2 s hold 34 steps: 11 epochs of 3, not 12 of 2
        (9.0, 24, "the shortest schedule, more than 1 min 0 s on this machine"),
    ],
)
def test_by_the_pace_of_the_machine(
    step: float,
    steps: int,
    planned: str,
    sixteen_epochs: Recipe,
    tmp_path: Path,
    train_index: DataIndex,
    val_index: DataIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_pace(monkeypatch, step)
    said: list[str] = []
    found = fit_schedule(sixteen_epochs, train_index, val_index, out=tmp_path, seconds=60.0, least=0.5, say=said.append)
    schedule = found.recipe.schedule
    assert schedule.epochs * (schedule.epoch_steps or 0) == steps
    assert said[-1].startswith(f"{planned}: measured")


def test_what_is_over_at_once_is_not_measured(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "measure_pace", None)
    recipe = small()
    found = fit_schedule(recipe, train_index, val_index, out=tmp_path, seconds=9.0, least=0.5, say=print)
    assert found.recipe.schedule == recipe.schedule
    assert found.recipe.runtime.channels_last is True, "nothing is left for the run to choose"
    assert found.asked == {"runtime.channels_last": "auto"}


@pytest.mark.parametrize("steps", [2, 6])
def test_weights_keep_no_layout_of_a_machine(
    steps: int, tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the schedule was fitted before, as the demo does; also when the run goes on by its own recipe."""
    monkeypatch.setattr("gfocal.training.fitting.memory_layout.LEAST_PIXELS", 1)
    monkeypatch.setattr(choices, "time_layouts", lambda *_: None)
    at_pace(monkeypatch, 9.0)
    said: list[str] = []
    recipe, out = small("schedule.epochs=4", EVERY_STEP), tmp_path / "run"
    found = fit_schedule(recipe, train_index, val_index, out=out, seconds=60.0, least=0.5, say=said.append)
    monkeypatch.setattr(choices, "choose", None)  # once is enough
    cut_run(found, train_index, out, steps, val_index) if steps < 6 else train(found, train_index, val_index, out)
    own = load_recipe(out / "recipe.yaml")
    assert (own.runtime.channels_last, own.schedule.epochs * (own.schedule.epoch_steps or 0)) == (True, 6)
    assert train(own, train_index, val_index, out, resume=True, progress=False).steps == 6
    assert load_trained(out)[1].runtime.channels_last == "auto"
