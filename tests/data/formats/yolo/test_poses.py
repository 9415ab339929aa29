"""Lines of more than five numbers: polygons, turned boxes and poses are not taken for one another."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gfocal.data.formats.open import open_dataset
from gfocal.data.formats.yolo.poses import Poses, UnclearLinesError, find_poses
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError, UsageError
from helpers.layouts import image

Line = list[float]
BOX = (0.25, 0.5, 0.3, 0.4)


def written(lines: Sequence[Line]) -> bytes:
    return "".join(" ".join(f"{value:.6g}" for value in line) + "\n" for line in lines).encode()


def dataset(root: Path, lines: Sequence[Line], more: str = "", val: Sequence[Line] | None = None) -> Path:
    for split, own in (("train", lines), ("val", val)):
        if own is not None:
            image(root / "images" / split / "a.png", (64, 64))
            (root / "labels" / split).mkdir(parents=True)
            (root / "labels" / split / "a.txt").write_bytes(written(own))
    splits = "train: images/train\n" + ("val: images/val\n" if val is not None else "")
    (root / "data.yaml").write_text(f"{splits}names: [cat, dog]\n{more}")
    return root


def pose(rng: random.Random, points: int, each: int, marks: Sequence[float] = (0, 1, 2)) -> Line:
    x, y, width, height = BOX
    line = [1, x, y, width, height]
    for _ in range(points):
        line += [x + rng.uniform(-0.5, 0.5) * width, y + rng.uniform(-0.5, 0.5) * height]
        line += [rng.choice(marks)] if each == 3 else []
    return line


def polygon(rng: random.Random, corners: int) -> Line:
    x, y, radius = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.2)
    angles = [math.tau * i / corners for i in range(corners)]
    radii = [radius * rng.uniform(0.6, 1) for _ in angles]
    return [0, *(v for a, r in zip(angles, radii, strict=True) for v in (x + r * math.cos(a), y + r * math.sin(a)))]


def turned_box(rng: random.Random, x: float = 0.5, y: float = 0.5) -> Line:
    width, height, angle = rng.uniform(0.02, 0.2), rng.uniform(0.02, 0.2), rng.uniform(0, math.pi)
    c, s = math.cos(angle), math.sin(angle)
    corners = [(a * width / 2, b * height / 2) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return [0, *(v for a, b in corners for v in (x + a * c - b * s, y + a * s + b * c))]


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    ("points", "marks"), [(17, (0, 1, 2)), (17, (1,)), (8, (0, 1)), (5, (2,)), (1, (2, 2.0)), (1, (0, 1))]
)
def test_poses_are_read_as_their_boxes(tmp_path: Path, count: int, points: int, marks: Sequence[float]) -> None:
    """Three numbers a point, the third of them 0, 1 or 2."""
    rng = random.Random(points)
    problems = Problems(False, unread=[])
    index = open_dataset(
        dataset(tmp_path, [pose(rng, points, 3, marks) for _ in range(count)]), "train", problems=problems
    )
    assert np.allclose(np.asarray(index.boxes), [[6.4, 19.2, 25.6, 44.8]] * count, atol=1e-4)
    assert np.asarray(index.labels).tolist() == [1] * count
    lines = f"{count} line{'s' if count > 1 else ''} with key points"
    assert problems.notes == [f"{tmp_path / 'data.yaml'}: {lines}, as their numbers show: only boxes are read"]
    assert problems.unread == ["data.yaml: key points are not read"]


def test_the_box_of_the_report(tmp_path: Path) -> None:
    """16, 14, 128, 96 in an image of 64 pixels is what a polygon would have been."""
    line = [0, 0.5, 0.4, 0.2, 0.3, 0.45, 0.3, 2, 0.55, 0.5, 1]
    index = open_dataset(dataset(tmp_path, [line]), "train")
    assert np.allclose(np.asarray(index.boxes), [[25.6, 16.0, 38.4, 35.2]])


def test_poses_beside_plain_boxes_and_beside_polygons() -> None:
    rng = random.Random(0)
    poses = [pose(rng, 17, 3) for _ in range(3)]
    assert find_poses([written(poses), written([[0, *BOX]] * 9)]) == Poses(frozenset({56}), only=True)
    # Eleven columns are polygons of five corners, too, but no corner has a 2.
    mixed = [pose(rng, 2, 3, (2,)) for _ in range(3)] + [polygon(rng, n) for n in range(3, 9) if n != 5]
    assert find_poses([written(mixed)]) == Poses(frozenset({11}), only=False)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_stay_polygons(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    assert find_poses([written([polygon(rng, rng.randrange(3, 40)) for _ in range(50)])]) == Poses()
    for corners in (4, 5, 8, 11, 17):
        assert find_poses([written([polygon(rng, corners) for _ in range(50)])]) == Poses(), corners
    line = [0, 0.1, 0.2, 0.5, 0.2, 0.5, 0.8, 0.3, 0.9]
    index = open_dataset(dataset(tmp_path, [line, [1, *BOX]]), "train")
    assert np.allclose(np.asarray(index.boxes), [[6.4, 12.8, 32, 57.6], [6.4, 19.2, 25.6, 44.8]])


@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.3, 0.6), (0.15, 0.15), (0.8, 0.7)])
def test_turned_boxes_are_read_as_before(tmp_path: Path, count: int, place: tuple[float, float]) -> None:
    """In the middle of an image four corners fit the meaning of a box with two points as well."""
    rng = random.Random(count)
    lines = [turned_box(rng, *place) for _ in range(count)]
    index = open_dataset(dataset(tmp_path, lines), "train")
    wanted = [[min(v[1::2]), min(v[2::2]), max(v[1::2]), max(v[2::2])] for v in lines]
    assert np.allclose(np.asarray(index.boxes), np.array(wanted) * 64, atol=1e-3)


@pytest.mark.parametrize(
    ("points", "each", "marks", "corners"),
    [(2, 2, (), 4), (5, 2, (), 7), (17, 2, (), 19), (2, 3, (0, 1), 5), (2, 3, (0.4, 0.9), 5)],
)
def test_what_fits_both_is_refused(
    tmp_path: Path, points: int, each: int, marks: Sequence[float], corners: int
) -> None:
    rng = random.Random(1)
    lines = [pose(rng, points, each, marks) for _ in range(3)]
    numbers = 5 + points * each
    with pytest.raises(UsageError) as refused:
        open_dataset(dataset(tmp_path, lines), "train")
    assert str(refused.value) == (
        f"{tmp_path / 'data.yaml'}: 3 lines have {numbers} numbers: that can be polygons of {corners} corners, or "
        f"boxes with {points} key points. Say which in the data set's .yaml: `kpt_shape: [{points}, {each}]` for "
        "key points, `kpt_shape: [0, 0]` for polygons"
    )
    yaml = (tmp_path / "data.yaml").read_text()
    (tmp_path / "data.yaml").write_text(f"{yaml}kpt_shape: [{points}, {each}]\n")
    assert np.allclose(np.asarray(open_dataset(tmp_path, "train").boxes), [[6.4, 19.2, 25.6, 44.8]] * 3, atol=1e-4)
    for nothing in ("[0, 0]", "[]", "null", ""):
        (tmp_path / "data.yaml").write_text(f"{yaml}kpt_shape: {nothing}\n")
        assert np.asarray(open_dataset(tmp_path, "train").boxes)[0, 2] == pytest.approx(
            64 * max(lines[0][1::2]), abs=1e-3
        )


def test_the_other_split_may_tell(tmp_path: Path) -> None:
    rng = random.Random(3)
    many, few = [pose(rng, 2, 3) for _ in range(20)], [pose(rng, 2, 3, (0, 1))]
    with pytest.raises(UnclearLinesError):
        find_poses([written(few)])
    index = open_dataset(dataset(tmp_path, many, val=few), "val")
    assert np.allclose(np.asarray(index.boxes), [[6.4, 19.2, 25.6, 44.8]], atol=1e-4)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_pose_that_is_cut_off_is_a_broken_record(tmp_path: Path, lost: int) -> None:
    rng = random.Random(4)
    lines = [pose(rng, 17, 3) for _ in range(20)]
    dataset(tmp_path, [*lines, lines[0][:-lost]])
    with pytest.raises(BrokenInputError, match=f"line 21: {56 - lost} numbers"):
        open_dataset(tmp_path, "train")


def test_notes_of_two_splits_say_which(tmp_path: Path) -> None:
    pose = [0, *BOX, 0.2, 0.5, 2, 0.3, 0.6, 1]
    dataset(tmp_path, [pose, pose], val=[pose])
    problems = Problems(False)
    for split in ("train", "val"):
        open_dataset(tmp_path, split, problems=problems)
    notes = [note.partition("data.yaml: ")[2] for note in problems.notes if "key points" in note]
    assert [note.partition(" with")[0] for note in notes] == ["train: 2 lines", "val: 1 line"]
