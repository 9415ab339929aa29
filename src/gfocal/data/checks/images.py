"""Image files, one by one: whether they can be read, and what is odd about them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gfocal.data.checks.jpeg import is_cut_off
from gfocal.data.image_hash import hash_of
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import LARGE_PIXELS, LONG_RATIO, SMALL_SIDE, Fault, Finding, Kind
from gfocal.images.decode import (
    MAX_PIXELS,
    ForeignError,
    TooLargeError,
    UndecodableError,
    decode_pixels,
    open_with_pillow,
    orientation_of,
    several_frames,
    wide_values,
)
from gfocal.images.depth import DepthError, ValueRange, Values, describe_infinite
from gfocal.images.file_types import SUFFIXES, describe_foreign, foreign
from gfocal.images.orientation import ORIENTATION, read_header, upright_pillow
from gfocal.images.wide import unread_tiff

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ImageFacts:
    """What an image file is.

    Attributes:
        fault: why it must not be used; the rest is then empty.
        refused: the fault keeps it from being read at all.
        oddities: what else is to say about it.
        upright: (width, height) as EXIF turns it.
        stored: (width, height) of the pixels in the file.
        orientation: of the metadata, 1 where they have none: 1..8.
        format: "JPEG", "PNG", ...
        content: a hash of the upright pixels.
        likeness: :func:`gfocal.data.image_hash.image_hash`.
        values: what is in its pixels where these have more than 8 bits a channel.
    """

    fault: Fault | None = None
    refused: bool = False
    oddities: tuple[Fault, ...] = ()
    upright: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    format: str = ""
    content: bytes = b""
    likeness: int = 0
    values: Values | None = None


# Of Pillow's information on an image; XMP and text may hold the orientation that was applied.
_KEPT_INFO = ("transparency", "dpi", "gamma", "background")


def examine_images(
    paths: Sequence[Path], *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> list[ImageFacts]:
    """The facts of each file, read by ``workers`` threads (decoding leaves Python's lock alone).

    Args:
        paths: files.
        workers: 1 or more.
        progress: called with (files done, files in all).
    """
    found = []
    # Around all threads: the filters are one list for all of them, and decoders warn of what is found here anyway.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.simplefilter("ignore")
        for facts in pool.map(examine_image, paths):
            found.append(facts)
            if progress is not None:
                progress(len(found), len(paths))
    return found


def examine_image(path: Path) -> ImageFacts:
    """Decode all of a file, and say what it is."""
    try:
        if not path.is_file():  # A folder, or a pipe, which would keep the reader waiting for ever.
            return _faulty(Kind.IMAGE_UNREADABLE, "cannot be read: it is not a file")
        data = path.read_bytes()
    except OSError as error:
        return _faulty(Kind.IMAGE_UNREADABLE, f"cannot be read: {error.strerror or error}")
    if not data:
        return _faulty(Kind.IMAGE_UNREADABLE, "is an empty file")
    try:
        image = open_with_pillow(data)
    except TooLargeError as error:
        return _faulty(Kind.IMAGE_TOO_LARGE, str(error))
    except Exception:  # Of any type, by Pillow's readers.
        return ImageFacts(fault=_what_it_is(path, data), refused=True)
    with image:
        return _examine(path, data, image)


def _faulty(kind: Kind, message: str) -> ImageFacts:
    return ImageFacts(fault=Fault(kind, message), refused=True)


def _what_it_is(path: Path, data: bytes) -> Fault:
    """The fault of a file whose header Pillow does not read."""
    found = foreign(data[:1024]) or unread_tiff(data)
    if found is not None:
        words, advice = describe_foreign(found, path.name)
        return Fault(Kind.IMAGE_UNSUPPORTED if found.image else Kind.NOT_AN_IMAGE, f"{words}; {advice}")
    if data.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")) or data[8:12] == b"WEBP":
        if len(data) < 200:
            return Fault(Kind.IMAGE_TRUNCATED, f"ends after {len(data)} bytes, within its header")
        return Fault(Kind.IMAGE_UNREADABLE, "is damaged: its header cannot be read")
    try:
        data[:2000].decode("utf-8", errors="strict" if len(data) < 2000 else "ignore")
    except UnicodeDecodeError:
        return Fault(Kind.NOT_AN_IMAGE, "is not a picture: its format is unknown")
    return Fault(Kind.NOT_AN_IMAGE, "is text, not a picture")


def _examine(path: Path, data: bytes, image: Image.Image) -> ImageFacts:
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    if image.width * image.height > MAX_PIXELS:
        return _faulty(Kind.IMAGE_TOO_LARGE, f"is {image.width}x{image.height} pixels, too many to read")
    numbers = np.frombuffer(bytearray(data), np.uint8)  # which the decoders want to be writable
    try:
        values = wide_values(data)
        if values and values.refused:
            return _faulty(Kind.IMAGE_UNREADABLE, describe_infinite(values))
        # Where no range is known, that of the image itself: copies are recognised by any.
        value_range: ValueRange = values.extent if values and values.needs_range else "type"
        decode = partial(decode_pixels, numbers, value_range=value_range)
        pixels = decode()
    except TooLargeError as error:
        return _faulty(Kind.IMAGE_TOO_LARGE, str(error))
    except DepthError as error:
        return _faulty(Kind.IMAGE_UNREADABLE, str(error))
    except (UndecodableError, ForeignError) as error:
        if isinstance(error, ForeignError):
            return ImageFacts(fault=_what_it_is(path, data), refused=True)
        if _ends_early(data, kind, error):
            return _faulty(Kind.IMAGE_TRUNCATED, "is cut off: the file ends before the picture does")
        return _faulty(Kind.IMAGE_UNREADABLE, error.reason)
    orientation = orientation_of(read_header(data), image)
    stored = decode(apply_exif=False) if orientation != 1 else pixels
    if kind == "JPEG" and is_cut_off(data, stored):
        cut_off = Fault(Kind.IMAGE_TRUNCATED, "is cut off and closed again: the rest of the picture is missing")
        return ImageFacts(fault=cut_off)
    upright = int(pixels.shape[2]), int(pixels.shape[1])
    digest = hashlib.blake2b(repr(tuple(pixels.shape)).encode(), digest_size=16)
    digest.update(pixels.permute(1, 2, 0).contiguous().numpy().data)
    return ImageFacts(
        oddities=tuple(_oddities(path, image, kind, upright, values)),
        upright=upright,
        stored=(int(stored.shape[2]), int(stored.shape[1])),
        orientation=orientation,
        format=kind,
        content=digest.digest(),
        likeness=_likeness(data, orientation),
        values=values,
    )


def _ends_early(data: bytes, kind: str, error: UndecodableError) -> bool:
    """Whether a file that does not decode lacks its end."""
    if kind == "JPEG":
        return error.cut_off or b"\xff\xd9" not in data[data.rfind(b"\xff\xda") :]
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    if kind == "GIF":
        return data[-1:] != b";"
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return error.cut_off


def _likeness(data: bytes, orientation: int) -> int:
    try:
        with open_with_pillow(data) as image:
            return hash_of(image, orientation)
    except Exception:  # Decoded by torchvision, and too odd for Pillow: no likeness is looked for.
        return 0


def _oddities(path: Path, image: Image.Image, kind: str, size: tuple[int, int], values: Values | None) -> list[Fault]:
    found: list[Fault] = []
    if kind in SUFFIXES and path.suffix.lower() not in SUFFIXES[kind]:
        found.append(Fault(Kind.IMAGE_WRONG_SUFFIX, f"is {kind}, which its name does not say"))
    if (what := several_frames(image)) is not None:
        found.append(Fault(Kind.IMAGE_ANIMATED, f"has several {what}, the first one counts"))
    mode = image.mode
    if values is not None:
        found.append(Fault(Kind.IMAGE_16_BIT, describe_values(values)))
    if mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F")):
        found.append(Fault(Kind.IMAGE_GREY, "is grey, read as RGB"))
    if "A" in mode or "a" in mode:
        found.append(Fault(Kind.IMAGE_ALPHA, "has transparency, which is dropped"))
    if mode in ("CMYK", "YCCK"):
        found.append(Fault(Kind.IMAGE_CMYK, "has colours for printing (CMYK)"))
    short, long = sorted(size)
    if short * long > LARGE_PIXELS:
        found.append(Fault(Kind.IMAGE_LARGE, f"is {size[0]}x{size[1]} pixels: reading it is slow"))
    if short < SMALL_SIDE:
        found.append(Fault(Kind.IMAGE_SMALL, f"is {size[0]}x{size[1]} pixels"))
    if long > LONG_RATIO * short:
        found.append(Fault(Kind.IMAGE_LONG, f"is {size[0]}x{size[1]} pixels: a square resize squeezes it"))
    return found


def describe_values(values: Values) -> str:
    """What is in the pixels of an image with more than 8 bits, as the rest of a sentence about it."""
    extent = f"{values.low:.6g} to {values.high:.6g}"
    if values.type == "float32":
        many = values.not_numbers
        missing = f", {many:,} {'is no number and reads' if many == 1 else 'are no numbers and read'} as black"
        missing = missing if many else ""
        if values.infinite:
            missing += f", {values.infinite:,} {'is' if values.infinite == 1 else 'are'} infinite"
        return f"has floating-point numbers, {extent}{missing}; read as 8 bits"
    used = f", {values.used_bits} in use" if values.low >= 0 else ""
    return f"has {values.bits} bits a channel{used} ({extent}), read as 8"


def image_findings(split: str, index: DataIndex, facts: Sequence[ImageFacts]) -> list[Finding]:
    """What is to say of the images of a split, sizes and EXIF included.

    Args:
        split: its name.
        index: I images.
        facts: of each.
    """
    found = []
    for i, own in enumerate(facts):
        said = [own.fault] if own.fault else [*own.oddities, *_about_size(index, i, own)]
        for kind, message in said:
            found.append(Finding(kind, split, index.path(i), message, image=index.file_name(i)))
    return found


def _about_size(index: DataIndex, i: int, own: ImageFacts) -> list[Fault]:
    annotated = int(index.widths[i]), int(index.heights[i])
    turn = f"EXIF orientation {own.orientation}"
    if annotated == own.upright and annotated == own.stored:
        if own.orientation == 1:
            return []
        return [Fault(Kind.EXIF_AMBIGUOUS, f"{turn}: its size does not say which way the boxes fit; read upright")]
    if annotated == own.upright:
        return [Fault(Kind.EXIF_TURNED, f"{turn}: stored sideways, read upright as it was annotated")]
    sizes = f"annotated as {annotated[0]}x{annotated[1]}"
    if annotated == own.stored:
        return [Fault(Kind.EXIF_STORED, f"{turn}: {sizes}, the stored pixels; read without the turn")]
    return [Fault(Kind.SIZE_WRONG, f"is {own.upright[0]}x{own.upright[1]} pixels, {sizes}")]


def refused_images(index: DataIndex, facts: Sequence[ImageFacts]) -> list[int]:
    """Images that training and evaluation cannot use: unreadable, or of another size than annotated."""
    return [
        i
        for i, own in enumerate(facts)
        if own.refused
        or (not own.fault and (int(index.widths[i]), int(index.heights[i])) not in (own.upright, own.stored))
    ]


def save_turned(source: Path, target: Path, *, upright: bool) -> None:
    """Write an image without an orientation, in its format; JPEG at quality 95, others without loss.

    Args:
        source: an image that can be read.
        target: the new file.
        upright: turn its pixels as EXIF says first; else they stay as they are stored.
    """
    from PIL.Image import Exif

    data = source.read_bytes()
    with warnings.catch_warnings(), open_with_pillow(data) as image:
        warnings.simplefilter("ignore")
        kind = "JPEG" if image.format == "MPO" else image.format
        orientation = orientation_of(read_header(data), image)
        # The tags of a TIFF file say where its pixels are and how many: those of the copy are other ones.
        exif = image.getexif() if kind != "TIFF" else Exif()
        exif.pop(ORIENTATION, None)
        turned = upright_pillow(image, orientation if upright else 1).copy()
        turned.info = {key: value for key, value in turned.info.items() if key in _KEPT_INFO}
        options: dict[str, int | bytes] = {}
        if kind == "JPEG":
            options = {"quality": 95, "subsampling": 0}
        elif kind == "WEBP":
            options = {"lossless": True}
        if profile := image.info.get("icc_profile"):
            options["icc_profile"] = profile
        turned.save(target, kind, exif=exif, **options)
