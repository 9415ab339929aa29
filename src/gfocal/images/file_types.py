"""Which files are images, by their names and by their first bytes; and what the others are, that people give."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
"""Endings that go with each format that is read, the usual one first; the names are Pillow's."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
"""File name endings that count as images when a folder is searched: for ``predict`` and for data sets."""

_FRAMES = "take pictures out of it, for example: ffmpeg -i {name} -vf fps=1 frame-%05d.png"
_SAVE = "save it as JPEG or PNG"


class Foreign(NamedTuple):
    """A kind of file that is not read.

    Attributes:
        name: what it is, with its article.
        advice: what to do; ``{name}`` stands for the file. Empty where it is no image at all.
        image: it holds an image, or several.
    """

    name: str
    advice: str = ""
    image: bool = True

    def example(self, path: Path | str) -> str:
        """What to do, with the command for one such file."""
        return self.advice.replace("{name}", shlex.quote(str(path))) or "replace it"


_FILM = Foreign("a film", _FRAMES)
_HEIC = Foreign("a HEIC picture", _SAVE + ", for example: heif-convert {name} picture.jpg")
_RAW = Foreign("a camera's raw file", "develop it to JPEG, PNG or TIFF")
_PDF = Foreign("a PDF", "turn its pages into pictures, for example: pdftoppm -r 150 -png {name} page")
_SVG = Foreign("an SVG drawing", "draw it as PNG, for example: rsvg-convert {name} -o picture.png")

# By the first bytes: (offset, bytes, what it is). Films and HEIC share a container, see `foreign`.
_MAGIC: tuple[tuple[int, bytes, Foreign], ...] = (
    (0, b"%PDF", _PDF),
    (0, b"8BPS", Foreign("a Photoshop file", _SAVE)),
    (0, b"%!PS", Foreign("PostScript", _SAVE)),
    (0, b"PK\x03\x04", Foreign("a zip", image=False)),
    (0, b"\x1aE\xdf\xa3", _FILM),  # Matroska, WebM
    (0, b"FLV\x01", _FILM),
    (0, b"0&\xb2u\x8ef\xcf\x11", _FILM),  # WMV
    (0, b"\x00\x00\x01\xba", _FILM),  # MPEG
    (0, b"\x00\x00\x01\xb3", _FILM),
    (4, b"moov", _FILM),  # QuickTime before there was ftyp
    (4, b"mdat", _FILM),
    (8, b"AVI ", _FILM),
    (0, b"\xff\x0a", Foreign("a JPEG XL picture", _SAVE)),
    (0, b"\x00\x00\x00\x0cJXL ", Foreign("a JPEG XL picture", _SAVE)),
    (0, b"v/1\x01", Foreign("an OpenEXR picture", "save it as TIFF")),
    (128, b"DICM", Foreign("a DICOM file", "save it as 16-bit PNG or TIFF")),
    (0, b"\x93NUMPY", Foreign("a numpy array", _SAVE)),
    (0, b"SIMPLE  =", Foreign("a FITS file", "save it as TIFF")),
    (0, b"\x89HDF", Foreign("a HDF5 file", _SAVE)),
)
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

FOREIGN_SUFFIXES: dict[str, Foreign] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"), _FILM),
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".dng"), _RAW),
    ".pdf": _PDF,
    ".svg": _SVG,
    ".psd": Foreign("a Photoshop file", _SAVE),
    ".jxl": Foreign("a JPEG XL picture", _SAVE),
    ".exr": Foreign("an OpenEXR picture", "save it as TIFF"),
    ".hdr": Foreign("a radiance picture", "save it as TIFF"),
    ".dcm": Foreign("a DICOM file", "save it as 16-bit PNG or TIFF"),
    **dict.fromkeys((".ico", ".tga", ".pcx", ".xcf", ".wmf", ".emf"), Foreign("a picture of another kind", _SAVE)),
}
"""Files that hold images and are not read, by the ending of their names: they are named where a folder is searched."""


def foreign(head: bytes) -> Foreign | None:
    """What a file is that is not read; None where its first bytes do not tell.

    Args:
        head: the first 300 bytes at least, or all there are.
    """
    if head[4:8] == b"ftyp":
        brand = head[8:12].lower()
        if brand in _AVIF_BRANDS:
            return Foreign("an AVIF picture", _SAVE)
        return _HEIC if brand in _HEIC_BRANDS else _FILM
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!")) and (b"<svg" in text or b"DOCTYPE svg" in text)):
        return _SVG
    if text.startswith(b"<?xml"):
        return Foreign("XML", image=False)
    for offset, magic, found in _MAGIC:
        if head[offset:].startswith(magic):
            return found
    # MPEG transport stream: packets of 188 bytes, each with this mark.
    return _FILM if head[:1] == b"G" and head[188:189] == b"G" else None


def describe_foreign(found: Foreign, name: str) -> tuple[str, str]:
    """What is wrong with a foreign file, as the rest of a sentence about it, and what to do about it."""
    apart = "which is not read" if "picture" in found.name else "not a picture"
    return f"is {found.name}, {apart}", found.example(name)
