"""From the bytes of an image file to RGB pixels."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

try:
    from torchvision.io import ImageReadMode, decode_image
except ImportError:  # Announced for a release after 0.29; Pillow reads the same formats, JPEG three times slower.
    decode_image = None

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 178_956_970
"""The largest image that is read: Pillow's own limit. A file of a few bytes can claim more than any memory holds."""

# What Pillow may open: none of these runs another program, as its reader of EPS does.
_PILLOW_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

# The first bytes of what torchvision decodes: JPEG, WebP ("RIFF????WEBP") and GIF. Not PNG: a damaged file ends the
# process there (segmentation fault, torchvision 0.29), and Pillow is as fast.
_TORCHVISION_MAGIC = (b"\xff\xd8\xff", b"RIFF", b"GIF8")


class TooLargeError(Exception):
    """An image has, or claims, more than :data:`MAX_PIXELS`."""


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


def decode_pixels(data: np.ndarray, *, apply_exif: bool = True) -> Tensor:
    """The content of an image file; see :func:`gfocal.images.io.read_image`, which turns its errors into messages.

    Args:
        data: (bytes,) uint8, writable.
        apply_exif: turn the image upright.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        TooLargeError: before any memory is taken.
        UndecodableError: it is no image, or a damaged one.
    """
    try:
        return _decoded(data, apply_exif)
    except TooLargeError:
        raise
    # Decoders fail in many ways on damaged bytes (Pillow: OSError, SyntaxError, ValueError, struct.error, ...).
    except Exception as error:
        raise UndecodableError(error) from None


def _decoded(data: np.ndarray, apply_exif: bool) -> Tensor:
    head = data[:32].tobytes()
    by_torchvision = _torchvision_reads(head)
    if by_torchvision:
        width, height = declared_size(data)
        if width * height > MAX_PIXELS:
            raise TooLargeError(f"says that it is {width}x{height} pixels, more than the {MAX_PIXELS:,} that are read")
        return _first_frame_uint8(_decode_with_torchvision(torch.from_numpy(data), apply_exif))
    return _first_frame_uint8(_decode_with_pillow(data.tobytes(), apply_exif))


def declared_size(data: np.ndarray) -> tuple[int, int]:
    """(width, height) that the header of a JPEG or GIF file says; (0, 0) of others."""
    head = data[:32].tobytes()
    if head.startswith(b"GIF8"):
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    at = 2
    while head.startswith(b"\xff\xd8") and at + 9 <= len(data) and data[at] == 0xFF:
        code, segment = int(data[at + 1]), data[at + 2 : at + 9].tobytes()
        if code == 0xFF:  # Fill bytes may stand before a marker.
            at += 1
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[3:5], "big")
        else:
            at += 2 + int.from_bytes(segment[:2], "big")
    return 0, 0


def _torchvision_reads(head: bytes) -> bool:
    # It ignores the orientation of a WebP file: those that carry EXIF (a flag of the extended header) go to Pillow.
    exif_webp = head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0x08)
    return decode_image is not None and head.startswith(_TORCHVISION_MAGIC) and not exif_webp


def _decode_with_torchvision(data: Tensor, apply_exif: bool) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The image decoding", category=DeprecationWarning)
        return decode_image(data, ImageReadMode.RGB, apply_exif_orientation=apply_exif)


def _decode_with_pillow(data: bytes, apply_exif: bool) -> Tensor:
    from PIL import ImageOps

    with open_with_pillow(data) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of a palette with transparency, which is dropped, for one.
        image.load()
        return from_pillow(ImageOps.exif_transpose(image) if apply_exif else image)


def open_with_pillow(data: bytes) -> Image.Image:
    """An image whose header is read, in one of the formats that are read."""
    from PIL import Image

    Image.init()
    with warnings.catch_warnings():
        # The limit is ours, and what Pillow finds odd in metadata is not about the pixels.
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data), formats=[name for name in _PILLOW_FORMATS if name in Image.OPEN])
        except Image.DecompressionBombError:
            raise TooLargeError(f"says that it has more than the {MAX_PIXELS:,} pixels that are read") from None


def from_pillow(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion to RGB clips them at 255.
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return torch.from_numpy(grey).expand(3, -1, -1)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _first_frame_uint8(image: Tensor) -> Tensor:
    image = image[0] if image.ndim == 4 else image
    return (image.to(torch.int32) >> 8).to(torch.uint8) if image.dtype == torch.uint16 else image


def _words_of(error: Exception) -> str:
    """What a decoder says, without the place in its source that torchvision puts before them."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no known picture format"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.rsplit(".cpp:", 1)[-1].split(", ", 1)[-1]
    return "no known picture format" if "Unsupported" in text else text
