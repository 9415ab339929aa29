"""File names of other machines: found where one file fits, refused by name where several do."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gfocal.data.checks.check import check_data
from gfocal.data.formats.coco.locate import readings
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError, EmptySplitError, UsageError

DECOMPOSED = unicodedata.normalize("NFD", "ü.png")


def data(
    root: Path, files: Sequence[str], names: Sequence[Any], annotations: str = "annotations/custom_train.json"
) -> Path:
    """A data set of image files, and a COCO file of other names; ``names`` are names, or more keys of an image."""
    for i, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 10)).save(root / name)
    images = []
    for i, name in enumerate(names):
        keys = name if isinstance(name, dict) else {"file_name": name}
        images.append({"id": i, "width": 20 + i, "height": 10} | keys)
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5 + i]} for i in range(len(names))]
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (root / annotations).write_text(json.dumps(content))
    return root


def read(path: Path, *, skip: bool = False, images_dir: Path | None = None) -> tuple[DataIndex, list[str]]:
    problems = Problems(skip)
    return open_dataset(path, "train", images_dir=images_dir, problems=problems), problems.notes


def places(index: DataIndex, root: Path) -> list[str]:
    return [index.path(i).relative_to(root).as_posix() for i in range(len(index))]


NAMES: dict[str, tuple[Sequence[Any], str]] = {
    "in another folder": (["a.png", "b c.png"], "by the end of the path"),
    "Windows": (["C:\\Users\\me\\set\\a.png", "D:\\x\\b c.png"], "by the end of the path"),
    "Windows, a server": (["\\\\server\\share\\a.png", "//server/share/b c.png"], "by the end of the path"),
    "POSIX": (["/home/me/set/a.png", "~/set/b c.png"], "by the end of the path"),
    "above": (["../../a.png", "..\\..\\label-studio\\media\\upload\\4\\b c.png"], "by the end of the path"),
    "Label Studio, local files": (
        ["/data/local-files/?d=set%2Fa.png", "http://localhost:8080/data/local-files/?d=my%20set/b%20c.png"],
        "by the end of the path",
    ),
    "Label Studio, uploads": (["/data/upload/3/a.png", "data/upload/3/b c.png"], "by the end of the path"),
    "Label Studio, files before the upload": (
        ["/data/upload/3/1a2b3c4d-a.png", "images\\3/99999999-b c.png"],
        "without the digits that Label Studio writes",
    ),
    "percent signs": (["train/a.png", "train/b%20c.png"], "by the end of the path"),
    "plus signs": (["?d=train/a.png", "?d=train/b+c.png"], "by the end of the path"),
    "URLs": (["https://x.org/p/a.png?X-Amz=1&e=2", "s3://bucket/k/b c.png"], "by the end of the path"),
    "no URL after all": (["http://[bad/a.png", "b c.png"], "by the end of the path"),
    "LVIS": (
        [{"coco_url": f"http://images.cocodataset.org/train2017/{name}"} for name in ("a.png", "b%20c.png")],
        "by the end of the path",
    ),
    "a number as its name, and a URL": (
        [{"file_name": "7", "coco_url": "http://x.org/a.png"}, {"file_name": "8", "coco_url": "http://x.org/b c.png"}],
        "by the end of the path",
    ),
    "a URL that is none": (
        [{"file_name": "a.png", "coco_url": 7}, {"file_name": "b c.png", "coco_url": [""]}],
        "by the end of the path",
    ),
    "capitals": (["train2017/A.PNG", "B C.png"], "with other capitals"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_other_machines(tmp_path: Path, kind: str) -> None:
    names, way = NAMES[kind]
    root = data(tmp_path, ["train2017/a.png", "train2017/b c.png"], names)
    for given in (root, root / "annotations/custom_train.json"):
        index, notes = read(given)
        assert places(index, root) == ["train2017/a.png", "train2017/b c.png"]
        assert (index.images_dir, index.file_name(0)) == (root / "train2017", "a.png")
        assert index.boxes[:, 3].tolist() == [6, 7], "each image has its own box"
        assert len(notes) == 1
        assert f"2 pictures found {way}" in notes[0]
        assert "is train2017/a.png" in notes[0]


def test_names_that_are_right_are_not_told_and_stay(tmp_path: Path) -> None:
    names = ["train/a%20b.png", "train/?d=c.png", str(tmp_path / "train/d.png"), "train\\e.png"]
    files = ["train/a%20b.png", "train/?d=c.png", "train/d.png", "train/e.png", "a b.png", "c.png"]
    index, notes = read(data(tmp_path, files, names, "custom.json"))
    assert notes == []
    assert [index.file_name(i) for i in range(4)] == [*names[:3], "train/e.png"]


@pytest.mark.parametrize(("there", "written"), [("ü.png", DECOMPOSED), (DECOMPOSED, "ü.png")], ids=["NFC", "NFD"])
def test_forms_of_unicode_are_named(tmp_path: Path, there: str, written: str) -> None:
    index, notes = read(data(tmp_path, [f"images/{there}"], [written], "custom.json"))
    assert index.file_name(0) == there
    assert "1 picture found in another form of Unicode" in notes[0]
    assert "NFD" in notes[0]


def test_each_way_has_its_note(tmp_path: Path) -> None:
    names = ["images/a.png", "x/b.png", "C.png", DECOMPOSED]
    _, notes = read(
        data(tmp_path, [f"images/{name}" for name in ("a.png", "b.png", "c.png", "ü.png")], names, "x.json")
    )
    ways = ["by the end of the path", "in another form of Unicode", "with other capitals"]
    assert len(notes) == len(ways)
    assert all(f"1 picture found {way}" in note for way, note in zip(ways, notes, strict=True))


@pytest.mark.parametrize(
    ("files", "names", "message"),
    [
        (["x/a.png", "y/a.png"], ["a.png"], "a.png fits several in .*: x/a.png, y/a.png; give .* with --images DIR"),
        (["x/1/a.png", "y/1/a.png"], ["C:\\1\\a.png"], "fits several in .*: x/1/a.png, y/1/a.png"),
        (["images/A.png", "images/a.png"], ["a.PNG"], "a.PNG fits several in .*: images/A.png, images/a.png"),
        (["images/ü.png", f"images/{DECOMPOSED}"], ["Ü.png"], "Ü.png fits several in"),
        (["flat/a.png"], ["p/a.png", "q/a.png"], r"p/a.png fits .*flat/a\.png, and so does q/a.png"),
        (["x/a.png"], ["/u/1a2b3c4d-a.png", "/u/99999999-a.png"], "fits .*x/a.png, and so does /u/99999999-a.png"),
        (["images/a.png"], ["images/a.png", "old/a.png"], "old/a.png fits .*images/a.png, and so does images/a.png"),
    ],
)
def test_what_fits_twice_is_refused_by_name(
    tmp_path: Path, files: Sequence[str], names: Sequence[str], message: str
) -> None:
    root = data(tmp_path, files, names, "custom.json")
    with pytest.raises(BrokenInputError, match=message):
        read(root)
    try:
        index, _ = read(root, skip=True)
    except EmptySplitError:
        return
    assert places(index, root) == ["images/a.png"], "a name that is right keeps its file"
    assert len(index.skipped) == 1


def test_the_longest_end_decides_and_then_the_split(tmp_path: Path) -> None:
    root = data(tmp_path / "end", ["x/1/a.png", "y/2/a.png"], ["C:\\q\\2\\a.png"], "custom.json")
    assert places(read(root)[0], root) == ["y/2/a.png"]
    root = data(tmp_path / "split", ["train2017/a.png", "val2017/a.png"], ["a.png"])
    assert places(read(root)[0], root) == ["train2017/a.png"]
    root = data(tmp_path / "both", ["x/a/1.png", "x/b/1.png"], ["C:\\a\\1.png", "C:\\b\\1.png"], "custom.json")
    assert places(read(root)[0], root) == ["x/a/1.png", "x/b/1.png"]


def test_images_of_several_folders(tmp_path: Path) -> None:
    root = data(tmp_path, ["images/a.png", "more/b.png"], ["a.png", "b.png"], "annotations/train.json")
    index, _ = read(root)
    assert (index.images_dir, index.file_name(0), index.file_name(1)) == (root, "images/a.png", "more/b.png")


@pytest.mark.parametrize("folder", ["images", "photos"])
def test_a_mask_is_no_image(tmp_path: Path, folder: str) -> None:
    """A missing image has a file of its name and size where masks are, as the others have."""
    names = ["a.png", "b.png", "c.png"]
    files = [f"{folder}/a.png", f"{folder}/b.png", *(f"masks/{name}" for name in names)]
    root = data(tmp_path, files, names, "annotations/train.json")
    for i, name in enumerate(names):
        Image.new("RGB", (20 + i, 10)).save(root / "masks" / name)
    with pytest.raises(BrokenInputError, match=r"c.png.* is only in .*masks, which has files of|a.png fits several"):
        read(root)
    if folder == "images":
        index, _ = read(root, skip=True)
        assert places(index, root) == ["images/a.png", "images/b.png"]
    else:
        with pytest.raises(EmptySplitError):
            read(root, skip=True)


def test_a_file_of_another_size_is_no_image_of_the_set(tmp_path: Path) -> None:
    root = data(tmp_path, ["images/a.png"], ["a.png", "logo.png"], "annotations/train.json")
    (root / "docs").mkdir()
    Image.new("RGB", (7, 7)).save(root / "docs/logo.png")
    with pytest.raises(BrokenInputError, match=r"logo.png is of another size than .*docs/logo.png"):
        read(root)
    Image.new("RGB", (10, 21)).save(root / "docs/logo.png")  # turned by EXIF, as annotation tools may see it
    assert places(read(root)[0], root) == ["images/a.png", "docs/logo.png"]


def test_a_folder_that_is_given(tmp_path: Path) -> None:
    root = data(tmp_path / "set", ["images/a.png"], ["a.png", "b.png"], "annotations/custom.json")
    for i, name in enumerate(("a.png", "b.png")):
        (tmp_path / "photos/deep").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 10)).save(tmp_path / "photos/deep" / name)
    with pytest.raises(BrokenInputError, match=r"1 of 2 pictures are missing below .*: b\.png; give .*--images DIR"):
        read(root)
    for given in (tmp_path / "photos", tmp_path / "photos/deep"):
        index, notes = read(root, images_dir=given)
        assert index.images_dir == tmp_path / "photos/deep", "and not images/, which has one of the two"
        assert len(notes) == (given.name == "photos")
    with pytest.raises(UsageError, match=r"--images .*none is no folder"):
        read(root, images_dir=tmp_path / "none")


def test_a_split_below_a_folder_that_is_given(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        data(root, [], ["a.png"], f"annotations/{split}.json")
        data(tmp_path / "photos", [f"{split}/a.png"], [], "x.json")
    for split in ("train", "val"):
        index = open_dataset(root, split, images_dir=tmp_path / "photos")  # type: ignore[arg-type]
        assert index.images_dir == tmp_path / "photos" / split


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a/b.png", [("a", "b.png")]),
        (" ./a//b.png ", [("a", "b.png")]),
        ("C:\\a\\b.png", [("a", "b.png")]),
        ("/data/local-files/?d=a%2Fb%20c.png", ("a", "b c.png")),
        ("https://x.org/o/a%2Fb.png?alt=media", ("o", "a", "b.png")),
        ("/", []),
        ("", []),
    ],
)
def test_readings(name: str, wanted: list[tuple[str, ...]] | tuple[str, ...]) -> None:
    found = list(readings(name))
    assert wanted in found if isinstance(wanted, tuple) else found == wanted


def test_twins_of_another_ending_are_named(tmp_path: Path) -> None:
    root = data(tmp_path / "set", ["train/a.png", "train/b.png"], ["a.jpg", "b.png", "c.jpg"])
    report = check_data(root)
    messages = [f.message for f in report.findings if f.kind == "picture-missing"]
    folder = root / "train"
    twin = f"does not exist, but {folder / 'a.png'} does: if it is this picture, correct the name's ending"
    assert messages == [f"image 0: picture a.jpg {twin}", f"image 2: picture {folder / 'c.jpg'} does not exist"]
    where = "--images DIR names the folder that holds them, where they are elsewhere"
    assert [note for note in report.understood if "--images" in note] == [
        f"{root / 'annotations/custom_train.json'}: 1 of 3 pictures are not below {root}: {where}"
    ]


def test_images_that_are_all_elsewhere(tmp_path: Path) -> None:
    root = data(tmp_path / "set", [], ["a.jpg", "b.png"])
    assert ["2 of 2 pictures" in note and "--images DIR" in note for note in check_data(root).understood] == [True]


def test_a_name_that_is_missing(tmp_path: Path) -> None:
    root = data(tmp_path, ["images/a.png"], ["a.png", {}, {"file_name": ""}, "nul\0.png", "/"], "custom.json")
    index, _ = read(root, skip=True)
    assert places(index, root) == ["images/a.png"]
    assert [line.split(": ", 1)[1].replace(str(root), "") for line in index.skipped] == [
        "image 1: lacks the key 'file_name', or it is empty",
        "image 2: lacks the key 'file_name', or it is empty",
        "image 3: picture /images/nul\0.png does not exist",
        "image 4: picture / does not exist",
    ]


def test_paths_from_the_folder_of_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data(tmp_path, ["train2017/a.png", "more/b.png"], ["a.png", "b.png"])
    for folder, given in ((".", "."), (".", "annotations/custom_train.json"), ("annotations", "custom_train.json")):
        monkeypatch.chdir(tmp_path / folder)
        index, _ = read(Path(given))
        assert [index.path(i).resolve().name for i in range(2)] == ["a.png", "b.png"]
        assert all(index.path(i).is_file() for i in range(2))
    index, _ = read(Path("custom_train.json"), images_dir=Path("../train2017"), skip=True)
    assert [index.file_name(i) for i in range(len(index))] == ["a.png"]


def test_a_folder_of_two_names_is_one(tmp_path: Path) -> None:
    """A link that comes first or last: neither its files nor the others are those of another picture."""
    for link, real in (("images", "a real one"), ("images", "the real one")):
        root = data(tmp_path / real, [f"{real}/a.png", f"{real}/b.png"], ["a.png", "B.png"], "annotations/train.json")
        (root / link).symlink_to(root / real)
        index, _ = read(root)
        assert [index.path(i).name for i in range(2)] == ["a.png", "b.png"]
        (root / "annotations/train.json").write_text((root / "annotations/train.json").read_text().replace("B", "A"))
        with pytest.raises(BrokenInputError, match=r"A\.png fits .*a\.png, and so does a\.png"):
            read(root)


def test_an_absolute_name_beside_one_that_is_found(tmp_path: Path) -> None:
    root = data(tmp_path / "set", ["x.png", "images/b.png"], ["", "C:/q/b.png"], "annotations/train.json")
    Image.new("RGB", (20, 10)).save(tmp_path / "elsewhere.png")
    text = (root / "annotations/train.json").read_text()
    (root / "annotations/train.json").write_text(text.replace('""', json.dumps(str(tmp_path / "elsewhere.png"))))
    (root / "images").rename(tmp_path / "photos")
    (root / "images").symlink_to(tmp_path / "photos")
    index, _ = read(root)
    assert [index.path(i).resolve() for i in range(2)] == [tmp_path / "elsewhere.png", tmp_path / "photos/b.png"]
    assert all(index.path(i).is_file() for i in range(2))
