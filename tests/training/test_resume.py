"""A run that was cut off anywhere and resumed ends bit for bit as one that was not."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import load_detector, load_state
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from helpers.launched import Started
from helpers.small_runs import (
    ASSISTED,
    EVERY_STEP,
    NO_BATCH_STATISTICS,
    SMALL,
    TASK_ALIGNED,
    assert_identical,
    assert_same_weights,
    cut_run,
    metrics_of,
    small,
    state_of,
)

# Six batches of two an epoch, so three steps; states between them, evaluations at epochs 2, 4 and 5.
CUT = (
    "schedule.batch_size=2",
    "schedule.accumulate=2",
    "schedule.epochs=5",
    "schedule.ema=0.9",
    "schedule.eval_every=2",
    "schedule.save_every=2",
    "schedule.keep_steps=[5, 9]",
    "data.photometric=0.7",
    "data.scale=[0.6,1.4]",
    "data.mosaic=0.5",
    "data.mosaic_until=0.8",
    "data.multi_scale=[0.5,1.5]",
    "optim.lr=0.02",
)
STEPS = 15

SCRIPT = """
import sys
from pathlib import Path
from gfocal.data.formats.open import open_dataset
from gfocal.training.train import train
from gfocal.recipe import load_recipe

data, out, resume, *overrides = sys.argv[1:]
train_index, val_index = (open_dataset(Path(data), split) for split in ("train", "val"))
recipe = load_recipe("gfl_nano", overrides)
result = train(recipe, train_index, val_index, Path(out), resume=resume == "resume")
print(f"interrupted {result.signal}" if result.interrupted else "done", result.steps)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex, val_index: DataIndex) -> Path:
    """The run that nothing interrupted; its images are read in one process."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "run"
    result = train(small(*CUT), train_index, val_index, out, progress=False)
    assert (result.steps, result.interrupted) == (STEPS, False)
    return out


def start(scenes: Path, out: Path, how: str = "new", *overrides: str) -> Started:
    """Train in a process of its own, with two workers."""
    return Started(SCRIPT, str(scenes), str(out), how, *SMALL, *CUT, "data.workers=2", *overrides)


def wait_for_step(process: Started, out: Path, step: int) -> None:
    """Return as soon as a line of that step is in the metrics."""
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").is_file() or f'"step": {step},' not in (out / "metrics.jsonl").read_text():
        if process.poll() is not None:
            raise AssertionError(f"ended before step {step}: {process.communicate()}")
        assert time.monotonic() < deadline, "no such step within two minutes"
        time.sleep(0.002)


def end(process: Started, number: int) -> tuple[str, str]:
    """Signal the process and its workers, as terminals and schedulers do, and return what it wrote."""
    (os.kill if number == signal.SIGKILL else os.killpg)(process.pid, number)
    if number == signal.SIGKILL:
        process.wait(60)
        # Its workers notice within seconds, or have already.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=60)


def assert_like(whole: Path, cut: Path) -> None:
    assert_same_weights(whole, cut)
    assert metrics_of(cut) == metrics_of(whole)
    assert [line["step"] for line in metrics_of(cut, "train")] == list(range(1, STEPS + 1))
    assert [line["epoch"] for line in metrics_of(cut, "epoch")] == [1, 2, 3, 4, 5]
    assert [line["epoch"] for line in metrics_of(cut, "val")] == [2, 4, 5]
    assert not [file.name for file in cut.iterdir() if file.name.startswith(".")], "leftovers of killed writers"
    for file in ("best.safetensors", "last.safetensors", "step-5.safetensors", "step-9.safetensors"):
        assert_identical(*(load_file(out / file) for out in (whole, cut)), file)


@pytest.mark.slow
def test_killed_twice(whole: Path, scenes: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    out = tmp_path / "run"
    draw = random.Random()
    saved = 0
    for how, low, high in (("new", 1, 7), ("resume", 8, 14)):
        process = start(scenes, out, how)
        wait_for_step(process, out, draw.randint(low, high))
        time.sleep(draw.random() * 0.05)
        _, errors = end(process, signal.SIGKILL)
        state = load_state(out / "state.pt")
        assert state["step"] >= saved, errors
        saved = state["step"]
    (out / ".state.pt.killed00").write_bytes(b"what a killed writer left")
    result = train(small(*CUT, "data.workers=2"), train_index, val_index, out, resume=True, progress=False)
    assert (result.steps, result.interrupted) == (STEPS, False)
    assert_like(whole, out)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4, 100])
def test_killed_again_and_again(every: int, whole: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    draw = random.Random(every)
    for _ in range(8):
        how = "resume" if (out / "state.pt").exists() else "new"
        process = start(scenes, out, how, f"schedule.save_every={every}")
        done = load_state(out / "state.pt")["step"] if how == "resume" else 0
        if done >= STEPS - 1:
            process.communicate(timeout=120)
            break
        wait_for_step(process, out, draw.randint(done + 1, min(done + 4, STEPS - 1)))
        time.sleep(draw.random() * 0.2)
        end(process, signal.SIGKILL)
    process = start(scenes, out, "resume", f"schedule.save_every={every}")
    output, errors = process.communicate(timeout=120)
    assert output == f"done {STEPS}\n", errors
    assert_like(whole, out)


@pytest.mark.slow
def test_twenty_kills(scenes: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    """At random moments, every other one while a state is being written: all 20 resume, and nothing is lost."""
    longer = ("schedule.epochs=40", "schedule.eval_every=7", "schedule.save_every=1")
    out, draw, saved, writing = tmp_path / "run", random.Random(), 0, 0
    for turn in range(20):
        process = start(scenes, out, "resume" if turn else "new", *longer)
        wait_for_step(process, out, saved + draw.randint(1, 3))
        deadline = time.monotonic() + (5 if turn % 2 else draw.random() * 0.5)
        while time.monotonic() < deadline and not (turn % 2 and list(out.glob(".state.pt.*"))):
            pass
        _, errors = end(process, signal.SIGKILL)
        writing += bool(list(out.glob(".state.pt.*")))
        step = load_state(out / "state.pt")["step"]
        assert step >= saved, errors
        saved = step
    assert writing >= 5, "the drill met too few half-written states"
    train(small(*CUT, *longer), train_index, val_index, out, resume=True, progress=False)
    train(small(*CUT, *longer), train_index, val_index, tmp_path / "whole", progress=False)
    assert_same_weights(tmp_path / "whole", out)
    assert metrics_of(out) == metrics_of(tmp_path / "whole")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGHUP))],
    ids=lambda n: n.name,
)
def test_asked_to_end(
    number: signal.Signals, whole: Path, scenes: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    out = tmp_path / "run"
    # States would be far apart: the signal itself must save one.
    process = start(scenes, out, "new", "schedule.save_every=100")
    wait_for_step(process, out, 4)
    output, errors = end(process, number)
    assert process.returncode == 0, errors
    verdict, by, steps = output.split()
    assert (verdict, int(by)) == ("interrupted", number)
    assert 4 <= int(steps) < STEPS
    assert state_of(out)["step"] == int(steps)
    assert errors.count("stopping after this step or evaluation") == 1
    assert "Traceback" not in errors
    assert load_detector(out / "last.safetensors")[2].notes["step"] == int(steps), "weights to look at"
    train(small(*CUT), train_index, val_index, out, resume=True, progress=False)
    assert_like(whole, out)


@pytest.mark.parametrize("steps", [0, 4])
def test_cut_anywhere(steps: int, tmp_path: Path, train_index: DataIndex) -> None:
    # SGD, no averaging, rare states: after step 0 (with the first batch) and at the ends of epochs of three steps.
    recipe = small("optim.kind=sgd", "optim.lr=0.05", "schedule.save_every=100", name="gfl_nano")
    train(recipe, train_index, None, tmp_path / "whole", progress=False)
    cut_run(recipe, train_index, tmp_path / "cut", steps)
    assert state_of(tmp_path / "cut")["step"] == steps // 3 * 3
    result = train(recipe, train_index, None, tmp_path / "cut", resume=True, progress=False)
    assert result.steps == 6
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("epoch", "when"),
    [
        (2, "before"),
        pytest.param(2, "after", marks=pytest.mark.slow),
        pytest.param(5, "before", marks=pytest.mark.slow),
        (5, "after"),
    ],
)
def test_cut_in_an_evaluation(
    epoch: int, when: str, whole: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    out = tmp_path / "run"

    def die(*args: object, **options: object) -> object:
        raise RuntimeError("power cut")

    with pytest.MonkeyPatch.context() as patch:
        measure, write = trainer_module.evaluate, trainer_module.Trainer._save_weights
        # Before anything is measured, or when that is in the metrics already but not in the state.
        if when == "before":
            patch.setattr(
                trainer_module, "evaluate", lambda d, *a, **o: (die if trainer_at(out) else measure)(d, *a, **o)
            )
        else:
            patch.setattr(
                trainer_module.Trainer, "_save_weights", lambda t, f: (die if t.epoch == epoch else write)(t, f)
            )

        def trainer_at(folder: Path) -> bool:
            return bool(state_of(folder)["step"] == 3 * epoch)

        with pytest.raises(RuntimeError, match="power cut"):
            train(small(*CUT), train_index, val_index, out, progress=False)
    assert state_of(out)["step"] == 3 * epoch, "the steps are kept"
    result = train(small(*CUT), train_index, val_index, out, resume=True, progress=False)
    assert (result.steps, result.metrics["num_images"]) == (STEPS, 4)
    assert_like(whole, out)


def test_a_finished_run_has_nothing_to_do(
    whole: Path, tmp_path: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    result = train(small(*CUT), train_index, val_index, out, resume=True, progress=False)
    assert (result.steps, result.interrupted, result.images_per_second) == (STEPS, False, 0.0)
    assert result.metrics["num_images"] == 4
    assert result.best_ap == state_of(whole)["best_ap"]
    assert_like(whole, out)


def test_a_line_that_a_kill_cut_off_goes(tmp_path: Path, train_index: DataIndex) -> None:
    out = tmp_path / "run"
    cut_run(small(EVERY_STEP), train_index, out, 2)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 3, "loss": 1.0}\n{"kind": "train", "st')
    train(small(), train_index, None, out, resume=True, progress=False)
    lines = metrics_of(out, "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[2]["loss"] != 1.0


# --- an assigner that looks at predictions from the second epoch on -------------------------------------------------


def aligned(*overrides: str) -> Recipe:
    """Two epochs of three steps of two batches, on a tiny network whose batch norm learns."""
    changes = (TASK_ALIGNED, "model.box_weight=target", "model.norm_eval=false", EVERY_STEP, "schedule.epochs=2")
    split = ("schedule.batch_size=2", "schedule.accumulate=2")
    return small(*NO_BATCH_STATISTICS, *changes, *split, "model.assigner.static_epochs=1", *overrides, name="gfl_r18")


@pytest.fixture(scope="module")
def switching(tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex) -> Path:
    """A run whose first epoch has a static assigner; nothing interrupted it."""
    out = tmp_path_factory.mktemp("switching") / "run"
    train(aligned(), train_index, None, out, progress=False)
    return out


def test_predictions_count_from_the_epoch_that_the_recipe_says(
    switching: Path, tmp_path: Path, train_index: DataIndex
) -> None:
    # In the static epoch it is the run of that assigner, bit for bit; from the next one on, no step is.
    found = metrics_of(switching, "train")
    for epochs, more, same in ((2, ("model.assigner.kind=atss",), 3), (1, ("model.assigner.static_epochs=0",), 0)):
        out = tmp_path / str(same)
        train(aligned(f"schedule.epochs={epochs}", *more), train_index, None, out, progress=False)
        other = metrics_of(out, "train")
        assert len(other) == 3 * epochs
        assert [a["loss"] == b["loss"] for a, b in zip(found, other, strict=False)] == [True] * same + [False] * 3


@pytest.mark.parametrize("steps", [2, 3, pytest.param(4, marks=pytest.mark.slow), 5])
def test_cut_before_and_after_predictions_count(
    steps: int, switching: Path, tmp_path: Path, train_index: DataIndex
) -> None:
    recipe = aligned()
    cut_run(recipe, train_index, tmp_path / "cut", steps)
    assert state_of(tmp_path / "cut")["step"] == steps
    train(recipe, train_index, None, tmp_path / "cut", resume=True, progress=False)
    assert_same_weights(switching, tmp_path / "cut")
    assert metrics_of(tmp_path / "cut") == metrics_of(switching)


# --- an assistant that decides what is learnt -----------------------------------------------------------------------


def assisted(*overrides: str) -> Recipe:
    """Two epochs of three steps of two batches; in the second the assistant is detached."""
    split = ("schedule.batch_size=2", "schedule.accumulate=2", "schedule.epochs=2", "schedule.ema=0.9", EVERY_STEP)
    return small(*ASSISTED, *split, "model.assistant.detach_after=1", *overrides)


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex) -> Path:
    """A run with an assistant; nothing interrupted it."""
    out = tmp_path_factory.mktemp("led") / "run"
    train(assisted(), train_index, None, out, progress=False)
    return out


@pytest.mark.parametrize("steps", [2, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_cut_before_and_after_the_assistant_is_detached(
    steps: int, led: Path, tmp_path: Path, train_index: DataIndex
) -> None:
    cut_run(assisted(), train_index, tmp_path / "cut", steps)
    assert state_of(tmp_path / "cut")["step"] == steps
    train(assisted(), train_index, None, tmp_path / "cut", resume=True, progress=False)
    assert_same_weights(led, tmp_path / "cut")
    assert metrics_of(tmp_path / "cut") == metrics_of(led)


def test_the_epoch_decides_what_the_assistant_teaches(led: Path, tmp_path: Path, train_index: DataIndex) -> None:
    train(assisted("model.assistant.detach_after=9"), train_index, None, tmp_path / "run", progress=False)
    found, other = (metrics_of(out, "train") for out in (led, tmp_path / "run"))
    assert {"assistant_cls", "assistant_box", "assistant_dfl"} <= found[0].keys()
    # Losses are those before a step: the fourth step is the first that is taken otherwise.
    assert [a["loss"] == b["loss"] for a, b in zip(found, other, strict=True)] == [True] * 4 + [False] * 2
    assert [a["grad_norm"] == b["grad_norm"] for a, b in zip(found, other, strict=True)] == [True] * 3 + [False] * 3


def test_what_a_run_leaves_has_no_assistant(led: Path, tmp_path: Path, train_index: DataIndex) -> None:
    detector, recipe, _ = load_detector(led)
    assert detector.assistant is None
    assert recipe.model.assistant.kind == "agm"
    weights = load_file(led / "last.safetensors")
    assert weights.keys() == detector.state_dict().keys() == state_of(led)["average"]["state"].keys()
    # Another run begins with them: its assistant has the neck that was learnt, and a new head.
    result = train(
        assisted("optim.lr=1e-12", "schedule.epochs=1"), train_index, None, tmp_path / "next", init=led, progress=False
    )
    assert result.steps == 3
    necks = [name for name, value in weights.items() if name.startswith("neck.") and value.ndim > 1]
    assert necks
    after = state_of(tmp_path / "next")["assistant"]
    for name in necks:
        torch.testing.assert_close(after[name], weights[name], rtol=1e-6, atol=1e-6)


def test_an_assistant_that_is_not_finite_is_not_resumed(led: Path, tmp_path: Path, train_index: DataIndex) -> None:
    out = shutil.copytree(led, tmp_path / "run")
    state = state_of(out)
    state["assistant"]["head.class_out.bias"][0] = math.nan
    torch.save(state, out / "state.pt")
    with pytest.raises(UsageError, match=r"infinite or not a number: 1 of 6 in assistant\.head\.class_out\.bias"):
        train(assisted(), train_index, None, out, resume=True, progress=False)


# --- steps that cannot be taken -------------------------------------------------------------------------------------


def test_a_poisoned_step_keeps_the_last_good_state(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(EVERY_STEP, "schedule.ema=0.9")
    train(recipe, train_index, None, tmp_path / "whole", progress=False)
    real, done = trainer_module.optimizer_step, []

    def poison(detector: torch.nn.Module, *args: object, **options: object) -> object:
        if len(done) == 4:
            with torch.no_grad():
                next(detector.parameters()).fill_(np.nan)
        done.append(1)
        return real(detector, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "optimizer_step", poison)
        with pytest.raises(GfocalError, match="step 5 stopped the run: the loss is not finite: loss terms cls nan"):
            train(recipe, train_index, None, tmp_path / "cut", progress=False)
    assert state_of(tmp_path / "cut")["step"] == 4
    train(recipe, train_index, None, tmp_path / "cut", resume=True, progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
