"""What a run is measured on, and that it stays the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfocal.commands.evaluate import evaluate_files
from gfocal.data.fingerprint import fingerprint
from gfocal.data.formats.common import Format
from gfocal.data.formats.convert import write_dataset
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.split import parse_val
from gfocal.errors import UsageError
from gfocal.recipe import Recipe, load_recipe
from gfocal.runs.datasets import default_run_folder, open_measured, open_run_data, recorded
from gfocal.training.train import train
from helpers.small_runs import TINY


def names(index: DataIndex) -> list[str]:
    return [index.file_name(i) for i in range(len(index))]


def small(*overrides: str) -> Recipe:
    own = ["data.resize.size=64", "schedule.batch_size=4", "schedule.epochs=1", "data.workers=0", "runtime.threads=1"]
    return load_recipe("gfl_nano", [*TINY, *own, *overrides])


@pytest.fixture(scope="module")
def unsplit(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated scenes as a YOLO data set that is not split."""
    folder = tmp_path_factory.mktemp("unsplit") / "toys"
    write_dataset({"train": open_dataset(scenes, "train")}, folder, "yolo")
    (folder / "data.yaml").unlink()
    (folder / "gfocal.json").unlink()
    for kind in ("images", "labels"):
        for file in (folder / kind / "train").iterdir():
            file.rename(folder / kind / file.name)
        (folder / kind / "train").rmdir()
    (folder / "classes.txt").write_text("\n".join(open_dataset(scenes, "train").names))
    return folder


def test_what_val_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_val(None) is None
    assert parse_val("0.2") == 0.2
    assert parse_val("more") == Path("more")
    for text in ("0", "1", "20", "-0.1", "nan"):
        with pytest.raises(UsageError, match=f"--val {text}: a share"):
            parse_val(text)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.2").mkdir()
    assert parse_val("0.2") == Path("0.2")


