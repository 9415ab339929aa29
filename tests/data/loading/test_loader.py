"""The same batches for any number of workers and from any start; broken images by name."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.augment.transforms import EvalTransform, TrainTransform
from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import (
    DetectionDataset,
    PositionSampler,
    RunBatches,
    make_loader,
    make_run_loader,
    read_indexed,
)
from gfocal.errors import BrokenInputError, UsageError
from gfocal.images.io import Resize
from gfocal.structures import Batch

COUNT = 11


@pytest.fixture
def index(tmp_path: Path) -> DataIndex:
    """Eleven images of different sizes and colours; image i has id 100 + i and i % 3 boxes."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for i in range(COUNT):
        width, height = 60 + 4 * i, 50 + 2 * i
        gradient = Image.linear_gradient("L").resize((width, height)).convert("RGB")
        Image.blend(gradient, Image.new("RGB", (width, height), (20 * i, 255 - 20 * i, 90)), 0.5).save(
            tmp_path / "images" / f"{i}.jpg"
        )
        images.append({"id": 100 + i, "file_name": f"{i}.jpg", "width": width, "height": height})
        for j in range(i % 3):
            annotations.append({"image_id": 100 + i, "category_id": 1 + j, "bbox": [5 + j, 6, 30, 20 + i]})
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return read_coco(path, tmp_path / "images")


def training(index: DataIndex, seed: int = 3, skip_broken: bool = False) -> DetectionDataset:
    transform = TrainTransform(Resize("square", size=64), photometric=0.7, scale=(0.6, 1.4))
    return DetectionDataset(index, transform, seed=seed, skip_broken=skip_broken)


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        for name in ("images", "image_ids", "original_sizes", "scales", "sizes"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        for mine, theirs in zip(one.targets, other.targets, strict=True):
            assert torch.equal(mine.boxes, theirs.boxes)
            assert torch.equal(mine.labels, theirs.labels)


def batches(dataset: DetectionDataset, **options: object) -> list[Batch]:
    return list(make_loader(dataset, batch_size=3, shuffle=True, **options))  # type: ignore[arg-type]


def test_workers_do_not_change_anything(index: DataIndex) -> None:
    expected = batches(training(index), epoch=2)
    assert len(expected) == 4
    for workers in (1, 2):
        assert_same(batches(training(index), epoch=2, workers=workers), expected)


def test_any_start_continues_the_same_epoch(index: DataIndex) -> None:
    expected = batches(training(index), epoch=1)
    for start in range(6):
        rest = make_loader(training(index), batch_size=3, epoch=1, start_batch=start, shuffle=True)
        assert len(rest) == len(expected[start:])
        assert_same(list(rest), expected[start:])


def test_state_and_threads_of_the_caller_do_not_matter_and_are_left_alone(index: DataIndex) -> None:
    expected = batches(training(index))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_same(batches(training(index)), expected)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_differ(index: DataIndex) -> None:
    runs = [batches(training(index, seed), epoch=epoch) for seed, epoch in ((3, 0), (3, 1), (4, 0), (0, 3))]
    orders = [torch.cat([batch.image_ids for batch in run]) for run in runs]
    for i, order in enumerate(orders):
        assert sorted(order.tolist()) == list(range(100, 100 + COUNT))
        assert all(not torch.equal(order, other) for other in orders[:i])


def test_the_same_image_is_augmented_differently_each_time(index: DataIndex) -> None:
    dataset = training(index)
    keys = [(4, 0, 0), (4, 0, 1), (4, 1, 0), (4, 1, 1)]
    images = [dataset[key].image for key in keys]
    assert all(not torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])
    assert torch.equal(dataset[4, 0, 1].image, images[1])


