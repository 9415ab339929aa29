"""Reading images, sizes, padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.errors import BrokenInputError, UsageError
from gfocal.images import decode
from gfocal.images.io import Resize, pad_batch, read_image, to_image
from gfocal.models import PixelNorm

# 6 high, 8 wide; the left half red, the right half blue: survives JPEG to a few grey values.
RED_BLUE = np.zeros((48, 64, 3), np.uint8)
RED_BLUE[:, :32, 0] = 255
RED_BLUE[:, 32:, 2] = 255


def save(path: Path, array: np.ndarray = RED_BLUE, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def noise(height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_formats_give_rgb_uint8(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}"))
    assert image.shape == (3, 48, 64)
    assert image.dtype == torch.uint8
    assert (image[:, 24, 8].int() - torch.tensor([255, 0, 0])).abs().max() <= 6
    assert (image[:, 24, 56].int() - torch.tensor([0, 0, 255])).abs().max() <= 6


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "L"), ("png", "L"), ("png", "LA"), ("bmp", "L"), ("png", "1")])
def test_grey_becomes_three_equal_channels(tmp_path: Path, suffix: str, mode: str) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}", mode=mode))
    assert image.shape == (3, 48, 64)
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()


def test_alpha_is_dropped_and_palettes_are_resolved(tmp_path: Path) -> None:
    rgba = np.dstack([RED_BLUE, np.full((48, 64), 128, np.uint8)])
    expected = torch.from_numpy(RED_BLUE).permute(2, 0, 1)
    assert torch.equal(read_image(save(tmp_path / "a.png", rgba)), expected)
    assert torch.equal(read_image(save(tmp_path / "p.png", mode="P")), expected)
    assert torch.equal(read_image(save(tmp_path / "a.tiff", rgba)), expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_keep_their_upper_8(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [0x1234, 0x80FF, 0xFFFF]], np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", values))
    assert image.tolist() == [[[0, 0, 1], [0x12, 0x80, 0xFF]]] * 3


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    first, second = Image.fromarray(RED_BLUE), Image.fromarray(255 - RED_BLUE)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    image = read_image(tmp_path / "a.gif")
    assert image.shape == (3, 48, 64)
    assert image[:, 24, 8].tolist() == [255, 0, 0]


def test_frames_behind_the_first_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of animation would be gigabytes."""
    frames = [Image.fromarray(noise() // k) for k in range(1, 5)]
    frames[0].save(tmp_path / "one.gif")
    frames[0].save(tmp_path / "all.gif", save_all=True, append_images=frames[1:])
    given = []
    real = decode._torchvision_decoder()
    assert real is not None
    counting = lambda data: given.append(real(data)) or given[-1]  # noqa: E731
    monkeypatch.setattr(decode, "_torchvision_decoder", lambda: counting)
    one, first = read_image(tmp_path / "one.gif"), read_image(tmp_path / "all.gif")
    assert torch.equal(first, one)
    assert given[1].size == one.numel()


def test_jpeg_keeps_channels_last_strides_through_the_resize(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.jpg"))
    assert image.stride()[0] == 1
    resized = Resize("square", size=40)(image)
    assert resized.shape == (3, 40, 40)
    assert resized.stride()[0] == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored lying on its left side: turn it by 90 degrees clockwise.
    path = save(tmp_path / f"a.{suffix}", exif=exif.tobytes())
    upright = read_image(path)
    # Turned clockwise, the left half (red) comes to the top.
    assert upright.shape == (3, 64, 48)
    assert upright[0, 8, 24] > 200
    assert upright[2, 56, 24] > 200
    assert read_image(path, apply_exif=False).shape == (3, 48, 64)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"cut.{suffix}", noise())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BrokenInputError, match=rf"cut\.{suffix}") as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert ".cpp" not in message
    assert message.endswith("; replace it")
    assert message == f"picture {path} {caught.value.reason}; replace it"
    assert caught.value.path == path


def test_jpeg_without_its_last_two_bytes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", noise())
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(BrokenInputError, match="truncated"):
        read_image(path)


def test_jpeg_with_bytes_after_its_end_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"camera maker's notes")
    assert read_image(path).shape == (3, 48, 64)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff", b"<html></html>" * 100, bytes(1000), b"BM" * 50])
