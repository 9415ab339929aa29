"""Dataset yaml files of other machines, and with paths that are not there: nothing is measured on what is learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gfocal.data.checks.check import check_data
from gfocal.data.formats.open import open_dataset, open_splits
from gfocal.data.formats.yolo.split import locate
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError
from gfocal.runs.datasets import open_run_data
from helpers.layouts import CONTENT, boxes_of, images, yolo_labels

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}


def part(folder: Path, place: str) -> None:
    """Images and labels; ``place`` has "images" in it."""
    images(folder / place)
    yolo_labels(folder / place.replace("images", "labels"))


def yaml(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text(f"{text}\nnames: [cat, dog]\n")
    return root / "data.yaml"


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("images/val", "images/valid"),
        ("images/valid", "images/val"),
        ("./images/val", "images/validation"),
        ("../valid/images", "val/images"),
        ("val/images", "Validate/images"),
        ("images/val", "images/val2017"),
        ("/content/set/images/validation", "images/val"),
        ("D:\\sets\\mine\\valid\\images", "val/images"),
    ],
)
def test_the_sibling_of_a_missing_val_is_read_and_said(tmp_path: Path, named: str, there: str) -> None:
    part(tmp_path, "images/train" if there.startswith("images") else "train/images")
    part(tmp_path, there)
    train = "images/train" if there.startswith("images") else "train/images"
    file = yaml(tmp_path, f"train: {train}\nval: {named}")
    problems = Problems(False)
    index = open_dataset(tmp_path, "val", problems=problems)
    assert index.images_dir == tmp_path / there
    assert boxes_of(index) == WANTED
    assert problems.notes == [
        f"{file}: val: {named} does not exist: {tmp_path / there} is read in its place; correct the path"
    ]


def test_a_list_has_siblings_too(tmp_path: Path) -> None:
    part(tmp_path, "images/all")
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text("./images/all/a.jpg\n")
    yaml(tmp_path, "train: train.txt\nval: val.txt")
    assert boxes_of(open_dataset(tmp_path, "val")) == {"a.jpg": WANTED["a.jpg"]}


@pytest.mark.parametrize(
    "named", ["images/val", "../valid/images", "../val/images", "/content/set/val/images", "val.txt", "[images/val]"]
)
@pytest.mark.parametrize("train", ["images", "images/train", "../images/train"])
def test_a_missing_val_is_refused_and_never_train(tmp_path: Path, train: str, named: str) -> None:
    part(tmp_path, train.removeprefix("../"))
    part(tmp_path, "test/images")
    file = yaml(tmp_path, f"train: {train}\nval: {named}\ntest: test/images")
    message = f"{file}: val: {named.strip('[]')} does not exist beside it; correct the path, or set pictures apart"
    with pytest.raises(UsageError) as refused:
        open_run_data(tmp_path, None)
    assert str(refused.value).startswith(message)
    assert not isinstance(refused.value, MissingSplitError)
    with pytest.raises(UsageError, match=r"val: .* does not exist"):
        open_splits(tmp_path)
    (finding,) = [f for f in check_data(tmp_path).findings if f.kind == "split-without-pictures"]
    assert (finding.split, finding.message.startswith(message)) == ("val", True)
    (tmp_path / "test" / "classes.txt").write_text("cat\ndog\n")
    # Who says what to measure on has decided.
    data, val, _ = open_run_data(tmp_path, tmp_path / "test")
    assert (len(data), len(val or ())) == (3, 3)


@pytest.mark.parametrize(
    ("named", "there", "meant"),
    [
        ("val/images", "vla/images", "vla/images"),
        ("../val/images", "eval/images", "eval/images"),
        ("images/valid", "images/valid_b", "images/valid_b"),
        ("val/images", "test/images", None),
        ("val/images", "vla/pictures", None),
        ("val.txt", "vla/images", None),
    ],
)
def test_a_path_written_otherwise_is_asked_for(tmp_path: Path, named: str, there: str, meant: str | None) -> None:
    part(tmp_path, "train/images")
    images(tmp_path / there)
    file = yaml(tmp_path, f"train: train/images\nval: {named}")
    report = check_data(tmp_path)
    (finding,) = [f for f in report.findings if f.severity == "error"]
    hint = f"; did you mean {tmp_path / meant}? Correct the path" if meant else "; correct the path"
    assert finding.kind == "split-without-pictures"
    assert finding.message == (
        f"{file}: val: {named} does not exist beside it{hint}, or set pictures apart to measure on with --val 0.2"
    )
    assert finding.message not in report.understood  # said once


def test_a_path_to_no_image(tmp_path: Path) -> None:
    part(tmp_path, "train/images")
    (tmp_path / "val" / "images").mkdir(parents=True)
    yaml(tmp_path, "train: train/images\nval: val/images")
    (finding,) = [f for f in check_data(tmp_path).findings if f.severity == "error"]
    assert (finding.kind, finding.split) == ("split-without-pictures", "val")


def test_two_siblings_are_named_and_none_is_chosen(tmp_path: Path) -> None:
    for place in ("images/train", "images/valid", "images/validation"):
        part(tmp_path, place)
    yaml(tmp_path, "train: images/train\nval: images/val")
    with pytest.raises(UsageError, match=r"images/val does not exist beside it, but .*valid and .*validation do: name"):
        open_dataset(tmp_path, "val")


def test_a_test_split_that_nobody_has_is_only_said(tmp_path: Path) -> None:
    for place in ("images/train", "images/val"):
        part(tmp_path, place)
    yaml(tmp_path, "train: images/train\nval: images/val\ntest: images/test")
    problems = Problems(False)
    assert set(open_splits(tmp_path, problems=problems)) == {"train", "val"}
    (note,) = problems.notes
    assert "test: images/test does not exist beside it; correct the path" in note
    with pytest.raises(MissingSplitError):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize("value", ["", "null", "~", "[]"])
def test_no_val_is_no_fault_but_one_that_is_there_is_named(tmp_path: Path, value: str) -> None:
    part(tmp_path, "train/images")
    file = yaml(tmp_path, f"train: train/images\nval: {value}")
    problems = Problems(False)
    assert set(open_splits(tmp_path, problems=problems)) == {"train"}
    blank = f"{file}: val: is left blank, so no picture is measured on: name its pictures, or set some of train apart"
    assert problems.notes == ([f"{blank} to measure on with --val 0.2"] if value == "" else [])
    problems.notes.clear()
    part(tmp_path, "valid/images")
    assert set(open_splits(tmp_path, problems=problems)) == {"train"}
    assert problems.notes == [
        f"{file} names no val, but valid/images holds pictures: add `val: valid/images` to measure on them"
    ]


@pytest.mark.parametrize("key", ["valid", "validation", "validate"])
def test_other_words_for_val(tmp_path: Path, key: str) -> None:
    part(tmp_path, "images/train")
    part(tmp_path, "images/other")
    yaml(tmp_path, f"train: images/train\n{key}: images/other")
    assert open_dataset(tmp_path, "val").images_dir == tmp_path / "images/other"


def test_the_same_path_for_both_is_what_it_says(tmp_path: Path) -> None:
    part(tmp_path, "images")
    yaml(tmp_path, "train: images\nval: images")
    assert set(open_splits(tmp_path)) == {"train", "val"}
    lines: list[str] = []
    open_run_data(tmp_path, None, say=lines.append)
    assert lines == [
        "warning: 3 pictures of 3 to measure on are in the training data too, so the numbers will be too good; see "
        "`gfocal data check`, or set others apart with --val 0.2"
    ]


def test_two_paths_that_end_alike_are_not_the_same_data(tmp_path: Path) -> None:
    part(tmp_path, "set/images")
    yaml(tmp_path, "train: /first/set/images\nval: /second/set/images")
    assert len(open_dataset(tmp_path, "train")) == 3
    with pytest.raises(UsageError, match=r"val: /second/set/images does not exist, and its end leads to train's"):
        open_dataset(tmp_path, "val")


@pytest.mark.parametrize("given", ["/content/toys", "C:\\sets\\toys", "../datasets/toys", "/home/me/sets/toys/"])
@pytest.mark.parametrize("where", ["", "toys", "../toys", "../datasets/toys"])
def test_a_path_of_another_machine(tmp_path: Path, where: str, given: str) -> None:
    """The data set is looked for beside the file, then where the end of its path leads."""
    folder = tmp_path / "configs"
    root = Path(folder / where) if where else folder
    for place in ("images/train", "images/val"):
        part(root, place)
    file = yaml(folder, f"path: {given}\ntrain: images/train\nval: images/val")
    problems = Problems(False)
    splits = open_splits(file, problems=problems)
    assert {split: boxes_of(index) for split, index in splits.items()} == {"train": WANTED, "val": WANTED}
    assert {index.images_dir.resolve() for index in splits.values()} == {
        (root / "images" / split).resolve() for split in splits
    }
    said = [note for note in problems.notes if "is not on this machine" in note]
    assert len(said) == bool(where and (folder / given.replace("\\", "/")).resolve() != root.resolve())


def test_both_splits_come_from_one_folder(tmp_path: Path) -> None:
    """An old copy where ``path`` leads has only one of them."""
    part(tmp_path / "old", "images/train")
    for place in ("images/train", "images/val"):
        part(tmp_path / "new", place)
    yaml(tmp_path / "new", f"path: {tmp_path / 'old'}\ntrain: images/train\nval: images/val")
    splits = open_splits(tmp_path / "new")
    assert {index.images_dir.parent.parent for index in splits.values()} == {tmp_path / "new"}
    shutil.copytree(tmp_path / "new" / "images" / "val", tmp_path / "old" / "images" / "val")
    assert open_dataset(tmp_path / "new", "val").images_dir == tmp_path / "old" / "images" / "val"


def test_a_list_never_leads_to_another_split(tmp_path: Path) -> None:
    part(tmp_path, "images")
    (tmp_path / "val.txt").write_text("../val/images/a.jpg\n")
    yaml(tmp_path, "train: images\nval: val.txt")
    with pytest.raises(UsageError, match=r"line 1: picture \.\./val/images/a\.jpg does not exist"):
        open_dataset(tmp_path, "val")


def test_ends_of_paths(tmp_path: Path) -> None:
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    assert locate("../train/images", [tmp_path], "train") == tmp_path / "train" / "images"
    assert locate("/home/me/train/images", [tmp_path], "train") == tmp_path / "train" / "images"
    assert locate("../val/images", [tmp_path], "val") is None
    assert locate("../other/images", [tmp_path], "val") == tmp_path / "images"


def test_data_of_a_run_without_val_are_all_learnt(tmp_path: Path) -> None:
    part(tmp_path, "images")
    yaml(tmp_path, "train: images")
    train, val, _ = open_run_data(tmp_path, None)
    assert (len(train), val) == (3, None)
    assert np.asarray(train.labels).tolist() == [0, 1, 1]