def test_evaluation_keeps_the_order_and_fills_sizes_and_scales(index: DataIndex) -> None:
    resize = Resize("short_long", short_side=100, long_side=150)
    loader = make_loader(DetectionDataset(index, EvalTransform(resize), seed=0), batch_size=4)
    found = list(loader)
    assert len(loader) == 3
    assert torch.cat([batch.image_ids for batch in found]).tolist() == list(range(100, 111))
    batch = found[2]  # Images 8, 9, 10.
    assert batch.original_sizes.tolist() == [[66, 92], [68, 96], [70, 100]]
    # Short side to 100: 92 * 100 / 66 = 139.4, 96 * 100 / 68 = 141.2, 100 * 100 / 70 = 142.9.
    assert batch.sizes.tolist() == [[100, 139], [100, 141], [100, 143]]
    assert torch.allclose(batch.scales[0], torch.tensor([139 / 92, 100 / 66]))
    assert batch.images.shape == (3, 3, 128, 160)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images[0, :, 100:].sum() == 0
    assert batch.images[0, :, :, 139:].sum() == 0
    assert (batch.images[0, :, 99, :139].float().mean(0) > 0).all()
    # Image 8 has two boxes, 5 6 35 34 and 6 6 36 34.
    back = batch.targets[0].boxes / batch.scales[0].repeat(2)
    assert torch.allclose(back, torch.tensor([[5.0, 6, 35, 34], [6, 6, 36, 34]]))
    assert len(batch.targets[1]) == 0
    assert batch.skipped == ()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_its_epochs_and_goes_on_from_anywhere(index: DataIndex, workers: int) -> None:
    epochs = [batch for epoch in range(3) for batch in batches(training(index), epoch=epoch, drop_last=True)]
    for epoch, batch in ((0, 0), (1, 0), (1, 2), (2, 2), (3, 0)):
        rest = RunBatches(COUNT, seed=3, batch_size=3, batches=3, epochs=3, epoch=epoch, batch=batch)
        expected = epochs[3 * epoch + batch :]
        assert len(rest) == len(expected)
        assert_same(list(make_run_loader(training(index), rest, workers=workers)), expected)