def test_not_a_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)
    with pytest.raises(BrokenInputError, match=r"notes\.jpg .*; replace it$"):
        read_image(path)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0"]))
def test_random_bytes_never_escape_as_another_error(tmp_path_factory: pytest.TempPathFactory, tail: bytes, head: bytes):
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(head + tail)
    with pytest.raises(BrokenInputError, match=r"fuzz\.bin"):
        read_image(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(BrokenInputError, match=r"none\.jpg does not exist"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(BrokenInputError, match="cannot be read") as caught:
        read_image(tmp_path)
    assert (caught.value.path, caught.value.reason) == (tmp_path, "cannot be read: it is not a file")


def test_to_image_takes_what_people_have(tmp_path: Path) -> None:
    expected = torch.from_numpy(RED_BLUE).permute(2, 0, 1)
    path = save(tmp_path / "a.png")
    for source in (path, str(path), expected, RED_BLUE, Image.fromarray(RED_BLUE), np.asarray(Image.open(path))):
        assert torch.equal(to_image(source), expected)
    rgba = np.dstack([RED_BLUE, RED_BLUE[..., :1]])
    assert torch.equal(to_image(rgba), expected)
    assert torch.equal(to_image(Image.fromarray(rgba)), expected)
    assert torch.equal(to_image(RED_BLUE[..., ::-1]), expected.flip(0))
    for grey in (RED_BLUE[..., 0], RED_BLUE[..., :1], expected[0], expected[:1], Image.fromarray(RED_BLUE[..., 0])):
        assert torch.equal(to_image(grey), expected[:1].expand(3, -1, -1))


def test_a_pil_image_is_not_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(save(tmp_path / "a.jpg", exif=exif.tobytes())) as image:
        assert to_image(image).shape == (3, 48, 64)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 5, 3), 255.0), r"floating-point numbers from 255 to 255.*set data\.range"),
        (torch.full((3, 4, 5), -0.1), r"floating-point numbers from -0\.1 to -0\.1.*set data\.range"),
        (np.full((4, 5), 7), r"whole numbers with a sign or of 32 bits from 7 to 7.*data\.range=\[7,8\]"),
        (np.zeros((4, 5), complex), "array must hold uint8 in 0..255 or other real numbers, got complex128"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \(H, W, 3\), got \(3, 4, 5\)"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"shape \(3, H, W\), got \(4, 5, 3\)"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), r"shape \(3, H, W\)"),
        (np.zeros((0, 5, 3), np.uint8), r"got \(0, 5, 3\)"),
        (17, "not int"),
    ],
)
def test_to_image_refuses(source: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_image(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (800, 1067)),  # 800 / 480 = 1.6667; 640 * 1.6667 = 1066.67 -> 1067
        (640, 480, (1067, 800)),
        (375, 1242, (402, 1333)),  # 1333 / 1242 = 1.0733 < 800 / 375; 375 * 1.0733 = 402.48 -> 402
        (1600, 1600, (800, 800)),
        (1, 5000, (1, 1333)),  # 0.27 pixels high: at least one stays
    ],
)
def test_short_long_size(height: int, width: int, expected: tuple[int, int]) -> None:
    assert Resize("short_long", short_side=800, long_side=1333).target_size(height, width) == expected


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_short_long_fits_and_touches_a_limit(height: int, width: int) -> None:
    short, long = sorted(Resize("short_long", short_side=100, long_side=170).target_size(height, width))
    assert short <= 100
    assert long <= 170
    assert short == 100 or long == 170


