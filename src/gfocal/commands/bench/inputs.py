"""What the models are shown: images of a data set or generated ones, and the size in which they enter."""

from __future__ import annotations

from pathlib import Path

from gfocal.data.formats.common import Split
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.images.resizing import Resize
from gfocal.runs.datasets import open_measured, spread

TIMED = 16
"""Images of the data that the calls go round."""
LARGEST = 4096  # pixels
GENERATED_SIZE = (480, 640)  # pixels, height and width: as many photos have


def input_size(text: str | None) -> tuple[Resize | None, tuple[int, int]]:
    """The rule of ``--size`` and the (height, width) of generated images, which it leaves as they are.

    Two sides are the shorter and the longer one of what images fit into: which of them is the height is each image's.
    """
    if text is None:
        return None, GENERATED_SIZE
    short, cross, long = text.lower().strip().partition("x")
    sides = [int(side) for side in (short, long if cross else short) if side.isdecimal() and len(side) < 6]
    if len(sides) != 2 or not 32 <= min(sides) <= max(sides) <= LARGEST:
        raise UsageError(
            f"--size takes a side or SHORTxLONG of 32 to {LARGEST} pixels, such as 320 or 480x640, not {text!r}"
        )
    if not cross:
        return Resize("square", size=sides[0]), (sides[0], sides[0])
    if sides[0] > sides[1]:
        raise UsageError(
            f"--size takes SHORTxLONG, not {text!r}: pictures keep their shape and fit into it, upright ones too; give "
            f"--size {sides[1]}x{sides[0]}"
        )
    return Resize("short_long", short_side=sides[0], long_side=sides[1]), (sides[0], sides[1])


def open_index(model: str, data: Path | None, split: Split, *, skip_broken: bool) -> DataIndex | None:
    """What AP is measured on; None without data."""
    if data is None:
        return None
    index = open_measured(model, data, split, format=None, skip_broken=skip_broken)
    if not len(index):
        raise UsageError(f"{data} lists no pictures: there is nothing to measure on")
    return index


def timed_images(index: DataIndex | None) -> tuple[Path, ...]:
    """Files of the images that the calls go round; none without data, for generated ones."""
    if index is None:
        return ()
    index = spread(index, TIMED)
    return tuple(index.path(i) for i in range(len(index)))
