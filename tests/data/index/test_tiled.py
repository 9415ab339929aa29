"""Tiles as the images of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.data.augment.mosaic import Mosaic
from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.index.data_index import DataIndex, Tiles
from gfocal.data.index.tiled import MIN_SIDE, MIN_VISIBLE, cut_into_tiles
from gfocal.data.loading.loader import DetectionDataset, make_loader, read_indexed
from gfocal.data.loading.repeat_factors import repeat_factors
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import BrokenInputError
from gfocal.images.io import Resize, read_image
from gfocal.images.tiling import Tiling
from helpers.made_index import Box, made_index


def tiles_of(index: DataIndex) -> Tiles:
    assert index.tiles is not None
    return index.tiles


def windows_of(index: DataIndex) -> list[tuple[int, list[int]]]:
    """(image, xyxy) of every row."""
    tiles = tiles_of(index)
    ends = tiles.left + index.widths, tiles.top + index.heights
    boxes = np.stack([tiles.left, tiles.top, *ends], 1)
    return list(zip(tiles.image.tolist(), boxes.tolist(), strict=True))


def random_boxes(count: int, width: int, height: int, rng: np.random.Generator) -> list[Box]:
    """Of all sizes, some over the border of the image, some outside it, some without area."""
    corner = rng.uniform(-30, (width, height), (count, 2))
    size = rng.choice([0.0, 0.4, 5.0, 40.0, 150.0, 400.0], (count, 2)) * rng.uniform(0.5, 1, (count, 2))
    return [tuple(row) for row in np.concatenate([corner, corner + size], 1).round(2).tolist()]


SIZES = [(64, 64), (65, 64), (64, 200), (333, 241), (20, 30), (20, 300), (128, 128), (51 + 64, 64)]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.55])
def test_rows_and_boxes_are_those_of_a_plain_loop(overlap: float, whole: bool) -> None:
    rng = np.random.default_rng(3)
    index = made_index([(w, h, random_boxes(40, w, h, rng)) for w, h in SIZES])
    crowd, ignore = rng.random((2, len(index.boxes))) < 0.1
    index = replace(index, crowd=crowd, ignore=ignore)
    tiling = Tiling(64, overlap, whole=whole)
    found = cut_into_tiles(index, tiling)
    windows = [(i, w) for i, (width, height) in enumerate(SIZES) for w in tiling.windows(height, width).tolist()]
    assert windows_of(found) == windows
    assert found.image_ids.tolist() == [i + 1 for i, _ in windows]
    intact, seen = set(), set()
    for row, (i, (x1, y1, x2, y2)) in enumerate(windows):
        everything = [x1, y1, x2, y2] == [0, 0, *SIZES[i]] and len(tiling.windows(SIZES[i][1], SIZES[i][0])) > 1
        expected = []
        for number in range(index.box_start[i], index.box_start[i + 1]):
            limits = np.array(SIZES[i] * 2)
            inside = np.clip(index.boxes[number], 0, limits)
            part = np.clip(inside, (x1, y1, x1, y1), (x2, y2, x2, y2))
            before, after = ((b[2] - b[0]) * (b[3] - b[1]) for b in (inside, part))
            if everything:
                expected.append((number, index.boxes[number]))
            elif before > 0 and (
                after >= before * (1 - 1e-9)
                or (after >= MIN_VISIBLE * before and min(part[2] - part[0], part[3] - part[1]) >= MIN_SIDE)
            ):
                expected.append((number, part - (x1, y1, x1, y1)))
                if after >= before * (1 - 1e-9):
                    intact.add(number)
            if before > 0 and expected and expected[-1][0] == number:
                seen.add(number)
        own = slice(found.box_start[row], found.box_start[row + 1])
        numbers = [number for number, _ in expected]
        assert np.allclose(found.boxes[own], np.array([box for _, box in expected]).reshape(-1, 4))
        assert found.crowd[own].tolist() == crowd[numbers].tolist()
        assert found.ignore[own].tolist() == ignore[numbers].tolist()
        assert tiles_of(found).empty[row] == (len(numbers) == (crowd | ignore)[numbers].sum())
    limits = np.repeat(np.array(SIZES), np.diff(index.box_start), axis=0)
    clipped = np.clip(np.asarray(index.boxes), 0, np.concatenate([limits, limits], 1))
    objects = set(np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(1) & ~(crowd | ignore)).tolist())
    tiles = tiles_of(found)
    assert (tiles.objects, tiles.cut, tiles.lost) == (len(objects), len(objects - intact), len(objects - seen))
    assert tiles.cut > 20
    assert (tiles.lost == 0) == whole


def test_it_is_compact() -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 9900, (100, 2000, 2))
    index = made_index([(10_000, 10_000, np.concatenate([c, c + 12], 1).tolist()) for c in corner])
    found = cut_into_tiles(index, Tiling(640))
    assert len(found) == 100 * (20 * 20 + 1)
    assert len(found.boxes) > 400_000
    assert found.nbytes + sum(v.nbytes for v in vars(tiles_of(found)).values() if isinstance(v, np.ndarray)) < 20e6


def test_nothing_to_cut() -> None:
    found = cut_into_tiles(made_index([]), Tiling(64))
    assert (len(found), len(found.boxes), found.parts) == (0, 0, ())
    index = made_index([(50, 60, [(1.0, 2.0, 30.0, 40.0)])])
    found = cut_into_tiles(index, Tiling(64))
    assert windows_of(found) == [(0, [0, 0, 50, 60])]
    assert found.boxes[0:1].tolist() == [[1, 2, 30, 40]]


def test_data_sets_that_were_joined_stay_apart() -> None:
    index = replace(made_index([(64, 64, []), (65, 64, []), (200, 64, [])]), parts=(1, 2))
    assert cut_into_tiles(index, Tiling(64)).parts == (1, 3 + 5)
    assert cut_into_tiles(replace(index, parts=(0, 3)), Tiling(64)).parts == (0, 9)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DataIndex:
    out = tmp_path_factory.mktemp("tiles")
    make_scenes(out, train=4, val=0, size=100)
    return read_coco(out / "annotations" / "train.json", out / "images")


def test_pixels_and_names_are_those_of_the_file(scenes: DataIndex) -> None:
    found = cut_into_tiles(scenes, Tiling(64, 0.25))
    assert len(found) == 4 * 5
    for row, (i, (x1, y1, x2, y2)) in enumerate(windows_of(found)):
        assert found.path(row) == scenes.path(i)
        assert torch.equal(read_indexed(found, row), read_image(scenes.path(i))[:, y1:y2, x1:x2])
    batches = make_loader(DetectionDataset(found, EvalTransform(Resize("square", 32)), seed=0), batch_size=5)
    for i, batch in enumerate(batches):
        assert batch.image_ids.tolist() == [scenes.image_ids[i]] * 5
        assert batch.original_sizes.tolist() == [[100, 100]] + [[64, 64]] * 4
        # All of an image and a tile that has the box whole show it in one place.
        whole = batch.targets[0].boxes * 100 / 32
        for tile, (_, (x1, y1, _, _)) in enumerate(windows_of(found)[5 * i + 1 : 5 * i + 5], start=1):
            boxes = batch.targets[tile].boxes * 2 + torch.tensor([x1, y1, x1, y1])
            exact = scenes.targets(i).boxes
            inside = (exact >= torch.tensor([x1, y1, 0, 0])).all(1) & (
                exact <= torch.tensor([100, 100, x1 + 64, y1 + 64])
            ).all(1)
            for box in exact[inside]:
                assert torch.isclose(boxes, box, atol=1e-3).all(1).any()
                assert torch.isclose(whole, box, atol=1e-3).all(1).any()


def test_a_file_of_another_size_is_told(scenes: DataIndex, tmp_path: Path) -> None:
    Image.new("RGB", (90, 100)).save(tmp_path / scenes.file_name(0))
    moved = cut_into_tiles(replace(scenes, images_dir=tmp_path), Tiling(64))
    with pytest.raises(BrokenInputError, match=r"90x100 pixels, but .* says 100x100"):
        read_indexed(moved, 3)
    dataset = DetectionDataset(moved, EvalTransform(Resize("square", 32)), seed=0, skip_broken=True)
    for i in range(1, 4):
        Image.new("RGB", (100, 100)).save(tmp_path / scenes.file_name(i))
    sample = dataset[(1, 0, 0)]
    assert len(sample.skipped) == 1, "once, not for each tile"
    assert sample.image_id == scenes.image_ids[1]


def test_rare_classes_are_counted_on_whole_images() -> None:
    index = made_index(
        [(200, 64, [(0.0, 0.0, 9.0, 9.0)])] + [(200, 64, [(0.0, 0.0, 9.0, 9.0), (150.0, 0.0, 159.0, 9.0)])] * 3
    )
    labels = np.array([0, 0, 1, 0, 0, 0, 0])
    index = replace(index, labels=labels, names=("often", "rare"), category_ids=np.array([1, 2]))
    found = cut_into_tiles(index, Tiling(64, 0.0, whole=False))
    factors = repeat_factors(found, 1.0).reshape(4, 4)
    assert factors[0].tolist() == [1, 1, 1, 1]
    # A quarter of the images, but of the tiles one in sixteen.
    assert factors[1].tolist() == [1, 1, 2, 2]


def test_mosaics_are_made_of_what_is_shown() -> None:
    mosaic = Mosaic(1.0, 10)
    ends = np.cumsum([0, 1.0, 0, 0, 0.5, 0])
    drawn = [mosaic.plan(0, 0, position, 6, ends) for position in range(200)]
    rows = np.array([plan.partners for plan in drawn if plan is not None])
    assert rows.shape == (200, 3)
    assert set(np.unique(rows).tolist()) == {1, 4}
    assert 0.6 < (rows == 1).mean() < 0.73
    same = mosaic.plan(0, 0, 3, 6, np.cumsum(np.ones(6)))
    plain = mosaic.plan(0, 0, 3, 6)
    assert same is not None
    assert plain is not None
    assert same.partners == plain.partners