def test_resize_refuses_nonsense() -> None:
    for wrong in ({"kind": "cubic"}, {"size": 0}, {"short_side": 900, "long_side": 800}):
        with pytest.raises(UsageError):
            Resize(**wrong)  # type: ignore[arg-type]


def test_resize_is_bilinear_and_antialiased() -> None:
    # Halving: antialiased bilinear weighs 4 neighbours by 1 3 3 1 (2 3 2 at the border, of 7).
    image = torch.tensor([0, 80, 160, 240], dtype=torch.uint8).expand(3, 4, 4)
    row = Resize("square", size=2)(image)[0, 0].tolist()
    # Left: centre 1.0, triangle of radius 2: weights at .5 1.5 2.5 = .75 .75 .25 -> (0 + 60 + 40) / 1.75 = 57.1
    assert row == [57, 183]


def test_pad_batch() -> None:
    small = torch.full((3, 20, 40), 7, dtype=torch.uint8)
    large = torch.full((3, 33, 30), 9, dtype=torch.uint8).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    torch.use_deterministic_algorithms(True)  # Fills new memory with 255, so that forgotten zeros show.
    try:
        batch = pad_batch([small, large])
    finally:
        torch.use_deterministic_algorithms(False)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    expected = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    expected[0, :, :20, :40] = 7
    expected[1, :, :33, :30] = 9
    assert torch.equal(batch, expected)
    assert pad_batch([small], multiple=1).shape == (1, 3, 20, 40)
    assert pad_batch([torch.zeros(3, 64, 32, dtype=torch.uint8)]).shape == (1, 3, 64, 32)


def test_pad_batch_with_a_colour() -> None:
    small, large = torch.full((3, 20, 40), 7, dtype=torch.uint8), torch.full((3, 50, 33), 9, dtype=torch.uint8)
    black, coloured = pad_batch([small, large]), pad_batch([small, large], fill=(124, 116, 104))
    padding = torch.ones(2, 64, 64, dtype=torch.bool)
    padding[0, :20, :40] = padding[1, :50, :33] = False
    assert (black.permute(0, 2, 3, 1)[padding] == 0).all()
    assert (coloured.permute(0, 2, 3, 1)[padding] == torch.tensor([124, 116, 104], dtype=torch.uint8)).all()
    assert torch.equal(black.permute(0, 2, 3, 1)[~padding], coloured.permute(0, 2, 3, 1)[~padding])


def test_padding_with_the_mean_is_nearly_zero_after_normalisation() -> None:
    # What torchvision's and timm's weights were trained with; rounding to whole numbers leaves 0.47 / 57.4 at most.
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    fill = (round(mean[0]), round(mean[1]), round(mean[2]))
    batch = pad_batch([torch.full((3, 1, 1), 255, dtype=torch.uint8)], fill=fill)
    for order, turned in (("rgb", slice(None)), ("bgr", slice(None, None, -1))):
        normalised = PixelNorm(mean[turned], std[turned], order)(batch)[0, :, 1:, 1:]  # type: ignore[arg-type]
        assert normalised.abs().max() < 0.01


@pytest.mark.parametrize("fill", [(0, 0), (0, 0, 0, 0), (-1, 0, 0), (0, 256, 0), (1.5, 0, 0)])
def test_what_is_no_colour(fill: tuple) -> None:
    with pytest.raises(UsageError, match="resize fill must be three whole numbers"):
        Resize(fill=fill)


def test_another_side_keeps_the_proportion() -> None:
    assert Resize("square", size=320, fill=(1, 2, 3)).at(96) == Resize("square", size=96, fill=(1, 2, 3))
    small = Resize("short_long", short_side=800, long_side=1333).at(480)
    assert (small.short_side, small.long_side) == (480, 800)  # 1333 * 0.6 = 799.8
    assert small.target_size(1000, 1000) == (480, 480)
