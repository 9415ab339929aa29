"""The run folder: what may be resumed, what is refused, what is not written over."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.runs.checkpoint import load_detector, load_state, read_about, save_state
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from helpers.small_runs import (
    EVERY_STEP,
    assert_identical,
    assert_same_weights,
    cut_run,
    metrics_of,
    rewritten,
    small,
    state_of,
)


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


def test_the_command_that_is_repeated_may_have_init(
    tmp_path: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the run's own weights that count: those that it began with may be gone."""
    out, whole, weights = tmp_path / "run", tmp_path / "whole", tmp_path / "first" / "last.safetensors"
    train(small("schedule.epochs=1", "runtime.seed=5"), train_index, None, weights.parent, progress=False)
    train(small(), train_index, None, whole, init=weights, progress=False)
    cut_run(small(EVERY_STEP), train_index, out, 2, init=weights)
    weights.unlink()
    train(small(), train_index, None, out, resume=True, init=weights)
    assert f"init: {out} continues with its own weights; it began with {weights}" in capsys.readouterr().err
    assert_same_weights(out, whole)
    with pytest.raises(UsageError, match=re.escape(f"began with --init {weights}, and --resume continues")):
        train(small(), train_index, None, out, resume=True, init=tmp_path / "elsewhere", progress=False)
    with pytest.raises(UsageError, match="leave --init out"):
        train(small(), train_index, None, out, resume=True, init=weights, init_parts=["backbone"], progress=False)


def test_init_where_the_run_began_without(cut: Path, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match="began with no --init, and --resume continues with its own weights: leave"):
        train(small(), train_index, None, cut, resume=True, init=cut, progress=False)
    (cut / "run.json").write_text("damaged")  # nobody knows: it may well be the command that is repeated
    assert train(small(), train_index, None, cut, resume=True, init=cut, progress=False).steps == 6


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
    with pytest.raises(
        UsageError,
        match=r"cannot write .*run: File exists; a file, or something else that is no folder",
    ):
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


# --- other data to measure on -----------------------------------------------------------------------------------------


LEARNING = ("optim.lr=0.02", "schedule.eval_every=1")


