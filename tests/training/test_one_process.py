"""A run folder belongs to one process: what a training writes that lost it, or that never had it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError, message_of
from gfocal.runs.checkpoint import LAST
from gfocal.runs.folder import Run
from gfocal.training import batch_size, drawings
from gfocal.training import train as train_module
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from gfocal.utils.holders import Holder
from gfocal.utils.locks import LOCK, InUse, locked_folder
from gfocal.utils.signals import Stopped
from helpers.holding import held_by_another
from helpers.small_runs import EVERY_STEP, small, state_of


def taken_over(out: Path) -> dict[str, bytes]:
    """Another machine takes the folder over and begins to write: what lies there then."""
    (out / LOCK).write_text(json.dumps(replace(Holder.of_this_process(), host="node7", pid=5).to_dict()))
    for name in ("run.json", "metrics.jsonl", LAST):
        (out / name).write_bytes(b"of node7")
    return content(out)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def after(real: Callable[..., Any], call: int, do: Callable[[], object]) -> Callable[..., Any]:
    """``real``, and then ``do`` at one of its calls, which count from 1."""
    calls: list[int] = []

    def done(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        calls.append(1)
        if len(calls) == call:
            do()
        return result

    return done


# --- a run that lost its folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call"),
    [("optimizer_step", 2), ("optimizer_step", 3), ("optimizer_step", 6), ("evaluate", 1), ("real_precision", 1)],
)
@pytest.mark.usefixtures("drawn")
def test_a_run_that_was_taken_over_writes_nothing_more(
    name: str, call: int, tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, then = tmp_path / "run", dict[str, bytes]()
    step = after(getattr(trainer_module, name), call, lambda: then.update(taken_over(out)))
    monkeypatch.setattr(trainer_module, name, step)
    recipe = small("schedule.eval_every=2", "schedule.keep_steps=[2]")
    with pytest.raises(InUse, match=r"run was taken over by .*process 5 on node7"):
        train(recipe, train_index, val_index, out, progress=False)
    assert then
    assert content(out) == then


@pytest.mark.parametrize("drawn_first", [False, True])
@pytest.mark.usefixtures("drawn")
def test_one_that_was_taken_over_at_its_end_draws_nothing(
    drawn_first: bool, tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, then = tmp_path / "run", dict[str, bytes]()
    place, name, call = (drawings, "draw_curves", 1) if drawn_first else (Run, "save", 4)
    monkeypatch.setattr(place, name, after(getattr(place, name), call, lambda: then.update(taken_over(out))))
    if drawn_first:  # its own curves are there; the evaluation is not drawn, and the card stays the other one's
        train(small("schedule.eval_every=2"), train_index, val_index, out, progress=False)
    else:
        with pytest.raises(InUse):
            train(small("schedule.eval_every=2"), train_index, val_index, out, progress=False)
    assert then
    assert content(out) == then


@pytest.mark.usefixtures("drawn")
def test_one_that_fails_after_it_was_taken_over_leaves_no_word(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, then = tmp_path / "run", dict[str, bytes]()

    def fail() -> None:
        then.update(taken_over(out))
        raise RuntimeError("cable")

    monkeypatch.setattr(trainer_module, "optimizer_step", after(trainer_module.optimizer_step, 3, fail))
    with pytest.raises(RuntimeError, match="cable"):
        train(small(), train_index, None, out, progress=False)
    assert content(out) == then


# --- two starts -----------------------------------------------------------------------------------------------------


def test_a_second_start_measures_nothing(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "choose", lambda *args, **options: pytest.fail("it measures"))
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *args: pytest.fail("it measures"))
    out = tmp_path / "run"
    with held_by_another(locked_folder(out)):
        with pytest.raises(InUse, match="run is in use by"):
            train(small(), train_index, None, out, progress=False)
        with pytest.raises(InUse, match="run is in use by"):
            batch_size.with_batch(small(), "auto", train_index, out, resume=False)
    assert not out.exists()


def test_the_folder_is_held_from_before_what_is_measured(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, holders = train_module.choose, []

    def choose(*args: Any, **options: Any) -> Any:
        holders.append(json.loads((tmp_path / "run" / LOCK).read_text())["pid"])
        return real(*args, **options)

    monkeypatch.setattr(train_module, "choose", choose)
    train(small("schedule.epochs=1"), train_index, None, tmp_path / "run", progress=False)
    assert holders == [os.getpid()]
    assert not (tmp_path / "run" / LOCK).exists()


# --- what is recorded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["before_training", "ProgressBar", "optimizer_step"])
@pytest.mark.parametrize("stop", [Stopped(signal.SIGTERM), KeyboardInterrupt()])
def test_a_signal_that_nobody_noted_is_no_failure(
    name: str, stop: BaseException, tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: object, **options: object) -> None:
        raise stop

    monkeypatch.setattr(trainer_module, name, die)
    with pytest.raises(KeyboardInterrupt):
        train(small(), train_index, None, tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["calls"][-1]["outcome"] == "interrupted"


def test_an_error_says_that_the_steps_could_not_be_saved_either(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer_module.batches_from

    def two_steps(*args: Any, **options: Any) -> Iterator[Any]:
        batches = iter(real(*args, **options))
        yield from (next(batches) for _ in range(2))

        def refuse(*args: object) -> None:
            raise GfocalError("no room")

        monkeypatch.setattr(Run, "save", refuse)
        raise UsageError("a picture is gone")

    monkeypatch.setattr(trainer_module, "batches_from", two_steps)
    with pytest.raises(UsageError, match="a picture is gone") as caught:
        train(small(EVERY_STEP), train_index, None, tmp_path / "run", progress=False)
    expected = "a picture is gone; nor could the state of step 2 be saved: no room"
    assert message_of(caught.value) == expected
    assert state_of(tmp_path / "run")["step"] == 2, "as it was saved before"
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    assert card["calls"][-1]["outcome"] == f"failed: UsageError: {expected}"
