"""How large an image enters a detector: one rule and one function for tensors and arrays. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from gfocal.errors import UsageError, require_number

if TYPE_CHECKING:
    from torch import Tensor

_Image = TypeVar("_Image", "Tensor", np.ndarray)
_MOST_BITS = 22  # of a weight: 255 times their sum fits 32 bits


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

    def __call__(self, image: _Image) -> _Image:
        """The uint8 image, a (3, H, W) tensor or an (H, W, 3) array, in its target size; see :func:`resize_to`."""
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.shape[-2:]
        return resize_to(image, self.target_size(height, width))


def check_colour(name: str, colour: Sequence[int]) -> None:
    """Refuse what is no colour.

    Raises:
        UsageError: not three whole numbers in 0..255.
    """
    if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
        raise UsageError(f"{name} must be three whole numbers in 0..255 (red, green, blue), got {list(colour)}")


def resize_to(image: _Image, size: tuple[int, int]) -> _Image:
    """A uint8 image, a (3, H, W) tensor or an (H, W, 3) array, in (height, width), bilinear with antialiasing.

    Arrays are resized as torch resizes tensors of 8 bits, bit for bit: first along rows, then along columns, with
    weights of 16 bits.
    """
    if isinstance(image, np.ndarray):
        for axis in (1, 0):
            if image.shape[axis] != size[axis]:
                image = _along(image, axis, size[axis])
        return image
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    from torchvision.transforms.v2 import functional

    return functional.resize(image, list(size), antialias=True)


def _along(image: np.ndarray, axis: int, size: int) -> np.ndarray:
    places, weights, bits = _taps(image.shape[axis], size)
    shape = [1, 1, 1]
    shape[axis] = size
    wide = image.astype(np.int32)
    total = np.full([size if i == axis else n for i, n in enumerate(image.shape)], 1 << max(bits - 1, 0), np.int32)
    for place, weight in zip(places.T, weights.T, strict=True):
        total += wide.take(place, axis) * weight.reshape(shape)
    return np.clip(total >> bits, 0, 255).astype(np.uint8)


def _taps(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(wanted, T) which pixels of ``size`` each new one is made of, their whole-numbered weights, and these' bits."""
    scale = size / wanted
    support = max(scale, 1.0)
    centre = scale * (np.arange(wanted) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), size)
    places = first[:, None] + np.arange(int((last - first).max()))
    weights = np.maximum(1 - np.abs((places - centre[:, None] + 0.5) / support), 0)
    weights[places >= last[:, None]] = 0
    weights /= weights.sum(1, keepdims=True)
    bits = 0
    while bits < _MOST_BITS and int(0.5 + weights.max() * (1 << bits + 1)) < 1 << 15:
        bits += 1
    return np.minimum(places, size - 1), (0.5 + weights * (1 << bits)).astype(np.int32), bits


def padded_size(sizes: Sequence[Sequence[int]], multiple: int) -> tuple[int, int]:
    """(height, width) of a batch of images of these (height, width)s, multiples of ``multiple``."""
    height, width = (-(-max(size[axis] for size in sizes) // multiple) * multiple for axis in (0, 1))
    return height, width
