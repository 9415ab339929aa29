"""The size of images from the first bytes of their files."""

from __future__ import annotations

import mmap
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from gfocal.errors import BrokenInputError
from gfocal.images.decode import orientation_of
from gfocal.images.orientation import read_header
from gfocal.images.reading import broken_image
from gfocal.utils.threads import in_threads


def image_size(path: str | Path, *, apply_exif: bool = True) -> tuple[int, int]:
    """(width, height) of an image in pixels; nothing is decoded, about 0.05 ms.

    Args:
        path: the file.
        apply_exif: of the image turned upright, by the rule of :mod:`gfocal.images.orientation`, as pixels are read.

    Raises:
        BrokenInputError: the file is missing or no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that decoding would refuse, and of odd metadata
        return _size_of(path, apply_exif)


def _size_of(path: str | Path, apply_exif: bool) -> tuple[int, int]:
    from PIL import UnidentifiedImageError

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # A pipe would keep the reader waiting for ever.
            raise broken_image(path, "cannot be read: it is not a file")
        with open(path, "rb") as file, _mapped(file) as content:
            width, height, orientation = _stored_size(file, content)
    except BrokenInputError:
        raise
    except FileNotFoundError:
        raise broken_image(path, "does not exist") from None
    # Readers of headers fail in many ways on damaged bytes.
    except Exception as error:
        words = "no known picture format" if isinstance(error, UnidentifiedImageError) else error
        raise broken_image(path, f"is damaged or not a picture ({words})", "replace it") from None
    return (height, width) if apply_exif and orientation >= 5 else (width, height)


@contextmanager
def _mapped(file: BinaryIO) -> Iterator[Any]:
    """The bytes of a file, of which only those are read that are looked at."""
    try:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError):  # Empty, or of a file system that cannot.
        yield file.read()
        file.seek(0)
        return
    with content:
        yield content


def _stored_size(file: BinaryIO, content: Any) -> tuple[int, int, int]:
    """(width, height) of the pixels as they are stored, and their orientation."""
    from PIL import Image

    header = read_header(content)
    if header.width and header.height and content[:2] == b"\xff\xd8":
        return header.width, header.height, header.orientation or 1
    with Image.open(file) as image:
        width, height = image.size
        if image.format == "TIFF" and header.width and header.height:  # Pillow gives the size that it turns them to.
            width, height = header.width, header.height
        return width, height, orientation_of(header, image)


def image_sizes(paths: Iterable[Path]) -> Iterable[tuple[int, int] | BrokenInputError]:
    """:func:`image_size` of many, by a few threads; of one that cannot be read the error, as a value."""
    return in_threads(_try_size, paths)


def _try_size(path: Path) -> tuple[int, int] | BrokenInputError:
    try:
        return _size_of(path, apply_exif=True)
    except BrokenInputError as error:
        return error
