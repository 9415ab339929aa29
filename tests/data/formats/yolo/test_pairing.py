"""Label files are found wherever they are, read where only one can be meant, and named where not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gfocal.data.formats.open import open_dataset, open_splits
from gfocal.data.formats.yolo.pairing import label_path
from gfocal.data.formats.yolo.tree import holds_labels, meaning_of, scan
from gfocal.data.problems import Problem, Problems
from gfocal.errors import BrokenInputError, UsageError
from gfocal.runs.datasets import describe_data, nothing_to_learn
from helpers.layouts import CONTENT, boxes_of, image, images, voc_labels, yolo_text, zipped

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}
OTHER = "0 0.5 0.5 0.1 0.1\n"


def yaml(root: Path, **splits: str) -> None:
    lines = "".join(f"{split}: {entry}\n" for split, entry in splits.items())
    (root / "data.yaml").write_text(f"{lines}names: [cat, dog]\n")


def labels(folder: Path, form: str = "{}.txt") -> None:
    """Label files of CONTENT under names that are made of those of the images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CONTENT:
        (folder / form.format(Path(name).stem, name)).write_text(yolo_text(name))


def opened(root: Path) -> tuple[dict[str, dict], list[str]]:
    """(the boxes of each split, the notes)."""
    problems = Problems(False)
    return {split: boxes_of(index) for split, index in open_splits(root, problems=problems).items()}, problems.notes


# Where the images are, what the yaml file names, where the label files are, and the end of what is advised.
ONE_SPLIT = [
    ("Images", "Images", "labels", "rename Images to images, in data.yaml too"),
    ("images", "images", "Labels", "rename Labels to labels"),
    ("imgs", "imgs", "labels", "rename imgs to images, in data.yaml too"),
    ("bilder", "bilder", "etiketten", "rename bilder to images and etiketten to labels, in data.yaml too"),
    ("images/train", "images/train", "labels", "move what is there to labels/train"),
    ("images", "images", "labels/train", "move what is there to labels"),
    ("images/train2017", "images/train2017", "labels/train", "rename labels/train to train2017"),
    ("images", "images", "labels/sub", "move what is there to labels"),
    ("images", "images", "images/Label", "move what is there to labels"),
    (
        *("data/pics/train", "data/pics/train", "annotations/yolo/training"),
        "rename data/pics/train to images/train and annotations/yolo/training to labels/train, in data.yaml too",
    ),
    (
        *("train_images", "train_images", "train_labels"),
        "rename train_images to images/train and train_labels to labels/train, in data.yaml too",
    ),
    ("train/imgs", "train/imgs", "labels/train", "rename train/imgs to images/train, in data.yaml too"),
    (
        *("2024", "2024", "export/obj_train_data"),
        "rename 2024 to images and export/obj_train_data to labels, in data.yaml too",
    ),
    ("a/frames", "a/frames", "a/yolo_1_1", "rename a/frames to images and a/yolo_1_1 to labels, in data.yaml too"),
    ("JPEGImages", "JPEGImages", "yolo_txt", "rename JPEGImages to images and yolo_txt to labels, in data.yaml too"),
    ("2024", "2024", "lbl/2024", "rename 2024 to images/2024 and lbl/2024 to labels/2024, in data.yaml too"),
    ("pics/a", "pics/a", "ann/b/a", "rename pics to images and ann/b to labels, in data.yaml too"),
]


@pytest.mark.parametrize(("place", "entry", "where", "advice"), ONE_SPLIT, ids=[f"{p}+{w}" for p, _, w, _ in ONE_SPLIT])
def test_layouts_that_programs_do_not_agree_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, entry: str, where: str, advice: str
) -> None:
    images(tmp_path / place)
    labels(tmp_path / where)
    yaml(tmp_path, train=entry)
    for name in ("classes.txt", "README.txt", "requirements.txt", "train.txt"):
        (tmp_path / name).write_text("cat\ndog 0.5\n./images/a.jpg\n")
    monkeypatch.chdir(tmp_path)
    found, notes = opened(Path())
    assert found == {"train": WANTED}
    (note,) = [note for note in notes if "label file" in note]
    there = label_path(Path(place, "a.jpg"))
    assert note == (
        f"2 label files in {where}: read for the pictures in {place}, though YOLO programs look for {there}: {advice}"
    )


