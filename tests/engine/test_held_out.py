"""What a run is measured on, and that it stays the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gfocal.data.convert import write_dataset
from gfocal.data.index import DataIndex
from gfocal.data.open import open_split
from gfocal.engine.held_out import parse_val, recorded
from gfocal.engine.prepare import default_run_folder, evaluate_files, open_run_data
from gfocal.engine.train import train
from gfocal.errors import UsageError
from gfocal.recipe import Recipe, load_recipe


def names(index: DataIndex) -> list[str]:
    return [index.file_name(i) for i in range(len(index))]


def small(*overrides: str) -> Recipe:
    own = ["data.resize.size=64", "schedule.batch_size=4", "schedule.epochs=1", "data.workers=0", "runtime.threads=1"]
    return load_recipe("gfl_nano", [*own, *overrides])


@pytest.fixture(scope="module")
def unsplit(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated scenes as a YOLO data set that is not split."""
    folder = tmp_path_factory.mktemp("unsplit") / "toys"
    write_dataset({"train": open_split(scenes, "train")}, folder, "yolo")
    (folder / "data.yaml").unlink()
    (folder / "gfocal.json").unlink()
    for kind in ("images", "labels"):
        for file in (folder / kind / "train").iterdir():
            file.rename(folder / kind / file.name)
        (folder / kind / "train").rmdir()
    (folder / "classes.txt").write_text("\n".join(open_split(scenes, "train").names))
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
    train(small(), first, apart, run, progress=False, held_out=held_out.to_dict())
    assert recorded(run) == recorded(run / "last.safetensors") == held_out
    for val, seed in ((0.25, 3), (0.5, 0), (None, 0)):
        again, same, _ = open_run_data(unsplit, val, seed=seed, resumed=run)
        assert same is not None
        assert (names(again), names(same)) == (names(first), names(apart))
    resumed = train(small(), again, same, run, resume=True, progress=False, held_out=held_out.to_dict())
    assert resumed.steps == 2
    said: list[str] = []
    words = {"overrides": ["data.workers=0"], "say": said.append}
    measured = evaluate_files(str(run), unsplit, **words)
    assert measured["num_images"] == 4
    assert "as the run divided" in said[0]
    assert measured["AP"] == resumed.metrics["AP"]
    assert evaluate_files(str(run), unsplit, split="train", **words)["num_images"] == 8


def test_other_data_are_measured_as_they_are(unsplit: Path, scenes: Path, tmp_path: Path) -> None:
    first, apart, held_out = open_run_data(unsplit, 0.25)
    assert held_out is not None
    run = tmp_path / "run"
    train(small(), first, apart, run, progress=False, held_out=held_out.to_dict())
    said: list[str] = []
    words = {"overrides": ["data.workers=0"], "say": said.append}
    assert evaluate_files(str(run), scenes, **words)["num_images"] == len(open_split(scenes, "val"))
    assert said == []
    other = tmp_path / "other"
    other.mkdir()
    for kind in ("images", "labels"):
        (other / kind).mkdir()
        for file in sorted((unsplit / kind).iterdir())[:5]:
            (other / kind / file.name).write_bytes(file.read_bytes())
    (other / "classes.txt").write_bytes((unsplit / "classes.txt").read_bytes())
    assert evaluate_files(str(run), other, **words)["num_images"] == 5
    assert any("is not split: all of it is measured" in line for line in said)
    content = json.loads((run / "run.json").read_text())
    assert sorted(content["held_out"]["val"]) == sorted(names(apart)) if apart is not None else False


def test_changed_data_are_not_divided_as_before(unsplit: Path, tmp_path: Path) -> None:
    _, _, held_out = open_run_data(unsplit, 0.25)
    assert held_out is not None
    (tmp_path / "run.json").write_text(json.dumps({"held_out": {**held_out.to_dict(), "of": "0" * 16}}))
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
