"""Which way up an image file says that it is: one reader, for the size and for the pixels.

The rule, whatever the format: the EXIF orientation (tag 274: a byte, a short or a long number, in either byte order) if
it is 1..8; else the ``tiff:Orientation`` of the XMP data, if that is; else 1, as stored. EXIF is a segment APP1 of JPEG
that starts with ``Exif`` and a zero, the ``eXIf`` chunk or ImageMagick's text chunk of PNG, the ``EXIF`` chunk of WebP,
and the first directory of TIFF. Decoders have rules of their own (torchvision looks at the first APP1 segment alone,
Pillow at other signatures), so none of them is asked, but for AVIF, where Pillow joins EXIF and the turns of the
container.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
"""The number of the tag in EXIF and TIFF."""

_XMP_TAG = 700  # of TIFF
_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_PNG = b"XML:com.adobe.xmp\x00"
_RAW_EXIF = b"Raw profile type exif\x00"  # ImageMagick's
_IN_XMP = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\D")
TIFF_HEADS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_INTEGERS = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes of TIFF's BYTE, SHORT, LONG and LONG8
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 11: 4, 13: 4}  # bytes of its other types; the rest has 8
_SEGMENT, _SIZE = struct.Struct(">BBH").unpack_from, struct.Struct(">HH").unpack_from  # of JPEG
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONGEST = 1 << 20  # bytes of metadata that are looked at
# What each orientation does to (H, W, ...): swap the axes first, then flip these.
_FLIPS: dict[int, tuple[int, ...]] = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        width, height: of the stored pixels; 0 where it was not looked for or is not said.
        orientation: 1..8; None where somebody else has to be asked.
    """

    width: int
    height: int
    orientation: int | None


