"""From pixel values of any depth to 8 bits.

The rule: 256 equal steps between the two ends of a range, ``floor((value - low) * 256 / (high - low))``, cut off at 0
and 255; NaN is black. The range is that of the type (``"type"``): 0..65535 for 16 bits without a sign, whose upper byte
this is, and 0..1 for floating-point numbers. Numbers with a sign or of 32 bits use no usual part of their type, and
floating-point numbers beyond 0..1, infinite ones too, follow another convention: those need a range, ``(low, high)``,
and are refused without one. Values of 8 bits stay as they are, whatever the range.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from gfocal.errors import UsageError

ValueRange = Literal["type"] | tuple[float, float]
"""The recipe's ``data.range``: what becomes black and white where values have more than 8 bits."""

_PIECE = 1 << 18  # values that are in float64 at a time


class DepthError(Exception):
    """Values that cannot become 8 bits, mostly since they need a range; the text completes "the picture ..."."""


class Values(NamedTuple):
    """What is in the pixels of an image with more than 8 bits a channel.

    Attributes:
        type: "uint16", "int32", "uint32" or "float32".
        low, high: the least and the largest finite value; 0 where there is none.
        not_numbers: how many are NaN.
        infinite: how many are infinite.
    """

    type: str
    low: float
    high: float
    not_numbers: int = 0
    infinite: int = 0

    @property
    def bits(self) -> int:
        """Of the type."""
        return int(np.dtype(self.type).itemsize * 8)

    @property
    def used_bits(self) -> int:
        """Of whole numbers from 0: how many bits the largest one has."""
        return int(self.high).bit_length()

    @property
    def needs_range(self) -> bool:
        """Whether the range of the type does not do, see :func:`to_uint8`."""
        return self.type != "uint16" and not (self.type == "float32" and self.low >= 0 and self.high <= 1)

    @property
    def refused(self) -> bool:
        """Whether infinite ones alone keep them from the range of the type, which suits the others."""
        return self.infinite > 0 and not self.needs_range

    @property
    def extent(self) -> tuple[float, float]:
        """A range that all of them fit into, low < high."""
        return (self.low, self.high) if self.low < self.high else (self.low, self.low + 1)


def values_of(pixels: np.ndarray) -> Values:
    """Type and extent of an array's values."""
    if pixels.dtype.kind != "f":
        return Values(pixels.dtype.name, float(pixels.min()), float(pixels.max()))
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Values("float32", low, high, int(np.isnan(pixels).sum()), int(np.isinf(pixels).sum()))


def check_range(value_range: ValueRange) -> None:
    """Refuse what is no range.

    Raises:
        UsageError: neither "type" nor two finite numbers, the lower one first.
    """
    if isinstance(value_range, str) and value_range == "type":
        return
    numbers = tuple(value_range) if isinstance(value_range, list | tuple) else ()
    real = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in numbers)
    if len(numbers) != 2 or not real or not numbers[0] < numbers[1]:
        raise UsageError(f'the range of values must be "type" or (low, high) with low < high, got {value_range!r}')


def to_uint8(pixels: np.ndarray, value_range: ValueRange = "type") -> np.ndarray:
    """Values of any depth as 8 bits; see the module for the rule.

    Args:
        pixels: whole or floating-point numbers, any shape.
        value_range: "type", or the values that become black and white.

    Raises:
        DepthError: the range is that of the type, and the type has none that is in use.
    """
    if pixels.dtype == np.uint8:
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if value_range == "type":
        if pixels.dtype == np.uint16:
            return (pixels >> 8).astype(np.uint8)
        value_range = _usual(pixels)
    if pixels.dtype == np.uint16:
        table = _scaled(np.arange(1 << 16), *value_range)
        return table[pixels]
    flat, result = pixels.reshape(-1), np.empty(pixels.size, np.uint8)
    for start in range(0, len(flat), _PIECE):
        result[start : start + _PIECE] = _scaled(flat[start : start + _PIECE], *value_range)
    return result.reshape(pixels.shape)


def _usual(pixels: np.ndarray) -> tuple[float, float]:
    if pixels.dtype.kind == "f" and not ((pixels < 0) | (pixels > 1)).any():  # NaN is neither
        return 0.0, 1.0
    own = values_of(pixels)
    if own.refused:
        raise DepthError(describe_infinite(own))
    kind = "floating-point numbers" if pixels.dtype.kind == "f" else "whole numbers with a sign or of 32 bits"
    low, high = suggested_range([own])
    raise DepthError(
        f"has {kind} from {own.low:.6g} to {own.high:.6g}{_besides(own)}, which do not say what is black and what is "
        f"white: set data.range to what is in use in all pictures, for example data.range=[{low:.6g},{high:.6g}]"
    )


def describe_infinite(values: Values) -> str:
    """Why an image with :attr:`Values.refused` is not read, as the rest of a sentence about it."""
    nan = f" and {values.not_numbers:,} NaN" if values.not_numbers else ""
    return (
        f"has {values.infinite:,} infinite{nan} among floating-point numbers from {values.low:.6g} to "
        f"{values.high:.6g}, and what is infinite has no place in 0..1: put numbers there, or set data.range, for "
        "example data.range=[0,1], which reads it as white or, below 0, as black"
    )


def _besides(values: Values) -> str:
    odd = ((values.infinite, "infinite"), (values.not_numbers, "NaN"))
    words = " and ".join(f"{many:,} {name}" for many, name in odd if many)
    return f", besides {words}" if words else ""


def share_outside(pixels: np.ndarray, low: float, high: float) -> float:
    """The share of the values that lie outside of a range, which are cut off to black and white; NaN lies outside."""
    return float(1 - ((pixels >= low) & (pixels <= high)).mean())


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    with np.errstate(all="ignore"):  # of huge and of missing numbers
        steps = np.floor((values.astype(np.float64) - low) * 256 / (high - low))
    return np.clip(np.nan_to_num(steps, nan=0.0), 0, 255).astype(np.uint8)


def suggested_range(values: list[Values]) -> tuple[float, float]:
    """A range for images with these values: 0 to a power of two less 1 where they fill that, else their own ends.

    Args:
        values: of at least one image.
    """
    low, high = min(own.low for own in values), max(own.high for own in values)
    whole = all(own.type != "float32" for own in values)
    top = float((1 << max(8, math.ceil(math.log2(max(high, 1) + 1)))) - 1)
    # A whole range of bits is what another data set of the same camera will fill, too; none has more than 16.
    if low >= 0 and high - low >= top / 4 and top <= 65_535 and (whole or top == 255):
        return 0.0, top
    return Values("float32", low, high).extent