def test_run_resume_and_eval_share_the_split(unsplit: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    first, apart, held_out = open_run_data(unsplit, 0.25, seed=3, say=lines.append)
    assert apart is not None
    assert held_out is not None
    assert (len(first), len(apart)) == (8, 4)  # a quarter, and one more so that each class is there
    assert any("4 of 12 pictures set apart" in line for line in lines)
    run = tmp_path / "run"
    train(small(), first, apart, run, progress=False, held_out=held_out)
    assert recorded(run) == recorded(run / "last.safetensors") == held_out
    for val, seed in ((0.25, 3), (0.25, None), (None, 3), (None, None)):
        again, same, _ = open_run_data(unsplit, val, seed=seed, resumed=run)
        assert same is not None
        assert (names(again), names(same)) == (names(first), names(apart))
    for val, seed, key in ((0.5, 3, "--val 0.5"), (unsplit, None, "--val"), (None, 4, "--seed 4")):
        with pytest.raises(UsageError, match=f"{key}.*--val 0.25 --seed 3"):
            open_run_data(unsplit, val, seed=seed, resumed=run)
    resumed = train(small(), again, same, run, resume=True, progress=False, held_out=held_out)
    assert resumed.steps == 2
    said: list[str] = []
    words = {"overrides": ["data.workers=0"], "say": said.append}
    measured = evaluate_files(str(run), unsplit, **words)
    assert measured.evaluation.result.num_images == 4
    assert "as the run divided" in said[0]
    assert measured.evaluation.result.stats["AP"] == resumed.metrics["AP"]
    assert evaluate_files(str(run), unsplit, split="train", **words).evaluation.result.num_images == 8


def test_other_data_are_measured_as_they_are(unsplit: Path, scenes: Path, tmp_path: Path) -> None:
    first, apart, held_out = open_run_data(unsplit, 0.25)
    assert held_out is not None
    run = tmp_path / "run"
    train(small(), first, apart, run, progress=False, held_out=held_out)
    said: list[str] = []
    words = {"overrides": ["data.workers=0"], "say": said.append}
    assert evaluate_files(str(run), scenes, **words).evaluation.result.num_images == len(open_dataset(scenes, "val"))
    assert said == []
    other = tmp_path / "other"
    other.mkdir()
    for kind in ("images", "labels"):
        (other / kind).mkdir()
        for file in sorted((unsplit / kind).iterdir())[:5]:
            (other / kind / file.name).write_bytes(file.read_bytes())
    (other / "classes.txt").write_bytes((unsplit / "classes.txt").read_bytes())
    assert evaluate_files(str(run), other, **words).evaluation.result.num_images == 5
    assert said[-1].startswith(
        f"warning: all 5 pictures of {other} are measured. The run set pictures of other data apart, or"
    )
    content = json.loads((run / "run.json").read_text())
    assert apart is not None
    assert [part["val"] for part in content["held_out"]["parts"]] == [names(apart)]


def test_changed_data_are_not_divided_as_before(unsplit: Path, tmp_path: Path) -> None:
    _, _, held_out = open_run_data(unsplit, 0.25)
    assert held_out is not None
    parts = [{"of": "0" * 16, "val": list(held_out.parts[0].val)}]
    (tmp_path / "run.json").write_text(json.dumps({"held_out": {**held_out.to_dict(), "parts": parts}}))
    with pytest.raises(UsageError, match="changed since the run set pictures apart"):
        open_run_data(unsplit, 0.25, resumed=tmp_path)


def test_several_data_sets_are_divided_together(unsplit: Path, scenes: Path) -> None:
    learnt, apart, held_out = open_run_data([unsplit, scenes], 0.25)
    assert apart is not None
    assert held_out is not None
    assert sum(learnt.parts) == len(learnt)
    assert len(learnt) + len(apart) == 24
    # The scenes of the two are the same: none is on both sides.
    numbers = [{name.rsplit("/", 1)[-1] for name in names(index)} for index in (learnt, apart)]
    assert not numbers[0] & numbers[1]
    assert np.array_equal(learnt.parts, [len(learnt) // 2] * 2)


def test_joined_data_may_move_and_each_part_is_measured(unsplit: Path, scenes: Path, tmp_path: Path) -> None:
    place = tmp_path / "far" / "toys"
    shutil.copytree(unsplit, place)
    learnt, apart, held_out = open_run_data([scenes, place], 0.25)
    assert apart is not None
    assert held_out is not None
    run = tmp_path / "run"
    train(small(), learnt, apart, run, progress=False, held_out=held_out)
    moved = tmp_path / "near" / "at" / "hand"
    shutil.copytree(place, moved)
    shutil.rmtree(place)
    again, same, _ = open_run_data([scenes, moved], None, resumed=run)
    assert same is not None
    assert np.array_equal(again.image_ids, learnt.image_ids)
    assert fingerprint(again) == fingerprint(learnt)
    said: list[str] = []
    for data, own in zip((scenes, moved), held_out.parts, strict=True):
        val = open_measured(str(run), data, "val", format=None, skip_broken=False, say=said.append)
        assert tuple(names(val)) == own.val
        assert own.val
        rest = open_measured(str(run), data, "train", format=None, skip_broken=False)
        assert not set(names(rest)) & set(own.val)
    for line, data in zip(said, (scenes, moved), strict=True):
        assert line.startswith(f"val: as the run divided {data} ")


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_run_that_set_images_apart_is_measured_on_data_without_train(
    unsplit: Path, scenes: Path, tmp_path: Path, kind: Format, left: str
) -> None:
    _, _, held_out = open_run_data(unsplit, 0.25)
    assert held_out is not None
    (tmp_path / "run.json").write_text(json.dumps({"held_out": held_out.to_dict()}))
    val = open_dataset(scenes, "val")
    write_dataset({"val": val}, tmp_path / "data", kind)
    if kind == "yolo":  # as written for both splits, of which one was copied
        (tmp_path / "data" / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {list(val.names)}")
    if left == "an empty folder":
        (tmp_path / "data" / "images" / "train").mkdir(parents=True)
    measured = open_measured(str(tmp_path), tmp_path / "data", "val", format=None, skip_broken=False)
    assert len(measured) == len(val)
    with pytest.raises(UsageError, match="train"):
        open_measured(str(tmp_path), tmp_path / "data", "train", format=None, skip_broken=False)


def test_what_was_set_apart_is_found_to_the_last_image(unsplit: Path) -> None:
    index, _, held_out = open_run_data(unsplit, 0.25)
    assert held_out is not None
    (part,) = held_out.parts
    whole = open_dataset(unsplit, "train")
    assert part.chosen(whole).sum() == len(part.val)
    with pytest.raises(UsageError, match="changed since the run set pictures apart"):
        replace(part, val=(*part.val[1:], "renamed.jpg")).chosen(whole)
    with pytest.raises(UsageError, match="1 data sets, not from 2"):
        held_out.divide(index, [whole, whole])


def test_a_run_that_set_nothing_apart_does_not_begin_with_it(unsplit: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"held_out": None}))
    with pytest.raises(UsageError, match=r"--val 0\.25: the run in .* set nothing apart"):
        open_run_data(unsplit, 0.25, resumed=tmp_path)


def test_images_that_are_learnt_and_measured_are_told(scenes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    open_run_data(scenes, None, say=said.append)
    assert said == []
    (tmp_path / "again").symlink_to(scenes)
    open_run_data(scenes, tmp_path / "again/annotations/train.json", say=said.append)
    assert len(said) == 1
    assert said[0].startswith("warning: 12 pictures of 12 to measure on are in the training data too")


def test_the_fingerprint_sees_images_and_classes(scenes: Path) -> None:
    index = open_dataset(scenes, "train")
    other = index.name_bytes.copy()
    other[0] += 1
    for changed in (
        replace(index, name_bytes=other),
        replace(index, widths=index.widths + 1),
        replace(index, heights=index.heights + 1),
        replace(index, category_ids=index.category_ids + 1),
    ):
        assert fingerprint(changed) != fingerprint(index)
    assert fingerprint(replace(index, images_dir=Path("elsewhere"))) == fingerprint(index)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("d/bccd", "bccd"),
        ("d/bccd.zip", "bccd"),
        ("d/bccd/data.yaml", "bccd"),
        ("d/coco128.yaml", "coco128"),
        ("d/bccd/annotations/train.json", "bccd"),
        ("d/bccd/train/_annotations.coco.json", "bccd"),
        ("d/bccd/result.json", "bccd"),
    ],
)
def test_run_folders_are_named_after_the_data(tmp_path: Path, path: str, name: str) -> None:
    assert default_run_folder("gfl_nano", tmp_path / path) == Path(f"runs/gfl_nano-{name}")
