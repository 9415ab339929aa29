"""What happens to an image and its boxes between the file and the batch, all in uint8.

Every random number comes from torch's global CPU generator, or from one that is seeded from it; whoever calls seeds it
(see :mod:`gfocal.data.loading.loader`). Boxes are moved by the same factors and offsets as the pixels, so they stay
exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gfocal.boxes import clip_boxes
from gfocal.data.augment.crops import Window, clip, crop_axis, iou_crop, on_canvas, paint, zoom_out
from gfocal.data.augment.draws import ColourDraws, Draws, draw_numbers
from gfocal.errors import UsageError
from gfocal.images.resizing import Resize, check_colour
from gfocal.structures import Targets


@dataclass(frozen=True)
class EvalTransform:
    """Resizes an image and its boxes; nothing random."""

    resize: Resize

    def at(self, side: int) -> EvalTransform:
        """The same with another size, see :meth:`gfocal.images.io.Resize.at`."""
        return EvalTransform(self.resize.at(side))

    def finish(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """What happens to an image that has its final size already: nothing."""
        return image, targets

    def __call__(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """(3, H, W) uint8 and boxes in its pixels -> the resized image and boxes in the new pixels."""
        resized = self.resize(image)
        return resized, Targets(targets.boxes * _factors(image.shape, resized.shape), targets.labels)


@dataclass(frozen=True)
class TrainTransform:
    """Zoom out, IoU crop, random scale and crop (with the resize), colour distortion, horizontal flip.

    Attributes:
        resize: the size to train at.
        flip: probability of a horizontal flip.
        vertical_flip: probability of a vertical flip, for images without up and down (microscopes, satellites).
        photometric: probability that the colours change: then each of brightness, contrast and saturation with
            probability 1/2. Hue is left alone: in uint8 it takes five times as long as the other three together.
        scale: the image is made between ``scale[0]`` and ``scale[1]`` times as large as ``resize`` says; what does
            not fit is cropped away (a random window stays), and a ``square`` that is not filled is padded with
            ``resize.fill``, the image at a random place. None: neither.
        min_visible: a box of which the crop of ``scale`` leaves a smaller share than this is dropped, in [0, 1].
        min_side: a box with a side shorter than this many pixels after the crop of ``scale`` is dropped.
        zoom_out: probability that the image is put on a canvas of 1 to 4 times its sides, see
            :func:`gfocal.data.augment.crops.zoom_out`; SSD takes 0.5.
        iou_crop: probability of a crop that is chosen by its IoU with the objects, after the zoom out; boxes whose
            centre it shows stay, however little it shows of them, see :func:`gfocal.data.augment.crops.iou_crop`. SSD
            takes 1 (one choice in seven leaves the image whole).
        fill: colour of that canvas, RGB in 0..255.

    Raises:
        UsageError: a value out of range.
    """

    resize: Resize
    flip: float = 0.5
    vertical_flip: float = 0.0
    photometric: float = 0.0
    scale: tuple[float, float] | None = None
    min_visible: float = 0.2
    min_side: float = 1.0
    zoom_out: float = 0.0
    iou_crop: float = 0.0
    fill: tuple[int, int, int] = (124, 116, 104)

    def __post_init__(self) -> None:
        for name in ("flip", "vertical_flip", "photometric", "min_visible", "zoom_out", "iou_crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise UsageError(f"scale must be two positive numbers, the smaller first, got {list(self.scale)}")
        check_colour("fill", self.fill)

    def at(self, side: int) -> TrainTransform:
        """The same with another size, see :meth:`gfocal.images.io.Resize.at`."""
        return replace(self, resize=self.resize.at(side))

    def __call__(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """(3, H, W) uint8 and boxes in its pixels -> the changed image and the boxes left, in the new pixels."""
        draws = draw_numbers()
        return self._change(*self._frame(image, targets, draws), draws)

    def finish(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """Colour distortion and flip of an image that has its final size already (a mosaic)."""
        return self._change(image, targets, draw_numbers())

    def _frame(self, image: Tensor, targets: Targets, draws: Draws) -> tuple[Tensor, Targets]:
        """What of the image is shown, in its final size."""
        window, targets = self._window(image, targets, draws)
        if self.scale is not None:
            return self._scale_and_crop(image, targets, window, draws)
        if window is None:
            return EvalTransform(self.resize)(image, targets)
        size = self.resize.target_size(window.height, window.width)
        resized, boxes = paint(image, targets.boxes, window, size, self.fill)
        # A crop's boxes end at its border; rounding may put them beyond it.
        return resized, Targets(clip_boxes(boxes, *size), targets.labels)

    def _change(self, image: Tensor, targets: Targets, draws: Draws) -> tuple[Tensor, Targets]:
        if draws.photometric < self.photometric:
            image = distort_colours(image, draws.colours)
        if draws.flip < self.flip:
            image, targets = flip_horizontally(image, targets)
        return flip_vertically(image, targets) if draws.vertical_flip < self.vertical_flip else (image, targets)

    def _window(self, image: Tensor, targets: Targets, draws: Draws) -> tuple[Window | None, Targets]:
        """What zoom out and IoU crop show of the image (None: just the image), and the boxes in its pixels."""
        height, width = image.shape[-2:]
        window = zoom_out(height, width, draws.canvas) if draws.zoom_out < self.zoom_out else None
        if draws.iou_crop < self.iou_crop:
            window, targets = iou_crop(targets, window or Window(0, 0, width, height), draws.crop_seed)
        return window, targets

    def _scale_and_crop(
        self, image: Tensor, targets: Targets, window: Window | None, draws: Draws
    ) -> tuple[Tensor, Targets]:
        assert self.scale is not None
        low, high = self.scale
        scale = low + (high - low) * draws.scale
        if window is None:
            window = Window(0, 0, image.shape[-1], image.shape[-2])
        target_height, target_width = self.resize.target_size(window.height, window.width)
        # Cropping before resizing spends no time on pixels that are thrown away.
        top, crop_height, new_height = crop_axis(window.height, target_height, target_height * scale, draws.y)
        left, crop_width, new_width = crop_axis(window.width, target_width, target_width * scale, draws.x)
        crop = Window(window.left + left, window.top + top, crop_width, crop_height)
        resized, boxes = paint(image, targets.boxes, crop, (new_height, new_width), self.fill)
        limits = {"min_visible": self.min_visible, "min_side": self.min_side}
        targets = clip(boxes, targets.labels, (new_height, new_width), **limits)
        if self.resize.kind == "short_long" or (new_height, new_width) == (target_height, target_width):
            return resized, targets
        place = int(draws.y * (target_height - new_height + 1)), int(draws.x * (target_width - new_width + 1))
        canvas, boxes = on_canvas(resized, targets.boxes, place, (target_height, target_width), self.resize.fill)
        return canvas, Targets(boxes, targets.labels)


def _factors(before: torch.Size, after: torch.Size) -> Tensor:
    """(4,) what to multiply xyxy boxes with when an image of one shape (..., H, W) gets another."""
    x, y = after[-1] / before[-1], after[-2] / before[-2]
    return torch.tensor([x, y, x, y])


def flip_horizontally(image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """The mirror image of an image (3, H, W) and its boxes."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    width = image.shape[-1]
    return F.horizontal_flip(image), Targets(torch.stack([width - x2, y1, width - x1, y2], 1), targets.labels)


