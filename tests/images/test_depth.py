"""More than 8 bits become 8 by one rule: 256 equal steps from the lower end of a range to the upper one."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.image_hash import image_hash
from gfocal.errors import BrokenInputError, UsageError
from gfocal.images.depth import DepthError, Values, check_range, share_outside, suggested_range, to_uint8, values_of
from gfocal.images.io import read_image, to_image
from helpers.image_files import png, saved, tiff

TWELVE = np.array([[0, 15, 16, 2047], [2048, 4079, 4080, 4095]], np.uint16)
TWELVE_AS_8 = [[0, 0, 1, 127], [128, 254, 255, 255]]  # a step is 16 values wide
COLOURS = np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1]], 2)
ALPHA = np.full((2, 4, 1), 9, np.uint16)


def hand(value: float, low: float, high: float) -> int:
    """The rule in whole numbers, as far as they are exact."""
    return int(max(0, min(255, (value - low) * 256 // (high - low))))


def test_the_rule_by_hand() -> None:
    values = np.array([-9, 0, 0.99, 1, 127.9, 255, 256, 300, np.nan, np.inf, -np.inf])
    assert to_uint8(values, (0, 256)).tolist() == [0, 0, 0, 1, 127, 255, 255, 255, 0, 255, 0]
    assert to_uint8(np.array([29315, 30000, 31315], np.uint16), (29315, 31315)).tolist() == [0, 87, 255]
    assert to_uint8(np.array([-1000, 0, 3000], np.int32), (-1000, 3000)).tolist() == [0, 64, 255]
    assert to_uint8(np.array([2**32 - 1, 2**31], np.uint32), (0, 2**32 - 1)).tolist() == [255, 128]
    assert to_uint8(np.array([0.0, 0.25, 0.5, 1.0], np.float32)).tolist() == [0, 64, 128, 255]


@given(st.lists(st.integers(0, 65535), min_size=1), st.integers(0, 60000), st.integers(1, 70000))
def test_the_table_of_16_bits_is_the_rule(values: list[int], low: int, extent: int) -> None:
    found = to_uint8(np.array(values, np.uint16), (low, low + extent)).tolist()
    assert found == [hand(value, low, low + extent) for value in values]
    assert to_uint8(np.array(values, np.int32), (low, low + extent)).tolist() == found
    assert to_uint8(np.array(values, np.float64), (low, low + extent)).tolist() == found


def test_the_range_of_the_type_is_a_range_like_others() -> None:
    """Of 16 bits the upper byte, of 8 bits the value itself."""
    every = np.arange(65536, dtype=np.uint16)
    assert (to_uint8(every) == every >> 8).all()
    assert (to_uint8(every, (0, 65535)) == every >> 8).all()
    assert to_uint8(np.arange(256, dtype=np.int64), (0, 255)).tolist() == list(range(256))
    eight = np.arange(256, dtype=np.uint8)
    assert to_uint8(eight, (0, 4095)) is eight  # whatever the range


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([3, 4012], np.int32), r"whole numbers.* from 3 to 4012, .*for example data\.range=\[0,4095\]"),
        (np.array([-1024, 3071], np.int16), r"from -1024 to 3071, .*data\.range=\[-1024,3071\]"),
        (np.array([0, 1.5], np.float32), r"floating-point numbers from 0 to 1\.5, .*data\.range=\[0,1\.5\]"),
        (np.array([-0.001, 1]), r"from -0\.001 to 1"),
        (np.array([0, 255.0]), r"data\.range=\[0,255\]"),
        (
            np.array([0.5, np.inf]),
            r"has 1 infinite among .* from 0\.5 to 0\.5, .*put numbers there, or set data\.range",
        ),
        (np.array([0.5, -np.inf, np.inf, np.nan]), r"has 2 infinite and 1 NaN among .* from 0\.5 to 0\.5"),
        (np.array([np.inf]), r"has 1 infinite among"),
        (np.array([3.5, np.inf, np.nan, np.nan]), r"from 3\.5 to 3\.5, besides 1 infinite and 2 NaN, which do not say"),
        (np.array([3.5, np.nan]), r"from 3\.5 to 3\.5, besides 1 NaN, which"),
    ],
)
def test_what_has_no_known_range_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(DepthError, match=message):
        to_uint8(values)


def test_missing_numbers_are_black() -> None:
    assert to_uint8(np.array([np.nan, 1.0, 0.5], np.float32)).tolist() == [0, 255, 128]
    assert to_uint8(np.full(3, np.nan, np.float32)).tolist() == [0, 0, 0]
    assert values_of(np.array([np.nan, 2.0, np.inf], np.float32)) == Values("float32", 2.0, 2.0, 1, 1)
    assert values_of(np.full(2, np.nan)) == Values("float32", 0.0, 0.0, 2)


@pytest.mark.parametrize(
    ("values", "refused"),
    [([0.5, np.inf], True), ([-np.inf], True), ([0.5, np.nan], False), ([2, np.inf], False), ([0, 1], False)],
)
def test_what_infinite_numbers_alone_keep_from_the_range_of_the_type(values: list[float], refused: bool) -> None:
    assert values_of(np.array(values, np.float32)).refused is refused


def test_the_share_outside_of_a_range() -> None:
    assert share_outside(np.array([[0, 4095], [4096, 5000]], np.uint16), 0, 4095) == 0.5
    assert share_outside(np.array([np.nan, np.inf, -np.inf, 0.5], np.float32), 0, 1) == 0.75


def test_large_images_go_in_pieces() -> None:
    pixels = np.random.default_rng(0).integers(0, 5000, (700, 800), dtype=np.int32)
    assert (to_uint8(pixels, (0, 4999)) == pixels.astype(np.int64) * 256 // 4999).sum() == (pixels < 4999).sum()


@pytest.mark.parametrize("value_range", ["own", (1, 1), (2, 1), (0, float("nan")), (0,), (True, 5), ("0", "1"), None])
def test_what_is_no_range(value_range: Any) -> None:
    with pytest.raises(UsageError, match=r'must be "type" or \(low, high\) with low < high'):
        check_range(value_range)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([Values("uint16", 7, 3990)], (0, 4095)),
        ([Values("uint16", 0, 65535)], (0, 65535)),
        ([Values("uint16", 0, 200)], (0, 255)),
        ([Values("uint16", 29000, 31000)], (29000, 31000)),  # thermal: 2^15 - 1 would leave 16 grey levels
        ([Values("int32", -1024, 3071), Values("uint16", 0, 4095)], (-1024, 4095)),
        ([Values("int32", 57000, 147000)], (57000, 147000)),  # no camera has 18 bits: 2^18 - 1 would waste two thirds
        ([Values("float32", 3.5, 250.0)], (0, 255)),
        ([Values("float32", 0.0, 1200.0)], (0, 1200)),
        ([Values("float32", 5.0, 5.0)], (5, 6)),
    ],
)
def test_the_range_that_is_proposed(values: list[Values], wanted: tuple[float, float]) -> None:
    assert suggested_range(values) == wanted


# --- files


def as_pixels(rows: Any) -> torch.Tensor:
    """Grey (H, W) or (H, W, 3) as (3, H, W)."""
    image = torch.tensor(np.array(rows, np.uint8))
    return image.expand(3, -1, -1) if image.ndim == 2 else image.permute(2, 0, 1)


def pgm(pixels: np.ndarray, largest: int) -> bytes:
    height, width = pixels.shape
    return b"P5 %d %d %d\n" % (width, height, largest) + pixels.astype(">u2").tobytes()


FILES: dict[str, tuple[bytes, Any]] = {
    "PNG": (png(TWELVE), TWELVE),
    "PNG, grey and alpha": (png(np.dstack([TWELVE, ALPHA])), TWELVE),
    "PNG, RGB": (png(COLOURS), COLOURS),
    "PNG, RGBA": (png(np.dstack([COLOURS, ALPHA])), COLOURS),
    "TIFF": (tiff(TWELVE), TWELVE),
    "TIFF, big-endian": (tiff(TWELVE, order=">"), TWELVE),
    "TIFF, RGB": (tiff(COLOURS), COLOURS),
    "TIFF, big-endian RGB": (tiff(COLOURS, order=">"), COLOURS),
    "TIFF, RGBA": (tiff(np.dstack([COLOURS, ALPHA])), COLOURS),
    "TIFF, compressed": (saved(Image.fromarray(TWELVE), "TIFF", compression="tiff_lzw"), TWELVE),
    "BigTIFF": (tiff(TWELVE, large=True), TWELVE),
}
NEEDY: dict[str, bytes] = {
    "int32": tiff(TWELVE.astype(np.int32), kind=2),
    "int32, big-endian": tiff(TWELVE.astype(np.int32), kind=2, order=">"),
    "uint32": tiff(TWELVE.astype(np.uint32)),
    "int16": tiff(TWELVE.astype(np.int16), kind=2),
    "float32": tiff(TWELVE.astype(np.float32), kind=3),
    "float32, big-endian": tiff(TWELVE.astype(np.float32), kind=3, order=">"),
    "float32, compressed": saved(Image.fromarray(TWELVE.astype(np.float32)), "TIFF", compression="tiff_deflate"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_16_bits(name: str, tmp_path: Path) -> None:
    data, values = FILES[name]
    file = tmp_path / "a.bin"
    file.write_bytes(data)
    assert torch.equal(read_image(file), as_pixels(values >> 8))
    assert torch.equal(read_image(file, value_range=(0, 4095)), as_pixels(values >> 4))
    assert torch.equal(read_image(file, value_range=(2048, 4096)), as_pixels(np.maximum(values, 2048) - 2048 >> 3))


@pytest.mark.parametrize("name", NEEDY)
def test_files_that_need_a_range(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(NEEDY[name])
    with pytest.raises(BrokenInputError, match=r"a\.tif has .*numbers.* from 0 to 4095, .*data\.range=\[0,4095\]$"):
        read_image(file)
    assert torch.equal(read_image(file, value_range=(0, 4095)), as_pixels(TWELVE_AS_8))


def test_pgm_is_brought_to_16_bits(tmp_path: Path) -> None:
    file = tmp_path / "a.pgm"
    file.write_bytes(pgm(TWELVE, 4095))
    assert torch.equal(read_image(file), as_pixels(TWELVE_AS_8))


def test_float_in_0_to_1_and_missing_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(tiff(np.array([[0, 0.5], [np.nan, 1]], np.float32), kind=3))
    assert torch.equal(read_image(file), as_pixels([[0, 128], [0, 255]]))


@pytest.mark.parametrize(
    ("mode", "wanted"), [("1", [[0, 255]]), ("L", [[0, 200]]), ("P", [[0, 200]]), ("LA", [[0, 200]])]
)
def test_8_bits_and_fewer_do_not_look_at_the_range(mode: str, wanted: list, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 200]], np.uint8)).convert(mode).save(file)
    for value_range in ("type", (0.0, 4095.0)):
        assert torch.equal(read_image(file, value_range=value_range), as_pixels(wanted))  # type: ignore[arg-type]


def test_4_bits_fill_8(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 8, 15]], np.uint8)).save(file)
    data = bytearray(png(np.array([[0x01, 0x8F]], np.uint8)))  # read as four values of 4 bits
    data[16:26] = (4).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([4, 0])
    file.write_bytes(bytes(data[:29]) + zlib_crc(data[12:29]) + bytes(data[33:]))
    assert read_image(file)[0].tolist() == [[0, 17, 136, 255]]


def zlib_crc(part: bytes) -> bytes:
    return zlib.crc32(part).to_bytes(4, "big")


def test_of_several_pages_the_first_counts(tmp_path: Path) -> None:
    first, second = Image.fromarray(TWELVE), Image.fromarray(TWELVE[::-1].copy())
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    assert torch.equal(read_image(tmp_path / "a.tif", value_range=(0, 4095)), as_pixels(TWELVE_AS_8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(np.zeros((3, 4, 3), np.float32), kind=3), "a TIFF picture with 3 channels of 32 floating-point bits"),
        (tiff(np.zeros((3, 4), np.float16), kind=3), "a TIFF picture with 1 channel of 16 floating-point bits"),
        (tiff(np.zeros((3, 4, 2), np.uint16)), "a TIFF picture with 2 channels of 16 bits"),
    ],
)
def test_what_pillow_cannot_read_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(BrokenInputError, match=rf"is {words}, which is not read; save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


# --- what people hold in memory


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_pillow_images(mode: str) -> None:
    if mode == "I;16B":
        image = Image.frombytes(mode, (4, 2), TWELVE.astype(">u2").tobytes())
    else:
        image = Image.fromarray(TWELVE.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    assert image.mode == mode
    assert torch.equal(to_image(image, value_range=(0, 4095)), as_pixels(TWELVE_AS_8))
    if mode.startswith("I;16"):
        assert torch.equal(to_image(image), as_pixels(TWELVE >> 8))
    else:
        with pytest.raises(UsageError, match=r"a picture has .*set data\.range"):
            to_image(image)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "int64", "float32", "float64"])
def test_arrays_and_tensors(dtype: str) -> None:
    array = COLOURS.astype(dtype)
    wanted = as_pixels(COLOURS >> 4)
    assert torch.equal(to_image(array, value_range=(0, 4095)), wanted)
    if dtype != ">u2":
        tensor = torch.from_numpy(array.transpose(2, 0, 1).copy())
        assert torch.equal(to_image(tensor, value_range=(0, 4095)), wanted)
    half = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.bfloat16)
    assert to_image(half)[0].tolist() == [[0, 128, 255]]


def test_the_hash_of_a_dark_image_sees_what_is_on_it(tmp_path: Path) -> None:
    shape = np.zeros((40, 40), np.uint8)
    shape[5:20, 8:30] = 200
    for name, data in (("8.png", png(shape)), ("12.png", png(shape.astype(np.uint16) * 16))):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "f.tif").write_bytes(tiff(shape * np.float32(7.5), kind=3))
    hashes = [image_hash(tmp_path / name) for name in ("8.png", "12.png", "f.tif")]
    assert len(set(hashes)) == 1