def read_header(data: Any) -> Header:
    """The header of a JPEG, PNG, WebP, GIF or TIFF file.

    Args:
        data: the content, as anything with slices of bytes: ``bytes``, ``mmap``, a (bytes,) uint8 array.
    """
    try:
        if data[0] == 0xFF and data[1] == 0xD8:
            return _jpeg(data)
        head = bytes(data[:32])
        if head.startswith(b"GIF8"):
            return Header(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"), 1)
        if head.startswith(b"\x89PNG"):
            return Header(0, 0, _first(_png(data)))
        if head.startswith(b"RIFF"):
            return Header(0, 0, _first(_webp(data)))
        if head.startswith(TIFF_HEADS):
            return _tiff(data)
    except (IndexError, ValueError, OverflowError, zlib.error):  # Damaged metadata: decoders ignore them, too.
        return Header(0, 0, 1)
    return Header(0, 0, None)


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (H, W, ...) turned and mirrored as an orientation 1..8 says."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    return np.flip(image, _FLIPS[orientation])


def upright_pillow(image: Image.Image, orientation: int) -> Image.Image:
    """:func:`upright` of a Pillow image as it is stored."""
    from PIL import Image

    turns = Image.Transpose
    return (
        image.transpose(
            {
                2: turns.FLIP_LEFT_RIGHT,
                3: turns.ROTATE_180,
                4: turns.FLIP_TOP_BOTTOM,
                5: turns.TRANSPOSE,
                6: turns.ROTATE_270,
                7: turns.TRANSVERSE,
                8: turns.ROTATE_90,
            }[orientation]
        )
        if orientation != 1
        else image
    )


def _jpeg(data: Any) -> Header:
    width = height = 0
    exif: int | None = None
    xmp: int | None = None
    at, end = 2, len(data)
    while at + 4 <= end:
        mark, code, length = _SEGMENT(data, at)
        if mark != 0xFF or code == 0xDA:
            break
        if code == 0xFF:  # Fill bytes may stand before a marker.
            at += 1
            continue
        if code in _FRAMES and not width and at + 9 <= end:
            height, width = _SIZE(data, at + 5)
        elif code == 0xE1:
            segment = bytes(data[at + 4 : at + 2 + length])
            if segment.startswith(b"Exif\x00"):
                exif = exif or _in_exif(segment[6:])
            elif segment.startswith(_XMP_JPEG):
                xmp = xmp or _in_xmp(segment)
        at += 2 + length
    return Header(width, height, exif or xmp or 1)


class _Found(NamedTuple):
    """An orientation, and whether EXIF says it."""

    orientation: int | None
    exif: bool


def _first(found: Iterator[_Found]) -> int:
    """EXIF's orientation; else that of XMP; else 1. What is damaged does not hide what was found before it."""
    exif = xmp = None
    with suppress(IndexError, ValueError, OverflowError, zlib.error):
        for one in found:
            if one.exif:
                exif = exif or one.orientation
            else:
                xmp = xmp or one.orientation
    return exif or xmp or 1


def _png(data: Any) -> Iterator[_Found]:
    at, end = 8, len(data)
    while at + 12 <= end:  # To the end: eXIf may stand behind the pixels.
        head = bytes(data[at : at + 8])
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        if name in (b"eXIf", b"iTXt", b"tEXt", b"zTXt") and length <= _LONGEST:
            content = bytes(data[at + 8 : at + 8 + length])
            if name == b"eXIf":
                yield _Found(_in_exif(content.removeprefix(b"Exif\x00\x00")), True)
            elif content.startswith(_XMP_PNG):
                yield _Found(_in_xmp(content), False)
            elif content.startswith(_RAW_EXIF):
                yield _Found(_in_exif(_raw_profile(name, content[len(_RAW_EXIF) :])), True)
        at += 12 + length


def _raw_profile(chunk: bytes, content: bytes) -> bytes:
    """The bytes of ImageMagick's "exif, length, hexadecimal digits"; with the signature of JPEG, or without it."""
    if chunk == b"zTXt":
        content = zlib.decompressobj().decompress(content[1:], 2 * _LONGEST)
    digits = b"".join(content.split()[2:])
    return bytes.fromhex(digits.decode("ascii", "replace")).removeprefix(b"Exif\x00\x00")


def _webp(data: Any) -> Iterator[_Found]:
    at, end = 12, len(data)
    while at + 8 <= end:
        head = bytes(data[at : at + 8])
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if name in (b"EXIF", b"XMP ") and length <= _LONGEST:
            content = bytes(data[at + 8 : at + 8 + length])
            exif = name == b"EXIF"
            yield _Found(_in_exif(content.removeprefix(b"Exif\x00\x00")) if exif else _in_xmp(content), exif)
        at += 8 + length + length % 2


def _tiff(data: Any) -> Header:
    entries = tiff_entries(data, (256, 257, ORIENTATION, _XMP_TAG))
    width, height = (entries[tag].number(data) if tag in entries else 0 for tag in (256, 257))
    orientation = entries[ORIENTATION].number(data) if ORIENTATION in entries else 0
    if not 1 <= orientation <= 8:
        orientation = 0
        if _XMP_TAG in entries:
            one = entries[_XMP_TAG]
            orientation = _in_xmp(bytes(data[one.offset : one.offset + min(one.length, _LONGEST)])) or 0
    return Header(width, height, orientation or 1)


class TiffEntry(NamedTuple):
    """A tag of a TIFF directory.

    Attributes:
        type: of its values, TIFF's number for it.
        length: how many values.
        offset: of the first value in the file.
        order: of the bytes in numbers.
    """

    type: int
    length: int
    offset: int
    order: Any

    @property
    def size(self) -> int:
        """Bytes of its first value; 0 where that is no whole number."""
        return _INTEGERS.get(self.type, 0) if self.length else 0

    def number(self, data: Any) -> int:
        """Its first value; 0 where that is no whole number."""
        return int.from_bytes(bytes(data[self.offset : self.offset + self.size]), self.order)


def tiff_entries(data: Any, tags: Collection[int]) -> dict[int, TiffEntry]:
    """Those of ``tags`` that the first directory of a TIFF file has, or EXIF data; of two alike the last counts.

    Raises:
        ValueError: the directory is cut off, or lies elsewhere.
    """
    letter, order = ("<", "little") if bytes(data[:2]) == b"II" else (">", "big")
    try:
        if struct.unpack_from(letter + "H", data, 2)[0] == 43:
            (start,) = struct.unpack_from(letter + "Q", data, 8)
            (count,) = struct.unpack_from(letter + "Q", data, start)
            row, word, first = struct.Struct(letter + "HHQ8x"), 8, start + 8
        else:
            (start,) = struct.unpack_from(letter + "I", data, 4)
            (count,) = struct.unpack_from(letter + "H", data, start)
            row, word, first = struct.Struct(letter + "HHI4x"), 4, start + 2
        found = {}
        end = first + row.size * min(count, 4096)
        for at, (tag, kind, values) in enumerate(row.iter_unpack(bytes(data[first:end]))):
            if tag in tags:
                place = first + at * row.size + 4 + word
                if values * _WIDTHS.get(kind, 8) > word:
                    place = int.from_bytes(bytes(data[place : place + word]), order)  # type: ignore[arg-type]
                found[tag] = TiffEntry(kind, values, place, order)
        return found
    except struct.error as error:
        raise ValueError(str(error)) from None


def _in_exif(content: bytes) -> int | None:
    """The orientation 1..8 of EXIF data, which are a small TIFF file."""
    if not content.startswith(TIFF_HEADS):
        return None
    with suppress(ValueError):
        entry = tiff_entries(content, (ORIENTATION,)).get(ORIENTATION)
        if entry is not None and 1 <= (value := entry.number(content)) <= 8:
            return value
    return None


def _in_xmp(content: bytes) -> int | None:
    match = _IN_XMP.search(content)
    return int(match[1]) if match else None
