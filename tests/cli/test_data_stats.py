"""`gfocal data stats`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from gfocal.cli.app import app
from gfocal.data.formats.open import open_dataset
from gfocal.data.scenes.generate import make_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    make_scenes(out, train=12, val=4, size=64)
    return out


def stats(data: Path, *words: str | Path) -> Result:
    command = ["data", "stats", str(data), *map(str, words)]
    return CliRunner().invoke(app, command, catch_exceptions=False, env={"GFOCAL_DEBUG": "0", "COLUMNS": "100"})


def test_tables_and_a_proposal_that_works_when_typed(scenes: Path) -> None:
    words = ("--recipe", "gfl_nano", "--set", "model.boxes.reg_max=2")
    result = stats(scenes, *words)
    assert result.exit_code == 0
    assert "edges by level" in result.stdout
    assert "beyond 2" in result.stdout
    assert re.search(r"below 8 +│ +none │ +- │", result.stdout)
    assert "level of stride 8: " in result.stdout
    typed = next(line for line in result.stdout.splitlines() if "--set model.boxes.reg_max=" in line)
    after = stats(scenes, *words, *shlex.split(typed), "--json")
    content = json.loads(after.stdout)
    assert content["proposal"]["reasons"] == []
    assert all(row["truncated_share"] <= 0.001 for row in content["levels"] if row["edges"])
    assert (content["recipe"], content["split"], content["size"]) == ("gfl_nano", "train", "416 x 416 pixels")


def test_unlimited_reach_and_val(scenes: Path) -> None:
    result = stats(scenes, "--recipe", "retinanet_nano", "--split", "val", "--pictures", "3")
    assert "reach: unlimited" in result.stdout
    assert "3 pictures (of 4, chosen at random)" in result.stdout
    assert "no anchor" in result.stdout


def test_images_are_drawn(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    result = stats(scenes, "--recipe", "gfl_nano", "--set", "model.boxes.reg_max=2", "-o", out, "--json")
    content = json.loads(result.stdout)
    names = ["edges.png", "sizes.png", "classes.png", "classes-dark.png"]
    assert [Path(file).name for file in content["files"]] == [*names, "statistics.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "statistics.json"])
    written = json.loads((out / "statistics.json").read_text())
    assert written["levels"] == content["levels"]
    # Edges beyond the reach are red; with a longer one only the word in the legend is left of that colour.
    stats(scenes, "--recipe", "gfl_nano", "--set", "model.boxes.reg_max=40", "-o", tmp_path / "far")
    assert red_pixels(out / "edges.png") > 5 * red_pixels(tmp_path / "far" / "edges.png") > 0
    assert red_pixels(out / "sizes.png") == red_pixels(tmp_path / "far" / "sizes.png") > 1000  # objects without a point


def test_classes_of_every_split(scenes: Path, tmp_path: Path) -> None:
    words = ("--recipe", "gfl_nano", "--split", "val", "--pictures", "1")
    content = json.loads(stats(scenes, *words, "--json").stdout)
    assert list(content["class_counts"]) == ["val", "train"]  # the one that was asked for decides the order
    for split, rows in content["class_counts"].items():
        index = open_dataset(scenes, split)
        assert sum(row["boxes"] for row in rows) == sum(len(index.targets(i)) for i in range(len(index)))
        assert [row["class"] for row in rows] == list(index.names)
    assert "boxes (pictures) of each class" in stats(scenes, *words).stdout
    one_file = json.loads(stats(scenes / "annotations" / "val.json", *words, "--json").stdout)
    assert list(one_file["class_counts"]) == ["val"]
    # What is wrong with another split is no reason to say nothing of this one.
    shutil.copytree(scenes, tmp_path / "copy")
    (tmp_path / "copy" / "annotations" / "train.json").write_text("{")
    assert list(json.loads(stats(tmp_path / "copy", *words, "--json").stdout)["class_counts"]) == ["val"]


def test_objects_beyond_the_limit_of_the_recipe(scenes: Path) -> None:
    words = ("--recipe", "gfl_nano", "--set", "predict.max_detections=2")
    content = json.loads(stats(scenes, *words, "--json").stdout)
    index = open_dataset(scenes, "train")
    counts = [len(index.targets(i)) for i in range(len(index))]
    assert content["crowding"]["pictures"] == sum(count > 2 for count in counts) > 0
    assert content["crowding"]["largest"] == max(counts)
    assert content["crowding"]["recall_ceiling"] == sum(min(count, 2) for count in counts) / sum(counts)
    out = stats(scenes, *words).stdout
    assert "predict.max_detections=2 finds at most" in out
    assert "predict.max_detections" not in stats(scenes, "--recipe", "gfl_nano").stdout


def red_pixels(file: Path) -> int:
    with Image.open(file) as image:
        assert image.width > 1000
        red, green = (np.asarray(image.convert("RGB"), int)[..., channel] for channel in (0, 1))
    return int(((red > 150) & (green < 110)).sum())


def test_images_of_nothing(scenes: Path, tmp_path: Path) -> None:
    empty = {"images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}], "annotations": []}
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "train.json"
    file.write_text(json.dumps({**empty, "categories": [{"id": 1, "name": "thing"}]}))
    result = stats(tmp_path, "--recipe", "gfl_nano", "-o", tmp_path / "drawn")
    assert result.exit_code == 0
    assert "these pictures have no object to learn" in result.stdout
    assert (tmp_path / "drawn" / "sizes.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "gfl_nan"], "did you mean gfl_nano"),
        (["--recipe", "gfl_nano", "--split", "middle"], "--split is train, val, test"),
        (["--recipe", "gfl_nano", "--split", "test"], "no test annotations"),
        (["--recipe", "gfl_nano", "--set", "model.boxes.regmax=3"], "did you mean model.boxes.reg_max"),
    ],
)
def test_what_is_refused(scenes: Path, words: list[str], message: str) -> None:
    result = stats(scenes, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_file_is_no_folder(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = stats(scenes, "--recipe", "gfl_nano", "-o", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
    assert "file, or something else that is no folder, is there already" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"
