"""``data.range`` means the same in training, evaluation and prediction, and travels with a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gfocal
from gfocal.analysis import start
from gfocal.analysis.start import before_training
from gfocal.data.checks import ranges
from gfocal.data.checks.check import check_data
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Kind
from gfocal.data.pipeline import batches_from, in_tiles
from gfocal.errors import BrokenInputError
from gfocal.images.from_recipe import resize_of
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import save_detector
from helpers.image_files import png, tiff, twelve_bits

SMALL = ["data.resize.size=64", "data.workers=0", "schedule.batch_size=4", "data.mosaic=0.5"]
RANGE = "data.range=[0, 4095]"


@pytest.fixture(scope="module")
def twin(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes as a camera of 12 bits would take them: 16-bit PNG files, RGB, with values of 0..4095."""
    return twelve_bits(scenes, tmp_path_factory.mktemp("twelve") / "data")


def test_training_sees_the_same_batches(scenes: Path, twin: Path) -> None:
    recipe = load_recipe("gfl_nano", SMALL)
    wide = load_recipe("gfl_nano", [*SMALL, RANGE])
    eight, sixteen = open_dataset(scenes, "train"), open_dataset(twin, "train")
    for a, b, dark in zip(
        batches_from(recipe, eight, resize_of(recipe), 0, 3, False),
        batches_from(wide, sixteen, resize_of(wide), 0, 3, False),
        batches_from(recipe, sixteen, resize_of(recipe), 0, 3, False),
        strict=True,
    ):
        assert torch.equal(a.images, b.images)
        assert a.images.float().mean() > 5 * dark.images.float().mean()  # 16 grey levels of 256


def test_evaluation_and_prediction_see_the_same_pixels(scenes: Path, twin: Path, tmp_path: Path) -> None:
    names = open_dataset(scenes, "val").names
    detector = gfocal.load("gfl_nano", SMALL, names=names)
    recipe = load_recipe("gfl_nano", [*SMALL, RANGE])
    save_detector(tmp_path / "wide.safetensors", detector.state_dict(), recipe, names)
    wide = gfocal.load(tmp_path / "wide.safetensors")  # as the checkpoint says
    assert wide.value_range == (0, 4095)
    sets = open_dataset(scenes, "val"), open_dataset(twin, "val")
    pairs = zip((detector, wide), sets, strict=True)
    of_eight, of_wide = ({**gfocal.evaluate(one, data).to_dict(), "speed": None} for one, data in pairs)
    assert of_wide["AP"] == pytest.approx(of_eight["AP"], abs=1e-6)
    files = [index.path(0) for index in sets]
    expected = detector.predict(files[0], score_threshold=0.0)
    array = np.asarray(Image.open(files[0])).astype(np.uint16) * 16
    for source in (files[1], array, torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)):
        found = wide.predict(source, score_threshold=0.0)
        assert torch.allclose(found.boxes, expected.boxes, atol=1e-2)
    for out, one, file in (("8", detector, files[0]), ("12", wide, files[1])):
        gfocal.predict(one, [file], tmp_path / out, score_threshold=0.0)
    eight, twelve = (
        json.loads((tmp_path / out / "predictions.json").read_text())["annotations"] for out in ("8", "12")
    )
    assert [a["score"] for a in twelve] == pytest.approx([a["score"] for a in eight], abs=1e-5)
    assert eight
    assert Image.open(tmp_path / "12" / f"{files[1].stem}.png").convert("L").getextrema()[1] > 200


def test_without_a_range_numbers_that_need_one_stop_the_run(scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    index = open_dataset(tmp_path / "data", "train")
    grey = np.asarray(Image.open(index.path(0)).convert("L"))
    index.path(0).write_bytes(tiff(grey.astype(np.int32) * 16, kind=2))
    recipe = load_recipe("gfl_nano", [*SMALL, "data.mosaic=0"])
    with pytest.raises(BrokenInputError, match=r"whole numbers .*data\.range=\[0,4095\]; --skip-broken"):
        list(batches_from(recipe, index, resize_of(recipe), 0, 3, False))
    report = check_data(tmp_path / "data")
    (found,) = report.by_kind()[Kind.IMAGE_RANGE]
    assert "1 of 16 pictures have more than 8 bits and numbers of no known range" in found.message
    assert found.message.endswith("train with --set data.range=[0,4095]")


def test_check_says_how_many_bits_are_in_use(twin: Path, tmp_path: Path) -> None:
    report = check_data(twin)
    grouped = report.by_kind()
    assert len(grouped[Kind.IMAGE_16_BIT]) == 16
    assert "has 16 bits a channel, 12 in use (0 to " in grouped[Kind.IMAGE_16_BIT][0].message
    (found,) = grouped[Kind.IMAGE_RANGE]
    assert found.message.startswith("16 of 16 pictures have more than 8 bits and use a part of their range")
    assert found.message.endswith("train with --set data.range=[0,4095]")


def test_check_is_silent_where_the_type_s_range_is_in_use(twin: Path, tmp_path: Path) -> None:
    shutil.copytree(twin, tmp_path / "data")
    for file in (tmp_path / "data").rglob("*.png"):
        file.write_bytes(png(np.asarray(Image.open(file)).astype(np.uint16) * 16 * 257))
    assert Kind.IMAGE_RANGE not in check_data(tmp_path / "data").by_kind()


def range_lines(data: Path | DataIndex, *sets: str) -> list[str]:
    index = open_dataset(data, "train") if isinstance(data, Path) else data
    recipe = load_recipe("gfl_nano", [*SMALL, *sets])
    return [line for line in before_training(in_tiles(recipe, index), recipe) if "more than 8 bits" in line]


@pytest.mark.parametrize("sets", [(), ("data.tile=48",)])
def test_a_run_is_told_of_few_grey_levels(twin: Path, sets: tuple[str, ...]) -> None:
    (line,) = range_lines(twin, *sets)
    assert line.startswith("warning: 12 of 12 pictures have more than 8 bits and use a part of their range: few of the")
    assert line.endswith("train with --set data.range=[0,4095]; `gfocal data check` looks at every picture")
    assert range_lines(twin, *sets, RANGE) == []


def test_a_run_on_many_images_is_told_by_a_few_of_them(twin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "RANGE_IMAGES", 5)
    (line,) = range_lines(twin)
    assert "5 of 5 pictures looked at have more than 8 bits" in line


def test_of_images_of_8_bits_only_the_headers_are_read(
    scenes: Path, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_into: list[int] = []
    monkeypatch.setattr(ranges, "wide_values", lambda data: looked_into.append(len(data)))
    assert range_lines(scenes) == []
    assert looked_into == []
    assert range_lines(twin) == []
    assert len(looked_into) == 12


def test_the_range_of_the_type_and_files_that_cannot_be_read_are_let_be(twin: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(twin, tmp_path / "data"))
    index = open_dataset(data, "train")
    files = [index.path(i) for i in range(12)]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:300])
    files[2].write_bytes(b"")
    files[3].write_bytes(b"no picture")
    files[4].unlink()
    files[4].mkdir()
    (line,) = range_lines(index)
    assert "7 of 12 pictures have more than 8 bits" in line
    for file in files[5:]:
        file.write_bytes(png(np.asarray(Image.open(file)).astype(np.uint16) * 16 * 257))
    assert range_lines(index) == []
    grey = np.asarray(Image.open(files[5]).convert("L"))
    files[5].write_bytes(tiff(grey.astype(np.int32) * 16, kind=2))
    (line,) = range_lines(index)
    assert "1 of 12 pictures have more than 8 bits and numbers of no known range: training and prediction" in line
