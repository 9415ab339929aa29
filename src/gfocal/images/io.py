"""Images as uint8 RGB tensors: reading, padding to a batch.

``decode_jpeg`` returns (3, H, W) with channels-last strides. Nothing here makes them contiguous: resizing
such a tensor is about three times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.images.depth import ValueRange
from gfocal.images.reading import broken_image, read_array, to_array
from gfocal.images.resizing import Resize, check_colour, padded_size, resize_to

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Resize", "broken_image", "check_colour", "pad_batch", "read_image", "resize_to", "to_image"]


def read_image(path: str | Path, *, apply_exif: bool = True, value_range: ValueRange = "type") -> Tensor:
    """Read an image file, see :func:`gfocal.images.reading.read_array`.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        BrokenInputError: it cannot be read.
    """
    return tensor_of(read_array(path, apply_exif=apply_exif, value_range=value_range))


def tensor_of(image: np.ndarray) -> Tensor:
    """An array (H, W, 3) as a tensor (3, H, W) in channels-last memory, where it can be the same."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def to_image(source: str | Path | Tensor | np.ndarray | Image.Image, *, value_range: ValueRange = "type") -> Tensor:
    """Whatever a person holds an image in, as (3, H, W) uint8 RGB.

    Args:
        source: a file; a tensor (3, H, W), (1, H, W) or (H, W); an array (H, W, 3), (H, W, 4), (H, W, 1) or (H, W),
            RGB; or a PIL image, which is taken as it is (its EXIF orientation is not applied, so that boxes fit the
            image given). Tensors and arrays are uint8, or numbers of another type that ``value_range`` makes 8 bits of.
        value_range: how more than 8 bits become 8, as in files, see :mod:`gfocal.images.depth`.

    Raises:
        BrokenInputError: the file cannot be read.
        UsageError: another type, shape or dtype, or values that need another range.
    """
    if not isinstance(source, Tensor) or source.dtype != torch.uint8:
        return tensor_of(to_array(source, value_range=value_range))
    image = source[None] if source.ndim == 2 else source
    if image.ndim != 3 or len(image) not in (1, 3) or image.numel() == 0:
        raise UsageError(f"a picture tensor must have shape (3, H, W), got {tuple(source.shape)}")
    return image.expand(3, -1, -1)  # where it is: on whatever device


def pad_batch(images: Sequence[Tensor], multiple: int = 32, fill: Sequence[int] = (0, 0, 0)) -> Tensor:
    """Images of any sizes as one batch.

    Args:
        images: B >= 1 images (3, h, w) uint8.
        multiple: height and width of the batch are multiples of this.
        fill: colour of the padding, RGB in 0..255.

    Returns:
        (B, 3, H, W) uint8 in channels-last memory, each image at the top left, ``fill`` elsewhere.
    """
    shape = (len(images), 3, *padded_size([tuple(image.shape[-2:]) for image in images], multiple))
    batch = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    colour = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1)
    for slot, image in zip(batch, images, strict=True):
        h, w = image.shape[-2:]
        slot[:, :h, :w] = image
        slot[:, h:] = colour
        slot[:, :h, w:] = colour
    return batch
