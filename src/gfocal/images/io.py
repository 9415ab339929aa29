"""Images as uint8 RGB tensors: reading, resizing, padding to a batch.

``decode_jpeg`` returns (3, H, W) with channels-last strides. Nothing here makes them contiguous: resizing
such a tensor is about three times faster.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gfocal.errors import BrokenInputError, UsageError, require_number
from gfocal.images.decode import ForeignError, TooLargeError, UndecodableError, decode_pixels, from_pillow
from gfocal.images.depth import DepthError, ValueRange, to_uint8
from gfocal.images.file_types import IMAGE_SUFFIXES, describe_foreign, foreign

if TYPE_CHECKING:
    from PIL import Image

_HEAD = 1024  # bytes that tell what a file is


def read_image(path: str | Path, *, apply_exif: bool = True, value_range: ValueRange = "type") -> Tensor:
    """Read an image file.

    Grey images become RGB, alpha is dropped, of an animation or of several pages the first one counts.

    Args:
        path: the file.
        apply_exif: turn the image upright, see :mod:`gfocal.images.orientation`.
        value_range: how more than 8 bits become 8, see :mod:`gfocal.images.depth`.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        BrokenInputError: the file is missing, truncated or no image, or its values need another range; the message
            names it.
    """
    try:
        # A pipe would keep the reader waiting for ever.
        data = _content(path) if stat.S_ISREG(os.stat(path).st_mode) else None
    except FileNotFoundError:
        raise broken_image(path, "does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name.
        raise broken_image(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if data is None:
        raise broken_image(path, "cannot be read: it is not a file")
    if not data.size:
        raise broken_image(path, "is an empty file", "replace it")
    try:
        return decode_pixels(data, apply_exif=apply_exif, value_range=value_range)
    except (TooLargeError, DepthError) as error:
        raise broken_image(path, str(error)) from None
    except ForeignError as error:
        raise broken_image(path, *describe_foreign(error.kind, str(path))) from None
    except UndecodableError as error:
        raise broken_image(path, error.reason, "replace it") from None


def _content(path: str | Path) -> np.ndarray:
    if not os.fspath(path).lower().endswith(IMAGE_SUFFIXES):
        # A film may be larger than the memory.
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        if foreign(head) is not None:
            return np.frombuffer(bytearray(head), np.uint8)
    return np.fromfile(path, dtype=np.uint8)


def broken_image(path: str | Path, reason: str, advice: str | None = None) -> BrokenInputError:
    """The error of an image file that cannot be used.

    Args:
        path: the file.
        reason: what is wrong, as the rest of a sentence about it: "is an empty file".
        advice: what to do about it; None where that says itself.
    """
    return BrokenInputError(f"picture {path} {reason}{'' if advice is None else f'; {advice}'}", path, reason)


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
    if isinstance(source, str | Path):
        return read_image(source, value_range=value_range)
    try:
        if isinstance(source, Tensor | np.ndarray):
            return _from_numbers(source, value_range)
        if hasattr(source, "convert") and hasattr(source, "mode"):
            return from_pillow(source, value_range)
    except DepthError as error:
        raise UsageError(f"a picture {error}") from None
    kind = type(source).__name__
    raise UsageError(f"a picture must be a file name, a tensor or array of pixels, or a PIL image, not {kind}")


def _from_numbers(source: Tensor | np.ndarray, value_range: ValueRange) -> Tensor:
    kind, wanted = ("tensor", "(3, H, W)") if isinstance(source, Tensor) else ("array", "(H, W, 3)")
    if source.dtype not in (torch.uint8, np.uint8):
        values = _as_array(source) if isinstance(source, Tensor) else source
        if values.dtype.kind not in "iuf" or not values.size:
            raise UsageError(f"a picture {kind} must hold uint8 in 0..255 or other real numbers, got {source.dtype}")
        values = to_uint8(values, value_range)
        source = torch.from_numpy(values) if isinstance(source, Tensor) else values
    if isinstance(source, Tensor):
        image = source
    else:
        image = torch.from_numpy(np.require(source, requirements=["C", "W"]))
        if image.ndim == 3:
            image = image.permute(2, 0, 1)[: 3 if image.shape[2] == 4 else None]
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or len(image) not in (1, 3) or image.numel() == 0:
        raise UsageError(f"a picture {kind} must have shape {wanted}, got {tuple(source.shape)}")
    return image.expand(3, -1, -1)


def _as_array(source: Tensor) -> np.ndarray:
    # numpy has no bfloat16.
    own = source.detach().cpu()
    return (own.float() if own.is_floating_point() else own).numpy()


@dataclass(frozen=True)
class Resize:
    """How large an image enters the detector.

    Attributes:
        kind: ``square`` stretches to ``size`` x ``size``; ``short_long`` keeps the shape of the image and makes it as
            large as fits into ``short_side`` (its shorter side) and ``long_side`` (its longer one).
        size: pixels, for ``square``.
        short_side: pixels, for ``short_long``.
        long_side: pixels, for ``short_long``.
        fill: colour of what is padded, RGB in 0..255. Black, or the mean colour of the backbone's images: padding is
            then 0 after normalisation, as where padding comes after it (mmdetection).
    """

    kind: Literal["square", "short_long"] = "square"
    size: int = 320
    short_side: int = 800
    long_side: int = 1333
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.kind not in ("square", "short_long"):
            raise UsageError(f"resize kind must be 'square' or 'short_long', got {self.kind!r}")
        for name in ("size", "short_side", "long_side"):
            require_number(f"resize {name}", getattr(self, name), least=1, whole=True)
        if self.short_side > self.long_side:
            raise UsageError(f"resize short_side {self.short_side} must not exceed long_side {self.long_side}")
        check_colour("resize fill", self.fill)

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of ``height`` x ``width`` pixels gets."""
        if self.kind == "square":
            return self.size, self.size
        scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def at(self, side: int) -> Resize:
        """The same with another ``size``, or ``short_side`` with a ``long_side`` in the same proportion."""
        if self.kind == "square":
            return replace(self, size=side)
        return replace(self, short_side=side, long_side=round(self.long_side * side / self.short_side))

    def __call__(self, image: Tensor) -> Tensor:
        """The uint8 image (3, H, W) in its target size, bilinear with antialiasing."""
        return resize_to(image, self.target_size(*image.shape[-2:]))


def check_colour(name: str, colour: Sequence[int]) -> None:
    """Refuse what is no colour.

    Raises:
        UsageError: not three whole numbers in 0..255.
    """
    if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
        raise UsageError(f"{name} must be three whole numbers in 0..255 (red, green, blue), got {list(colour)}")


def resize_to(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A uint8 image (3, H, W) as (3, *size), bilinear with antialiasing."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.resize(image, list(size), antialias=True)


def pad_batch(images: Sequence[Tensor], multiple: int = 32, fill: Sequence[int] = (0, 0, 0)) -> Tensor:
    """Images of any sizes as one batch.

    Args:
        images: B >= 1 images (3, h, w) uint8.
        multiple: height and width of the batch are multiples of this.
        fill: colour of the padding, RGB in 0..255.

    Returns:
        (B, 3, H, W) uint8 in channels-last memory, each image at the top left, ``fill`` elsewhere.
    """
    height, width = (-(-max(p.shape[axis] for p in images) // multiple) * multiple for axis in (1, 2))
    shape = (len(images), 3, height, width)
    batch = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    colour = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1)
    for slot, image in zip(batch, images, strict=True):
        h, w = image.shape[-2:]
        slot[:, :h, :w] = image
        slot[:, h:] = colour
        slot[:, :h, w:] = colour
    return batch
