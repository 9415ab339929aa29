"""A VOC data set is found from the folders around it and inside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gfocal.data.formats.open import find_data, open_dataset
from gfocal.data.problems import Problems
from gfocal.errors import UsageError
from helpers.layouts import CONTENT, boxes_of, images, lay_out, zipped

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}


def devkit(root: Path, *years: str) -> Path:
    """What the challenge packs: code, results and documents beside the data."""
    for year in years:
        lay_out(root / "VOCdevkit" / year, "voc")
    for name in ("VOCcode/VOCinit.m", "results/VOC2012/Main/README", "local/README", "devkit_doc.pdf"):
        (root / "VOCdevkit" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "VOCdevkit" / name).write_text("x")
    (root / "VOCtrainval_11-May-2012.tar").write_bytes(b"x")
    (root / "notes.json").write_text("{}")
    (root / "checkpoints").mkdir()
    return root


@pytest.mark.parametrize("given", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_from_above(tmp_path: Path, given: str) -> None:
    root = devkit(tmp_path, "VOC2012")
    problems = Problems(False)
    index = open_dataset(root / given, "train", problems=problems)
    assert boxes_of(index) == WANTED
    assert problems.notes == []
    assert index.images_dir == tmp_path / "VOCdevkit/VOC2012/JPEGImages"


def test_from_above_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))
    archive = zipped(devkit(tmp_path / "kit", "VOC2012"), tmp_path / "kit.zip")
    assert boxes_of(open_dataset(archive, "val")) == WANTED


@pytest.mark.parametrize("given", ["JPEGImages", "Annotations", "ImageSets", "ImageSets/Main"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_from_inside(tmp_path: Path, given: str, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = devkit(tmp_path, "VOC2012") / "VOCdevkit/VOC2012"
    problems = Problems(False)
    assert boxes_of(open_dataset(root / given, split, problems=problems)) == WANTED  # type: ignore[arg-type]
    assert problems.notes == [f"{root / given} is part of the data set {root}, which is read"]
    monkeypatch.chdir(root / given)
    assert boxes_of(open_dataset(".", split)) == WANTED  # type: ignore[arg-type]


def test_two_years_are_named(tmp_path: Path) -> None:
    root = devkit(tmp_path, "VOC2007", "VOC2012")
    for given, names in (("", "VOCdevkit/VOC2007, VOCdevkit/VOC2012"), ("VOCdevkit", "VOC2007, VOC2012")):
        with pytest.raises(UsageError, match=f"no data set found .*Give one of the data sets inside it: {names}$"):
            find_data(root / given)


def test_deeper_ones_are_named(tmp_path: Path) -> None:
    """As Kaggle packs VOC 2007."""
    for archive in ("VOCtest_06-Nov-2007", "VOCtrainval_06-Nov-2007"):
        devkit(tmp_path / archive, "VOC2007")
    names = ", ".join(f"{name}_06-Nov-2007/VOCdevkit/VOC2007" for name in ("VOCtest", "VOCtrainval"))
    with pytest.raises(UsageError, match=f"Give one of the data sets inside it: {names}$"):
        find_data(tmp_path)


def test_a_folder_that_has_all_of_it_is_no_part(tmp_path: Path) -> None:
    lay_out(tmp_path, "label_studio_voc")
    own = lay_out(tmp_path / "images", "label_img_voc")
    index = open_dataset(own, "train")
    assert (index.images_dir, boxes_of(index)) == (own, WANTED)


@pytest.mark.parametrize("name", ["label_img_voc", "roboflow_voc"])
def test_xml_of_other_programs_does_not_hide_annotations(tmp_path: Path, name: str) -> None:
    root = lay_out(tmp_path, name)
    for folder in (root, *(path for path in root.iterdir() if path.is_dir())):
        for file in folder.glob("*.xml"):
            text = file.read_text(encoding="utf-8").replace("<annotation>", '<Annotation xmlns="u">')
            file.write_text(text.replace("</annotation>", "</Annotation>"), encoding="utf-16")
        (folder / "a viewer.xml").write_text("<settings><zoom>2</zoom></settings>")
        (folder / "annotations.xml").write_text("<annotations><image id='0'/></annotations>")
    assert boxes_of(open_dataset(root, "train", skip_broken=True)) == WANTED


@pytest.mark.parametrize("name", ["voc", "roboflow_voc", "label_img_voc", "folders_of_voc"])
def test_images_elsewhere(tmp_path: Path, name: str) -> None:
    root = lay_out(tmp_path / "set", name)
    for file in root.rglob("*"):
        if file.suffix in (".jpg", ".png"):
            file.unlink()
    images(tmp_path / "photos")
    if name == "folders_of_voc":
        shutil.rmtree(root / "images")
        for split in ("train", "val"):
            images(tmp_path / "photos" / split)
    split = "train"
    assert boxes_of(open_dataset(root, split, images_dir=tmp_path / "photos")) == WANTED
