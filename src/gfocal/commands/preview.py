"""What training sees: images after augmentation, with the boxes that are learnt."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TypedDict

import torch

from gfocal.data.formats.open import Format
from gfocal.data.pipeline import batches_from, images_per_epoch, in_tiles
from gfocal.errors import UsageError
from gfocal.images.drawing import contact_sheet, draw
from gfocal.images.from_recipe import resize_of
from gfocal.recipe import Recipe
from gfocal.runs.datasets import open_parts
from gfocal.structures import Detections
from gfocal.utils.files import write_atomically

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class Preview(TypedDict):
    """A sheet that was drawn, as JSON types but for its path.

    Attributes:
        out: the sheet.
        pictures: images on it.
        boxes: on all of them.
        image_ids: of the images; a mosaic counts as its first one.
        sizes: (height, width) of each.
        skipped: what was left out, a line each.
    """

    out: Path
    pictures: int
    boxes: int
    image_ids: list[int]
    sizes: list[tuple[int, int]]
    skipped: list[str]


def draw_preview(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    count: int = 16,
    epoch: int = 0,
    format: Format | None = None,
    images_dir: Path | None = None,
    skip_broken: bool = False,
    say: Callable[[str], None] | None = None,
) -> Preview:
    """Draw the first images that a run would see in an epoch, with their boxes, on one sheet.

    They are those of the run itself, bit for bit, but for ``data.multi_scale``: each has a size of its own here.

    Args:
        data: data set; its train split is drawn.
        recipe: of the run.
        out: the sheet, an image file.
        count: images on the sheet, at most as many as an epoch has.
        epoch: >= 0.
        format: read the data set as this; by default what is found.
        images_dir: the folder of the images, or one around it; by default near the annotations.
        skip_broken: put the next readable image in the place of a broken one.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: no such data, epoch or kind of image.
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out must be a picture file ({', '.join(_SUFFIXES)}), got {out}")
    if epoch >= recipe.schedule.epochs:
        raise UsageError(f"--epoch must be at most schedule.epochs={recipe.schedule.epochs}, got {epoch + 1}")
    (opened,) = open_parts([data], "train", format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
    if not len(opened):
        raise UsageError(f"{opened.annotations} lists no pictures: there is nothing to draw")
    index = in_tiles(recipe, opened)
    # One image per batch, or those of a batch would have one size.
    schedule = recipe.schedule.model_copy(update={"batch_size": 1, "accumulate": 1})
    alone = recipe.model_copy(update={"schedule": schedule})
    steps = images_per_epoch(recipe, index)
    batches = batches_from(alone, index, resize_of(recipe), epoch * steps, steps, skip_broken)
    drawn, boxes, sizes, ids, skipped = [], 0, [], [], list(index.skipped)
    for batch in islice(batches, min(count, steps)):
        (height, width), targets = batch.sizes[0].tolist(), batch.targets[0]
        found = Detections(targets.boxes, torch.full((len(targets),), torch.nan), targets.labels, index.names)
        drawn.append(draw(batch.images[0, :, :height, :width], found))
        boxes += len(targets)
        sizes.append((height, width))
        ids += batch.image_ids.tolist()
        skipped += batch.skipped
    sheet = contact_sheet(drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    suffix = out.suffix.lower().removeprefix(".")
    kind = "jpeg" if suffix == "jpg" else suffix
    write_atomically(out, lambda file: sheet.save(file, format=kind))
    return {"out": out, "pictures": len(drawn), "boxes": boxes, "image_ids": ids, "sizes": sizes, "skipped": skipped}
