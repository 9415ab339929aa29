"""From the bytes of an image file to RGB pixels."""

from __future__ import annotations

import functools
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gfocal.images.depth import DepthError, ValueRange, Values, to_uint8, values_of
from gfocal.images.file_types import SUFFIXES, Foreign, foreign
from gfocal.images.orientation import ORIENTATION, Header, read_header, upright
from gfocal.images.wide import as_stored, grey_values, has_wide_colours, unread_tiff, wide_colours

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

MAX_PIXELS = 178_956_970
"""The largest image that is read: Pillow's own limit. A file of a few bytes can claim more than any memory holds."""

# The first bytes of what torchvision decodes: JPEG, WebP ("RIFF????WEBP") and GIF. Not PNG: a damaged file ends the
# process there (segmentation fault, torchvision 0.29), and Pillow is as fast.
_TORCHVISION_MAGIC = (b"\xff\xd8\xff", b"RIFF", b"GIF8")


class TooLargeError(Exception):
    """An image has, or claims, more than :data:`MAX_PIXELS`."""


class ForeignError(Exception):
    """A file of another kind: a film, a PDF, ...

    Attributes:
        kind: which.
    """

    def __init__(self, kind: Foreign) -> None:
        self.kind = kind
        super().__init__(kind.name)


class UndecodableError(Exception):
    """The content of an image file cannot be decoded.

    Attributes:
        reason: what is wrong with the file, and the decoder's words.
        cut_off: the decoder says that the file ends before the image does.
    """

    def __init__(self, error: Exception) -> None:
        words = _words_of(error)
        self.reason = f"is truncated, damaged or not a picture ({words})"
        self.cut_off = "truncated" in words.lower()  # libjpeg: "incomplete or truncated"
        super().__init__(self.reason)


def decode_pixels(data: np.ndarray, *, apply_exif: bool = True, value_range: ValueRange = "type") -> Tensor:
    """:func:`decode_array` as a tensor (3, H, W) in channels-last memory."""
    import torch

    image = decode_array(data, apply_exif=apply_exif, value_range=value_range)
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def decode_array(data: np.ndarray, *, apply_exif: bool = True, value_range: ValueRange = "type") -> np.ndarray:
    """The content of an image file; see :func:`gfocal.images.reading.read_array`, which turns its errors into messages.

    torchvision decodes JPEG, WebP and GIF where torch is loaded, since it is faster; elsewhere Pillow does, to the same
    pixels.

    Args:
        data: (bytes,) uint8, writable.
        apply_exif: turn the image upright, see :mod:`gfocal.images.orientation`.
        value_range: how more than 8 bits become 8, see :mod:`gfocal.images.depth`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        TooLargeError: before any memory is taken.
        DepthError: its values do not say which of them are black and white.
        ForeignError: it is a film, a PDF, ...
        UndecodableError: it is no image, or a damaged one.
    """
    try:
        return _decoded(data, apply_exif, value_range)
    except (TooLargeError, DepthError):
        raise
    # Decoders fail in many ways on damaged bytes (Pillow: OSError, SyntaxError, ValueError, struct.error, ...).
    except Exception as error:
        raise _reason(data, error) from None


def _fast_decoder() -> Callable[[np.ndarray], np.ndarray] | None:
    """torchvision's, where torch is loaded already: to load it takes seconds."""
    return _torchvision_decoder() if "torch" in sys.modules else None


@functools.cache
def _torchvision_decoder() -> Callable[[np.ndarray], np.ndarray] | None:
    import torch

    try:
        from torchvision.io import ImageReadMode

        # What torchvision.io.decode_image calls after its warning, which threads could not silence: they share filters.
        decode, rgb = torch.ops.image.decode_image, ImageReadMode.RGB.value
    except (ImportError, AttributeError, RuntimeError):
        # Announced for a release after 0.29. Pillow reads the same formats, JPEG three times slower.
        return None
    return lambda data: decode(torch.from_numpy(data), mode=rgb, apply_exif_orientation=False).movedim(-3, -1).numpy()


def _decoded(data: np.ndarray, apply_exif: bool, value_range: ValueRange) -> np.ndarray:
    head, header, decode = data[:32].tobytes(), read_header(data.data), _fast_decoder()
    if decode is not None and _torchvision_reads(head):
        if header.width * header.height > MAX_PIXELS:
            size = f"{header.width}x{header.height}"
            raise TooLargeError(f"says that it is {size} pixels, more than the {MAX_PIXELS:,} that are read")
        if head.startswith(b"GIF8"):
            data = _up_to_first_frame(data)
        image = _first_frame_uint8(decode(data))
        orientation = header.orientation or 1
    else:
        content = data.tobytes()
        with open_with_pillow(content) as opened:
            orientation = orientation_of(header, opened)
            if value_range != "type" and has_wide_colours(opened):
                image = _rgb(to_uint8(wide_colours(opened, open_with_pillow(content)), value_range))
            else:
                image = array_from_pillow(opened, value_range)
    return upright(image, orientation) if apply_exif else image


