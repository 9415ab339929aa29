"""Joined data sets: every image keeps its file, its boxes and the names of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfocal.data.index.concat import join
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import read_indexed
from gfocal.errors import UsageError


def data_set(
    folder: Path, names: tuple[str, ...], labels: list[list[int]], first_id: int = 1, **more: object
) -> DataIndex:
    """Images 0.png, 1.png, ... of the grey of their number; the boxes of image i begin at x = i."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = [(i, label) for i, own in enumerate(labels) for label in own]
    for i in range(len(labels)):
        Image.new("RGB", (30 + len(names), 20), (10 * i,) * 3).save(folder / f"{i}.png")
    return DataIndex.build(
        images_dir=folder,
        annotations=folder / "a.json",
        image_ids=np.arange(first_id, first_id + len(labels)),
        file_names=[f"{i}.png" for i in range(len(labels))],
        widths=np.full(len(labels), 30 + len(names)),
        heights=np.full(len(labels), 20),
        box_start=np.cumsum([0, *map(len, labels)]),
        boxes=np.array([[i, 1.25, i + 5, 7] for i, _ in flat], np.float64).reshape(-1, 4),
        labels=np.array([label for _, label in flat], np.int64),
        names=names,
        **more,  # type: ignore[arg-type]
    )


def described(index: DataIndex) -> list[tuple[str, list[list[float]], list[str]]]:
    found = []
    for i in range(len(index)):
        targets = index.targets(i, include_crowd=True)
        found.append(
            (str(index.path(i).resolve()), targets.boxes.tolist(), [index.names[k] for k in targets.labels.tolist()])
        )
    return found


def test_nothing_but_labels_and_ids_changes(tmp_path: Path) -> None:
    one = data_set(tmp_path / "a", ("cat", "dog"), [[0], [], [1, 0]], category_ids=[7, 3])
    two = data_set(tmp_path / "deep" / "b", ("bird", "dog", "fish"), [[1], [2, 0]], crowd=[False, True, False])
    three = data_set(tmp_path / "c", ("dog",), [[0]], first_id=50)
    joined, lines = join([one, two, three])
    assert joined.names == ("cat", "dog", "bird", "fish")
    assert described(joined) == [*described(one), *described(two), *described(three)]
    assert joined.parts == (3, 2, 1)
    assert joined.image_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert joined.category_ids.tolist() == [7, 3, 1, 2]
    assert np.asarray(joined.annotation_ids).tolist() == list(range(1, 8))
    assert joined.crowd.tolist() == [False, False, False, False, True, False, False]
    assert np.asarray(joined.area).tolist() == [5 * 5.75] * 7
    for i, grey in enumerate((0, 10, 20, 0, 10, 0)):
        assert int(read_indexed(joined, i)[0, 0, 0]) == grey
    assert lines == [
        f"joined {tmp_path}/a/a.json: 3 pictures; classes 2: cat, dog",
        f"joined {tmp_path}/deep/b/a.json: 2 pictures; classes 1 shared, 2 new: bird, fish",
        f"joined {tmp_path}/c/a.json: 1 picture; classes 1 shared",
        "joined: pictures are renumbered from 1, since two data sets share ids",
    ]


def test_ids_that_differ_are_kept(tmp_path: Path) -> None:
    one = data_set(tmp_path / "a", ("x",), [[0]], first_id=10)
    joined, lines = join([one, data_set(tmp_path / "b", ("x",), [[0]], first_id=5)])
    assert joined.image_ids.tolist() == [10, 5]
    assert len(lines) == 2


def test_one_data_set_is_itself(tmp_path: Path) -> None:
    one = data_set(tmp_path / "a", ("x",), [[0]])
    assert join([one]) == (one, [])


def test_names_that_look_alike_are_named(tmp_path: Path) -> None:
    one = data_set(tmp_path / "a", ("traffic light", "cat"), [[0]])
    two = data_set(tmp_path / "b", ("Traffic Light", "trafficlight", "cat"), [[0]])
    joined, lines = join([one, two])
    assert joined.names == ("traffic light", "cat", "Traffic Light", "trafficlight")
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert "'traffic light' and 'Traffic Light' differ only in case or blanks" in warnings[0]


def test_two_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    one = data_set(tmp_path / "a", ("cat", "cat"), [[0, 1]])
    two = data_set(tmp_path / "b", ("cat", "cat", "cat"), [[2, 0]])
    joined, _ = join([one, two])
    assert joined.names == ("cat", "cat", "cat")
    assert np.asarray(joined.labels).tolist() == [0, 1, 2, 0]


def test_the_same_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = data_set(tmp_path / "a", ("x",), [[0]])
    with pytest.raises(UsageError, match=r"a/a\.json is given twice; data\.mix shows"):
        join([one, data_set(Path("a"), ("x",), [[0]])])


def test_ambiguity_and_skipped_records_come_along(tmp_path: Path) -> None:
    one = data_set(tmp_path / "a", ("x",), [[0], []], edge_ambiguity=[[1, 2, 3, 4]], skipped=["one"])
    two = data_set(tmp_path / "b", ("x",), [[0, 0]], skipped=["two"])
    joined, _ = join([two, one])
    assert joined.edge_ambiguity is not None
    assert np.isnan(joined.edge_ambiguity[:2]).all()
    assert joined.edge_ambiguity[2].tolist() == [1, 2, 3, 4]
    assert joined.skipped == ["two", "one"]
    assert join([two, data_set(tmp_path / "c", ("x",), [[]])])[0].edge_ambiguity is None


def test_empty_data_sets_and_images_in_one_folder(tmp_path: Path) -> None:
    one = data_set(tmp_path, ("x",), [[0]])
    empty = data_set(tmp_path / "b", ("y",), [])
    joined, _ = join([empty, one])
    assert (joined.names, joined.parts) == (("y", "x"), (0, 1))
    assert described(joined) == described(one)
