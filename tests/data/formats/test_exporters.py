"""Twenty labelled images give the same boxes and classes, whichever tool wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from helpers.exporters import CLASSES, EXPORTERS, IMAGES, WANTED


def boxes_by_size(index: DataIndex) -> dict[tuple[int, int], list[tuple[str, np.ndarray]]]:
    found = {}
    for i in range(len(index)):
        own = slice(int(index.box_start[i]), int(index.box_start[i + 1]))
        names = [index.names[label] for label in np.asarray(index.labels[own]).tolist()]
        size = (int(index.widths[i]), int(index.heights[i]))
        found[size] = list(zip(names, np.asarray(index.boxes[own], float), strict=True))
    return found


def test_what_is_labelled() -> None:
    assert len(WANTED) == len(IMAGES) == 20, "an image is known by its size"
    assert {label for boxes in WANTED.values() for label, _ in boxes} == set(CLASSES)


@pytest.mark.parametrize("name", EXPORTERS)
def test_the_same_boxes_and_classes_from_every_tool(tmp_path: Path, name: str) -> None:
    export, error = EXPORTERS[name]
    export(tmp_path / "street")
    index = open_dataset(tmp_path / "street", "train", problems=Problems(False))
    assert len(index) == 20
    assert index.skipped == []
    found = boxes_by_size(index)
    assert found.keys() == WANTED.keys()
    for size, wanted in WANTED.items():
        assert [label for label, _ in found[size]] == [label for label, _ in wanted]
        for (_, box), (_, right) in zip(found[size], wanted, strict=True):
            assert np.abs(box - right).max() <= error, (size, box, right)
    assert tuple(name for name in index.names if name in CLASSES) == CLASSES
    assert {*index.names} - {*CLASSES} == ({"street"} if name == "coco_roboflow" else set())
    assert all(index.path(i).is_file() for i in range(20))


def test_the_lists_of_darknet_are_its_splits(tmp_path: Path) -> None:
    EXPORTERS["yolo_darknet"][0](tmp_path)
    lines = (tmp_path / "data" / "train.txt").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "train.txt").write_text("".join(lines[:15]))
    (tmp_path / "data" / "valid.txt").write_text("".join(lines[15:]))
    (tmp_path / "backup").mkdir()
    for split, wanted in (("train", IMAGES[:15]), ("val", IMAGES[15:])):
        index = open_dataset(tmp_path / "data", split)  # type: ignore[arg-type]
        assert boxes_by_size(index).keys() == {(one.width, one.height) for one in wanted}
