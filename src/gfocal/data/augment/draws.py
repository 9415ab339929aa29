"""The random numbers of augmentation, all in [0, 1), each under the name of what it decides."""

from __future__ import annotations

from typing import NamedTuple

import torch


class ColourDraws(NamedTuple):
    """Of :func:`gfocal.data.augment.transforms.distort_colours`: whether each change happens, and how strong it is."""

    brightness: float
    brightness_by: float
    contrast: float
    contrast_by: float
    saturation: float
    saturation_by: float


class CanvasDraws(NamedTuple):
    """Of :func:`gfocal.data.augment.crops.zoom_out`: how large the canvas is, and where the image lies on it."""

    size: float
    x: float
    y: float


class TileDraws(NamedTuple):
    """Of one of the four images of a mosaic: how large it is, and which part of it is shown."""

    scale: float
    y: float
    x: float


class Draws(NamedTuple):
    """All that is random in the augmentation of one image.

    Attributes:
        scale: how large the image is made.
        y: along this axis, which part of an image that is larger than its place is shown, or where one that is smaller
            lies; never both.
        x: along the other one.
        photometric: whether the colours change.
        colours: how they change.
        flip: whether the image is flipped horizontally.
        zoom_out: whether it is put on a canvas.
        canvas: which.
        iou_crop: whether it is cropped by the IoU with its objects. How many numbers that crop draws depends on the
            boxes, so it has a generator of its own, which is seeded from this number too: which numbers are below the
            probability says nothing more about it. Another seed would change every run that has such crops.
        vertical_flip: whether it is flipped vertically.
    """

    scale: float
    y: float
    x: float
    photometric: float
    colours: ColourDraws
    flip: float
    zoom_out: float
    canvas: CanvasDraws
    iou_crop: float
    vertical_flip: float

    @property
    def crop_seed(self) -> int:
        """Of the generator of the IoU crop: the 24 bits of ``iou_crop``."""
        return int(self.iou_crop * 2**24)


def draw_numbers() -> Draws:
    """The numbers of one image, from torch's global CPU generator.

    All of them, whether they will be used or not: one option never changes what another one draws.
    """
    scale, y, x, photometric, *colours, flip, zoom_out, canvas_size, canvas_x, canvas_y, iou_crop, vertical_flip = (
        torch.rand(17).tolist()
    )
    canvas = CanvasDraws(canvas_size, canvas_x, canvas_y)
    return Draws(scale, y, x, photometric, ColourDraws(*colours), flip, zoom_out, canvas, iou_crop, vertical_flip)
