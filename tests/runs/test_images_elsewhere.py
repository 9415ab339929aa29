"""Where the pictures are counts for all data of a run, and what is known of them is said once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gfocal.errors import UsageError
from gfocal.runs.datasets import open_measured, open_run_data
from gfocal.studies.execution.plan import open_study_data
from helpers.layouts import CONTENT, boxes_of, coco, images, lay_out

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """COCO files of two splits in folders of their own, pictures in a third one."""
    coco(tmp_path / "one" / "street_train.json")
    coco(tmp_path / "two" / "street_val.json")
    images(tmp_path / "photos" / "train2017")
    images(tmp_path / "photos" / "val2017")
    return tmp_path


def test_of_training_and_validation(files: Path) -> None:
    train, val, said = files / "one/street_train.json", files / "two/street_val.json", list[str]()
    with pytest.raises(UsageError, match="--images DIR"):
        open_run_data(train, val)
    one, two, _ = open_run_data(train, val, images_dir=files / "photos", say=said.append)
    assert two is not None
    assert boxes_of(one) == boxes_of(two) == WANTED
    folders = [one.images_dir.name, two.images_dir.name]
    assert folders == ["train2017", "val2017"], "names that both have are those of the split"
    assert [line.split(": ")[0] for line in said if "found by the end" in line] == [str(train), str(val)]
    data = open_study_data(train, val, images_dir=files / "photos")
    assert (data.images_dir, data.train.images_dir) == (files / "photos", one.images_dir)


def test_of_measuring(files: Path) -> None:
    (files / "model").touch()
    data = files / "two/street_val.json"
    index = open_measured(
        str(files / "model"), data, "val", format=None, skip_broken=False, images_dir=files / "photos"
    )
    assert boxes_of(index) == WANTED


def test_validation_data_that_have_their_own_are_let_be(files: Path) -> None:
    yolo = lay_out(files / "yolo", "label_studio_yolo")
    _, val, _ = open_run_data(files / "one/street_train.json", yolo, images_dir=files / "photos")
    assert val is not None
    assert val.images_dir == yolo / "images"
    with pytest.raises(UsageError, match="is a YOLO data set"):
        open_run_data(yolo, None, images_dir=files / "photos")


def test_what_two_splits_share_is_said_once(files: Path) -> None:
    root, said = files / "set", list[str]()
    for split in ("train", "val"):
        coco(root / "annotations" / f"{split}.json")
        coco(root / "annotations" / f"captions_{split}.json")
    shutil.move(files / "photos/train2017", root / "images")
    open_run_data(root, None, say=said.append)
    assert sum("captions_train.json" in line for line in said) == 1