def test_advice_about_a_zip_names_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    images(tmp_path / "set" / "images" / "train")
    labels(tmp_path / "set" / "labels")
    labels(tmp_path / "set" / "notes", "other-{}.txt")
    yaml(tmp_path / "set", train="images/train")
    archive = zipped(tmp_path / "set", tmp_path / "set.zip")
    found, notes = opened(archive)
    assert found == {"train": WANTED}
    assert any(note.endswith(f": move what is there to {archive}/labels/train") for note in notes)
    assert any(note.startswith(f"2 label files in {archive}/notes: not read") for note in notes)
    assert "cache" not in "".join(notes)


def test_a_fault_in_a_zip_names_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    images(tmp_path / "set" / "images")
    labels(tmp_path / "set" / "labels")
    (tmp_path / "set" / "labels" / "a.txt").write_text("0 0.5\n")
    yaml(tmp_path / "set", train="images")
    archive = zipped(tmp_path / "set", tmp_path / "set.zip")
    problems = Problems(True)
    open_dataset(archive, "train", problems=problems)
    assert problems.lines[0].startswith(f"{archive}/labels/a.txt: ")
    with pytest.raises(BrokenInputError) as caught:
        open_dataset(archive, "train")
    assert str(caught.value).startswith(f"{archive}/labels/a.txt: ")
    assert caught.value.path.is_file(), "programs get the file itself"


@pytest.mark.parametrize("form", ["{}.TXT", "{1}.txt", "{}.Txt"])
def test_names_that_programs_do_not_agree_on(tmp_path: Path, form: str) -> None:
    images(tmp_path / "images")
    labels(tmp_path / "labels", form)
    yaml(tmp_path, train="images")
    found, notes = opened(tmp_path)
    assert found == {"train": WANTED}
    assert [note.rpartition(": ")[2] for note in notes] == [f"rename {form.format('a', 'a.jpg')} to a.txt"]


def test_capitals_and_accents_of_names(tmp_path: Path) -> None:
    """Some systems write accents as two characters, and capitals as they like."""
    image(tmp_path / "images" / "u\u0308.JPG", (24, 16))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "\u00dc.txt").write_text(OTHER)
    yaml(tmp_path, train="images")
    assert [len(boxes) for boxes in opened(tmp_path)[0]["train"].values()] == [1]


def test_several_splits_of_the_same_names(tmp_path: Path) -> None:
    for place, where in (("train2017", "training"), ("val2017", "valid")):
        images(tmp_path / "images" / place)
        labels(tmp_path / "labels" / where)
    (tmp_path / "labels" / "valid" / "a.txt").write_text(OTHER)
    yaml(tmp_path, train="images/train2017", val="images/val2017")
    found, _ = opened(tmp_path)
    assert found["train"] == WANTED
    assert found["val"] == WANTED | {"a.jpg": [("cat", (18.0, 13.5, 22.0, 16.5))]}


def test_two_sources_of_which_one_is_odd(tmp_path: Path) -> None:
    images(tmp_path / "a" / "images")
    labels(tmp_path / "a" / "labels")
    images(tmp_path / "b" / "imgs", {name: f"b{name}" for name in CONTENT})
    labels(tmp_path / "b" / "labels", "b{}.txt")
    yaml(tmp_path, train="[a/images, b/imgs]")
    found, notes = opened(tmp_path)
    assert found == {"train": WANTED | {f"b{name}": boxes for name, boxes in WANTED.items()}}
    assert [note.partition(": ")[0] for note in notes] == [f"2 label files in {tmp_path / 'b' / 'labels'}"]


@pytest.mark.parametrize(
    ("place", "where"),
    [("{}", "{}"), ("{}", "labels/{}"), ("{}/imgs", "{}/txt"), ("{}_images", "{}_labels"), ("imgs/{}", "txt/{}")],
)
def test_folders_without_a_yaml_file(tmp_path: Path, place: str, where: str) -> None:
    for split in ("train", "valid"):
        images(tmp_path / place.format(split))
        labels(tmp_path / where.format(split))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert opened(tmp_path)[0] == {"train": WANTED, "val": WANTED}


