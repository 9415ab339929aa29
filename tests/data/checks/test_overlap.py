"""Splits that are the same data: said, and no image is lost in the cleaned copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gfocal.commands.fix import fix_data
from gfocal.data.checks.check import check_data
from gfocal.data.checks.overlap import keep_order, overlaps
from gfocal.data.formats.convert import write_dataset
from gfocal.data.formats.open import open_splits
from gfocal.data.index.data_index import DataIndex
from gfocal.data.scenes.generate import make_scenes
from helpers.made_index import made_index

TRAIN = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataIndex]:
    """Six images, no two alike."""
    folder = tmp_path_factory.mktemp("scenes") / "data"
    make_scenes(folder, train=TRAIN, val=1, size=64, seed=5)
    return {"train": open_splits(folder)["train"]}


def yolo(root: Path, whole: dict[str, DataIndex]) -> Path:
    write_dataset(whole, root, "yolo")
    return root


def yaml(root: Path, **splits: str) -> None:
    lines = (root / "data.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("train:", "val:", "test:"))]
    (root / "data.yaml").write_text(
        "\n".join([*(f"{split}: {entry}" for split, entry in splits.items()), *kept]) + "\n"
    )
    (root / "gfocal.json").unlink(missing_ok=True)


def copied(root: Path, to: str, names: Iterable[str]) -> None:
    for kind in ("images", "labels"):
        (root / kind / to).mkdir()
        for name in names:
            file = next((root / kind / "train").glob(f"{name}.*"))
            shutil.copy(file, root / kind / to / f"copy of {file.name}")


def stems(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "images" / "train").iterdir())


def one_folder(root: Path) -> None:
    yaml(root, train="images/train", val="images/train")


def one_list(root: Path) -> None:
    (root / "all.txt").write_text("".join(f"images/train/{path.name}\n" for path in (root / "images/train").iterdir()))
    yaml(root, train="all.txt", val="all.txt")


def folder_and_list(root: Path) -> None:
    one_list(root)
    yaml(root, train="images/train", val="all.txt")


def linked(root: Path) -> None:
    for kind in ("images", "labels"):
        (root / kind / "val").symlink_to(root / kind / "train")
    yaml(root, train="images/train", val="images/val")


def all_copied(root: Path) -> None:
    copied(root, "val", stems(root))
    yaml(root, train="images/train", val="images/val")


def val_is_above(root: Path) -> None:
    yaml(root, train="images/train", val="images")


@pytest.mark.parametrize("spoil", [one_folder, one_list, folder_and_list, linked, all_copied, val_is_above])
def test_val_that_is_train_is_said_and_no_image_is_lost(
    tmp_path: Path, whole: dict[str, DataIndex], spoil: Callable[[Path], None]
) -> None:
    root = yolo(tmp_path / "data", whole)
    spoil(root)
    report = check_data(root)
    (finding,) = [f for f in report.findings if f.kind == "splits-shared"]
    how = "copies of the same pictures" if spoil is all_copied else "the same files"
    assert (finding.split, finding.message) == (
        "val",
        f"6 of the 6 pictures of val are in train too ({how}): it measures what is learnt. Name other "
        "pictures for val, or set some of train apart: `gfocal train ... --val 0.2`",
    )
    fixed = fix_data(report, tmp_path / "cleaned")
    assert {split: (len(index), len(index.boxes)) for split, index in open_splits(tmp_path / "cleaned").items()} == {
        "train": (TRAIN, len(whole["train"].boxes))
    }
    assert fixed.report.ok
    changes = [change for change in fixed.changes if change.kind == "splits-shared"]
    assert [(change.split, change.subject, change.action) for change in changes] == [
        (
            "val",
            None,
            "pictures that train and val share are in train, and the copy has no val. Name other pictures for val, or "
            "set some of train apart: `gfocal train ... --val 0.2`",
        )
    ]


def test_one_picture_many_times_in_both_splits(tmp_path: Path, whole: dict[str, DataIndex]) -> None:
    """Train keeps the one picture that it has: without it there would be no train."""
    root = yolo(tmp_path / "data", whole)
    first, *others = sorted((root / "images" / "train").iterdir())
    for other in others:
        shutil.copy(first, other)
    all_copied(root)
    report = check_data(root)
    (finding,) = [f for f in report.findings if f.kind == "splits-shared"]
    assert finding.message.startswith("6 of the 6 pictures of val are in train too (copies of the same pictures): it m")
    fix_data(report, tmp_path / "cleaned")
    assert {split: len(index) for split, index in open_splits(tmp_path / "cleaned").items()} == {"train": 1}


def test_a_fault_of_a_file_of_two_splits_is_one(tmp_path: Path, whole: dict[str, DataIndex]) -> None:
    root = yolo(tmp_path / "data", whole)
    one_folder(root)
    (root / "labels" / "train" / "extra.txt").write_text("0 .5 .5 .2 .2\n")
    report = check_data(root)
    assert [(f.split, f.image) for f in report.findings if f.kind == "picture-missing"] == [("train", "extra")]
    assert [report.left_out[split].records for split in ("train", "val")] == [1, 1]  # what each would leave out


def test_val_inside_train_leaves_train(tmp_path: Path, whole: dict[str, DataIndex]) -> None:
    root = yolo(tmp_path / "data", whole)
    for kind in ("images", "labels"):
        (root / kind / "train" / "val").mkdir()
        for name in stems(root)[:2]:
            file = next((root / kind / "train").glob(f"{name}.*"))
            file.rename(root / kind / "train" / "val" / file.name)
    yaml(root, train="images/train", val="images/train/val")
    report = check_data(root)
    (finding,) = [f for f in report.findings if f.kind == "splits-shared"]
    assert finding.message == (
        "2 of the 2 pictures of val are in train too (the same files): take them out of train, which has 6"
    )
    fix_data(report, tmp_path / "cleaned")
    assert {split: len(index) for split, index in open_splits(tmp_path / "cleaned").items()} == {"train": 4, "val": 2}


def test_copies_of_most_of_train(tmp_path: Path, whole: dict[str, DataIndex]) -> None:
    """Val keeps what only it has; of the others train has more labels, which is listed."""
    root = yolo(tmp_path / "data", whole)
    copied(root, "val", stems(root)[:5])
    (root / "labels" / "val" / f"copy of {stems(root)[0]}.txt").write_text("")
    last = next((root / "images" / "train").glob(f"{stems(root)[5]}.*"))
    last.rename(root / "images" / "val" / last.name)
    label = root / "labels" / "train" / f"{last.stem}.txt"
    label.rename(root / "labels" / "val" / label.name)
    yaml(root, train="images/train", val="images/val")
    report = check_data(root)
    (finding,) = [f for f in report.findings if f.kind == "splits-shared"]
    assert finding.message.startswith("5 of the 6 pictures of val are in train too (copies of the same pictures)")
    changes = fix_data(report, tmp_path / "cleaned").changes
    assert {split: len(index) for split, index in open_splits(tmp_path / "cleaned").items()} == {"train": 5, "val": 1}
    told = [change.action for change in changes if change.kind == "leak-exact"]
    assert len(told) == 5
    assert sum(action.endswith("boxes, not 0") for action in told) == 1


def test_a_file_that_train_lists_twice_leaves_with_both_entries(tmp_path: Path, whole: dict[str, DataIndex]) -> None:
    write_dataset(whole, tmp_path / "data", "coco")
    file = tmp_path / "data" / "annotations" / "train.json"
    content = json.loads(file.read_text())
    first = content["images"][0]
    val = {
        **content,
        "images": [first],
        "annotations": [a for a in content["annotations"] if a["image_id"] == first["id"]],
    }
    (file.parent / "val.json").write_text(json.dumps(val))
    content["images"].append({**first, "id": 999})
    file.write_text(json.dumps(content))
    fix_data(check_data(tmp_path / "data"), tmp_path / "cleaned")
    assert {split: len(index) for split, index in open_splits(tmp_path / "cleaned").items()} == {"train": 5, "val": 1}


@pytest.mark.parametrize("fmt", ["coco", "voc"])
def test_the_same_in_other_formats(tmp_path: Path, whole: dict[str, DataIndex], fmt: str) -> None:
    write_dataset(whole, tmp_path / "data", fmt)  # type: ignore[arg-type]
    lists = tmp_path / "data" / ("annotations" if fmt == "coco" else "ImageSets/Main")
    for split in ("val", "test"):
        shutil.copy(next(lists.glob("train.*")), lists / f"{split}{next(lists.glob('train.*')).suffix}")
    (tmp_path / "data" / "gfocal.json").unlink(missing_ok=True)
    report = check_data(tmp_path / "data")
    assert [f.split for f in report.findings if f.kind == "splits-shared"] == ["val", "test", "test"]
    fixed = fix_data(report, tmp_path / "cleaned")
    assert {split: len(index) for split, index in open_splits(tmp_path / "cleaned").items()} == {"train": TRAIN}
    assert fixed.report.ok


def test_test_that_is_val_leaves_val(tmp_path: Path, whole: dict[str, DataIndex]) -> None:
    """Many yaml files name one folder for both."""
    root = yolo(tmp_path / "data", whole)
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir()
        file = next((root / kind / "train").glob(f"{stems(root)[-1]}.*" if kind == "images" else "*5.txt"))
        file.rename(root / kind / "val" / file.name)
    yaml(root, train="images/train", val="images/val", test="images/val")
    report = check_data(root)
    (finding,) = [f for f in report.findings if f.kind == "splits-shared"]
    assert finding.message.endswith("the two measure the same. Name other pictures for test, or none")
    fix_data(report, tmp_path / "cleaned")
    assert {split: len(index) for split, index in open_splits(tmp_path / "cleaned").items()} == {"train": 5, "val": 1}


def pictures(count: int) -> DataIndex:
    return made_index([(8, 8, [])] * count)


def test_an_ordinary_leak_is_no_overlap() -> None:
    splits = {"train": pictures(10), "val": pictures(4), "test": pictures(4)}
    pairs = [(("train", 0), ("val", 3)), (("val", 1), ("test", 0))]
    assert overlaps(splits, pairs) == []
    assert keep_order(splits, pairs) == ["test", "val", "train"]


def test_what_several_splits_share_stays_in_one() -> None:
    splits = {"train": pictures(4), "val": pictures(4), "test": pictures(4)}
    pairs = [((a, i), (b, i)) for i in range(3) for a, b in (("train", "val"), ("train", "test"), ("val", "test"))]
    assert keep_order(splits, pairs) == ["train", "val", "test"]
    assert [(each.first, each.second, each.kept_in) for each in overlaps(splits, pairs)] == [
        ("train", "val", "train"),
        ("train", "test", "train"),
        ("val", "test", "val"),
    ]
