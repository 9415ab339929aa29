"""Setting images apart: none on both sides, every class on both, the same ones each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.split import choose_val, deal_out
from gfocal.errors import UsageError


def blotches(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = np.zeros((60, 80, 3))
    for cells in (3, 6, 12):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image += np.asarray(small.resize((80, 60), Image.Resampling.BICUBIC), float) / 3
    return Image.fromarray(image.astype(np.uint8))


def index_of(folder: Path, labels: list[list[int]], classes: int = 3) -> DataIndex:
    """Images that differ, with boxes of these classes."""
    folder.mkdir(exist_ok=True)
    for i in range(len(labels)):
        blotches(i).save(folder / f"{i}.png")
    flat = [label for own in labels for label in own]
    columns: dict[str, Any] = {
        "image_ids": np.arange(len(labels)) + 100,
        "file_names": [f"{i}.png" for i in range(len(labels))],
        "widths": np.full(len(labels), 80),
        "heights": np.full(len(labels), 60),
        "box_start": np.cumsum([0, *map(len, labels)]),
        "boxes": np.arange(len(flat))[:, None] + np.array([0, 0, 5, 5.5]),
        "labels": flat,
        "names": list("abcdefgh"[:classes]),
    }
    return DataIndex.build(images_dir=folder, annotations=folder / "made", **columns)


def test_images_that_look_alike_stay_together(tmp_path: Path) -> None:
    index = index_of(tmp_path, [[0]] * 40)
    for i in range(10):  # four images in ten versions each
        for k in range(4):
            copy = blotches(k).resize((80 + i, 60 + i))
            copy.save(tmp_path / f"{4 * i + k}.png")
    for seed in range(4):
        chosen, lines = choose_val(index, 0.25, seed)
        assert len(chosen) == 10
        assert len({i % 4 for i in chosen.tolist()}) == 1
        assert "10 of 40 pictures set apart" in lines[0]
        assert "40 that look alike stay together in 4 groups" in lines[0]


def test_it_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    index = index_of(tmp_path, [[i % 3] for i in range(30)])
    first = choose_val(index, 0.3, 0)[0].tolist()
    assert choose_val(index, 0.3, 0)[0].tolist() == first
    assert choose_val(index, 0.3, 1)[0].tolist() != first
    assert len(first) == 9


def test_rare_classes_are_on_both_sides(tmp_path: Path) -> None:
    labels = [[0] for _ in range(56)] + [[1], [0, 1], [0, 0, 2], [2]]
    for seed in range(5):
        chosen, lines = choose_val(index_of(tmp_path, labels), 0.1, seed)
        apart = [label for i in chosen.tolist() for label in set(labels[i])]
        assert 6 <= len(chosen) <= 9
        assert apart.count(1) == apart.count(2) == 1
        assert len(lines) == 1


def test_a_class_of_one_image_is_learnt_and_named(tmp_path: Path) -> None:
    chosen, lines = choose_val(index_of(tmp_path, [[0]] * 9 + [[2]]), 0.3, 0)
    assert 9 not in chosen.tolist()
    assert any("too few pictures show c: not measured" in line for line in lines)


def test_one_film_cannot_be_divided(tmp_path: Path) -> None:
    index = index_of(tmp_path, [[0]] * 5)
    for i in range(5):
        blotches(1).save(tmp_path / f"{i}.png")
    with pytest.raises(UsageError, match=r"all 5 pictures look alike .* --val PATH"):
        choose_val(index, 0.2, 0)
    blotches(2).save(tmp_path / "3.png")
    chosen, lines = choose_val(index, 0.8, 0)
    assert chosen.tolist() == [3]
    assert any("4 of 5 pictures look alike, as frames of one film" in line for line in lines)
    with pytest.raises(UsageError, match="only one picture"):
        choose_val(index.take(np.array([0])), 0.2, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_is_between_0_and_1(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        choose_val(index_of(tmp_path, [[0]] * 3), share, 0)


def test_broken_images_are_told(tmp_path: Path) -> None:
    index = index_of(tmp_path, [[0]] * 10)
    for i in (2, 5):
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    chosen, lines = choose_val(index, 0.2, 0)
    assert len(chosen) == 2
    assert any("2 pictures cannot be read" in line for line in lines)


@settings(max_examples=150, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=40),
    pairs=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 5)), max_size=80),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_whatever_the_groups_no_group_is_cut_and_no_side_empty(
    groups: list[int], pairs: list[tuple[int, int]], share: float, seed: int
) -> None:
    classes = sorted({(image, label) for image, label in pairs if image < len(groups)})
    rows = np.array(classes, np.int64).reshape(-1, 2)
    if len(set(groups)) == 1:
        with pytest.raises(UsageError):
            deal_out(np.array(groups), rows, share, seed)
        return
    chosen = deal_out(np.array(groups), rows, share, seed)
    sides = {(group, bool(side)) for group, side in zip(groups, chosen, strict=True)}
    assert len(sides) == len(set(groups))
    assert 0 < chosen.sum() < len(groups)


def test_shares_of_classes_are_kept(shared: Path) -> None:
    index = open_dataset(shared / "data" / "bccd", "train")
    chosen, _ = choose_val(index, 0.2, 0)
    assert abs(len(chosen) - 0.2 * len(index)) <= 2
    owner = np.repeat(np.arange(len(index)), np.diff(np.asarray(index.box_start)))
    labels = np.asarray(index.labels)
    for label in range(3):
        images = set(owner[labels == label].tolist())
        assert abs(len(images & set(chosen.tolist())) / len(images) - 0.2) < 0.05


def test_a_subset_has_all_that_belongs_to_its_images(tmp_path: Path) -> None:
    index = index_of(tmp_path, [[0, 1], [], [2], [1, 1, 0]])
    part = index.take(np.array([3, 0, 1]))
    assert np.asarray(part.image_ids).tolist() == [103, 100, 101]
    assert [part.file_name(i) for i in range(3)] == ["3.png", "0.png", "1.png"]
    assert np.asarray(part.box_start).tolist() == [0, 3, 5, 5]
    assert np.asarray(part.labels).tolist() == [1, 1, 0, 0, 1]
    assert np.asarray(part.boxes).tolist() == np.asarray(index.boxes)[[3, 4, 5, 0, 1]].tolist()
    assert np.asarray(part.annotation_ids).tolist() == [4, 5, 6, 1, 2]
    assert (part.names, part.parts) == (index.names, ())


def test_images_of_one_colour_are_alike_in_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path, [[0]] * 10)
    for i in range(6):
        Image.new("RGB", (80, 60), (40 * i, 90, 160)).save(tmp_path / f"{i}.png")
    chosen, lines = choose_val(index, 0.4, 0)
    assert len(chosen) == 4
    assert not any("alike" in line or "cannot be read" in line for line in lines)