def test_images_and_labels_side_by_side_without_class_names(tmp_path: Path) -> None:
    images(tmp_path)
    labels(tmp_path)
    found, notes = opened(tmp_path)
    assert {name: len(boxes) for name, boxes in found["train"].items()} == {"a.jpg": 2, "b c.jpg": 1, "ü.png": 0}
    assert notes == [f"{tmp_path}: nothing names the classes: gfocal calls them by their numbers"]


def test_a_folder_around_it_may_be_called_anything(tmp_path: Path) -> None:
    images(tmp_path / "imgs" / "images")
    labels(tmp_path / "imgs" / "labels")
    (tmp_path / "imgs" / "classes.txt").write_text("cat\ndog\n")
    assert opened(tmp_path) == ({"train": WANTED}, [])


def test_label_files_beside_another_format_do_not_count(tmp_path: Path) -> None:
    """Darknet's programs want them beside the XML files, and nobody asked for those."""
    voc_labels(tmp_path / "Annotations")
    images(tmp_path / "JPEGImages")
    labels(tmp_path / "labels")
    problems = Problems(False)
    assert boxes_of(open_dataset(tmp_path, "train", problems=problems)) == WANTED
    assert problems.notes == []
    index = open_dataset(tmp_path, "train", format="yolo")
    assert (index.names, len(index.boxes)) == (("0", "1"), 3)


def test_other_text_files_make_no_data_set(tmp_path: Path) -> None:
    images(tmp_path / "imgs")
    (tmp_path / "imgs" / "a.txt").write_text("a cat and a dog\n")
    (tmp_path / "gt.txt").write_text("1,0,10,10,40,40,1\n449 330 122 149 0 0 0 0 0 0\n")
    with pytest.raises(UsageError, match="no data set found"):
        open_dataset(tmp_path, "train")


def test_links_and_circles(tmp_path: Path) -> None:
    images(tmp_path / "store" / "pics")
    labels(tmp_path / "store" / "annotations")
    (tmp_path / "images").symlink_to(tmp_path / "store" / "pics")
    (tmp_path / "store" / "pics" / "up").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "up").symlink_to(tmp_path)
    (tmp_path / "store" / "self").symlink_to(tmp_path / "store" / "self")
    yaml(tmp_path, train="images")
    assert opened(tmp_path)[0] == {"train": WANTED}
    linked = tmp_path / "linked"
    (linked / "train").mkdir(parents=True)
    (linked / "train" / "images").symlink_to(tmp_path / "store" / "pics")
    (linked / "train" / "labels").symlink_to(tmp_path / "store" / "annotations")
    yaml(linked, train="train/images")
    assert opened(linked) == ({"train": WANTED}, []), "these are where programs look"


def test_two_images_for_one_label_file_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images(tmp_path / "images" / split)
    labels(tmp_path / "labels")
    yaml(tmp_path, train="images/train", val="images/val")
    with pytest.raises(BrokenInputError) as refused:
        open_dataset(tmp_path, "train")
    images_ = tmp_path / "images"
    assert str(refused.value) == (
        f"{tmp_path}/labels/a.txt: these may be the labels of {images_}/train/a.jpg or of {images_}/val/a.jpg; put "
        f"them where they belong: {tmp_path}/labels/train/a.txt is looked at first, or leave it out with --skip-broken"
    )
    found: list[Problem] = []
    index = open_dataset(tmp_path, "train", problems=Problems(True, found.append))
    assert boxes_of(index) == {"ü.png": []}, "no image whose labels are unknown is background"
    assert [(problem.kind, problem.image) for problem in found] == [
        ("label-unclear", "a.jpg"),
        ("label-unclear", "b c.jpg"),
    ]


