"""Pictures as uint8 RGB tensors: reading, resizing, padding to a batch.

``decode_jpeg`` returns (3, H, W) with channels-last strides. Nothing here makes them contiguous: resizing
such a tensor is about three times faster.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gfocal.errors import BrokenInputError, UsageError

try:
    from torchvision.io import ImageReadMode, decode_image
except ImportError:  # Announced for a release after 0.29; Pillow reads the same formats, JPEG three times slower.
    decode_image = None

if TYPE_CHECKING:
    from PIL import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""File name endings that count as pictures when a folder is searched."""

MAX_PIXELS = 178_956_970
"""The largest picture that is read: Pillow's own limit. A file of a few bytes can claim more than any memory holds."""

# What Pillow may open: none of these runs another program, as its reader of EPS does.
_PILLOW_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

# The first bytes of what torchvision decodes itself: JPEG, PNG, WebP ("RIFF????WEBP") and GIF.
_TORCHVISION_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")


def read_picture(path: str | Path, *, apply_exif: bool = True) -> Tensor:
    """Read a picture file.

    Grey pictures become RGB, alpha is dropped, 16 bits become 8, of an animation the first frame counts.

    Args:
        path: the file.
        apply_exif: turn the picture upright as its EXIF orientation says.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        BrokenInputError: the file is missing, truncated or no picture; the message names it.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise BrokenInputError(f"picture {path} does not exist") from None
    except OSError as error:
        raise BrokenInputError(f"picture {path} cannot be read: {error.strerror or error}") from None
    if not data.size:
        raise BrokenInputError(f"picture {path} is an empty file; replace it")
    try:
        return decode_picture(data, apply_exif=apply_exif)
    except TooLargeError as error:
        raise BrokenInputError(f"picture {path} {error}") from None
    # Decoders fail in many ways on damaged bytes (Pillow: OSError, SyntaxError, ValueError, struct.error, ...).
    except Exception as error:
        raise BrokenInputError(
            f"picture {path} is truncated, damaged or not a picture ({_reason(error)}); replace it"
        ) from None


class TooLargeError(Exception):
    """A picture has, or claims, more than :data:`MAX_PIXELS`."""


def decode_picture(data: np.ndarray, *, apply_exif: bool = True) -> Tensor:
    """The content of a picture file; see :func:`read_picture`, which turns its errors into messages.

    Args:
        data: (bytes,) uint8, writable.
        apply_exif: turn the picture upright.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        TooLargeError: before any memory is taken.
        Exception: of any type, by the decoder.
    """
    head = data[:32].tobytes()
    by_torchvision = _torchvision_reads(head)
    if by_torchvision:
        width, height = declared_size(data)
        if width * height > MAX_PIXELS:
            raise TooLargeError(f"says that it is {width}x{height} pixels, more than the {MAX_PIXELS:,} that are read")
        return _first_frame_uint8(_decode_with_torchvision(torch.from_numpy(data), apply_exif))
    return _first_frame_uint8(_decode_with_pillow(data.tobytes(), apply_exif))


def declared_size(data: np.ndarray) -> tuple[int, int]:
    """(width, height) that the header of a JPEG, PNG or GIF file says; (0, 0) of others, which stay below the limit."""
    head = data[:32].tobytes()
    if head.startswith(b"\x89PNG"):
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
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

    with open_with_pillow(data) as image:
        image.load()
        return _from_pillow(ImageOps.exif_transpose(image) if apply_exif else image)


def open_with_pillow(data: bytes) -> Image.Image:
    """A picture whose header is read, in one of the formats that are read."""
    from PIL import Image

    Image.init()
    with warnings.catch_warnings():
        # The limit is ours, and what Pillow finds odd in metadata is not about the pixels.
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data), formats=[name for name in _PILLOW_FORMATS if name in Image.OPEN])
        except Image.DecompressionBombError:
            raise TooLargeError(f"says that it has more than the {MAX_PIXELS:,} pixels that are read") from None


def _from_pillow(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion to RGB clips them at 255.
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return torch.from_numpy(grey).expand(3, -1, -1)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _first_frame_uint8(picture: Tensor) -> Tensor:
    picture = picture[0] if picture.ndim == 4 else picture
    return (picture.to(torch.int32) >> 8).to(torch.uint8) if picture.dtype == torch.uint16 else picture


def _reason(error: Exception) -> str:
    """The decoder's words without the place in its source that torchvision puts before them."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.rsplit(".cpp:", 1)[-1].split(", ", 1)[-1]
    return "no known picture format" if "Unsupported" in text or "cannot identify" in text else text


