"""One rule of orientation for the size and for the pixels, whatever the format and whoever wrote the metadata."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from gfocal.data.formats.image_size import image_size
from gfocal.data.image_hash import image_hash
from gfocal.errors import BrokenInputError
from gfocal.images.io import read_image, tensor_of
from gfocal.images.orientation import read_header, upright
from helpers.image_files import XMP_NAME, chunk, directory, exif, jpeg, png, saved, tiff, webp, xmp

UPRIGHT = np.zeros((32, 48, 3), np.uint8)
"""Four quarters of different colours, which no turn and no mirror leaves as they are."""
UPRIGHT[:16, :24], UPRIGHT[:16, 24:], UPRIGHT[16:, :24] = (230, 20, 20), (20, 230, 20), (20, 20, 230)

# How pixels have to lie in the file, so that the orientation turns them upright: written down from the standard, where
# it says which side of the picture the first row and the first column are.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,  # row 0 top, column 0 left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.transpose(1, 0, 2),  # left, top
    6: lambda a: a[:, ::-1].transpose(1, 0, 2),  # right, top
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda a: a[::-1].transpose(1, 0, 2),  # left, bottom
}
RAW = b"Raw profile type exif\0"


def raw_profile(o: int) -> bytes:
    data = b"Exif\0\0" + exif(o)
    return b"\nexif\n%8d\n" % len(data) + data.hex().encode() + b"\n"


FILES: dict[str, Callable[[np.ndarray, int], bytes]] = {
    "JPEG, EXIF": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o)),
    "JPEG, big-endian EXIF": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o, ">")),
    "JPEG, big-endian LONG": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o, ">", "I")),
    "JPEG, LONG": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o, "<", "I")),
    "JPEG, big-endian BYTE": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o, ">", "B")),
    "JPEG, BYTE": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o, "<", "B")),
    "JPEG, signature with 0xff": lambda a, o: jpeg(a, b"Exif\0\xff" + exif(o)),
    "JPEG, XMP before EXIF": lambda a, o: jpeg(a, XMP_NAME + xmp(None), b"Exif\0\0" + exif(o)),
    "JPEG, XMP that says otherwise": lambda a, o: jpeg(a, XMP_NAME + xmp(9 - o), b"Exif\0\0" + exif(o)),
    "JPEG, XMP alone": lambda a, o: jpeg(a, XMP_NAME + xmp(o)),
    "JPEG, XMP as an element": lambda a, o: jpeg(a, XMP_NAME + xmp(o, element=True)),
    "JPEG, EXIF out of range": lambda a, o: jpeg(a, b"Exif\0\0" + exif(0), XMP_NAME + xmp(o)),
    "JPEG, fill bytes": lambda a, o: jpeg(a, b"\xff\xff\xfe\0\4hi", b"Exif\0\0" + exif(o)),
    "JPEG, two EXIF": lambda a, o: jpeg(a, b"Exif\0\0" + exif(o), b"Exif\0\0" + exif(9 - o)),
    "PNG, eXIf": lambda a, o: png(a, before=chunk(b"eXIf", exif(o))),
    "PNG, eXIf behind the pixels": lambda a, o: png(a, after=chunk(b"eXIf", exif(o, ">"))),
    "PNG, XMP": lambda a, o: png(a, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(o))),
    "PNG, ImageMagick": lambda a, o: png(a, before=chunk(b"zTXt", RAW + b"\0" + zlib.compress(raw_profile(o)))),
    "PNG, ImageMagick's text": lambda a, o: png(a, before=chunk(b"tEXt", RAW + raw_profile(o))),
    "WebP, EXIF": lambda a, o: webp(a, (b"EXIF", exif(o))),
    "WebP, EXIF with a signature": lambda a, o: webp(a, (b"EXIF", b"Exif\0\0" + exif(o, ">"))),
    "WebP, XMP": lambda a, o: webp(a, (b"XMP ", xmp(o))),
    "TIFF": lambda a, o: tiff(a, (0x0112, "H", [o])),
    "TIFF, big-endian": lambda a, o: tiff(a, (0x0112, "H", [o]), order=">"),
    "TIFF, big-endian LONG": lambda a, o: tiff(a, (0x0112, "I", [o]), order=">"),
    "TIFF, BYTE": lambda a, o: tiff(a, (0x0112, "B", [o])),
    "TIFF, XMP": lambda a, o: tiff(a, (700, "s", xmp(o))),
    "TIFF, XMP that says otherwise": lambda a, o: tiff(a, (0x0112, "H", [o]), (700, "s", xmp(9 - o))),
    "BigTIFF": lambda a, o: tiff(a, (0x0112, "H", [o]), large=True),
    "TIFF, compressed": lambda a, o: saved(Image.fromarray(a), "TIFF", compression="tiff_lzw", tiffinfo={0x0112: o}),
}
if features.check("avif"):
    FILES["AVIF"] = lambda a, o: saved(Image.fromarray(a), "AVIF", quality=100, subsampling="4:4:4", exif=exif(o))


@pytest.mark.parametrize("name", FILES)
def test_pixels_and_size_follow_one_rule(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    expected = torch.from_numpy(UPRIGHT).permute(2, 0, 1)
    wanted = hash_of_upright(tmp_path)
    for orientation, lay in STORED.items():
        stored = np.ascontiguousarray(lay(UPRIGHT))
        file.write_bytes(FILES[name](stored, orientation))
        height, width = stored.shape[:2]
        image = read_image(file)
        assert image.shape == (3, 32, 48), orientation
        assert (image.int() - expected).abs().max() <= 12, orientation  # of JPEG and AVIF
        assert image_size(file) == (48, 32), orientation
        as_stored = read_image(file, apply_exif=False)
        assert (as_stored.int() - torch.from_numpy(stored).permute(2, 0, 1)).abs().max() <= 12
        assert image_size(file, apply_exif=False) == (width, height)
        assert (image_hash(file) ^ wanted).bit_count() <= 6, orientation


def hash_of_upright(folder: Path) -> int:
    (folder / "upright.png").write_bytes(png(UPRIGHT))
    return image_hash(folder / "upright.png")


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
def test_upright_is_what_torchvision_does(tmp_path: Path) -> None:
    """Bit for bit, and with channels last in memory, which decides how fast the resize is."""
    from torchvision.io import ImageReadMode, decode_image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    for orientation in range(1, 9):
        data = torch.frombuffer(bytearray(jpeg(pixels, b"Exif\0\0" + exif(orientation))), dtype=torch.uint8)
        theirs = decode_image(data, ImageReadMode.RGB, apply_exif_orientation=True)
        stored = decode_image(data, ImageReadMode.RGB).permute(1, 2, 0).numpy()
        ours = tensor_of(upright(stored, orientation))
        assert torch.equal(ours, theirs)
        assert ours.stride()[0] == 1


@pytest.mark.parametrize(
    "damaged",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",  # its directory lies beyond the end
        b"Exif\0\0" + exif(6)[:-30],
        b"Exif\0\0" + directory([(0x0112, "s", b"six")], "<"),
        b"Exif\0\0" + directory([(0x0112, "H", [])], "<"),
        b"Exif\0\0" + exif(9),
        b"Exif\0\0" + exif(65535),
        XMP_NAME + b'tiff:Orientation="9"',
        XMP_NAME + b'tiff:Orientation="66"',
    ],
)
def test_damaged_metadata_leave_the_pixels_as_they_are_stored(damaged: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg(UPRIGHT, damaged))
    assert read_image(file).shape == (3, 32, 48)
    assert image_size(file) == (48, 32)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(list(FILES)), st.integers(2, 200))
def test_damage_anywhere_never_makes_size_and_pixels_differ(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, name: str, at: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.bin"
    data = FILES[name](np.ascontiguousarray(STORED[6](UPRIGHT)), 6)
    file.write_bytes(data[:at] + noise + data[at + len(noise) :])
    read_header(file.read_bytes())  # it refuses nothing
    try:
        (height, width), size = read_image(file).shape[1:], image_size(file)
    except BrokenInputError:
        return
    assert size == (width, height)