def flip_vertically(image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """An image (3, H, W) upside down, and its boxes."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    height = image.shape[-2]
    return F.vertical_flip(image), Targets(torch.stack([x1, height - y2, x2, height - y1], 1), targets.labels)


def distort_colours(image: Tensor, draws: ColourDraws) -> Tensor:
    """Brightness by 0.8-1.2, contrast by 0.6-1.4, saturation by 0.5-1.5, each with probability 1/2.

    Args:
        image: (3, H, W) uint8.
        draws: for each of the three, whether, and how much.
    """
    if draws.brightness < 0.5:
        image = F.adjust_brightness(image, 0.8 + 0.4 * draws.brightness_by)
    if draws.contrast < 0.5:
        image = _adjust_contrast(image, 0.6 + 0.8 * draws.contrast_by)
    if draws.saturation < 0.5:
        image = F.adjust_saturation(image, 0.5 + draws.saturation_by)
    return image


def _adjust_contrast(image: Tensor, factor: float) -> Tensor:
    # torchvision's adjust_contrast takes a float mean, whose last bit depends on the number of threads; the sum of
    # integers does not, and images must not depend on which process made them.
    mean = int(image.sum(dtype=torch.int64)) / image.numel()
    return image.float().mul_(factor).add_((1 - factor) * mean).clamp_(0, 255).to(torch.uint8)
