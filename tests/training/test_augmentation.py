"""What a recipe says about images is what training gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import batches_from, images_per_epoch, mosaic_of
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.images.io import Resize
from gfocal.recipe import load_recipe
from gfocal.runs.datasets import default_run_folder, open_train_data
from gfocal.structures import Batch
from helpers.small_runs import small

SQUARE = Resize("square", size=64)


def all_batches(index: DataIndex, *overrides: str, step: int = 0) -> list[Batch]:
    """Of two epochs of three steps."""
    return list(batches_from(small(*overrides), index, SQUARE, step, 3, False))


def objects(batches: list[Batch]) -> list[int]:
    return [sum(map(len, batch.targets)) for batch in batches]


def test_mosaic_keys(train_index: DataIndex) -> None:
    plain, mixed = all_batches(train_index), all_batches(train_index, "data.mosaic=1", "data.mosaic_until=0.5")
    # Four images' objects, some of which lie outside, in the first epoch; then what there is without.
    assert all(more > 1.5 * few for more, few in zip(objects(mixed)[:3], objects(plain), strict=False))
    for one, other in zip(mixed[3:], plain[3:], strict=True):
        assert torch.equal(one.images, other.images)
    both = all_batches(train_index, "data.mosaic=1", "data.mosaic_until=1", "data.mosaic_scale=[0.1,0.1]")
    sides = [t.boxes[:, 2:] - t.boxes[:, :2] for batch in both for t in batch.targets]
    assert max(float(side.max()) for side in sides if len(side)) <= 6.4
    assert len(both) == 6


def test_mosaics_end_with_a_share_of_the_epochs() -> None:
    for epochs, until, expected in ((1, 0.9, 1), (3, 0.9, 3), (10, 0.9, 9), (20, 0.8, 16), (4, 1.0, 4)):
        mosaic = mosaic_of(small("data.mosaic=0.5", f"data.mosaic_until={until}", f"schedule.epochs={epochs}"))
        assert mosaic is not None
        assert (mosaic.share, mosaic.epochs) == (0.5, expected)
    assert mosaic_of(small("data.mosaic=0.5", "data.mosaic_until=0")) is None
    assert mosaic_of(small()) is None


ALL_ON = (
    "data.mosaic=0.5",
    "data.multi_scale=[0.5,1.5]",
    "data.scale=[0.6,1.4]",
    "data.photometric=0.5",
    "data.repeat_threshold=0.9",
    "schedule.batch_size=2",
    "schedule.accumulate=2",
)


@pytest.mark.parametrize("kind", ["square", "short_long"])
def test_all_together_continue_anywhere_with_any_number_of_workers(train_index: DataIndex, kind: str) -> None:
    resize = Resize(kind, size=64, short_side=64, long_side=96)
    options = (*ALL_ON, f"data.resize.kind={kind}", "data.resize.short_side=64", "data.resize.long_side=96")
    # Scenes are 64 x 64: the sizes are the same for both kinds.
    whole = list(batches_from(small(*options), train_index, resize, 0, 3, False))
    assert len(whole) == 12
    assert {batch.images.shape[-1] for batch in whole} == {32, 64, 96}
    for i in range(0, 12, 2):
        assert whole[i].images.shape == whole[i + 1].images.shape
    for step, workers in ((1, 2), (4, 0)):
        recipe = small(*options, f"data.workers={workers}")
        rest = list(batches_from(recipe, train_index, resize, step, 3, False))
        for a, b in zip(whole[2 * step :], rest, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.image_ids, b.image_ids)
            assert all(torch.equal(x.boxes, y.boxes) for x, y in zip(a.targets, b.targets, strict=True))


def test_boxes_follow_the_size_of_the_step(train_index: DataIndex) -> None:
    options = ("data.flip=0", "data.scale=null", "data.photometric=0")
    plain = all_batches(train_index, *options)
    sized = all_batches(train_index, *options, "data.multi_scale=[0.5,2]")
    factors = [b.images.shape[-1] / 64 for b in sized]
    assert len(set(factors)) > 1
    for one, other, factor in zip(plain, sized, factors, strict=True):
        for a, b in zip(one.targets, other.targets, strict=True):
            assert torch.allclose(a.boxes * factor, b.boxes)


def test_sides_are_multiples_of_32() -> None:
    assert small("data.multi_scale=[0.5,2]").data.sides == (32, 64, 96, 128)
    assert small("data.multi_scale=[1,1]").data.sides == (64,)
    wide = load_recipe("gfl_r50", ["data.multi_scale=[0.6,1.2]"]).data  # the paper's 480 to 960
    assert (wide.sides[0], wide.sides[-1], len(wide.sides)) == (480, 960, 16)
    with pytest.raises(UsageError, match=r"multi_scale=\[1.1, 1.4\] of 64 pixels has no multiple of 32"):
        small("data.multi_scale=[1.1,1.4]")
    with pytest.raises(UsageError, match=r"multi_scale must be \[lowest, highest\]"):
        small("data.multi_scale=[2,1]")


@pytest.mark.parametrize("name", ["ssd_nano", "ssd512_vgg16"])
def test_anchors_of_a_fixed_size_refuse_multi_scale(name: str) -> None:
    with pytest.raises(UsageError, match=r"data\.multi_scale changes .* points\.kind ssd are made for \d+ pixels"):
        load_recipe(name, ["data.multi_scale=[0.5,1.5]"])


def test_rare_classes_make_epochs_longer(train_index: DataIndex) -> None:
    assert images_per_epoch(small(), train_index) == 12
    longer = images_per_epoch(small("data.repeat_threshold=1"), train_index)
    assert 12 < longer < 40
    found = all_batches(train_index, "data.repeat_threshold=1", "schedule.batch_size=4")
    ids = torch.cat([batch.image_ids for batch in found[:3]])
    assert len(ids.unique()) < 12, "some came twice"


def test_a_mix_of_data_sets(scenes: Path, train_index: DataIndex, tmp_path: Path) -> None:
    make_scenes(tmp_path / "more", train=5, val=2, size=64, seed=1)
    lines: list[str] = []
    joined, val = open_train_data([scenes, tmp_path / "more"], None, say=lines.append)
    assert val is not None
    assert (len(joined), joined.parts, len(val), val.parts) == (17, (12, 5), 6, (4, 2))
    assert [line.split(";")[1] for line in lines if "pictures;" in line][1] == " classes 6 shared"
    assert default_run_folder("gfl_nano", [scenes, tmp_path / "more"]).name == f"gfl_nano-{scenes.name}+more"
    recipe = small("data.mix=[0.5,4]", "schedule.batch_size=2", "data.mosaic=0.3")
    assert images_per_epoch(recipe, joined) == 26
    batches = list(batches_from(recipe, joined, SQUARE, 0, 13, False))
    numbers = torch.cat([batch.image_ids for batch in batches])
    assert [int((numbers[26 * epoch :][:26] > 12).sum()) for epoch in range(2)] == [20, 20]
    only_val = open_train_data([scenes, tmp_path / "more"], tmp_path / "more")[1]
    assert only_val is not None
    assert len(only_val) == 2
    with pytest.raises(UsageError, match=r"data\.mix=\[1\.0, 2\.0\] has 2 numbers for 1 data sets"):
        images_per_epoch(small("data.mix=[1,2]"), train_index)
    with pytest.raises(UsageError, match=r"an epoch of 0 pictures is too short"):
        batches_from(small("data.mix=[0.01]"), train_index, SQUARE, 0, 1, False)
