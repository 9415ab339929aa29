"""Matches come back from their file as they were; anything else is refused in one line."""

from __future__ import annotations

import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.errors import BrokenInputError
from gfocal.evaluation import CocoEvaluator, Matches, load_matches, match_detections, save_matches
from helpers.made_detections import data_set


def assert_same(one: Matches, other: Matches) -> None:
    assert one.found is not None
    assert other.found is not None
    for a, b in ((one, other), (one.found, other.found)):
        for name in {field.name for field in fields(a)} - {"found"}:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


@pytest.fixture
def matches() -> Matches:
    index, found = data_set(5)
    return match_detections(index, *found)


def test_what_is_saved_comes_back(matches: Matches, tmp_path: Path) -> None:
    assert matches.right.any()
    assert matches.ignored.any()
    path = tmp_path / "of" / "a" / "run.npz"
    save_matches(path, matches)
    again = load_matches(path)
    assert_same(again, matches)
    assert (again.right.dtype, again.images.dtype, again.scores.dtype) == (bool, np.int64, np.float64)
    assert [file.name for file in path.parent.iterdir()] == ["run.npz"]
    single = replace(matches, scores=matches.scores.astype(np.float32).astype(np.float64))
    save_matches(path, single)
    assert_same(load_matches(path), single)
    with np.load(path) as file:
        assert file["scores"].dtype == np.float32


def test_a_file_of_an_earlier_version_has_no_objects(matches: Matches, tmp_path: Path) -> None:
    save_matches(tmp_path / "old.npz", replace(matches, found=None))
    again = load_matches(tmp_path / "old.npz")
    assert again.found is None
    np.testing.assert_array_equal(again.right, matches.right)


def test_nothing_found_comes_back(tmp_path: Path) -> None:
    index, _ = data_set(2)
    nothing = match_detections(index, np.zeros(0, int), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    save_matches(tmp_path / "a.npz", nothing)
    assert_same(load_matches(tmp_path / "a.npz"), nothing)
    empty = nothing.only(np.zeros(12, bool))
    save_matches(tmp_path / "b.npz", empty)
    assert load_matches(tmp_path / "b.npz").objects.shape == (0, 3)


def test_it_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 50_000
    ious = np.where(rng.random(count) < 0.3, 0, rng.random(count))
    scores = -np.sort(-rng.random(count).astype(np.float32)).astype(np.float64)
    right = (ious > np.linspace(0.5, 0.95, 10)[:, None]) & (rng.random(count) < 0.2)
    images = rng.integers(0, 1000, count)
    objects = rng.integers(0, 3, (1000, 5))
    made = Matches(images, images % 5, right, np.zeros_like(right), objects, scores, ious)
    save_matches(tmp_path / "a.npz", made)
    assert (tmp_path / "a.npz").stat().st_size < 600_000


def rewritten(path: Path, **changes: Any) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays.update(changes)
    with path.open("wb") as out:
        np.savez(out, **{name: values for name, values in arrays.items() if values is not None})


def damaged_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"a run", damaged_middle])
def test_a_damaged_file(matches: Matches, tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "run.npz"
    save_matches(path, matches)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BrokenInputError, match=r"run\.npz does not hold the matches .* evaluate the run again"):
        load_matches(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ious": None},
        {"ious": np.zeros(3)},
        {"objects": np.zeros(12, np.uint8)},
        {"objects": np.zeros((3, 3), np.uint8)},
        {"objects": np.zeros((12, 1), np.uint8)},
        {"right": np.zeros((9, 1), np.uint8)},
        {"pictures": np.array("a")},
        {"object_ious": np.zeros(3)},
        {"object_scores": None},
        {"object_pictures": np.full(3, 99, np.uint8), "object_scores": np.zeros(3), "object_ious": np.zeros(3)},
        {"scores": np.array([{}], dtype=object)},
    ],
)
def test_arrays_of_something_else(matches: Matches, tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "run.npz"
    save_matches(path, matches)
    rewritten(path, **changes)
    with pytest.raises(BrokenInputError, match="does not hold the matches"):
        load_matches(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(BrokenInputError, match="does not exist"):
        load_matches(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("pictures", "1, 2, 3")
    for path in (tmp_path / "array.npy", tmp_path / "text.npz", tmp_path):
        with pytest.raises(BrokenInputError):
            load_matches(path)


def test_the_evaluator_hands_out_its_matches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from gfocal.evaluation import coco
    from gfocal.structures import Detections

    index, (rows, boxes, scores, labels) = data_set(6)
    calls = []

    def counted(*args: Any, **more: Any) -> Matches:
        calls.append(len(args[1]))
        return match_detections(*args, **more)

    monkeypatch.setattr(coco, "match_detections", counted)
    evaluator = CocoEvaluator(index)
    ids = index.image_ids.tolist()
    for row, image_id in enumerate(ids[:-2]):
        own = rows == row
        given = [torch.from_numpy(values[own]) for values in (boxes, scores, labels)]
        evaluator.update([image_id], [Detections(*given, names=index.names)])
    evaluator.compute(resamples=3)
    mine = rows < 10
    found = [values[mine] for values in (rows, boxes, scores, labels)]
    assert_same(evaluator.matches(), match_detections(index, *found))
    assert calls == [mine.sum()], "the intervals and the matches share the work"
    # What comes later is seen.
    evaluator.leave_out(ids[-1:])
    assert_same(evaluator.matches(), match_detections(index, *found).only(np.arange(12) < 11))
    empty = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), names=index.names)
    evaluator.update(
        ids[-2:-1],
        [
            replace(
                empty,
                boxes=torch.tensor([[0.0, 0, 9, 9]]),
                scores=torch.ones(1),
                labels=torch.zeros(1, dtype=torch.long),
            )
        ],
    )
    assert len(evaluator.matches().scores) == mine.sum() + 1
    assert evaluator.compute().num_detections == mine.sum() + 1
