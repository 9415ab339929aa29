"""Images as arrays (H, W, 3) of uint8 RGB: files, and whatever else a person holds one in. Nothing here needs torch."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gfocal.errors import BrokenInputError, UsageError
from gfocal.images.decode import ForeignError, TooLargeError, UndecodableError, array_from_pillow, decode_array
from gfocal.images.depth import DepthError, ValueRange, to_uint8
from gfocal.images.file_types import IMAGE_SUFFIXES, describe_foreign, foreign

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_HEAD = 1024  # bytes that tell what a file is


def read_array(path: str | Path, *, apply_exif: bool = True, value_range: ValueRange = "type") -> np.ndarray:
    """Read an image file.

    Grey images become RGB, alpha is dropped, of an animation or of several pages the first one counts.

    Args:
        path: the file.
        apply_exif: turn the image upright, see :mod:`gfocal.images.orientation`.
        value_range: how more than 8 bits become 8, see :mod:`gfocal.images.depth`.

    Returns:
        (H, W, 3) uint8 RGB.

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
        return decode_array(data, apply_exif=apply_exif, value_range=value_range)
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


def to_array(source: str | Path | Tensor | np.ndarray | Image.Image, *, value_range: ValueRange = "type") -> np.ndarray:
    """Whatever a person holds an image in, as (H, W, 3) uint8 RGB; see :func:`gfocal.images.io.to_image`."""
    if isinstance(source, str | Path):
        return read_array(source, value_range=value_range)
    try:
        if isinstance(source, np.ndarray) or is_tensor(source):
            return _from_numbers(source, value_range)
        if hasattr(source, "convert") and hasattr(source, "mode"):
            return array_from_pillow(cast("Image.Image", source), value_range)
    except DepthError as error:
        raise UsageError(f"a picture {error}") from None
    kind = type(source).__name__
    raise UsageError(f"a picture must be a file name, a tensor or array of pixels, or a PIL image, not {kind}")


def is_tensor(value: object) -> bool:
    """Whether it is one of torch's, without loading torch."""
    return hasattr(value, "is_floating_point")


def _from_numbers(source: Any, value_range: ValueRange) -> np.ndarray:
    tensor = not isinstance(source, np.ndarray)
    kind, wanted = ("tensor", "(3, H, W)") if tensor else ("array", "(H, W, 3)")
    values = _as_array(source) if tensor else source
    if values.dtype != np.uint8:
        if values.dtype.kind not in "iuf" or not values.size:
            raise UsageError(f"a picture {kind} must hold uint8 in 0..255 or other real numbers, got {source.dtype}")
        values = to_uint8(values, value_range)
    image = values[..., None] if values.ndim == 2 else np.moveaxis(values, 0, -1) if tensor else values
    if not tensor and image.ndim == 3 and image.shape[2] == 4:
        image = image[..., :3]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise UsageError(f"a picture {kind} must have shape {wanted}, got {tuple(source.shape)}")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _as_array(source: Tensor) -> np.ndarray:
    # numpy has no bfloat16.
    own = source.detach().cpu()
    return (own.float() if own.is_floating_point() else own).numpy()
