"""Images that a proof looks at, and those that INT8 is calibrated with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import gfocal
from gfocal.commands.export.images import (
    FEW,
    ProofData,
    calibration_images,
    generated_images,
    proof_images,
    unlabelled_images,
)
from gfocal.detector import DenseDetector
from gfocal.errors import BrokenInputError, UsageError
from helpers.small_runs import small


@pytest.fixture(scope="module")
def detector(scenes: Path) -> DenseDetector:
    return gfocal.build_detector(small(), gfocal.open_dataset(scenes, "val").names, pretrained=False)


@pytest.fixture
def data(scenes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scenes, tmp_path / "data"))


def images_of(data: Path, split: str = "val") -> list[Path]:
    index = gfocal.open_dataset(data, split)  # type: ignore[arg-type]
    return [index.path(i) for i in range(len(index))]


def test_a_broken_image_is_left_out_only_where_that_is_asked(data: Path, detector: DenseDetector) -> None:
    every = images_of(data)
    every[1].write_bytes(every[1].read_bytes()[:100])
    said: list[str] = []
    found = proof_images(ProofData(data, data, skip_broken=True), detector, said.append)
    assert found.images == [path for path in every if path != every[1]]
    assert found.index is not None
    assert len(found.index) == len(every) - 1
    assert found.words == f"{len(every)} images of val of {data}, without 1 broken one"
    (line,) = [line for line in said if line.startswith("left out: ")]
    assert str(every[1]) in line
    # Whoever reads them all stops there.
    assert proof_images(ProofData(data, data), detector).images == every


def test_nor_are_broken_images_without_labels(data: Path, detector: DenseDetector) -> None:
    folder = images_of(data)[0].parent
    (folder / "0.jpg").write_bytes(b"")
    found = proof_images(ProofData(folder, folder, skip_broken=True), detector)
    assert len(found.images) == len(list(folder.glob("*.jpg"))) - 1
    assert found.index is None
    for path in folder.glob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"none of .* can be read; the first: left out: .*0\.jpg"):
        proof_images(ProofData(folder, folder, skip_broken=True), detector)


def test_broken_labels_are_not_taken_for_none(data: Path, detector: DenseDetector) -> None:
    """Even where the images could be looked at without them: AP would be missing, and nobody would know why."""
    images = data / "images"
    labels = data / "annotations" / "val.json"
    content = json.loads(labels.read_text(encoding="utf-8"))
    content["annotations"][0]["bbox"] = [1, 2, -3, 4]
    labels.write_text(json.dumps(content), encoding="utf-8")
    for path in images.glob("*.jpg"):
        shutil.copy(path, data)
    with pytest.raises(BrokenInputError, match="skip-broken"):
        proof_images(ProofData(data, data), detector)
    found = proof_images(ProofData(data, data, skip_broken=True), detector)
    assert found.index is not None


def test_few_images_to_calibrate_with_are_told(data: Path, detector: DenseDetector) -> None:
    asked = ProofData(data, data, skip_broken=True)
    train = images_of(data, "train")
    train[0].write_bytes(b"")
    said: list[str] = []
    _, chosen = calibration_images(proof_images(asked, detector), asked, 300, detector, said.append)
    assert list(chosen.images) == train[1:]
    assert len(train) - 1 < FEW
    assert f"left out: picture {train[0]} is an empty file" in said[0]
    assert f"note: INT8 is calibrated with {len(train) - 1} pictures: " in said[-1]


@pytest.mark.parametrize(("count", "proved"), [(2, 1), (3, 1), (40, 20), (101, 50), (130, 65), (250, 100)])
def test_half_of_images_without_labels_are_left_for_the_calibration(
    tmp_path: Path, detector: DenseDetector, count: int, proved: int
) -> None:
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number:03}.png")
    asked = ProofData(tmp_path, tmp_path)
    looked_at, chosen = calibration_images(proof_images(asked, detector), asked, 300, detector)
    assert len(looked_at.images) == proved
    assert len(chosen.images) == count - proved
    assert not set(looked_at.images) & set(chosen.images)


def test_broken_images_are_not_what_is_left_for_the_calibration(tmp_path: Path, detector: DenseDetector) -> None:
    for number in range(9):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    asked = ProofData(tmp_path, tmp_path, skip_broken=True)
    looked_at, chosen = calibration_images(proof_images(asked, detector), asked, 300, detector)
    assert len(looked_at.images) == 4
    assert len(chosen.images) == 5


def test_generated_and_unlabelled_images(tmp_path: Path) -> None:
    made = generated_images(tmp_path, 3)
    assert len(made.images) == 3
    assert made.words == "3 generated images of 320x320 pixels"
    spread = unlabelled_images(made.images[0].parent, 2)
    assert spread.images == [made.images[0], made.images[-1]]
    assert spread.index is None
