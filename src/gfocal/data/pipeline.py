"""From a recipe and an index to the batches of a run."""

from __future__ import annotations

import numpy as np

from gfocal.data.augment.mosaic import Mosaic
from gfocal.data.augment.transforms import TrainTransform
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import empty_classes, without_labels
from gfocal.data.index.tiled import cut_into_tiles
from gfocal.data.loading.loader import BatchLoader, DetectionDataset, RunBatches, make_run_loader
from gfocal.data.loading.repeat_factors import repeat_factors
from gfocal.data.loading.sampler import epoch_length
from gfocal.errors import UsageError
from gfocal.images.from_recipe import tiling_of
from gfocal.images.resizing import Resize
from gfocal.recipe import Recipe
from gfocal.utils.text import counted


def train_transform(recipe: Recipe, resize: Resize) -> TrainTransform:
    """What happens to an image that learning sees alone."""
    data = recipe.data
    return TrainTransform(
        resize,
        flip=data.flip,
        vertical_flip=data.vertical_flip,
        photometric=data.photometric,
        scale=data.scale,
        zoom_out=data.zoom_out,
        iou_crop=data.iou_crop,
    )


def mosaic_of(recipe: Recipe) -> Mosaic | None:
    """How mosaics are made; None where the recipe wants none."""
    data = recipe.data
    epochs = round(data.mosaic_until * recipe.schedule.epochs)
    return Mosaic(data.mosaic, epochs, data.mosaic_scale) if data.mosaic and epochs else None


def with_used_classes(recipe: Recipe, train: DataIndex, val: DataIndex | None) -> tuple[DataIndex, DataIndex | None]:
    """Both with the classes that a detector of the recipe learns: all, or those with boxes (``drop_empty_classes``).

    A class keeps its place among the others. Done twice it changes nothing more.

    Args:
        recipe: of the run.
        train: what it learns from.
        val: what it is measured on.

    Raises:
        UsageError: val has boxes of a class that train does not name.
    """
    if not recipe.data.drop_empty_classes:
        return train, val
    val = None if val is None else val.with_classes(train.names)
    empty = empty_classes(train, val)
    if len(empty) == len(train.names):  # nothing to learn, which is said elsewhere
        return train, val
    return without_labels(train, empty), None if val is None else without_labels(val, empty)


def in_tiles(recipe: Recipe, index: DataIndex) -> DataIndex:
    """What a run of the recipe learns from: the images of an index, or their tiles.

    Called once where data come in: by what opens them, and by what takes an index from elsewhere, such as
    :func:`gfocal.training.train.train`. All that is inside takes what this gave. An index of tiles stays as it is.
    """
    tiling = tiling_of(recipe)
    return index if tiling is None or index.tiles is not None else cut_into_tiles(index, tiling)


def tile_lines(recipe: Recipe, index: DataIndex) -> list[str]:
    """Lines about the tiles that a run learns from; [] for whole images."""
    tiles = index.tiles
    if tiles is None:
        return []
    empty, shown = int(tiles.empty.sum()), images_per_epoch(recipe, index)
    lines = [
        f"tiles: {counted(len(tiles.of), 'picture is', 'pictures are')} {counted(len(index), 'tile')} of "
        f"{tiles.tiling.side} pixels{' (whole pictures included)' if tiles.tiling.whole else ''}, "
        f"{empty:,} of them without objects; "
        f"an epoch shows {shown:,}"
    ]
    if tiles.cut:
        where = "whole pictures show them complete" if tiles.tiling.whole else "none is learnt complete"
        lines.append(
            f"tiles: {tiles.cut:,} of {tiles.objects:,} objects are larger than the {tiles.tiling.shared} pixels that "
            f"tiles share, and complete in no tile: {where}; a larger data.tile or data.tile_overlap holds them"
        )
    if tiles.lost:
        lines.append(
            f"warning: {tiles.lost:,} objects are in no tile at all and never learnt: set data.tile_whole=true"
        )
    return lines


def repeats_of(recipe: Recipe, index: DataIndex) -> np.ndarray | None:
    """How often each image of what :func:`in_tiles` gave comes in an epoch on average; None for once."""
    if recipe.data.tile is not None and index.tiles is None:
        raise ValueError("the recipe learns from tiles: give the result of in_tiles, not whole pictures")
    mix, threshold = recipe.data.mix, recipe.data.repeat_threshold
    empty = _empty_share(recipe, index)
    if mix is None and threshold is None and empty == 1:
        return None
    repeats = np.ones(len(index)) if threshold is None else repeat_factors(index, threshold)
    if index.tiles is not None:
        repeats[index.tiles.empty] *= empty
    parts = index.parts or (len(index),)
    if mix is not None and len(mix) != len(parts):
        raise UsageError(f"data.mix={list(mix)} has {len(mix)} numbers for {len(parts)} data sets: give one for each")
    return repeats if mix is None else repeats * np.repeat(mix, parts)


def _empty_share(recipe: Recipe, index: DataIndex) -> float:
    """How often a tile without objects comes in an epoch."""
    wanted = recipe.data.tile_empty
    if index.tiles is None or wanted is None:
        return 1.0
    empty = int(index.tiles.empty.sum())
    full = len(index) - empty
    # Where nothing is to be learnt at all, training says so; it needs images for that.
    return min(1.0, wanted * full / empty) if empty and full else 1.0


def images_per_epoch(recipe: Recipe, index: DataIndex) -> int:
    """The same for every epoch: more than the data set has where rare classes are shown more often.

    Args:
        recipe: of the run.
        index: what it learns from, see :func:`in_tiles`.
    """
    return epoch_length(len(index), repeats_of(recipe, index))


def batches_from(
    recipe: Recipe,
    index: DataIndex,
    resize: Resize,
    step: int,
    steps_an_epoch: int,
    skip_broken: bool,
    *,
    rank: int = 0,
    processes: int = 1,
) -> BatchLoader:
    """The batches of a run after ``step`` optimizer steps, ``schedule.accumulate`` of them a step.

    Args:
        recipe: of the run.
        index: what it learns from, see :func:`in_tiles`.
        resize: the size of images, but for ``data.multi_scale``.
        step: optimizer steps done.
        steps_an_epoch: optimizer steps of each epoch.
        skip_broken: put the next readable image in the place of a broken one.
        rank: of this process.
        processes: that share each batch, ``schedule.batch_size`` images for each.
    """
    schedule, seed = recipe.schedule, recipe.runtime.seed
    repeats = repeats_of(recipe, index)
    dataset = DetectionDataset(
        index,
        train_transform(recipe, resize),
        seed=seed,
        skip_broken=skip_broken,
        mosaic=mosaic_of(recipe),
        repeats=repeats if index.tiles is not None else None,
        value_range=recipe.data.range,
    )
    epoch, within = divmod(step, steps_an_epoch)
    batches = RunBatches(
        len(index),
        seed=seed,
        batch_size=schedule.batch_size,
        batches=steps_an_epoch * schedule.accumulate,
        epochs=schedule.epochs,
        epoch=epoch,
        batch=within * schedule.accumulate,
        repeats=repeats,
        sides=recipe.data.sides if recipe.data.multi_scale else (),
        accumulate=schedule.accumulate,
        rank=rank,
        processes=processes,
    )
    data = recipe.data
    return make_run_loader(dataset, batches, workers=data.workers, worker_timeout=data.worker_timeout)
