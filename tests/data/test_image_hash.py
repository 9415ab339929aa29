from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfocal.data.image_hash import DISTANCE, content_hash, image_hash, image_hashes, similar_groups
from gfocal.errors import BrokenInputError


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth random image: blotches of several sizes."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image += np.asarray(small.resize(size, Image.Resampling.BICUBIC), float) / 3
    return Image.fromarray(image.astype(np.uint8))


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_a_changed_image_keeps_its_hash_and_another_one_does_not(tmp_path: Path) -> None:
    hashes = []
    for seed in range(12):
        original = scene(seed)
        original.save(tmp_path / "a.png")
        value = image_hash(tmp_path / "a.png")
        hashes.append(value)
        original.resize((80, 60), Image.Resampling.LANCZOS).save(tmp_path / "b.jpg", quality=50)
        assert bits(value, image_hash(tmp_path / "b.jpg")) <= DISTANCE
        original.point(lambda v: min(255, int(v * 1.1))).save(tmp_path / "c.webp")
        assert bits(value, image_hash(tmp_path / "c.webp")) <= DISTANCE
    apart = [bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > DISTANCE


def test_a_image_is_seen_as_exif_turns_it(tmp_path: Path) -> None:
    upright = scene(3)
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "plain.jpg", quality=95)
    wanted = image_hash(tmp_path / "upright.png")
    assert bits(wanted, image_hash(tmp_path / "turned.jpg")) <= DISTANCE
    assert bits(wanted, image_hash(tmp_path / "plain.jpg")) > DISTANCE


def test_depth_and_colour_models_do_not_matter(tmp_path: Path) -> None:
    grey = scene(5).convert("L")
    grey.save(tmp_path / "8.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "16.png")
    grey.convert("RGBA").save(tmp_path / "alpha.png")
    wanted = image_hash(tmp_path / "8.png")
    assert image_hash(tmp_path / "alpha.png") == wanted
    assert bits(image_hash(tmp_path / "16.png"), wanted) <= 2


def test_flat_images_share_the_hash_0(tmp_path: Path) -> None:
    for grey in (0, 100, 255):
        Image.new("L", (50 + grey, 40), grey).save(tmp_path / "flat.png")
        assert image_hash(tmp_path / "flat.png") == 0


def test_many_are_read_in_order_and_broken_ones_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i in (0, 2, 4):
        scene(i).save(paths[i])
    paths[1].write_bytes(b"no picture")
    done: list[int] = []
    hashes, reasons = image_hashes(paths, lambda count, _: done.append(count))
    assert done == [1, 2, 3, 4, 5]
    assert hashes.dtype == np.uint64
    assert [int(hashes[i]) for i in (0, 2, 4)] == [image_hash(paths[i]) for i in (0, 2, 4)]
    assert [reason is None for reason in reasons] == [True, False, True, False, True]
    assert "1.png" in (reasons[1] or "")
    assert "3.png does not exist" in (reasons[3] or "")
    with pytest.raises(BrokenInputError, match=r"1\.png"):
        image_hash(paths[1])


def test_content_hash_tells_bytes_apart(tmp_path: Path) -> None:
    for name, data in (("a", b"1" * 10**6), ("b", b"1" * 10**6), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b") != content_hash(tmp_path / "c")


def slow_groups(hashes: list[int], distance: int) -> list[list[int]]:
    groups = [{i} for i in range(len(hashes))]
    for i, a in enumerate(hashes):
        for j, b in enumerate(hashes[:i]):
            if bits(a, b) <= distance:
                one, other = (next(g for g in groups if k in g) for k in (i, j))
                if one is not other:
                    groups.remove(other)
                    one |= other
    return sorted(sorted(group) for group in groups if len(group) > 1)


@pytest.mark.parametrize("distance", [0, 1, 6, 13])
def test_groups_are_those_of_comparing_every_pair(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = [int(h) for h in rng.integers(0, 2**64, 40, dtype=np.uint64)]
    for _ in range(60):  # near copies, and copies of copies
        copy = hashes[rng.integers(len(hashes))]
        for bit in rng.choice(64, rng.integers(0, 9), replace=False):
            copy ^= 1 << int(bit)
        hashes.append(copy)
    expected = slow_groups(hashes, distance)
    assert len(expected) > 3
    assert similar_groups(np.array(hashes, np.uint64), distance) == expected


def test_no_images_no_groups() -> None:
    assert similar_groups(np.zeros(0, np.uint64)) == []
    assert similar_groups(np.zeros(3, np.uint64)) == [[0, 1, 2]]


def test_many_are_grouped_quickly_even_if_they_are_alike() -> None:
    rng = np.random.default_rng(0)
    for hashes in (rng.integers(0, 2**64, 5_000, dtype=np.uint64), rng.integers(0, 2**12, 5_000, dtype=np.uint64)):
        groups = similar_groups(hashes)  # 0.1 s; a loop over pairs takes minutes, and the test's time is limited
        assert sum(map(len, groups)) in (0, len(hashes)), "unrelated ones are alone, close ones all together"


def test_real_images_that_differ_are_not_called_alike(shared: Path) -> None:
    files = sorted((shared / "data" / "bccd" / "images").glob("*.jpg"))[:150]
    hashes, reasons = image_hashes(files)
    assert not any(reasons)
    groups = [[files[i].name for i in group] for group in similar_groups(hashes)]
    # One field of cells, photographed twice with another focus.
    assert groups == [["BloodImage_00037.jpg", "BloodImage_00038.jpg"]]


def test_saved_again_real_images_are_alike(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data" / "coco_mini" / "images").rglob("*.jpg"))[::40]
    for file in files:
        again = io.BytesIO()
        with Image.open(file) as image:
            half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        half.save(again, "JPEG", quality=60)
        (tmp_path / "again.jpg").write_bytes(again.getvalue())
        assert bits(image_hash(file), image_hash(tmp_path / "again.jpg")) <= DISTANCE
