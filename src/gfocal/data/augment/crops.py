"""Which part of the world a training image shows: windows that reach beyond it (zoom out) or cut it (IoU crop).

A window is chosen first and painted last, straight into its final size. The canvas of a zoom out, sixteen times the
image at most (a gigabyte for a large photo), is never made, and no pixel is resampled twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.data.augment.draws import CanvasDraws
from gfocal.images.resizing import resize_to
from gfocal.structures import Targets

MAX_ZOOM = 4.0
"""Sides of the largest canvas of :func:`zoom_out`, in sides of the image."""
MIN_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)
"""What :func:`iou_crop` may ask for, each as likely; None leaves the image whole."""
_TRIALS = 40
_SIDES = (0.3, 1.0)  # of a crop, in sides of what is cropped
_ASPECTS = (0.5, 2.0)  # width / height of a crop, in pixels


@dataclass(frozen=True)
class Window:
    """A rectangle in pixels of an image; it may reach beyond the image.

    Attributes:
        left, top: of its corner, negative outside the image.
        width, height: >= 1.
    """

    left: int
    top: int
    width: int
    height: int

    @property
    def corner(self) -> Tensor:
        """(4,) what to subtract from xyxy boxes."""
        return torch.tensor([self.left, self.top, self.left, self.top])

    @property
    def box(self) -> Tensor:
        """(4,) int64 xyxy."""
        return self.corner + torch.tensor([0, 0, self.width, self.height])


def zoom_out(height: int, width: int, draws: CanvasDraws) -> Window:
    """A window of 1 to 4 times the sides of an image, which lies at a random place in it.

    Source: SSD (arXiv 1512.02325, section 3.6), as in torchvision's ``RandomZoomOut``.

    Args:
        height, width: of the image.
        draws: how large, and where along x and y.
    """
    factor = 1 + (MAX_ZOOM - 1) * draws.size
    canvas_width, canvas_height = int(width * factor), int(height * factor)
    left, top = int((canvas_width - width) * draws.x), int((canvas_height - height) * draws.y)
    return Window(-left, -top, canvas_width, canvas_height)


def iou_crop(targets: Targets, window: Window, seed: int) -> tuple[Window, Targets]:
    """A random part of a window that shows objects, and the objects that it shows.

    One of :data:`MIN_IOUS` is drawn; then up to 40 parts with sides of 0.3-1 of the window's and an aspect ratio of
    0.5-2, until the IoU of the part and of one of the boxes with their centre inside reaches the number drawn. Without
    success another number is drawn. Source: SSD (arXiv 1512.02325, section 2.2), as in torchvision's ``RandomIoUCrop``;
    mmdetection asks for the IoU of every box.

    Args:
        targets: boxes in pixels of the image.
        window: what is cropped.
        seed: >= 0, of all that is random here: how many numbers are drawn depends on the boxes.

    Returns:
        The part, and the boxes whose centre lies strictly inside it, clipped to it, still in pixels of the image.
        Without boxes, and for a window with a side below 4 pixels: what was given.
    """
    if not len(targets) or min(window.width, window.height) < 4:
        return window, targets
    generator = np.random.default_rng(seed)
    boxes = targets.boxes.double()
    while True:
        least = MIN_IOUS[int(generator.integers(len(MIN_IOUS)))]
        if least is None:
            return window, targets
        parts = _random_parts(window, generator.random((_TRIALS, 4)))
        inside = _centres_inside(boxes, parts)
        good = ((box_iou(parts, boxes) >= least) & inside).any(1).nonzero()
        if len(good):
            chosen = int(good[0])
            left, top, right, bottom = map(int, parts[chosen].tolist())
            clipped = torch.cat([targets.boxes[:, :2].clamp(min=parts[chosen, :2].float()),
                                 targets.boxes[:, 2:].clamp(max=parts[chosen, 2:].float())], 1)  # fmt: skip
            keep = inside[chosen]
            return Window(left, top, right - left, bottom - top), Targets(clipped[keep], targets.labels[keep])


def _random_parts(window: Window, draws: np.ndarray) -> Tensor:
    """(M, 4) float64 xyxy of whole pixels: those of the parts whose aspect ratio will do.

    ``draws``: (T, 4) for each part its width and height, and where it lies along x and y.
    """
    least, most = _SIDES
    wide, high, x, y = draws.T
    widths = np.floor(window.width * (least + (most - least) * wide))
    heights = np.floor(window.height * (least + (most - least) * high))
    left = window.left + np.floor((window.width - widths) * x)
    top = window.top + np.floor((window.height - heights) * y)
    fits = (widths / heights >= _ASPECTS[0]) & (widths / heights <= _ASPECTS[1])
    return torch.from_numpy(np.stack([left, top, left + widths, top + heights], 1)[fits])


def _centres_inside(boxes: Tensor, parts: Tensor) -> Tensor:
    """(M, N) whether the centre of box n lies strictly inside part m."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > parts[:, None, :2]) & (centres < parts[:, None, 2:])).all(2)