def test_two_label_files_for_one_image(tmp_path: Path) -> None:
    images(tmp_path / "imgs")
    for name in ("labels", "labels_old"):
        labels(tmp_path / name)
    yaml(tmp_path, train="imgs")
    found, notes = opened(tmp_path)
    assert found == {"train": WANTED}, "they have the same content"
    assert f"2 label files in {tmp_path / 'labels_old'}: not read, their pictures have others (first b c.txt)" in notes
    (tmp_path / "labels_old" / "a.txt").write_text(OTHER)
    with pytest.raises(BrokenInputError, match=r"a\.txt: this file and .*a\.txt differ, and both may be the labels of"):
        open_dataset(tmp_path, "train")


def test_where_programs_look_comes_first(tmp_path: Path) -> None:
    images(tmp_path / "images")
    labels(tmp_path / "labels")
    labels(tmp_path / "labels_old")
    (tmp_path / "labels_old" / "a.txt").write_text(OTHER)
    yaml(tmp_path, train="images")
    found, notes = opened(tmp_path)
    assert found == {"train": WANTED}
    assert notes == [f"2 label files in {tmp_path / 'labels_old'}: not read, their pictures have others (first a.txt)"]


def test_predictions_are_no_labels(tmp_path: Path) -> None:
    images(tmp_path / "images")
    labels(tmp_path / "runs" / "detect" / "labels")
    yaml(tmp_path, train="images")
    found, notes = opened(tmp_path)
    assert not any(found["train"].values())
    where = tmp_path / "runs" / "detect" / "labels"
    assert notes == [f"2 label files in {where}: not read, they are a program's results (first a.txt)"]


@pytest.mark.parametrize(("place", "where"), [("imgs/train", "labels/val"), ("cam1/imgs", "cam2/labels")])
def test_folders_that_name_something_else_do_not_belong_together(tmp_path: Path, place: str, where: str) -> None:
    images(tmp_path / place)
    image(tmp_path / "more" / "images" / "m.png", (20, 20))
    (tmp_path / "more" / "labels").mkdir()
    (tmp_path / "more" / "labels" / "m.txt").write_text(OTHER)
    labels(tmp_path / where)
    yaml(tmp_path, train=f"[{place}, more/images]")
    found, notes = opened(tmp_path)
    assert {name for name, boxes in found["train"].items() if boxes} == {"m.png"}
    (note,) = notes
    assert note.startswith(f"2 label files in {tmp_path / where}: not read, no picture of the data set has this name")


def test_the_only_folders_do_not_belong_together_where_they_name_two_splits(tmp_path: Path) -> None:
    images(tmp_path / "train")
    labels(tmp_path / "val")
    yaml(tmp_path, train="train")
    found, notes = opened(tmp_path)
    assert not any(found["train"].values())
    assert "no picture of the data set has this name in a folder that fits" in notes[0]


