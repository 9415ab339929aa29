"""What happens to a picture and its boxes between the file and the batch, all in uint8.

Every random number comes from torch's global CPU generator; whoever calls seeds it (see
:mod:`gfocal.data.loader`). Boxes are moved by the same factors and offsets as the pixels, so they stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gfocal.errors import UsageError
from gfocal.pictures import Resize, resize_to
from gfocal.structures import Targets


@dataclass(frozen=True)
class EvalTransform:
    """Resizes a picture and its boxes; nothing random."""

    resize: Resize

    def __call__(self, picture: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """(3, H, W) uint8 and boxes in its pixels -> the resized picture and boxes in the new pixels."""
        resized = self.resize(picture)
        return resized, Targets(targets.boxes * _factors(picture.shape, resized.shape), targets.labels)


@dataclass(frozen=True)
class TrainTransform:
    """Colour distortion, random scale and crop (with the resize), horizontal flip.

    Attributes:
        resize: the size to train at.
        flip: probability of a horizontal flip.
        photometric: probability that the colours change: then each of brightness, contrast and saturation with
            probability 1/2. Hue is left alone: in uint8 it takes five times as long as the other three together.
        scale: the picture is made between ``scale[0]`` and ``scale[1]`` times as large as ``resize`` says; what does
            not fit is cropped away (a random window stays), and a ``square`` that is not filled is padded with zeros,
            the picture at a random place. None: neither.
        min_visible: a box of which the crop leaves a smaller share than this is dropped, in [0, 1].
        min_side: a box with a side shorter than this many pixels after the crop is dropped.

    Raises:
        UsageError: a value out of range.
    """

    resize: Resize
    flip: float = 0.5
    photometric: float = 0.0
    scale: tuple[float, float] | None = None
    min_visible: float = 0.2
    min_side: float = 1.0

    def __post_init__(self) -> None:
        for name in ("flip", "photometric", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise UsageError(f"scale must be two positive numbers, the smaller first, got {list(self.scale)}")

    def __call__(self, picture: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """(3, H, W) uint8 and boxes in its pixels -> the changed picture and the boxes left, in the new pixels."""
        # All numbers are drawn at once, whether used or not: one option never changes what another one draws.
        draw = torch.rand(16).tolist()
        if self.scale is None:
            resized, targets = EvalTransform(self.resize)(picture, targets)
        else:
            resized, targets = self._scale_and_crop(picture, targets, draw[:3])
        if draw[3] < self.photometric:
            resized = distort_colours(resized, draw[4:10])
        return flip_horizontally(resized, targets) if draw[10] < self.flip else (resized, targets)

    def _scale_and_crop(self, picture: Tensor, targets: Targets, draw: list[float]) -> tuple[Tensor, Targets]:
        assert self.scale is not None
        low, high = self.scale
        scale = low + (high - low) * draw[0]
        height, width = picture.shape[-2:]
        target_height, target_width = self.resize.target_size(height, width)
        # Cropping before resizing spends no time on pixels that are thrown away.
        top, crop_height, new_height = _window(height, target_height, scale, draw[1])
        left, crop_width, new_width = _window(width, target_width, scale, draw[2])
        crop = picture[:, top : top + crop_height, left : left + crop_width]
        # A copy in channels-last order, since torchvision would take the strides of a view for the other order.
        crop = crop.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        resized = resize_to(crop, (new_height, new_width))
        factors = _factors(crop.shape, resized.shape)
        boxes = (targets.boxes - torch.tensor([left, top, left, top])) * factors
        targets = self._clip(boxes, targets.labels, new_height, new_width)
        if self.resize.kind == "short_long" or (new_height, new_width) == (target_height, target_width):
            return resized, targets
        top, left = int(draw[1] * (target_height - new_height + 1)), int(draw[2] * (target_width - new_width + 1))
        canvas = torch.zeros((target_height, target_width, 3), dtype=torch.uint8).permute(2, 0, 1)
        canvas[:, top : top + new_height, left : left + new_width] = resized
        return canvas, Targets(targets.boxes + torch.tensor([left, top, left, top]), targets.labels)

    def _clip(self, boxes: Tensor, labels: Tensor, height: int, width: int) -> Targets:
        clipped = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))
        sides, before = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
        keep = (sides >= self.min_side).all(1) & (sides.prod(1) >= self.min_visible * before.prod(1))
        return Targets(clipped[keep], labels[keep])


def _factors(before: torch.Size, after: torch.Size) -> Tensor:
    """(4,) what to multiply xyxy boxes with when a picture of one shape (..., H, W) gets another."""
    x, y = after[-1] / before[-1], after[-2] / before[-2]
    return torch.tensor([x, y, x, y])


def _window(length: int, target: int, scale: float, draw: float) -> tuple[int, int, int]:
    """Along one axis: (start and length of the crop in pixels of the picture, length of the result)."""
    scaled = max(1.0, target * scale)
    if scaled <= target:
        return 0, length, max(1, round(scaled))
    crop = max(1, round(length * target / scaled))
    return int(draw * (length - crop + 1)), crop, target


def flip_horizontally(picture: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """The mirror image of a picture (3, H, W) and its boxes."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    width = picture.shape[-1]
    return F.horizontal_flip(picture), Targets(torch.stack([width - x2, y1, width - x1, y2], 1), targets.labels)


def distort_colours(picture: Tensor, draw: list[float]) -> Tensor:
    """Brightness by 0.8-1.2, contrast by 0.6-1.4, saturation by 0.5-1.5, each with probability 1/2.

    Args:
        picture: (3, H, W) uint8.
        draw: six numbers in [0, 1): for each of the three, whether, and how much.
    """
    if draw[0] < 0.5:
        picture = F.adjust_brightness(picture, 0.8 + 0.4 * draw[1])
    if draw[2] < 0.5:
        picture = _adjust_contrast(picture, 0.6 + 0.8 * draw[3])
    if draw[4] < 0.5:
        picture = F.adjust_saturation(picture, 0.5 + draw[5])
    return picture


def _adjust_contrast(picture: Tensor, factor: float) -> Tensor:
    # torchvision's adjust_contrast takes a float mean, whose last bit depends on the number of threads; the sum of
    # integers does not, and pictures must not depend on which process made them.
    mean = int(picture.sum(dtype=torch.int64)) / picture.numel()
    return picture.float().mul_(factor).add_((1 - factor) * mean).clamp_(0, 255).to(torch.uint8)