def wide_values(data: bytes) -> Values | None:
    """What is in the pixels of an image file with more than 8 bits a channel; None for other images.

    Raises:
        TooLargeError: its header says that it is.
        ForeignError, UndecodableError: its pixels cannot be read.
    """
    return None if (pixels := wide_pixels(data)) is None else values_of(pixels)


def wide_pixels(data: bytes) -> np.ndarray | None:
    """(H, W) or (H, W, 3): the values of :func:`wide_values` themselves, which raises the same."""
    try:
        with open_with_pillow(data) as image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return wide_colours(image, open_with_pillow(data)) if has_wide_colours(image) else grey_values(image)
    except TooLargeError:
        raise
    except DepthError:  # Colours that are read by their upper bytes alone.
        return None
    except Exception as error:  # Of any type, by Pillow's readers.
        raise _reason(np.frombuffer(data, np.uint8), error) from None


def orientation_of(header: Header, image: Image.Image) -> int:
    """The orientation of a file, 1..8, from its header and from what Pillow opened of it."""
    if header.orientation is not None:
        return header.orientation
    try:
        value = image.getexif().get(ORIENTATION, 1) if image.format == "AVIF" else 1
    except Exception:  # Damaged metadata: decoders ignore them, too.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def several_frames(image: Image.Image) -> str | None:
    """What an open Pillow image has several of, the first of which is read: "frames" or "pages"; None: it is one."""
    try:
        # The second image of a JPEG is a depth map or a thumbnail.
        several = image.format not in ("JPEG", "MPO") and bool(getattr(image, "is_animated", False))
    except Exception:  # A damaged second frame; the first one was read.
        several = True
    return None if not several else "pages" if image.format == "TIFF" else "frames"


def _torchvision_reads(head: bytes) -> bool:
    if not head.startswith(_TORCHVISION_MAGIC):
        return False
    # Animated WebP (a flag of the extended header) it takes for a damaged file.
    animated = head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0x02)
    return not (head.startswith(b"RIFF") and (animated or head[8:12] != b"WEBP"))


def open_with_pillow(data: bytes) -> Image.Image:
    """An image whose header is read, in one of the formats that are read; its pixels come as they are stored."""
    return _opened(io.BytesIO(as_stored(data)))


def says_wide(path: Path) -> bool:
    """Whether the header of an image file tells of more than 8 bits a channel; False where it cannot be read.

    The pixels are not looked at.
    """
    try:
        if not path.is_file():  # A pipe would keep the reader waiting for ever.
            return False
        with _opened(path) as image:
            return image.mode[0] in "IF" or has_wide_colours(image)
    except Exception:  # Of any type, by Pillow's readers.
        return False


def _opened(source: io.BytesIO | Path) -> Image.Image:
    from PIL import Image

    Image.init()
    with warnings.catch_warnings():
        # The limit is ours, and what Pillow finds odd in metadata is not about the pixels.
        warnings.simplefilter("ignore")
        try:
            formats = [name for name in (*SUFFIXES, "DIB", "MPO") if name in Image.OPEN]
            return Image.open(source, formats=formats)
        except Image.DecompressionBombError:
            raise TooLargeError(f"says that it has more than the {MAX_PIXELS:,} pixels that are read") from None


def array_from_pillow(image: Image.Image, value_range: ValueRange = "type") -> np.ndarray:
    """The pixels of a Pillow image as they are stored, (H, W, 3) uint8 RGB.

    Raises:
        DepthError: its values do not say which of them are black and white.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of a palette with transparency, which is dropped, for one.
        values = grey_values(image)
        return np.array(image.convert("RGB")) if values is None else _rgb(to_uint8(values, value_range))


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3), or grey (H, W), as (H, W, 3)."""
    return np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels


def _up_to_first_frame(data: np.ndarray) -> np.ndarray:
    """A GIF file without the frames behind the first one, all of which torchvision would decode; damaged as it is."""
    content = data.tobytes()
    try:
        at = 13 + _colours(content[10])
        while content[at] == 0x21:  # An extension.
            at = _behind_blocks(content, at + 2)
        if content[at] != 0x2C:
            return data
        end = _behind_blocks(content, at + 11 + _colours(content[at + 9]))
    except IndexError:
        return data
    return np.frombuffer(bytearray(content[:end] + b";"), np.uint8)


def _colours(flags: int) -> int:
    """Bytes of the table of colours that GIF's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_blocks(content: bytes, at: int) -> int:
    """Where a sequence of GIF's blocks ends: each begins with its length, the last one has none."""
    while length := content[at]:
        at += 1 + length
    return at + 1


def _first_frame_uint8(image: np.ndarray) -> np.ndarray:
    image = image[0] if image.ndim == 4 else image
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image


def _reason(data: np.ndarray, error: Exception) -> ForeignError | UndecodableError:
    from PIL import UnidentifiedImageError

    kind = foreign(data[:1024].tobytes())
    if kind is None and isinstance(error, UnidentifiedImageError):
        kind = unread_tiff(data.tobytes())
    return UndecodableError(error) if kind is None else ForeignError(kind)


def _words_of(error: Exception) -> str:
    """What a decoder says, without the place in its source that torchvision puts before them."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no known picture format"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.rsplit(".cpp:", 1)[-1].split(", ", 1)[-1]
    return "no known picture format" if "Unsupported" in text else text
