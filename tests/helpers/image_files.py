"""Image files byte by byte: metadata as odd programs write them, and pixels of every depth."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Entry = tuple[int, str, Sequence[int] | bytes]
"""A TIFF tag, the letter of its type for ``struct`` ("s" for bytes), and its values."""

_TYPES = {"B": 1, "s": 7, "H": 3, "I": 4, "Q": 16}
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\x00"


def exif(orientation: int, order: str = "<", letter: str = "H") -> bytes:
    """EXIF data, a TIFF file of one tag or a few."""
    return directory([(0x010F, "s", b"maker of cameras\0"), (0x0112, letter, [orientation])], order)


def directory(entries: Sequence[Entry], order: str, pixels: bytes = b"", *, large: bool = False) -> bytes:
    """A TIFF file; tag 273 gets the place of ``pixels``."""
    word, count = ("Q", "Q") if large else ("I", "H")
    size = 8 if large else 4
    start = 16 if large else 8
    after = start + struct.calcsize(order + count) + len(entries) * (4 + 2 * size) + size
    body, beyond = struct.pack(order + count, len(entries)), b""
    lengths = [len(v) * (1 if t == "s" else struct.calcsize(t)) for _, t, v in entries]
    place = after + sum(length for length in lengths if length > size)
    for (tag, letter, values), length in zip(sorted(entries), [lengths[i] for i in _order(entries)], strict=True):
        if tag == 273:
            values = [place]
        raw = bytes(values) if letter == "s" else struct.pack(f"{order}{len(values)}{letter}", *values)
        if length > size:
            raw, beyond = struct.pack(order + word, after + len(beyond)), beyond + raw
        body += struct.pack(order + "HH" + word, tag, _TYPES[letter], len(values)) + raw.ljust(size, b"\0")
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + "HHHQ", 43, 8, 0, 16) if large else struct.pack(order + "HI", 42, 8)
    return head + body + bytes(size) + beyond + pixels


def _order(entries: Sequence[Entry]) -> list[int]:
    return sorted(range(len(entries)), key=lambda i: entries[i])


def tiff(pixels: np.ndarray, *more: Entry, order: str = "<", kind: int = 1, large: bool = False) -> bytes:
    """An uncompressed TIFF file of (H, W) or (H, W, C) pixels; ``kind``: 1 unsigned, 2 signed, 3 floating-point."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    word = "Q" if large else "I"
    entries: list[Entry] = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [8 * pixels.dtype.itemsize] * channels),
        (259, "H", [1]),
        (262, "H", [2 if channels > 2 else 1]),
        (273, word, [0]),
        (277, "H", [channels]),
        (278, "I", [height]),
        (279, word, [len(data)]),
        (339, "H", [kind] * channels),
        *([(338, "H", [2])] if channels in (2, 4) else []),
        *more,
    ]
    return directory(entries, order, data, large=large)


def png(pixels: np.ndarray, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file of (H, W) or (H, W, C) uint8 or uint16 pixels, with chunks before or after them."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, kind, 0, 0, 0)
    middle = before + chunk(b"IDAT", zlib.compress(rows)) + after
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def jpeg(pixels: np.ndarray, *segments: bytes) -> bytes:
    """A JPEG file with APP1 segments, or whole segments where they begin with a marker, in this order."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    data = file.getvalue()
    parts = [s if s[:1] == b"\xff" else b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments]
    return data[:2] + b"".join(parts) + data[2:]


def xmp(orientation: int | None, *, element: bool = False) -> bytes:
    said = b"" if orientation is None else b' tiff:Orientation="%d"' % orientation
    inside = b"<tiff:Orientation>%d</tiff:Orientation>" % (orientation or 1) if element else b""
    attributes = b"" if element else said
    return (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF><rdf:Description"
        + attributes
        + b">"
        + inside
        + b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def webp(pixels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A lossless WebP file with EXIF or XMP chunks behind the pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    image = file.getvalue()[12:]
    flags = sum({b"EXIF": 8, b"XMP ": 4}[name] for name, _ in chunks)
    height, width = pixels.shape[:2]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    parts = [(b"VP8X", bytes([flags, 0, 0, 0]) + size)]
    body = b"".join(n + struct.pack("<I", len(d)) + d + bytes(len(d) % 2) for n, d in parts) + image
    body += b"".join(n + struct.pack("<I", len(d)) + d + bytes(len(d) % 2) for n, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def twelve_bits(folder: Path, out: Path) -> Path:
    """A copy of a COCO data set as a camera of 12 bits would take it: 16-bit PNG files, RGB, with values of 0..4095."""
    shutil.copytree(folder, out)
    for file in out.rglob("*.png"):
        file.write_bytes(png(np.asarray(Image.open(file).convert("RGB")).astype(np.uint16) * 16))
    for file in out.rglob("*.jpg"):
        file.with_suffix(".png").write_bytes(png(np.asarray(Image.open(file)).astype(np.uint16) * 16))
        file.unlink()
    for listing in out.glob("annotations/*.json"):
        listing.write_text(listing.read_text().replace(".jpg", ".png"))
    return out
