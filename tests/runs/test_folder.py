"""The run folder: what may be resumed, what is refused, what is not written over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.runs.checkpoint import load_state, save_state
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from helpers.small_runs import EVERY_STEP, assert_same_weights, cut_run, metrics_of, rewritten, small, state_of


@pytest.fixture(scope="module")
def cut_once(tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("cut") / "run"
    cut_run(small(EVERY_STEP), train_index, out, 2)
    return out


@pytest.fixture
def cut(tmp_path: Path, cut_once: Path) -> Path:
    """A run of two steps of six, to do with as one likes."""
    return Path(shutil.copytree(cut_once, tmp_path / "run"))


def test_another_recipe_is_named(cut: Path, train_index: DataIndex) -> None:
    other = small("optim.lr=0.5", "schedule.epochs=3")
    with pytest.raises(UsageError, match=r"another recipe \(optim\.lr, schedule\.epochs differ\)"):
        train(other, train_index, None, cut, resume=True, progress=False)
    assert state_of(cut)["step"] == 2


def test_what_does_not_change_weights_may_differ(cut: Path, train_index: DataIndex, tmp_path: Path) -> None:
    free = small(
        "data.workers=1",
        "schedule.save_every=7",
        "schedule.keep_steps=[3]",
        "schedule.eval_every=2",
        "predict.nms_iou=0.5",
    )
    assert train(free, train_index, None, cut, resume=True, progress=False).steps == 6
    train(small(), train_index, None, tmp_path / "whole", progress=False)
    assert_same_weights(cut, tmp_path / "whole")


def test_steps_that_were_done_are_not_done_again(
    cut: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which weights alone would not show: from the same seed a run that begins anew ends with the same."""
    real, rates = trainer_module.optimizer_step, []

    def step(*args: Any, lr: float, **options: Any) -> Any:
        rates.append(lr)
        return real(*args, lr=lr, **options)

    monkeypatch.setattr(trainer_module, "optimizer_step", step)
    train(small(), train_index, None, cut, resume=True, progress=False)
    assert rates == [line["lr"] for line in metrics_of(cut, "train")][2:]
    assert len(rates) == 4


def test_other_threads_are_told(cut: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_state(cut / "state.pt")
    state["recipe"]["runtime"]["threads"] = state["environment"]["threads"] = 2
    save_state(cut / "state.pt", state)
    assert train(small(), train_index, None, cut, resume=True).steps == 6
    line = "the result will not be bit-identical to an uninterrupted run, since these changed: threads 2 -> 1"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("key", ["environment", "data", "recipe", "step", "optimizer"])
def test_a_state_that_lacks_something_is_refused(key: str, cut: Path, train_index: DataIndex) -> None:
    state = load_state(cut / "state.pt")
    del state[key]
    save_state(cut / "state.pt", state)
    before = {file.name: file.read_bytes() for file in cut.glob("*.[ps]*") if file.name != "run.json"}
    with pytest.raises(UsageError, match=rf"lacks {key}"):
        train(small(), train_index, None, cut, resume=True, progress=False)
    assert {name: (cut / name).read_bytes() for name in before} == before


def test_resume_and_init_do_not_go_together(cut: Path, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match="choose one"):
        train(small(), train_index, None, cut, resume=True, init=cut, progress=False)


def first_label(content: dict) -> None:
    content["annotations"][0]["category_id"] = content["annotations"][0]["category_id"] % 6 + 1


def first_crowd(content: dict) -> None:
    content["annotations"][0]["iscrowd"] = 1


def first_box(content: dict) -> None:
    content["annotations"][0]["bbox"][2] += 0.5


def first_name(content: dict) -> None:
    content["categories"][0]["name"] = "circle"


def first_image(content: dict) -> None:
    gone = content["images"].pop(0)["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != gone]


@pytest.mark.parametrize("change", [first_label, first_crowd, first_box, first_name, first_image])
def test_other_data_is_refused(
    change: Callable[[dict], None], cut: Path, train_index: DataIndex, tmp_path: Path
) -> None:
    other = rewritten(train_index, tmp_path / "new", change)
    with pytest.raises(UsageError, match="was trained on other data than"):
        train(small(), other, None, cut, resume=True, progress=False)
    same = rewritten(train_index, tmp_path / "new", lambda content: None)
    assert train(small(), same, None, cut, resume=True, progress=False).steps == 6


def test_nothing_to_resume(tmp_path: Path, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match=r"nothing to resume: there is no .*state\.pt; start without --resume"):
        train(small(), train_index, None, tmp_path / "run", resume=True, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_written_over(cut: Path, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match="already holds a run: continue it with --resume"):
        train(small(), train_index, None, cut, progress=False)
    (cut / "state.pt").unlink()
    with pytest.raises(UsageError, match="holds the remains of a run: choose another --out"):
        train(small(), train_index, None, cut, progress=False)
    assert len(metrics_of(cut)) == 2


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, train_index: DataIndex) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match=r"cannot create the run folder .*run: File exists"):
        train(small(), train_index, None, tmp_path / "run", progress=False)


def test_data_that_cannot_be_read_leaves_no_run(scenes: Path, tmp_path: Path, train_index: DataIndex) -> None:
    images = shutil.copytree(train_index.images_dir, tmp_path / "pictures")
    broken = replace(train_index, images_dir=images)
    for i in range(len(broken)):
        broken.path(i).write_bytes(b"no picture")
    with pytest.raises(UsageError, match="jpg"):
        train(small(), broken, None, tmp_path / "run", progress=False)
    # Repaired, the same command works.
    assert train(small(), train_index, None, tmp_path / "run", progress=False).steps == 6


def test_another_environment_is_told(cut: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_state(cut / "state.pt")
    state["environment"]["torch"] = "2.8.0"
    save_state(cut / "state.pt", state)
    train(small(), train_index, None, cut, resume=True)
    line = "the result will not be bit-identical to an uninterrupted run, since these changed: "
    assert f"{line}torch 2.8.0 -> {torch.__version__}" in capsys.readouterr().err