@pytest.fixture(scope="module")
def measured_once(tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex, val_index: DataIndex) -> Path:
    """Cut off in the second epoch of two, each of three steps, with a measured first one."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("measured") / "run"
    cut_run(small(EVERY_STEP, *LEARNING), train_index, out, 4, val_index)
    return out


@pytest.fixture
def measured(tmp_path: Path, measured_once: Path) -> Path:
    """With a best AP that nothing reaches."""
    out = Path(shutil.copytree(measured_once, tmp_path / "run"))
    state = load_state(out / "state.pt")
    state["best_ap"], state["best_epoch"] = 0.9, 1
    save_state(out / "state.pt", state)
    (out / "best.safetensors").write_bytes(b"the best of the old data")
    return out


def marks(out: Path) -> list[dict[str, Any]]:
    return metrics_of(out, "val_data")


def test_the_best_starts_again_on_other_validation_data(
    measured: Path, train_index: DataIndex, val_index: DataIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, before = small(*LEARNING), metrics_of(measured, "val")
    other = rewritten(val_index, tmp_path / "val", first_image)
    result = train(recipe, train_index, other, measured, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"warning: from step 4 on the run is measured on other data ({val_index.annotations} before, now "
        f"{other.annotations}): AP before and after are of different pictures or boxes, so the best AP starts again; "
        f"the best weights until here are {measured / 'best-until-step-4.safetensors'}"
    ) in said
    assert (measured / "best-until-step-4.safetensors").read_bytes() == b"the best of the old data"
    assert load_detector(measured)[2].notes["epoch"] == 2
    assert (result.best_ap, result.best_epoch) == (result.metrics["AP"], 2)
    before_and_now = {"before": str(val_index.annotations), "now": str(other.annotations)}
    assert marks(measured) == [{"kind": "val_data", "step": 4, **before_and_now}]
    assert metrics_of(measured, "val")[0] == before[0], "what was measured stays"
    assert [line["num_images"] for line in metrics_of(measured, "val")] == [4, 3]
    card = json.loads((measured / "run.json").read_text())
    assert card["val"]["annotations"] == str(other.annotations)
    assert [call.get("val_before", {}).get("annotations") for call in card["calls"]] == [
        None,
        str(val_index.annotations),
    ]
    assert state_of(measured)["val"] == card["val"]
    # Weights do not depend on what measures them.
    train(recipe, train_index, None, tmp_path / "whole", progress=False)
    assert_identical(state_of(measured)["model"], state_of(tmp_path / "whole")["model"])
    # The run is finished; on the first data its weights are measured again.
    again = train(recipe, train_index, val_index, measured, resume=True, progress=False)
    assert [line["num_images"] for line in metrics_of(measured, "val")] == [4, 3, 4]
    assert [mark["step"] for mark in marks(measured)] == [4, 6]
    assert (again.steps, again.best_ap, again.best_epoch) == (6, again.metrics["AP"], 2)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("max_detections=1", "max_detections 100 -> 1"),
        pytest.param("class_agnostic=true", "class_agnostic False -> True", marks=pytest.mark.slow),
        pytest.param("score_threshold=0.2", "score_threshold 0.05 -> 0.2", marks=pytest.mark.slow),
        ("nms_iou=0.3", "nms_iou 0.6 -> 0.3"),
    ],
)
def test_the_best_starts_again_by_other_settings(
    setting: str,
    said: str,
    measured: Path,
    train_index: DataIndex,
    val_index: DataIndex,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Without data to measure on nothing is compared, then or later.
    recipe = small(*LEARNING, f"predict.{setting}")
    cut_run(small(EVERY_STEP, *LEARNING, f"predict.{setting}"), train_index, measured, 1, resume=True)
    assert marks(measured) == []
    result = train(recipe, train_index, val_index, measured, resume=True)
    assert (
        f"warning: from step 5 on the run is measured by other settings (predict.{said}): AP before and after are of "
        "detections that were chosen otherwise, so the best AP starts again; the best weights until here are "
        f"{measured / 'best-until-step-5.safetensors'}. "
    ) in " ".join(capsys.readouterr().err.split())
    (mark,) = marks(measured)
    key = said.split()[0]
    assert list(mark["predict"]) == [key]
    assert mark["predict"][key][1] == getattr(recipe.predict, key)
    assert mark["before"] == mark["now"] == str(val_index.annotations)
    assert result.best_ap == result.metrics["AP"]
    assert (measured / "best-until-step-5.safetensors").read_bytes() == b"the best of the old data"
    # Repeated, it goes on as it is.
    train(recipe, train_index, val_index, measured, resume=True, progress=False)
    assert len(marks(measured)) == 1


def test_a_state_of_before_settings_were_noted_claims_nothing_about_them(
    measured: Path, train_index: DataIndex, val_index: DataIndex
) -> None:
    state = load_state(measured / "state.pt")
    del state["val"]["predict"]
    save_state(measured / "state.pt", state)
    recipe = small(*LEARNING, "predict.max_detections=1")
    result = train(recipe, train_index, val_index, measured, resume=True, progress=False)
    assert (marks(measured), result.best_ap) == ([], 0.9)
    assert state_of(measured)["val"]["predict"]["max_detections"] == 1


def test_both_other_data_and_other_settings(
    measured: Path, train_index: DataIndex, val_index: DataIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = rewritten(val_index, tmp_path / "val", first_image)
    train(small(*LEARNING, "predict.max_detections=9"), train_index, other, measured, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert f"now {other.annotations}) and by other settings (predict.max_detections 100 -> 9): AP before" in said


def with_class(index: DataIndex, folder: Path, boxes: int) -> DataIndex:
    """The same images and one more class, "plus", which gets the first boxes."""

    def change(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 99, "name": "plus"})
        for one in content["annotations"][:boxes]:
            one["category_id"] = 99

    return rewritten(index, folder, change)


@pytest.mark.parametrize(("before", "now"), [(0, 3), (3, 0), pytest.param(3, None, marks=pytest.mark.slow)])
def test_val_with_other_classes_is_named_where_empty_ones_are_dropped(
    before: int, now: int | None, train_index: DataIndex, val_index: DataIndex, tmp_path: Path
) -> None:
    recipe = small(EVERY_STEP, "data.drop_empty_classes=true", "schedule.epochs=2")
    learnt = with_class(train_index, tmp_path / "learnt", 0)
    first = with_class(val_index, tmp_path / "first", before)
    out = tmp_path / "run"
    cut_run(recipe, learnt, out, 4, first)
    assert ("plus" in read_about(out / "last.safetensors").names) == (before > 0)
    other = None if now is None else with_class(val_index, tmp_path / "other", now)
    ours = "now nothing is measured" if other is None else f"{other.annotations} has none"
    words = f"{out} learns classes of which only its val data had boxes, and {ours}: plus"
    if other is not None and now:
        words = f"{other.annotations} has objects of classes that {out} left out, since none had a box: plus (3 boxes)"
    with pytest.raises(UsageError) as error:
        train(recipe, learnt, other, out, resume=True, progress=False)
    assert str(error.value).startswith(f"{words}. With data.drop_empty_classes ")
    # What it learns from being another is still what is said.
    fewer = with_class(rewritten(train_index, tmp_path / "fewer", first_image), tmp_path / "fewer", 0)
    with pytest.raises(UsageError, match="was trained on other data than"):
        train(recipe, fewer, other, out, resume=True, progress=False)
    result = train(recipe, learnt, first, out, resume=True, progress=False)
    assert result.steps == 6


def test_the_same_validation_data_elsewhere_are_the_same(
    measured: Path, train_index: DataIndex, val_index: DataIndex, tmp_path: Path
) -> None:
    images = shutil.copytree(val_index.images_dir, tmp_path / "pictures")
    moved = replace(rewritten(val_index, tmp_path / "val", lambda content: None), images_dir=images)
    result = train(small(*LEARNING), train_index, moved, measured, resume=True, progress=False)
    assert (marks(measured), result.best_ap, result.best_epoch) == ([], 0.9, 1)


def test_other_pixels_are_other_validation_data(
    measured: Path, train_index: DataIndex, val_index: DataIndex, tmp_path: Path
) -> None:
    images = shutil.copytree(val_index.images_dir, tmp_path / "pictures")
    other = replace(val_index, images_dir=images)
    shutil.copyfile(other.path(0), other.path(1))
    train(small(*LEARNING), train_index, other, measured, resume=True, progress=False)
    assert len(marks(measured)) == 1


def test_validation_data_that_come_and_go(
    measured: Path, train_index: DataIndex, val_index: DataIndex, tmp_path: Path
) -> None:
    """Without any nothing is compared, and the best stays that of the data that it was measured on."""
    recipe = small(*LEARNING)
    resumed = train(recipe, train_index, None, measured, resume=True, progress=False)
    assert (resumed.best_ap, marks(measured)) == (0.9, [])
    assert train(recipe, train_index, val_index, measured, resume=True, progress=False).best_ap == 0.9
    late = tmp_path / "late"
    cut_run(small(EVERY_STEP), train_index, late, 2)
    train(small(), train_index, val_index, late, resume=True, progress=False)
    assert [(mark["before"], mark["step"]) for mark in marks(late)] == [(None, 2)]
    assert not list(late.glob("best-until*"))


@pytest.mark.parametrize("card", ["kept", "lost"])
def test_a_state_of_an_earlier_version_has_its_validation_data_in_the_card(
    card: str, measured: Path, train_index: DataIndex, val_index: DataIndex, tmp_path: Path
) -> None:
    state = load_state(measured / "state.pt")
    del state["val"]
    save_state(measured / "state.pt", state)
    if card == "lost":
        (measured / "run.json").unlink()
    other = rewritten(val_index, tmp_path / "val", first_image)
    result = train(small(*LEARNING), train_index, other, measured, resume=True, progress=False)
    assert len(marks(measured)) == (1 if card == "kept" else 0)
    assert (result.best_ap == 0.9) == (card == "lost"), "nobody knows, so nothing is said"
