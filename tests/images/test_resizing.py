"""One resize for tensors and arrays, and decoders that agree: what an exported file sees is what training saw."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.images import decode
from gfocal.images.io import read_image, tensor_of
from gfocal.images.reading import read_array, to_array
from gfocal.images.resizing import Resize, padded_size, resize_to

SIDE = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(height=SIDE, width=SIDE, new_height=SIDE, new_width=SIDE, seed=st.integers(0, 9))
def test_arrays_are_resized_as_torch_does_bit_for_bit(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = resize_to(tensor_of(image), (new_height, new_width)).permute(1, 2, 0).numpy()
    assert np.array_equal(resize_to(image, (new_height, new_width)), theirs)


@pytest.mark.parametrize("size", [(2, 3), (7, 2999), (3000, 1)])
def test_extreme_ratios_too(size: tuple[int, int]) -> None:
    """Weights of a thousandth: their sum must stay within 32 bits."""
    image = np.full((3000, 700, 3), 255, np.uint8)
    image[::2] = 254
    theirs = resize_to(tensor_of(image), size).permute(1, 2, 0).numpy()
    assert np.array_equal(resize_to(image, size), theirs)


def test_two_pixels_become_one_by_hand() -> None:
    """A triangle 2 pixels wide to each side: both are half a pixel from the centre and count the same."""
    image = np.array([[[10] * 3, [30] * 3]], np.uint8)
    assert resize_to(image, (1, 1)).tolist() == [[[20, 20, 20]]]


def test_an_image_of_the_right_size_stays_itself() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    assert resize_to(image, (4, 5)) is image


@pytest.mark.parametrize("resize", [Resize("square", size=32), Resize("short_long", short_side=20, long_side=33)])
@pytest.mark.parametrize("size", [(40, 60), (60, 40), (7, 90)])
def test_the_rule_is_the_same_for_both(resize: Resize, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.array_equal(resize(image), resize(tensor_of(image)).permute(1, 2, 0).numpy())
    assert resize(image).shape[:2] == resize.target_size(*size)


def test_a_batch_s_sides_are_multiples() -> None:
    assert padded_size([(32, 65), (33, 10)], 32) == (64, 96)


@pytest.mark.parametrize("kind", ["jpeg", "webp", "gif", "png"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_decoder_without_torch_gives_the_same_pixels(
    kind: str, mode: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((200, 150), Image.Resampling.BICUBIC).convert(mode)
    file = tmp_path / f"a.{kind}"
    smooth.save(file, kind)
    ours = read_image(file)
    monkeypatch.setattr(decode, "_fast_decoder", lambda: None)
    assert np.array_equal(read_array(file), ours.permute(1, 2, 0).numpy())


def test_whatever_holds_an_image_becomes_the_same_array() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    for source in (pixels, torch.from_numpy(pixels).permute(2, 0, 1), Image.open(content)):
        assert np.array_equal(to_array(source), pixels)
    assert to_array(np.dstack([pixels, pixels[..., :1]])).shape == (5, 6, 3)  # alpha is dropped
    assert to_array(pixels[..., 0]).tolist() == np.repeat(pixels[..., :1], 3, 2).tolist()
    assert to_array(torch.full((1, 2, 2), 0.5, dtype=torch.bfloat16)).tolist() == [[[128] * 3] * 2] * 2
