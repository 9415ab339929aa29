"""Every tool's layout is found by itself, as a folder and as an archive, and read as the same data."""

from __future__ import annotations

import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gfocal.data.formats import archive
from gfocal.data.formats.archive import cache_folder, unpacked
from gfocal.data.formats.open import find_data, open_dataset, open_splits
from gfocal.data.formats.yolo.reader import label_path
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError
from helpers.layouts import CONTENT, LAYOUTS, boxes_of, coco, images, voc_labels, yolo_labels, zipped

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("archived", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout(tmp_path: Path, name: str, archived: bool) -> None:
    fmt, make, splits = LAYOUTS[name]
    root = tmp_path / "my set"
    root.mkdir()
    make(root)
    # Some tools pack the files, some a folder of them, and macOS adds its own.
    path = zipped(root, tmp_path / "my set.zip", "my set" if fmt == "coco" else "") if archived else root
    if archived:
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("__MACOSX/._a.jpg", b"x")
    found = find_data(path)
    assert (found.format, tuple(sorted(found.splits))) == (fmt, tuple(sorted(splits)))
    for split in splits:
        problems = Problems(False)
        index = open_dataset(path, "train" if split == "all" else split, problems=problems)  # type: ignore[arg-type]
        assert boxes_of(index) == WANTED
        assert index.names == ("cat", "dog")
        sizes = {index.path(i).name: (int(index.widths[i]), int(index.heights[i])) for i in range(len(index))}
        assert sizes == {file: size for file, (size, _) in CONTENT.items()}
        assert [note for note in problems.notes if "count pixels from 1" not in note] == []
    missing = {"train", "val", "test"} - set(splits)
    for split in missing - ({"train"} if splits == ("all",) else set()):
        with pytest.raises(MissingSplitError, match=split if splits != ("all",) else "is not split"):
            open_dataset(path, split)  # type: ignore[arg-type]
    assert set(open_splits(path)) == ({"train"} if splits == ("all",) else set(splits))


@pytest.mark.parametrize("name", [name for name, (_, _, splits) in LAYOUTS.items() if splits == ("all",)])
def test_what_is_not_split_is_train_or_all_that_is_asked(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][1](tmp_path)
    assert boxes_of(open_dataset(tmp_path, "val", whole=True)) == WANTED


def test_a_yaml_file_and_a_json_file(tmp_path: Path) -> None:
    LAYOUTS["ultralytics"][1](tmp_path)
    assert boxes_of(open_dataset(tmp_path / "toys.yaml", "val")) == WANTED
    coco(tmp_path / "images" / "mine.json", prefix="val/")
    for split in ("train", "val", "test"):
        assert boxes_of(open_dataset(tmp_path / "images" / "mine.json", split)) == WANTED  # type: ignore[arg-type]


def test_a_folder_of_one_folder(tmp_path: Path) -> None:
    LAYOUTS["voc"][1](tmp_path / "VOCdevkit" / "VOC2012")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert boxes_of(open_dataset(tmp_path, "val")) == WANTED


@pytest.mark.parametrize("name", ["ultralytics", "folders_of_voc"])
def test_images_outside_all_splits_are_told(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][1](tmp_path)
    if name == "ultralytics":
        (tmp_path / "toys.yaml").unlink()
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
    images(tmp_path / "images" / "extra")
    images(tmp_path / "images")
    problems = Problems(False)
    assert boxes_of(open_dataset(tmp_path, "train", problems=problems)) == WANTED
    assert len(problems.notes) == 1
    assert "images: extra, 3 pictures beside the folders of its splits: these belong to no split" in problems.notes[0]


def test_links_that_lead_back(tmp_path: Path) -> None:
    LAYOUTS["label_studio_yolo"][1](tmp_path)
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    assert boxes_of(open_dataset(tmp_path, "train")) == WANTED


def test_several_data_sets_in_a_folder_are_named(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        LAYOUTS["voc"][1](tmp_path / year)
    with pytest.raises(UsageError, match=r"no data set found .*inside it: VOC2007, VOC2012"):
        find_data(tmp_path)


def several(root: Path) -> Path:
    images(root / "images")
    coco(root / "annotations" / "instances_default.json")
    voc_labels(root / "annotations")
    yolo_labels(root / "labels")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def test_of_several_formats_one_is_chosen_and_said(tmp_path: Path) -> None:
    problems = Problems(False)
    index = open_dataset(several(tmp_path), "train", problems=problems)
    assert index.annotations.name == "instances_default.json"
    assert len(problems.notes) == 1
    assert "COCO JSON is read; --format yolo or --format voc reads the other" in problems.notes[0]
    for fmt in ("coco", "yolo", "voc"):
        problems = Problems(False)
        index = open_dataset(tmp_path, "train", format=fmt, problems=problems)  # type: ignore[arg-type]
        assert boxes_of(index) == WANTED
        assert problems.notes == []


def test_a_format_that_is_not_there(tmp_path: Path) -> None:
    LAYOUTS["voc"][1](tmp_path)
    with pytest.raises(UsageError, match=r"no data set found .* looked for YOLO: data\.yaml"):
        find_data(tmp_path, "yolo")
    with pytest.raises(UsageError, match="--format is coco, yolo, voc, not 'csv'"):
        find_data(tmp_path, "csv")  # type: ignore[arg-type]
    coco(tmp_path / "a.json")
    with pytest.raises(UsageError, match="is read as COCO JSON, not as YOLO"):
        find_data(tmp_path / "a.json", "yolo")


@pytest.mark.parametrize("name", ["x.xml", "train.txt", "x.tar.gz", "x.csv"])
def test_files_that_are_no_data_set(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match="is no data set; give its folder"):
        find_data(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not exist; give a folder, a \.zip"):
        find_data(tmp_path / "none")
    images(tmp_path)
    with pytest.raises(UsageError, match=r"looked for COCO JSON: .*; YOLO: .*; Pascal VOC: "):
        find_data(tmp_path)


def test_archives_are_unpacked_once(tmp_path: Path, own_cache: Path) -> None:
    root = tmp_path / "set"
    LAYOUTS["label_img_voc"][1](root)
    archive = zipped(root, tmp_path / "set.zip")
    place = unpacked(archive)
    assert cache_folder() == own_cache
    assert place.parent == own_cache / "data"
    marker = place / "a.xml"
    marker.write_text(marker.read_text() + "\n")
    copy = tmp_path / "set2" / "set.zip"
    copy.parent.mkdir()
    copy.write_bytes(archive.read_bytes())
    assert unpacked(copy) == unpacked(archive) == place
    assert marker.read_text().endswith("\n"), "it was not unpacked again"
    (root / "a.xml").write_text((root / "a.xml").read_text().replace("cat", "cow"))
    assert unpacked(zipped(root, archive)) != place
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "set", "set.zip", "set2"]


def archive_of(file: Path, entries: dict[str, bytes], **changes: int) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changes.items():
                setattr(info, key, value)
            opened.writestr(info, data)
    return file


@pytest.mark.parametrize(
    ("entries", "changes", "message"),
    [
        ({"../../evil.txt": b"x"}, {}, "outside its folder"),
        ({"/etc/evil.txt": b"x"}, {}, "outside its folder"),
        ({"a\\..\\..\\evil.txt": b"x"}, {}, "outside its folder"),
        ({"C:\\evil.txt": b"x"}, {}, "outside its folder"),
        ({"link": b"/etc/passwd"}, {"external_attr": 0o120777 << 16}, "is a link"),
        ({f"{i}.txt": b"\0" * (16 << 20) for i in range(20)}, {}, "that is no data set"),
    ],
)
def test_unsafe_archives_are_refused(
    tmp_path: Path, own_cache: Path, entries: dict[str, bytes], changes: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        unpacked(archive_of(tmp_path / "x.zip", entries, **changes))
    assert not own_cache.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_damaged_archives_are_refused(tmp_path: Path, own_cache: Path) -> None:
    good = archive_of(tmp_path / "x.zip", {"a.txt": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))})
    raw = bytearray(good.read_bytes())
    for damaged in (b"no zip", bytes(raw[: len(raw) // 2])):
        good.write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged or not a zip"):
            unpacked(good)
    raw[2000] ^= 0xFF
    good.write_bytes(bytes(raw))
    with pytest.raises(UsageError, match="damaged or not a zip"):
        unpacked(good)
    assert not own_cache.exists(), "nothing half unpacked is left"


def test_an_archive_that_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = archive_of(tmp_path / "x.zip", {"a.txt": bytes(5000)})
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda place: SimpleNamespace(free=10))
    with pytest.raises(UsageError, match=r"unpacks to [\d,]+ bytes; .* has 10 left\. Set GFOCAL_CACHE"):
        unpacked(file)
    assert not [path for path in cache_folder().rglob("*") if path.is_dir() and path.name != "data"]


def test_what_is_wrong_inside_an_archive_is_named_with_it(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(UsageError, match=r"archive .*x\.zip: no data set found in it; looked for COCO"):
        find_data(archive_of(tmp_path / "x.zip", {"a.txt": b"x"}))
    content = {"set/data.yaml": b"train: images\nnames: {cat: 0}\n", "set/images/a.jpg": b"x"}
    with pytest.raises(UsageError, match=r"^archive .*y\.zip: .*data\.yaml: 'names' has the key 'cat'") as caught:
        find_data(archive_of(tmp_path / "y.zip", content))
    assert Path(str(caught.value).split(": ")[1]).is_file(), "what was unpacked can be looked at"


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    file = archive_of(tmp_path / "x.zip", {"a.txt": b"x"})
    raw = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    file.write_bytes(bytes(raw))
    with pytest.raises(UsageError, match="is encrypted"):
        unpacked(file)


def test_archives_with_damage_of_every_kind(tmp_path: Path) -> None:
    noise = bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))
    file = tmp_path / "x.zip"
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(file, "w", method) as opened:
            opened.writestr("a.txt", noise)
        raw = bytearray(file.read_bytes())
        raw[40:90] = bytes(255 - byte for byte in raw[40:90])
        file.write_bytes(raw)
        with pytest.raises(UsageError, match=r"archive .*x\.zip"):
            unpacked(file)
    archive_of(file, {"ü.txt": b"x"})
    file.write_bytes(file.read_bytes().replace("ü".encode(), b"\xff\xff"))  # marked as UTF-8, and is not
    with pytest.raises(UsageError, match="damaged or not a zip"):
        unpacked(file)


def test_archives_with_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("labels/a.txt", b"0")
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr("labels/a.txt", b"1")
    with pytest.raises(UsageError, match=r"1 files more than once, the first is 'labels/a\.txt'"):
        unpacked(file)


def test_what_a_killed_process_left_is_removed_and_others_stay(tmp_path: Path, own_cache: Path) -> None:
    file = archive_of(tmp_path / "x.zip", {"a.txt": b"x"})
    place = unpacked(file)
    (place / "a.txt").unlink()
    place.rmdir()
    left, other = place.parent / f".{place.name}.dead", place.parent / ".y-0123.busy"
    for folder in (left, other):
        (folder / "labels").mkdir(parents=True)
    assert unpacked(file) == place
    assert (place / "a.txt").read_bytes() == b"x"
    assert not left.exists()
    assert other.exists()


def test_processes_unpack_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = archive_of(tmp_path / "x.zip", {"a.txt": b"x"})
    calls: list[Path] = []
    unpack = archive._unpack

    def slow(*given: object) -> None:
        time.sleep(0.2)
        calls.append(file)
        unpack(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "_unpack", slow)
    with ThreadPoolExecutor(3) as pool:
        places = set(pool.map(unpacked, [file] * 3))
    assert len(places) == len(calls) == 1


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/my/images/set/images/train/a.b.jpg", "/my/images/set/labels/train/a.b.txt"),  # the last one alone
        ("set/Images/a.jpg", "set/Labels/a.txt"),
        ("set/pictures/a.jpg", "set/pictures/a.txt"),
    ],
)
def test_where_a_label_file_belongs(image: str, label: str) -> None:
    assert label_path(Path(image)) == Path(label)