def test_label_files_of_no_image_are_said_once_and_listed(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images(tmp_path / "imgs" / split)
        labels(tmp_path / "labels" / split)
    for name in ("old/gone1", "old/gone2", "old/gone3", "val/lost"):
        (tmp_path / "labels" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text(OTHER)
    yaml(tmp_path, train="imgs/train", val="imgs/val")
    for split, folder, count in (("train", "old", 3), ("val", "val", 1)):
        found: list[Problem] = []
        problems = Problems(True, found.append)
        assert boxes_of(open_dataset(tmp_path, split, problems=problems)) == WANTED  # type: ignore[arg-type]
        assert [problem.kind for problem in found] == ["label-unclaimed"] * count
        (note,) = [note for note in problems.notes if "no picture" in note]
        assert note.startswith(
            f"{count} label file{'s' if count > 1 else ''} in {tmp_path / 'labels' / folder}: not read"
        )


def test_beside_a_yaml_file_only_its_data_set_is_looked_at(tmp_path: Path) -> None:
    """A yaml file may lie in a home folder, with other data sets beside its own."""
    images(tmp_path / "sets" / "mine" / "imgs")
    labels(tmp_path / "sets" / "mine" / "labels")
    labels(tmp_path / "sets" / "other" / "set" / "labels")
    image(tmp_path / "sets" / "other" / "set" / "images" / "other.png", (20, 20))
    yaml(tmp_path, train="sets/mine/imgs")
    found, notes = opened(tmp_path)
    assert found == {"train": WANTED}
    assert len(notes) == 1


def test_a_home_folder_is_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    images(tmp_path / "imgs")
    labels(tmp_path / "labels")
    labels(tmp_path / "mail" / "deep")
    yaml(tmp_path, train="imgs")
    found, notes = opened(tmp_path)
    assert found == {"train": WANTED}
    assert len(notes) == 1


def test_images_on_several_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is around them all is no data set."""
    monkeypatch.setenv("HOME", str(tmp_path / "config"))
    for disk in ("one", "two"):
        names = {name: f"{disk}{name}" for name in CONTENT}
        images(tmp_path / disk / "set" / "imgs" / "train", names)
        labels(tmp_path / disk / "set" / "labels", disk + "{}.txt")
    labels(tmp_path / "one" / "elsewhere")
    (tmp_path / "config").mkdir()
    entries = ", ".join(str(tmp_path / disk / "set" / "imgs" / "train") for disk in ("one", "two"))
    yaml(tmp_path / "config", train=f"[{entries}]")
    found, notes = opened(tmp_path / "config")
    assert found == {"train": {f"{disk}{name}": boxes for disk in ("one", "two") for name, boxes in WANTED.items()}}
    assert len(notes) == 2


def test_no_object_to_learn_names_the_places(tmp_path: Path) -> None:
    images(tmp_path / "images" / "train")
    images(tmp_path / "more" / "pics")
    yaml(tmp_path, train="[images/train, more/pics]")
    index = open_dataset(tmp_path, "train")
    line = nothing_to_learn(index, describe_data(index))
    places = [tmp_path / place for place in ("labels/train", "images/train", "more/pics")]
    assert line is not None
    assert f"it has no boxes; label files were looked for in {', '.join(map(str, places))}. " in line
    labels(tmp_path / "labels" / "train")
    index = open_dataset(tmp_path, "train")
    assert nothing_to_learn(index, describe_data(index)) is None


def test_many_folders_are_said_in_few_lines(tmp_path: Path) -> None:
    for number in range(9):
        image(tmp_path / "imgs" / str(number) / f"{number}.png", (20, 20))
        (tmp_path / "labels" / str(number)).mkdir(parents=True)
        (tmp_path / "labels" / str(number) / f"{number}.txt").write_text(OTHER)
    yaml(tmp_path, train="imgs")
    found, notes = opened(tmp_path)
    assert all(found["train"].values())
    assert notes[5:] == ["... and label files in 4 more folders in the same way"]


@pytest.mark.parametrize(
    ("text", "is_label"),
    [
        ("0 0.5 0.5 0.2 0.2\n", True),
        ("\ufeff\n3\t0.5 0.5 0.2 0.2 0.9\r\n\r\n", True),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2\n", True),
        ("0 0.5 0.5 0.2 0.2 0.4 0.4 2\n" * 999, True),
        ("", False),
        ("\n \n", False),
        ("cat\ndog\n", False),
        ("1\n2\n3\n4\n5\n", False),
        ("./images/a.jpg\n", False),
        ("torch==2.9\n", False),
        ("0.5 0.5 0.5 0.2 0.2\n", False),
        ("-1 0.5 0.5 0.2 0.2\n", False),
        ("0 0.5 0.5 nan 0.2\n", False),
        ("0 120 90 40 30\n", False),
        ("0 0.5 0.5 0.2\n", False),
        ("0 0.5 0.5 0.2 0.2\nCar 0.5 0.5 0.2 0.2\n", False),
        ("10,13 16,30 33,23 30,61 62,45\n", False),
        ("\x00" * 40, False),
    ],
)
def test_what_a_label_file_is(tmp_path: Path, text: str, is_label: bool) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode())
    assert holds_labels(os.fspath(file)) is is_label


def test_what_folders_mean() -> None:
    assert meaning_of(["Images", "Train2017"]) == meaning_of(["label", "training"]) == ("train",)
    assert meaning_of(["valid_images", "cam_2"]) == meaning_of(["labels-val", "CAM-2"]) == ("val", "cam-2")
    assert meaning_of(["JPEGImages"]) == meaning_of([]) == ()


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    listed = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert {Path(path).name: own.images for path, own in scan([tmp_path]).items()} == {tmp_path.name: [], "closed": []}
