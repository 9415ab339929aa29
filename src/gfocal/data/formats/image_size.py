"""The size of images from the first bytes of their files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.errors import BrokenInputError
from gfocal.images.io import broken_image
from gfocal.utils.threads import in_threads

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag


def image_size(path: str | Path, *, apply_exif: bool = True) -> tuple[int, int]:
    """(width, height) of an image in pixels; nothing is decoded, about 0.05 ms.

    Args:
        path: the file.
        apply_exif: of the image as its EXIF orientation turns it upright.

    Raises:
        BrokenInputError: the file is missing or no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that decoding would refuse, and of odd metadata
        return _size_of(path, apply_exif)


def _size_of(path: str | Path, apply_exif: bool) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = apply_exif and exif_orientation(image) >= 5
    except FileNotFoundError:
        raise broken_image(path, "does not exist") from None
    # Readers of headers fail in many ways on damaged bytes.
    except Exception as error:
        words = "no known picture format" if isinstance(error, UnidentifiedImageError) else error
        raise broken_image(path, f"is damaged or not a picture ({words})", "replace it") from None
    return (height, width) if turned else (width, height)


def exif_orientation(image: Image.Image) -> int:
    """1..8, 1 where an image has none; 5 and more turn by a quarter."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Damaged metadata: decoders ignore them, too.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def image_sizes(paths: Iterable[Path]) -> Iterable[tuple[int, int] | BrokenInputError]:
    """:func:`image_size` of many, by a few threads; of one that cannot be read the error, as a value."""
    return in_threads(_try_size, paths)


def _try_size(path: Path) -> tuple[int, int] | BrokenInputError:
    try:
        return _size_of(path, apply_exif=True)
    except BrokenInputError as error:
        return error
