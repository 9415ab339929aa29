"""Every box of a mosaic lies on the pixels of its own image, and what is random follows from the position alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.augment.draws import TileDraws
from gfocal.data.augment.mosaic import Mosaic, MosaicPlan
from gfocal.data.augment.transforms import TrainTransform
from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import DetectionDataset, Sample, make_loader
from gfocal.errors import BrokenInputError, UsageError
from gfocal.images.io import Resize
from gfocal.structures import Targets

FILL = (124, 116, 104)
WHOLE = Mosaic(1.0, 1, scale=(0.5, 0.5))
SQUARE = Resize("square", size=64)


def solid(value: int, height: int, width: int, *boxes: tuple[float, ...]) -> tuple[torch.Tensor, Targets]:
    """An image of one grey, with boxes of the class of that grey."""
    image = torch.full((height, width, 3), value, dtype=torch.uint8).permute(2, 0, 1)
    return image, Targets(torch.tensor(boxes).reshape(-1, 4).float(), torch.full((len(boxes),), value))


ZERO = TileDraws(0.0, 0.0, 0.0)


def plan_of(y: float = 0.5, x: float = 0.5, tiles: tuple[TileDraws, ...] = (ZERO,) * 4) -> MosaicPlan:
    return MosaicPlan((0, 0, 0), (y, x), tiles)


def test_four_halves_by_hand() -> None:
    tiles = [solid(40 * (i + 1), 32, 64, (0, 0, 64, 32), (16, 8, 32, 16)) for i in range(4)]
    canvas, targets = WHOLE.paint(plan_of(), tiles, SQUARE)
    assert canvas.shape == (3, 64, 64)
    assert canvas.stride()[0] == 1
    # 64 x 32 pixels become 32 x 32: x by 1/2, y by 1.
    for i, (top, left) in enumerate(((0, 0), (0, 32), (32, 0), (32, 32))):
        assert (canvas[:, top : top + 32, left : left + 32] == 40 * (i + 1)).all()
        assert targets.boxes[2 * i].tolist() == [left, top, left + 32, top + 32]
        assert targets.boxes[2 * i + 1].tolist() == [left + 8, top + 8, left + 16, top + 16]
    assert targets.labels.tolist() == [40, 40, 80, 80, 120, 120, 160, 160]


def test_a_centre_aside_crops_and_fills() -> None:
    tiles = [solid(40 * (i + 1), 64, 64, (0, 0, 64, 64), (0, 0, 16, 16)) for i in range(4)]
    # Quarters of 16 and 48 pixels; each image has 32 of them.
    canvas, targets = WHOLE.paint(plan_of(0.25, 0.25), tiles, SQUARE)
    assert (canvas[:, :16, :16] == 40).all()
    assert (canvas[:, :16, 16:48] == 80).all()
    assert (canvas[:, 16:48, :16] == 120).all()
    assert (canvas[:, 16:48, 16:48] == 160).all()
    assert (canvas[:, 48:] == torch.tensor(FILL).view(3, 1, 1)).all()
    assert (canvas[:, :, 48:] == torch.tensor(FILL).view(3, 1, 1)).all()
    # Shown of an image is its first part (tiles draw 0); a box of 16 pixels has 8 there.
    assert targets.boxes.tolist() == [
        [0, 0, 16, 16],
        [0, 0, 8, 8],
        [16, 0, 48, 16],
        [16, 0, 24, 8],
        [0, 16, 16, 48],
        [0, 16, 8, 24],
        [16, 16, 48, 48],
        [16, 16, 24, 24],
    ]


def test_a_small_image_touches_the_centre_and_a_large_one_shows_the_part_drawn() -> None:
    tiles = [solid(40 * (i + 1), 64, 64, (0, 0, 64, 64), (48, 32, 64, 48)) for i in range(4)]
    # The centre at 48: 32 pixels of the first end there; the last has 16 x 16 of its 32 to show, from half of what is
    # free along y and from all of it along x (0.999).
    draws = (ZERO, ZERO, ZERO, TileDraws(scale=0.0, y=0.5, x=0.999))
    canvas, targets = WHOLE.paint(plan_of(0.75, 0.75, draws), tiles, SQUARE)
    assert (canvas[:, 16:48, 16:48] == 40).all()
    assert (canvas[:, :16] == torch.tensor(FILL).view(3, 1, 1)).all()
    assert (canvas[:, 48:, 48:] == 160).all()
    assert targets.boxes[targets.labels == 40].tolist() == [[16, 16, 48, 48], [40, 32, 48, 40]]
    # Free are 32 of the 64 pixels; int(0.5 * 33) = 16 and int(0.999 * 33) = 32 are not shown: the box at (48, 32) lies
    # at (16, 16) of what is, and so at half of that.
    assert targets.boxes[targets.labels == 160].tolist() == [[48, 48, 64, 64], [56, 56, 64, 64]]


def test_the_plan_is_pinned() -> None:
    # A recorded plan: runs that are resumed with a later release must go on with the same mosaics.
    plan = Mosaic(1.0, 1).plan(0, 0, 0, 100)
    assert plan is not None
    assert plan.partners == (36, 84, 81)
    assert [round(value, 3) for value in (*plan.centre, plan.tiles[0].scale, plan.tiles[3].x)] == [
        0.622,
        0.453,
        0.171,
        0.464,
    ]


def test_little_of_a_box_or_a_sliver_is_dropped() -> None:
    # The top left quarter shows the first half of each axis, 16 of 32 pixels after scaling.
    boxes = [(0, 0, 64, 64), (30, 0, 50, 10), (0, 0, 2, 20), (0, 0, 1, 20), (40, 40, 60, 60)]
    tiles = [solid(40, 64, 64, *boxes), *[solid(9, 64, 64)] * 3]
    _, targets = WHOLE.paint(plan_of(0.25, 0.25), tiles, SQUARE)
    # A quarter of the first stays, a tenth of the second, a side of 1 of the third, of 1/2 of the fourth.
    assert targets.boxes.tolist() == [[0, 0, 16, 16], [0, 0, 1, 10]]
    loose = Mosaic(1.0, 1, scale=(0.5, 0.5), min_visible=0.0)
    assert len(loose.paint(plan_of(0.25, 0.25), tiles, SQUARE)[1]) == 3


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["square", "short_long"]),
    scale=st.sampled_from([(0.5, 1.0), (0.2, 0.4), (1.0, 1.7), (0.3, 1.5)]),
    data=st.data(),
)
def test_boxes_lie_on_their_own_images(seed: int, kind: str, scale: tuple[float, float], data: st.DataObject) -> None:
    resize = Resize(kind, size=96, short_side=80, long_side=130)
    sides = st.tuples(st.integers(60, 200), st.integers(60, 200))
    values, tiles = (10, 70, 180, 250), []
    for value in values:
        height, width = data.draw(sides)
        x, y = data.draw(st.integers(0, width - 10)), data.draw(st.integers(0, height - 10))
        # A bright object on black ground.
        image, targets = solid(0, height, width, (x, y, width, height))
        image[:, y:, x:] = value
        tiles.append((image, Targets(targets.boxes, torch.tensor([value]))))
    mosaic = Mosaic(1.0, 1, scale=scale, fill=(0, 0, 0), min_visible=0.0)
    plan = mosaic.plan(seed, 0, 0, 4)
    assert plan is not None
    canvas, targets = mosaic.paint(plan, tiles, resize)
    assert canvas.shape[1:] == resize.target_size(*tiles[0][0].shape[1:])
    assert canvas.dtype == torch.uint8
    assert (targets.boxes[:, 2:] - targets.boxes[:, :2] >= 1).all()
    assert (targets.boxes >= 0).all()
    assert (targets.boxes[:, 2:] <= torch.tensor([canvas.shape[2], canvas.shape[1]])).all()
    assert len(set(targets.labels.tolist())) == len(targets)
    for box, label in zip(targets.boxes, targets.labels.tolist(), strict=True):
        # Pixels at an edge are mixtures, the more of them the more the image was enlarged (3.7 times at most).
        x1, y1, x2, y2 = (int(v) for v in (*(box[:2] + 5).ceil(), *(box[2:] - 5).floor()))
        assert (canvas[:, y1 : max(y2, y1), x1 : max(x2, x1)] == label).all()


def test_tiles_have_random_sizes_and_parts() -> None:
    mosaic, seen = Mosaic(1.0, 1, scale=(0.5, 1.5), min_visible=0.0), []
    tiles = [solid(50, 100, 100, (0, 0, 100, 100), (40, 40, 50, 50)), *[solid(9, 100, 100)] * 3]
    resize = Resize("square", size=1000)
    whole_widths, centres = [], []
    for position in range(300):
        plan = mosaic.plan(5, 0, position, 7)
        assert plan is not None
        centres.append(plan.centre)
        boxes = mosaic.paint(plan, tiles, resize)[1].boxes
        whole_widths.append(float(boxes[0, 2] - boxes[0, 0]))
        seen += [float(b[2] - b[0]) for b in boxes[1:] if b[0] > 0 and b[2] < boxes[0, 2]]
    centre = np.array(centres)
    assert 0.25 <= centre.min() < 0.27
    assert 0.73 < centre.max() <= 0.75
    # A tenth of 500 to 1500 pixels.
    assert 49 < min(seen) < 60
    assert 130 < max(seen) < 151
    assert max(whole_widths) <= 750


def test_as_often_as_said_and_partners_are_drawn_fairly() -> None:
    mosaic = Mosaic(0.3, 2)
    plans = [mosaic.plan(1, epoch, position, 5) for epoch in (0, 1) for position in range(1000)]
    made = [plan for plan in plans if plan]
    # Standard deviation of 600: 20.
    assert abs(len(made) - 600) < 100
    partners = Counter(partner for plan in made for partner in plan.partners)
    assert set(partners) == set(range(5))
    assert all(abs(count - 3 * len(made) / 5) < 90 for count in partners.values())
    assert [mosaic.plan(1, epoch, 3, 5) for epoch in (2, 3)] == [None, None]
    assert [p and p.centre for p in plans] == [
        p and p.centre for epoch in (0, 1) for p in [mosaic.plan(1, epoch, position, 5) for position in range(1000)]
    ]


# --- through the data set -------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path) -> DataIndex:
    return index_of(tmp_path, 7)


def index_of(folder: Path, count: int, boxes: bool = True) -> DataIndex:
    """Images of one grey each, 30 * i, in different sizes, image i with a box of class i all over it."""
    (folder / "images").mkdir()
    images, annotations = [], []
    for i in range(count):
        width, height = 60 + 8 * i, 90 - 5 * i
        Image.new("RGB", (width, height), (30 * i,) * 3).save(folder / "images" / f"{i}.png")
        images.append({"id": 100 + i, "file_name": f"{i}.png", "width": width, "height": height})
        if boxes:
            annotations.append({"image_id": 100 + i, "category_id": i, "bbox": [0, 0, width, height]})
    categories = [{"id": i, "name": f"grey {i}"} for i in range(count)]
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return read_coco(folder / "a.json", folder / "images")


def mosaics(index: DataIndex, kind: str = "square", *, skip_broken: bool = False, **more: object) -> DetectionDataset:
    resize = Resize(kind, size=64, short_side=48, long_side=80)
    transform = TrainTransform(resize, **{"flip": 0.5, **more})  # type: ignore[arg-type]
    mosaic = Mosaic(0.7, 2, scale=(0.4, 1.2), min_visible=0.0)
    return DetectionDataset(index, transform, seed=3, skip_broken=skip_broken, mosaic=mosaic)


def samples(dataset: DetectionDataset, epoch: int = 0, start: int = 0) -> list[Sample]:
    return [dataset[position % len(dataset), epoch, position] for position in range(start, 30)]


@pytest.mark.parametrize("kind", ["square", "short_long"])
def test_every_pixel_of_a_box_has_the_grey_of_its_class(index: DataIndex, kind: str) -> None:
    counts = []
    for sample in samples(mosaics(index, kind)):
        targets = sample.targets
        counts.append(len(targets))
        for box, label in zip(targets.boxes, targets.labels.tolist(), strict=True):
            x1, y1, x2, y2 = map(round, box.tolist())
            assert (sample.image[:, y1:y2, x1:x2] == 30 * label).all()
    assert set(counts) == {1, 4}
    assert 15 <= counts.count(4) <= 27


def assert_same(a: Sample, b: Sample) -> None:
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.targets.boxes, b.targets.boxes)
    assert torch.equal(a.targets.labels, b.targets.labels)
    assert (a.image_id, a.original_size) == (b.image_id, b.original_size)


@pytest.mark.parametrize("workers", [1, 2])
def test_neither_workers_nor_the_start_change_a_mosaic(index: DataIndex, workers: int) -> None:
    dataset = mosaics(index, photometric=0.5, scale=(0.6, 1.4), zoom_out=0.3, iou_crop=0.5)
    here = list(make_loader(dataset, batch_size=2, shuffle=True, epoch=1))
    there = list(make_loader(dataset, batch_size=2, shuffle=True, epoch=1, start_batch=1, workers=workers))
    assert len(there) == 3
    for a, b in zip(here[1:], there, strict=True):
        assert torch.equal(a.images, b.images)
        assert all(torch.equal(x.boxes, y.boxes) for x, y in zip(a.targets, b.targets, strict=True))
    assert any(len(targets) > 1 for batch in there for targets in batch.targets)


def test_images_alone_are_those_of_a_run_without_mosaics(index: DataIndex) -> None:
    options = {"photometric": 0.5, "scale": (0.6, 1.4)}
    with_, without = mosaics(index, **options), mosaics(index, **options)
    without.mosaic = None
    for one, other in zip(samples(with_), samples(without), strict=True):
        if len(one.targets) == 1:
            assert_same(one, other)
    for one, other in zip(samples(with_, epoch=2), samples(without, epoch=2), strict=True):
        assert_same(one, other)


def test_a_data_set_of_one_image(tmp_path: Path) -> None:
    found = samples(mosaics(index_of(tmp_path, 1)))
    assert {len(sample.targets) for sample in found} == {1, 4}
    assert all(len(sample.targets.labels.unique()) == 1 for sample in found)


def test_all_background(tmp_path: Path) -> None:
    for sample in samples(mosaics(index_of(tmp_path, 5, boxes=False))):
        assert sample.image.shape == (3, 64, 64)
        assert sample.targets.boxes.shape == (0, 4)
        assert sample.targets.labels.dtype == torch.int64


def test_objects_of_one_pixel_go_and_images_of_one_pixel_stay() -> None:
    dots = [solid(90, 200, 200, (50, 50, 51, 51))] * 4
    assert len(WHOLE.paint(plan_of(), dots, SQUARE)[1]) == 0
    tiny = [solid(90, 1, 1, (0, 0, 1, 1))] * 4
    canvas, targets = WHOLE.paint(plan_of(), tiny, SQUARE)
    assert (canvas == 90).all()
    assert len(targets) == 4
    # A line of 1000 x 1 pixels gets a canvas of one row, in which only one quarter of each side has room.
    line = [solid(90, 1, 1000, (0, 0, 1000, 1))] * 4
    canvas, targets = WHOLE.paint(plan_of(), line, Resize("short_long", short_side=60, long_side=100))
    assert canvas.shape == (3, 1, 100)
    assert (canvas == 90).all()
    assert targets.boxes.tolist() == [[0, 0, 50, 1], [50, 0, 100, 1]]


def test_a_broken_partner_is_named_or_replaced(index: DataIndex) -> None:
    index.path(4).write_bytes(b"no picture")
    dataset = mosaics(index)
    plans = [dataset.mosaic.plan(3, 0, p, 7) for p in range(30)] if dataset.mosaic else []
    position = next(p for p, plan in enumerate(plans) if plan and 4 in plan.partners)
    with pytest.raises(BrokenInputError, match=r"4\.png is truncated"):
        dataset[0, 0, position]
    sample = mosaics(index, skip_broken=True)[0, 0, position]
    assert len(sample.skipped) == plans[position].partners.count(4)
    assert 5 in sample.targets.labels
    assert 4 not in sample.targets.labels


@pytest.mark.parametrize("wrong", [{"share": 1.2}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"min_visible": -1}])
def test_values_out_of_range(wrong: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Mosaic(**{"share": 0.5, "epochs": 1, **wrong})
