"""Which COCO file of a folder is read, and that the others are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.data.formats.open import find_data, open_dataset, open_splits
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError
from helpers.layouts import CONTENT, boxes_of, coco, images, yolo_labels

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}


def folder(root: Path, *files: str) -> Path:
    """A data set whose COCO files are called so; all have one content."""
    images(root / "images")
    for file in files:
        coco(root / file)
    return root


def notes_of(root: Path, split: str = "train") -> list[str]:
    problems = Problems(False)
    assert boxes_of(open_dataset(root, split, problems=problems)) == WANTED  # type: ignore[arg-type]
    return problems.notes


def test_files_that_are_passed_by_are_listed(tmp_path: Path) -> None:
    own = [f"annotations/instances_{split}2017.json" for split in ("train", "val")]
    others = [f"annotations/{task}_{split}2017.json" for task in ("captions", "person_keypoints") for split in "tv"]
    (note,) = notes_of(folder(tmp_path, *own, *others, "annotations/custom.json", "more.json"))
    assert f"{own[0]}, {own[1]} are read, not annotations/captions_t2017.json" in note
    assert "annotations/custom.json" in note
    assert note.endswith("more.json")
    (tmp_path / "package.json").write_text('{"name": "a web page"}')
    (tmp_path / "results.json").write_text("[]")
    assert notes_of(tmp_path) == [note], "these are no COCO files"


@pytest.mark.parametrize(
    ("files", "split", "wanted"),
    [
        (["annotations/custom_train.json", "annotations/custom_val.json"], "val", "annotations/custom_val.json"),
        (["train_annotations_v2.json", "validation-v2.json"], "val", "validation-v2.json"),
        (["annotations/lvis_v1_train.json", "annotations/lvis_v1_val.json"], "train", "annotations/lvis_v1_train.json"),
        (["annotations/my_train.json", "annotations/captions_train.json"], "train", "annotations/my_train.json"),
        (["annotations/person_keypoints_val2017.json"], "val", "annotations/person_keypoints_val2017.json"),
        (["train/labels.json", "valid/labels.json"], "val", "valid/labels.json"),
        (["annotations/my_train.json", "annotations/train.json"], "train", "annotations/train.json"),
        (["annotations/my_train.json", "train/_annotations.coco.json"], "train", "train/_annotations.coco.json"),
        (["annotations/street.json", "annotations/captions_street.json"], "train", "annotations/street.json"),
    ],
)
def test_a_split_in_a_name(tmp_path: Path, files: list[str], split: str, wanted: str) -> None:
    folder(tmp_path, *files)
    for inner in ("train", "valid"):
        if (tmp_path / inner).is_dir():
            images(tmp_path / inner)
    index = open_dataset(tmp_path, split)  # type: ignore[arg-type]
    assert index.annotations == tmp_path / wanted
    assert boxes_of(index) == WANTED


def test_of_files_that_fit_equally_well_none_is_read(tmp_path: Path) -> None:
    folder(tmp_path, "annotations/a_train.json", "annotations/b_train.json", "annotations/val.json")
    message = (
        r"has 2 COCO files and none that is train's for sure: annotations/a_train\.json, annotations/b_train\.json"
    )
    with pytest.raises(UsageError, match=message) as caught:
        open_dataset(tmp_path, "train")
    assert not isinstance(caught.value, MissingSplitError)  # which a caller may do without
    notes = notes_of(tmp_path, "val")
    assert len(notes) == 1
    assert "a_train.json" in notes[0]
    with pytest.raises(UsageError, match=message):  # a check of val alone would hide it
        open_splits(tmp_path)


def test_files_without_a_split_in_their_names(tmp_path: Path) -> None:
    folder(tmp_path, "north.json", "south.json")
    message = r"has 2 COCO files and none named after a split: north\.json, south\.json; give one of them"
    for call in (lambda: open_dataset(tmp_path, "train"), lambda: open_splits(tmp_path)):
        with pytest.raises(UsageError, match=message):
            call()
    assert boxes_of(open_dataset(tmp_path / "north.json", "train")) == WANTED
    yolo_labels(tmp_path / "labels")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert find_data(tmp_path).format == "yolo", "what can be read goes before what cannot be chosen"


def test_images_elsewhere_on_the_command_line(tmp_path: Path) -> None:
    """Every verb takes --images; a YOLO data set says why it does not."""
    root = folder(tmp_path / "set", "annotations/train.json", "annotations/val.json")
    shutil.move(root / "images", tmp_path / "photos")
    runner = CliRunner()
    stopped = runner.invoke(app, ["data", "convert", str(root), "--to", "voc", "-o", str(tmp_path / "out")])
    assert stopped.exit_code == 2
    assert "--images DIR" in stopped.stderr
    assert not (tmp_path / "out").exists()
    found = ["--images", str(tmp_path / "photos")]
    done = runner.invoke(app, ["data", "convert", str(root), "--to", "voc", "-o", str(tmp_path / "out"), *found])
    assert done.exit_code == 0, done.output
    checked = runner.invoke(app, ["data", "check", str(root), *found, "--json"])
    counts = json.loads(checked.stdout)["splits"]
    assert {split: each["pictures"] for split, each in counts.items()} == {"train": 3, "val": 3}
    shutil.copytree(tmp_path / "photos", tmp_path / "yolo" / "images")
    yolo_labels(tmp_path / "yolo" / "labels")
    refused = runner.invoke(app, ["data", "check", str(tmp_path / "yolo"), *found])
    assert refused.exit_code == 2
    assert "is a YOLO data set" in refused.stderr
    for verb in (["train"], ["eval"], ["find-lr"], ["data", "check"], ["data", "stats"], ["data", "preview"]):
        assert "--images" in runner.invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).stdout, verb
    for verb in (["data", "convert"], ["study", "table3"], ["study", "figures"]):
        assert "--images" in runner.invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).stdout, verb
