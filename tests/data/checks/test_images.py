"""One image file: its orientation, its depth, its frames, and what it is where it is none."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.data.checks.images import examine_image, examine_images, save_turned
from gfocal.errors import BrokenInputError
from gfocal.images.io import read_image
from helpers.image_files import XMP_NAME, chunk, exif, jpeg, png, saved, tiff, webp, xmp

PIXELS = np.zeros((32, 48, 3), np.uint8)
PIXELS[:16, :24], PIXELS[:16, 24:] = (230, 20, 20), (20, 230, 20)
DEEP = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 2
RAW = b"Raw profile type exif\0\0"


def raw_profile() -> bytes:
    data = exif(6)
    return RAW + zlib.compress(b"\nexif\n%8d\n" % len(data) + data.hex().encode())


TURNED: dict[str, tuple[str, bytes]] = {
    "EXIF": (".jpg", jpeg(PIXELS, b"Exif\0\0" + exif(6))),
    "signature with 0xff": (".jpg", jpeg(PIXELS, b"Exif\0\xff" + exif(6))),
    "XMP": (".jpg", jpeg(PIXELS, XMP_NAME + xmp(6))),
    "PNG": (".png", png(PIXELS, after=chunk(b"eXIf", exif(6)))),
    "PNG, XMP": (".png", png(PIXELS, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)))),
    "PNG, ImageMagick": (".png", png(PIXELS, before=chunk(b"zTXt", raw_profile()))),
    "PNG of 16 bits": (".png", png(DEEP, before=chunk(b"eXIf", exif(6)))),
    "WebP, XMP": (".webp", webp(PIXELS, (b"XMP ", xmp(6)))),
    "TIFF": (".tif", tiff(PIXELS, (0x0112, "H", [6]))),
    "TIFF, XMP": (".tif", tiff(PIXELS, (700, "s", xmp(6)))),
    "TIFF of floating-point numbers": (".tif", tiff(DEEP / np.float32(4000), (0x0112, "H", [6]), kind=3)),
}


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("upright", [True, False])
def test_a_cleaned_copy_needs_no_orientation(name: str, upright: bool, tmp_path: Path) -> None:
    suffix, data = TURNED[name]
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    source.write_bytes(data)
    facts = examine_image(source)
    assert (facts.orientation, facts.upright, facts.stored) == (6, (32, 48), (48, 32))
    save_turned(source, target, upright=upright)
    copy = examine_image(target)
    assert (copy.orientation, copy.format, copy.values) == (1, facts.format, facts.values)
    wanted = read_image(source, apply_exif=upright)
    assert (read_image(target).int() - wanted).abs().max() <= (8 if suffix == ".jpg" else 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(DEEP), "has 16 bits a channel, 12 in use (0 to 3070), read as 8"),
        (png(np.dstack([DEEP] * 3)), "has 16 bits a channel, 12 in use (0 to 3070), read as 8"),
        (tiff(DEEP.astype(np.int32) - 9, kind=2), "has 32 bits a channel (-9 to 3061), read as 8"),
        (
            tiff(np.array([[0.25, np.nan], [2, 3]], np.float32), kind=3),
            "has floating-point numbers, 0.25 to 3, 1 is no number and reads as black; read as 8 bits",
        ),
        (
            tiff(np.array([[np.inf, -np.inf], [2, 3]], np.float32), kind=3),
            "has floating-point numbers, 2 to 3, 2 are infinite; read as 8 bits",
        ),
    ],
)
def test_bits_in_use(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    facts = examine_image(tmp_path / "a.tif")
    assert facts.fault is None
    assert words in [message for kind, message in facts.oddities if kind == "picture-16-bit"]


def test_what_has_no_known_range_has_a_content_all_the_same(tmp_path: Path) -> None:
    """Two files of the same picture are found, and a dark one is not taken for them."""
    for name, values in (("a", DEEP), ("b", DEEP), ("c", DEEP[::-1])):
        (tmp_path / name).write_bytes(tiff(values.astype(np.float32), kind=3))
    one, same, other = (examine_image(tmp_path / name) for name in "abc")
    assert one.content == same.content != other.content
    assert one.likeness == same.likeness != other.likeness


@pytest.mark.parametrize(
    ("odd", "words"),
    [([np.inf], "1 infinite among"), ([-np.inf, np.nan, np.nan], "1 infinite and 2 NaN among"), ([np.nan], None)],
)
def test_infinite_pixels_are_a_fault_of_their_image(odd: list[float], words: str | None, tmp_path: Path) -> None:
    values = np.linspace(0.25, 0.75, 64, dtype=np.float32).reshape(8, 8)
    values.reshape(-1)[10 : 10 + len(odd)] = odd
    (tmp_path / "bad.tif").write_bytes(tiff(values, kind=3))
    (tmp_path / "good.tif").write_bytes(tiff(np.full((8, 8), 0.5, np.float32), kind=3))
    bad, good = examine_images([tmp_path / "bad.tif", tmp_path / "good.tif"])
    assert good.fault is None
    if words is None:  # Black, whatever the range.
        assert bad.fault is None
        return
    assert bad.refused
    assert bad.fault is not None
    assert bad.fault.kind == "picture-unreadable"
    assert f"has {words} floating-point numbers from 0.25 to 0.75" in bad.fault.message
    # Training says the same of it.
    with pytest.raises(BrokenInputError, match=rf"bad\.tif has {words}"):
        read_image(tmp_path / "bad.tif")


def frames() -> list[Image.Image]:
    return [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_or_pages_the_first_counts(kind: str, tmp_path: Path) -> None:
    first, second = frames()
    options = {"lossless": True} if kind == "WEBP" else {}
    file = tmp_path / "a.bin"
    file.write_bytes(saved(first, kind, save_all=True, append_images=[second], **options))
    assert torch.equal(read_image(file), torch.from_numpy(PIXELS).permute(2, 0, 1))
    facts = examine_image(file)
    assert facts.fault is None
    what = "pages" if kind == "TIFF" else "frames"
    assert ("picture-animated", f"has several {what}, the first one counts") in facts.oddities


@pytest.mark.parametrize(
    ("head", "kind", "words"),
    [
        (b"\0\0\0\x20ftypisom", "picture-unsupported", "is a film, not a picture; take pictures out of it, .*ffmpeg"),
        (b"\0\0\0\x18ftypheic", "picture-unsupported", "is a HEIC picture, which is not read; save it as JPEG or PNG"),
        (b"%PDF-1.7\n", "picture-unsupported", "is a PDF, not a picture; turn its pages into pictures"),
        (b"PK\x03\x04", "picture-not-a-picture", "is a zip, not a picture; replace it"),
        (b"<?xml version='1.0'?><annotation>", "picture-not-a-picture", "is XML, not a picture"),
    ],
)
def test_other_files(head: bytes, kind: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(head + bytes(400))
    fault = examine_image(tmp_path / "a.jpg").fault
    assert fault is not None
    assert fault.kind == kind
    assert fault.message.startswith(words.split(";")[0])
