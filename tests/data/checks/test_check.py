"""``gfocal data check``: it finds what was planted, every one, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from gfocal.data.checks import images as check_images
from gfocal.data.checks.check import check_data
from gfocal.data.checks.fix import write_fixed
from gfocal.data.checks.fix_boxes import Change
from gfocal.data.checks.report import LeftOut, Report
from gfocal.data.formats.convert import write_dataset
from gfocal.data.formats.open import Format, find_data
from gfocal.data.kinds import Kind
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from helpers.planted import LARGE, Key, found_in, plant_all

ONCE = {"annotations-broken", "no-boxes", "long-tail", "many-objects", "picture-range"}
"""What a data set has once or not at all."""
ELSEWHERE = {"picture-twice", "label-unclear", "label-unclaimed", "splits-shared", "split-without-pictures"}
"""What only other formats than COCO can have, or a data set that is spoilt as a whole."""
KEPT = {
    *(
        "picture-animated",
        "picture-grey",
        "picture-alpha",
        "picture-16-bit",
        "picture-cmyk",
        "picture-large",
        "picture-range",
    ),
    *("picture-small", "picture-long", "picture-without-boxes", "box-tiny", "box-two-classes", "class-untrained"),
    *("class-few", "class-empty", "long-tail", "many-objects", "leak-similar", "picture-similar"),
}
"""What ``--fix`` does not change."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    make_scenes(folder, train=85, val=12, size=128, seed=3)
    return folder


def planted_copy(source: Path, target: Path, times: int, patch: pytest.MonkeyPatch) -> tuple[Report, Report, Counter]:
    """(the report before, the report after, what was planted)."""
    patch.setattr(check_images, "LARGE_PIXELS", LARGE)
    for folder in ("annotations", "images"):
        shutil.copytree(source / folder, target / folder)
    before = check_data(target)
    spared = {f.image for f in before.findings if f.image} | {
        f.other.split(": ", 1)[1] for f in before.findings if f.other
    }
    expected = plant_all(target, seed=0, times=times, spared=spared)
    return before, check_data(target), expected


def assert_all_found(before: Report, after: Report, expected: Counter[Key], times: int) -> None:
    wanted, got = found_in(before) + expected, found_in(after)
    assert sorted(map(str, (wanted - got).elements())) == []  # planted and not found
    assert sorted(map(str, (got - wanted).elements())) == []  # found and not planted
    kinds = Counter(kind for kind, _, _ in expected.elements())
    assert {kind for kind in Kind if kinds[kind] < times} == ONCE | ELSEWHERE


def test_every_fault_planted_in_generated_scenes_is_found(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_all_found(*planted_copy(scenes, tmp_path / "data", 2, monkeypatch), times=2)


@pytest.mark.slow
def test_every_fault_planted_in_real_images_is_found(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_all_found(*planted_copy(shared / "data" / "bccd", tmp_path / "data", 5, monkeypatch), times=5)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("fmt", ["coco", "yolo", "voc"])
def test_a_fixed_copy_has_no_errors_and_nothing_that_was_fixed(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: Format
) -> None:
    _, report, expected = planted_copy(scenes, tmp_path / "data", 1, monkeypatch)
    source = tmp_path / "data"
    if fmt != "coco":
        write_dataset(report.splits, tmp_path / fmt, fmt)
        source = tmp_path / fmt
        report = check_data(source)
    before = tree(source)
    changes, _ = write_fixed(report, tmp_path / "cleaned")
    assert tree(source) == before
    after = check_data(tmp_path / "cleaned")
    assert {f.kind for f in after.findings} - KEPT == set()
    assert find_data(tmp_path / "cleaned").format == fmt
    listed = json.loads((tmp_path / "cleaned" / "changes.json").read_text())["changes"]
    assert [Change(**change) for change in listed] == changes
    # What could be mended was, and each change is listed under the kind that was found.
    mended = {f.kind for f in report.findings} - KEPT
    assert mended == {change.kind for change in changes}
    if fmt == "coco":
        assert {kind for kind, _, _ in expected} - KEPT == mended
        # The copy of an image of train in val stays, the original goes.
        assert "copyval0.jpg" in tree(tmp_path / "cleaned" / "images")


def test_a_split_of_which_no_image_is_left(tmp_path: Path, scenes: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    val = json.loads((root / "annotations" / "val.json").read_text())
    for image in val["images"]:
        (root / "images" / image["file_name"]).unlink()
    report = check_data(root)
    kinds = Counter(finding.kind for finding in report.findings if finding.split == "val")
    assert kinds == {"picture-missing": len(val["images"])}
    assert report.left_out["val"] == LeftOut(records=len(val["images"]), images=0)
    with pytest.raises(UsageError, match="no picture of val can be used"):
        write_fixed(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_read_is_listed(tmp_path: Path, scenes: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation.pop("segmentation", None)
    content["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    content["annotations"][1] |= {"segmentation": [], "attributes": {"occluded": True}}
    file.write_text(json.dumps(content))
    report = check_data(root)
    masks = [line for line in report.unread if "masks" in line]
    assert masks == ["train: train.json: 1 masks are not read"]
    assert "train: train.json: 1 attributes are not read" in report.unread
    _, lost = write_fixed(report, tmp_path / "out")
    assert f"{masks[0]}: the copy lacks them" in lost
    assert masks[0] in json.loads((tmp_path / "out" / "changes.json").read_text())["unread"]


def test_copies_in_val_and_test_are_found(tmp_path: Path, scenes: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    val = json.loads((root / "annotations" / "val.json").read_text())
    image = val["images"][0]
    shutil.copy(root / "images" / image["file_name"], root / "images" / "other.png")
    (root / "annotations" / "test.json").write_text(
        json.dumps(val | {"images": [image | {"file_name": "other.png"}], "annotations": []})
    )
    leaks = [f for f in check_data(root).findings if f.kind == "leak-exact"]
    assert [(f.split, f.image, f.other) for f in leaks] == [("test", "other.png", f"val: {image['file_name']}")]