def test_drop_last(index: DataIndex) -> None:
    assert [len(batch) for batch in batches(training(index))] == [3, 3, 3, 2]
    assert [len(batch) for batch in batches(training(index), drop_last=True)] == [3, 3, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_in_one_line(index: DataIndex, workers: int) -> None:
    path = index.path(4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BrokenInputError, match=r"picture .*4\.jpg is truncated") as caught:
        batches(training(index), workers=workers)
    assert "\n" not in str(caught.value)
    assert caught.value.path == path
    assert str(caught.value) == f"picture {path} {caught.value.reason}; replace it; --skip-broken leaves it out"
    assert not multiprocessing.active_children(), "the workers ended with the error"


def test_workers_end_when_the_caller_stops_early(index: DataIndex) -> None:
    for batch in make_loader(training(index), batch_size=1, workers=2):
        assert len(batch) == 1
        assert multiprocessing.active_children()
        break
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_broken_takes_the_next_readable_one_and_says_so(index: DataIndex, workers: int) -> None:
    for i in (4, 10):
        index.path(i).write_bytes(b"no picture")
    index.path(5).unlink()
    dataset = DetectionDataset(index, EvalTransform(Resize("square", size=32)), seed=0, skip_broken=True)
    found = list(make_loader(dataset, batch_size=3, workers=workers))
    ids = torch.cat([batch.image_ids for batch in found]).tolist()
    # 4 and 5 become 6; after the last one comes the first.
    assert ids == [100, 101, 102, 103, 106, 106, 106, 107, 108, 109, 100]
    lines = [line for batch in found for line in batch.skipped]
    assert [line.split("images/")[1].split()[0] for line in lines] == ["4.jpg", "5.jpg", "5.jpg", "10.jpg"]


def test_no_readable_image_at_all(index: DataIndex) -> None:
    for i in range(COUNT):
        index.path(i).unlink()
    with pytest.raises(UsageError, match="none of the 11 pictures"):
        batches(training(index, skip_broken=True))


def test_exif_rotation_follows_the_annotated_size(index: DataIndex) -> None:
    # Image 2 is annotated as 68 x 54 (width x height).
    exif = Image.Exif()
    exif[0x0112] = 6
    path = index.path(2)
    black_left = Image.new("RGB", (68, 54), "white")
    black_left.paste("black", (0, 0, 20, 54))
    black_left.save(path, exif=exif.tobytes())
    # Annotated as stored: not turned.
    stored = read_indexed(index, 2)
    assert stored.shape == (3, 54, 68)
    assert stored[:, :, :16].max() < 30
    # Stored lying down, annotated upright: turned clockwise, so that the left comes to the top.
    lying = Image.new("RGB", (54, 68), "white")
    lying.paste("black", (0, 0, 20, 68))
    lying.save(path, exif=exif.tobytes())
    upright = read_indexed(index, 2)
    assert upright.shape == (3, 54, 68)
    assert upright[:, :16].max() < 30


def test_another_size_than_annotated_is_refused(index: DataIndex) -> None:
    Image.new("RGB", (70, 54)).save(index.path(2))
    with pytest.raises(BrokenInputError, match=r"2\.jpg is 70x54 pixels, but .*val\.json says 68x54 \(image 102\)"):
        read_indexed(index, 2)


def test_negative_numbers_are_refused() -> None:
    for wrong in ({"seed": -1, "epoch": 0}, {"seed": 0, "epoch": -1}, {"seed": 0, "epoch": 0, "start": -2}):
        with pytest.raises(UsageError):
            PositionSampler(3, **wrong)


@given(st.integers(0, 60), st.integers(0, 80), st.integers(0, 2**40), st.integers(0, 1000), st.booleans())
def test_sampler_covers_every_index_once(count: int, start: int, seed: int, epoch: int, shuffle: bool) -> None:
    whole = list(PositionSampler(count, seed=seed, epoch=epoch, shuffle=shuffle))
    assert sorted(index for index, _, _ in whole) == list(range(count))
    assert [position for _, _, position in whole] == list(range(count))
    assert {key[1] for key in whole} <= {epoch}
    rest = PositionSampler(count, seed=seed, epoch=epoch, start=start, shuffle=shuffle)
    assert list(rest) == whole[start:]
    assert len(rest) == len(whole[start:])


def test_shuffling_is_fair() -> None:
    # Over 3000 epochs each of 4 images comes first about 750 times; the standard deviation is 24.
    first = [next(iter(PositionSampler(4, seed=0, epoch=epoch)))[0] for epoch in range(3000)]
    assert all(abs(first.count(i) - 750) < 120 for i in range(4))


def test_the_order_is_pinned() -> None:
    # A recorded order: runs that are resumed with a later release must go on with the same images.
    assert [key[0] for key in PositionSampler(8, seed=0, epoch=0)] == [3, 2, 5, 1, 7, 4, 6, 0]


def test_real_images(shared: Path) -> None:
    index = open_dataset(shared / "data" / "coco_mini", "val")
    dataset = DetectionDataset(index, EvalTransform(Resize("square", size=320)), seed=0)
    found = list(make_loader(dataset, batch_size=50))
    assert torch.cat([batch.image_ids for batch in found]).tolist() == index.image_ids.tolist()
    assert all(batch.images.shape[1:] == (3, 320, 320) for batch in found)
    boxes = torch.cat([targets.boxes for batch in found for targets in batch.targets])
    assert len(boxes) == int((~(index.crowd | index.ignore)).sum())
    assert boxes.min() >= 0
    assert boxes.max() <= 320.001


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_padded_with_the_colour_of_the_resize(index: DataIndex, workers: int) -> None:
    resize = Resize("short_long", short_side=40, long_side=60, fill=(124, 116, 104))
    dataset = DetectionDataset(index, EvalTransform(resize), seed=0)
    once = make_loader(dataset, batch_size=4, workers=workers)
    run = make_run_loader(dataset, RunBatches(COUNT, seed=0, batch_size=4, batches=2, epochs=1), workers=workers)
    for batch in [*once, *run]:
        for image, (height, width) in zip(batch.images, batch.sizes.tolist(), strict=True):
            below, beside = image[:, height:].flatten(1), image[:, :height, width:].flatten(1)
            padding = torch.cat([below, beside], 1).T
            assert len(padding)
            assert (padding == torch.tensor([124, 116, 104], dtype=torch.uint8)).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_crops_are_the_same_in_workers(index: DataIndex, workers: int) -> None:
    transform = TrainTransform(Resize("square", size=64), zoom_out=0.5, iou_crop=1.0)
    dataset = DetectionDataset(index, transform, seed=3)
    here, there = (list(make_loader(dataset, batch_size=3, shuffle=True, workers=n)) for n in (0, workers))
    assert_same(here, there)
