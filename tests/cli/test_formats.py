"""The command line with data of other formats: convert, --val SHARE, --format, zips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gfocal.cli.app import app
from gfocal.data.formats.open import open_dataset
from gfocal.data.scenes.generate import make_scenes
from gfocal.data.split import HeldOut
from gfocal.errors import UsageError
from gfocal.recipe import Recipe
from helpers.layouts import boxes_of, coco, images, lay_out, yolo_labels, zipped
from helpers.small_runs import TINY

SMALL = ["data.resize.size=64", "schedule.batch_size=4", "schedule.epochs=1", "data.workers=0", "runtime.threads=1"]
SETS = [word for pair in (*TINY, *SMALL) for word in ("--set", pair)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_DEBUG", "0")
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def refused(*words: str | Path) -> str:
    result = call(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return error


def test_convert_there_and_back(tmp_path: Path) -> None:
    lay_out(tmp_path / "robo", "roboflow_yolo")
    result = call("data", "convert", tmp_path / "robo", "--to", "voc", "-o", tmp_path / "voc")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == [f"{split}: 3 pictures, 3 boxes" for split in ("train", "val", "test")]
    assert lines[-1] == f"written: {tmp_path / 'voc'}"
    assert any("kept in" in line and "gfocal.json" in line for line in lines)
    result = call("data", "convert", tmp_path / "voc", "--to", "coco", "-o", tmp_path / "coco", "--link", "--json")
    content = json.loads(result.stdout)
    assert content["splits"]["val"] == {"pictures": 3, "boxes": 3}
    assert content["sidecar"] is None
    first, last = (open_dataset(tmp_path / name, "test") for name in ("robo", "coco"))
    assert sorted(boxes_of(first).values()) == sorted(boxes_of(last).values())


def test_convert_says_no(tmp_path: Path) -> None:
    lay_out(tmp_path / "in", "label_studio_yolo")
    out = tmp_path / "out"
    words = ("data", "convert", tmp_path / "in", "--to", "coco", "-o")
    assert "is not empty" in refused(*words, tmp_path / "in")
    (tmp_path / "in" / "labels" / "a.txt").write_text("7 0.5 0.5 1 1\n")
    assert "a.txt: line 1: unknown class 7" in refused(*words, out)
    assert not out.exists()
    result = call(*words, out, "--skip-broken")
    assert result.exit_code == 0
    assert "warning: 1 broken record left out" in result.stderr
    assert "does not exist" in refused("data", "convert", tmp_path / "none", "--to", "coco", "-o", tmp_path / "new")
    lay_out(tmp_path / "voc", "voc")
    message = refused("data", "convert", tmp_path / "voc", "--to", "coco", "-o", tmp_path / "new", "--val", "0.3")
    assert "has the splits train, val: --val divides data with a train split and no val split" in message


def test_convert_writes_a_split(tmp_path: Path) -> None:
    make_scenes(tmp_path / "scenes", train=12, val=1, size=64)
    words = ("data", "convert", tmp_path / "scenes" / "annotations" / "train.json", "--to", "yolo", "--val", "0.25")
    result = call(*words, "-o", tmp_path / "one", "--seed", "3")
    assert result.exit_code == 0
    assert "4 of 12 pictures set apart" in result.stderr
    call(*words, "-o", tmp_path / "two", "--seed", "3")
    names = [sorted(p.name for p in (tmp_path / run / "images/val").iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 4


def test_train_and_eval_a_zip_without_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scenes(tmp_path / "scenes", train=12, val=1, size=64)
    source = tmp_path / "scenes" / "annotations" / "train.json"
    assert call("data", "convert", source, "--to", "yolo", "-o", tmp_path / "yolo").exit_code == 0
    archive = zipped(tmp_path / "yolo", tmp_path / "toys.zip", "toys")
    monkeypatch.chdir(tmp_path)
    result = call("train", "gfl_nano", "--data", archive, "--val", "0.25", *SETS, "--json")
    assert result.exit_code == 0, result.stderr
    assert "3 of 12 pictures set apart to measure on (share 0.25, seed 0)" in result.stderr
    content = json.loads(result.stdout)
    assert content["data"]["val"]["pictures"] == 3
    run = tmp_path / "runs" / "gfl_nano-toys"
    assert run.is_dir()
    measured = call("eval", run, "--data", archive, "--set", "data.workers=0", "--json")
    assert json.loads(measured.stdout)["num_images"] == 3
    assert json.loads(measured.stdout)["AP"] == content["metrics"]["AP"]
    assert "as the run divided" in measured.stderr


@pytest.mark.parametrize(
    ("words", "of_training", "of_split"),
    [((), 0, 0), (("--seed", "7"), 7, 7), (("--seed", "7", "--set", "runtime.seed=3"), 3, 7)],
)
def test_a_seed_is_that_of_training_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], of_training: int, of_split: int
) -> None:
    given: list[tuple[int, int]] = []

    def run(recipe: Recipe, *args: object, held_out: HeldOut, **kwargs: object) -> None:
        given.append((recipe.runtime.seed, held_out.seed))
        raise UsageError("enough")

    monkeypatch.setattr("gfocal.training.train.train", run)
    make_scenes(tmp_path / "scenes", train=6, val=1, size=64)
    data = tmp_path / "scenes" / "annotations" / "train.json"
    line = refused("train", "gfl_nano", "--data", data, "--val", "0.5", "-o", tmp_path / "run", *SETS, *words)
    assert (given, line) == ([(of_training, of_split)], "error: enough")


def test_train_says_no(tmp_path: Path) -> None:
    lay_out(tmp_path / "in", "label_studio_yolo")
    words = ("train", "gfl_nano", "--data", tmp_path / "in", "--out", tmp_path / "run", *SETS)
    assert "--val 2: a share of the pictures is above 0 and below 1" in refused(*words, "--val", "2")
    assert "data set none does not exist" in refused(*words, "--val", "none")
    assert "no data set found" in refused(*words, "--format", "voc")
    assert not (tmp_path / "run").exists()


def test_format_chooses(tmp_path: Path) -> None:
    coco(tmp_path / "annotations" / "train.json")
    images(tmp_path / "images")
    yolo_labels(tmp_path / "labels")
    (tmp_path / "classes.txt").write_text("kitten\ndog\n")
    words = ("data", "convert", tmp_path, "--to", "coco", "-o")
    result = call(*words, tmp_path / "first")
    assert "COCO JSON is read; --format yolo reads the other" in result.stderr
    assert open_dataset(tmp_path / "first", "train").names == ("cat", "dog")
    call(*words, tmp_path / "second", "--format", "yolo")
    assert open_dataset(tmp_path / "second", "train").names == ("kitten", "dog")


def test_two_formats_in_one_folder(tmp_path: Path) -> None:
    """A folder of COCO and YOLO can be looked at as the one that is trained on."""
    make_scenes(tmp_path / "both", train=4, val=2, size=64)
    folder = tmp_path / "both"
    (folder / "labels").mkdir()
    names = [path.stem for path in sorted((folder / "images").iterdir())]
    for name in names:
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    counts = {}
    for fmt in ("coco", "yolo"):
        checked = json.loads(call("data", "check", folder, "--format", fmt, "--json").stdout)
        stats = json.loads(
            call(
                "data", "stats", folder, "-r", "gfl_nano", "--format", fmt, "--set", "data.resize.size=64", "--json"
            ).stdout
        )
        counts[fmt] = (checked["splits"]["train"]["pictures"], stats["pictures"], stats["objects"])
        sheet = call("data", "preview", folder, "--format", fmt, "-o", tmp_path / f"{fmt}.jpg", "--json")
        assert json.loads(sheet.stdout)["pictures"] > 0
    assert counts["yolo"] == (6, 6, 6)
    assert counts["coco"][:2] == (4, 4)
    assert counts["coco"][2] > 6
    assert "there is no" not in refused(
        "data", "stats", folder, "-r", "gfl_nano", "--format", "coco", "--split", "test"
    )


def test_how_data_are_understood_is_said_by_all_who_read_them(tmp_path: Path) -> None:
    make_scenes(tmp_path / "data", train=4, val=2, size=64)
    folder = tmp_path / "data"
    (folder / "annotations").rename(tmp_path / "away")
    (folder / "labels").mkdir()
    for path in (folder / "images").iterdir():
        (folder / "labels" / f"{path.stem}.txt").write_text("0 0.2 0.2 0.6 0.2 0.4 0.7\n")
    note = "6 polygons are read as the boxes around them"
    small = ("--set", "data.resize.size=64")
    assert note in call("data", "stats", folder, "-r", "gfl_nano", *small).stderr
    assert note in call("data", "preview", folder, "-o", tmp_path / "sheet.jpg", *small).stderr
    sets = [*SETS, "--set", "schedule.batch_size=2"]
    assert note in call("find-lr", "gfl_nano", "--data", folder, "--steps", "10", "-o", tmp_path / "lr", *sets).stderr