def paint(
    image: Tensor, boxes: Tensor, window: Window, size: tuple[int, int], fill: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """What a window shows, resized (bilinear, antialiased).

    Where the window reaches beyond the image, the image is moved by less than half an output pixel and the boxes
    with it, so that it begins and ends with whole pixels.

    Args:
        image: (3, H, W) uint8.
        boxes: (N, 4) xyxy in its pixels.
        window: in its pixels.
        size: (height, width) of the result, >= 1.
        fill: colour outside the image, RGB in 0..255.

    Returns:
        (3, *size) uint8 in channels-last memory, and the boxes in its pixels, not clipped.
    """
    first_x, last_x, x, new_width = _axis(window.left, window.width, image.shape[-1], size[1])
    first_y, last_y, y, new_height = _axis(window.top, window.height, image.shape[-2], size[0])
    if first_x >= last_x or first_y >= last_y:  # nothing of the image is to be seen
        factors = torch.tensor([size[1] / window.width, size[0] / window.height]).repeat(2)
        return blank(size, fill, image.device), (boxes - window.corner) * factors
    part = image[:, first_y:last_y, first_x:last_x]
    # A copy in channels-last order, since torchvision would take the strides of a view for the other order.
    part = part.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    resized = resize_to(part, (new_height, new_width))
    factors = torch.tensor([new_width / (last_x - first_x), new_height / (last_y - first_y)]).repeat(2)
    moved = (boxes - torch.tensor([first_x, first_y]).repeat(2)) * factors
    if (new_height, new_width) == tuple(size):
        return resized, moved
    return on_canvas(resized, moved, (y, x), size, fill)


def _axis(start: int, length: int, limit: int, size: int) -> tuple[int, int, int, int]:
    """Along one axis: first and last pixel of the image to be seen; where it begins in the result, how long it is."""
    first, last = max(start, 0), min(start + length, limit)
    begin = min(round((first - start) * size / length), size - 1)
    return first, last, begin, max(1, round((last - start) * size / length) - begin)


def crop_axis(length: int, limit: int, scaled: float, draw: float) -> tuple[int, int, int]:
    """Which part of one axis is shown when the whole would get ``scaled`` pixels, and there is room for ``limit``.

    Args:
        length: pixels of what is shown.
        limit: >= 1.
        scaled: its pixels after scaling.
        draw: in [0, 1), where the part begins.

    Returns:
        (start and length of the part in pixels of what is shown, pixels of the result).
    """
    scaled = max(1.0, scaled)
    if scaled <= limit:
        return 0, length, max(1, round(scaled))
    part = max(1, round(length * limit / scaled))
    return int(draw * (length - part + 1)), part, limit


def clip(boxes: Tensor, labels: Tensor, size: tuple[int, int], *, min_visible: float, min_side: float) -> Targets:
    """Boxes cut off at the borders of an image of ``size`` = (height, width), without those of which little is left.

    Args:
        boxes: (N, 4) xyxy in its pixels.
        labels: (N,).
        size: of the image.
        min_visible: least share of a box's area that stays, in [0, 1].
        min_side: least side of what stays, in pixels.
    """
    height, width = size
    clipped = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))
    sides, before = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    keep = (sides >= min_side).all(1) & (sides.prod(1) >= min_visible * before.prod(1))
    return Targets(clipped[keep], labels[keep])


def on_canvas(
    image: Tensor, boxes: Tensor, place: tuple[int, int], size: tuple[int, int], fill: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """An image (3, h, w) with its corner at ``place`` = (y, x) of a canvas of ``size``, and its boxes."""
    (y, x), (height, width) = place, image.shape[-2:]
    canvas = blank(size, fill, image.device)
    canvas[:, y : y + height, x : x + width] = image
    return canvas, boxes + torch.tensor([x, y, x, y])


def blank(size: tuple[int, int], fill: Sequence[int], device: torch.device | None = None) -> Tensor:
    """(3, *size) uint8 of one colour, in channels-last memory."""
    height, width = size
    # A row first: repeating three numbers over the whole image takes forty times as long.
    row = torch.tensor(fill, dtype=torch.uint8, device=device).repeat(width)
    return row.repeat(height, 1).view(height, width, 3).permute(2, 0, 1)