def to_picture(source: str | Path | Tensor | np.ndarray | Image.Image) -> Tensor:
    """Whatever a person holds a picture in, as (3, H, W) uint8 RGB.

    Args:
        source: a file; a uint8 tensor (3, H, W), (1, H, W) or (H, W); a uint8 array (H, W, 3), (H, W, 4), (H, W, 1)
            or (H, W), RGB; or a PIL image, which is taken as it is (its EXIF orientation is not applied, so that boxes
            fit the image given).

    Raises:
        BrokenInputError: the file cannot be read.
        UsageError: another type, shape or dtype.
    """
    if isinstance(source, str | Path):
        return read_picture(source)
    if isinstance(source, Tensor | np.ndarray):
        return _from_numbers(source)
    if hasattr(source, "convert") and hasattr(source, "mode"):
        return _from_pillow(source)
    kind = type(source).__name__
    raise UsageError(f"a picture must be a file name, a uint8 tensor or array, or a PIL image, not {kind}")


def _from_numbers(source: Tensor | np.ndarray) -> Tensor:
    kind, wanted = ("tensor", "(3, H, W)") if isinstance(source, Tensor) else ("array", "(H, W, 3)")
    if source.dtype not in (torch.uint8, np.uint8):
        raise UsageError(f"a picture {kind} must be uint8 in 0..255, got {source.dtype}: scale and convert it first")
    if isinstance(source, Tensor):
        picture = source
    else:
        picture = torch.from_numpy(np.require(source, requirements=["C", "W"]))
        if picture.ndim == 3:
            picture = picture.permute(2, 0, 1)[: 3 if picture.shape[2] == 4 else None]
    picture = picture[None] if picture.ndim == 2 else picture
    if picture.ndim != 3 or len(picture) not in (1, 3) or picture.numel() == 0:
        raise UsageError(f"a picture {kind} must have shape {wanted}, got {tuple(source.shape)}")
    return picture.expand(3, -1, -1)


@dataclass(frozen=True)
class Resize:
    """How large a picture enters the detector.

    Attributes:
        kind: ``square`` stretches to ``size`` x ``size``; ``short_long`` keeps the shape of the picture and makes it as
            large as fits into ``short_side`` (its shorter side) and ``long_side`` (its longer one).
        size: pixels, for ``square``.
        short_side: pixels, for ``short_long``.
        long_side: pixels, for ``short_long``.
        fill: colour of what is padded, RGB in 0..255. Black, or the mean colour of the backbone's pictures: padding is
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
            if getattr(self, name) < 1:
                raise UsageError(f"resize {name} must be at least 1 pixel, got {getattr(self, name)}")
        if self.short_side > self.long_side:
            raise UsageError(f"resize short_side {self.short_side} must not exceed long_side {self.long_side}")
        check_colour("resize fill", self.fill)

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a picture of ``height`` x ``width`` pixels gets."""
        if self.kind == "square":
            return self.size, self.size
        scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def at(self, side: int) -> Resize:
        """The same with another ``size``, or ``short_side`` with a ``long_side`` in the same proportion."""
        if self.kind == "square":
            return replace(self, size=side)
        return replace(self, short_side=side, long_side=round(self.long_side * side / self.short_side))

    def __call__(self, picture: Tensor) -> Tensor:
        """The uint8 picture (3, H, W) in its target size, bilinear with antialiasing."""
        return resize_to(picture, self.target_size(*picture.shape[-2:]))


def check_colour(name: str, colour: Sequence[int]) -> None:
    """Refuse what is no colour.

    Raises:
        UsageError: not three whole numbers in 0..255.
    """
    if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
        raise UsageError(f"{name} must be three whole numbers in 0..255 (red, green, blue), got {list(colour)}")


def resize_to(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A uint8 picture (3, H, W) as (3, *size), bilinear with antialiasing."""
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return F.resize(picture, list(size), antialias=True)


def pad_batch(pictures: Sequence[Tensor], multiple: int = 32, fill: Sequence[int] = (0, 0, 0)) -> Tensor:
    """Pictures of any sizes as one batch.

    Args:
        pictures: B >= 1 pictures (3, h, w) uint8.
        multiple: height and width of the batch are multiples of this.
        fill: colour of the padding, RGB in 0..255.

    Returns:
        (B, 3, H, W) uint8 in channels-last memory, each picture at the top left, ``fill`` elsewhere.
    """
    height, width = (-(-max(p.shape[axis] for p in pictures) // multiple) * multiple for axis in (1, 2))
    shape = (len(pictures), 3, height, width)
    batch = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    colour = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1)
    for slot, picture in zip(batch, pictures, strict=True):
        h, w = picture.shape[-2:]
        slot[:, :h, :w] = picture
        slot[:, h:] = colour
        slot[:, :h, w:] = colour
    return batch
