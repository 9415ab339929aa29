"""COCO -> YOLO -> VOC -> COCO on real data: what a detector is told about itself stays the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def trip() -> ModuleType:
    file = ROOT / "benchmarks" / "format_round_trip.py"
    spec = importlib.util.spec_from_file_location("format_round_trip", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def first(shared: Path) -> DataIndex:
    return open_dataset(shared / "data" / "coco_mini", "val")


def without_crowds(index: DataIndex) -> DataIndex:
    kept = ~np.asarray(index.crowd)
    owner = np.repeat(np.arange(len(index)), np.diff(np.asarray(index.box_start)))[kept]
    return DataIndex.build(
        images_dir=index.images_dir,
        annotations=index.annotations,
        image_ids=index.image_ids,
        file_names=[index.file_name(i) for i in range(len(index))],
        widths=index.widths,
        heights=index.heights,
        box_start=np.searchsorted(owner, np.arange(len(index) + 1)),
        boxes=np.asarray(index.boxes)[kept],
        labels=np.asarray(index.labels)[kept],
        names=index.names,
    )


OVERALL = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")


def test_with_the_sidecar_all_numbers_are_equal(trip: ModuleType, first: DataIndex, tmp_path: Path) -> None:
    found = trip.make_detections(first)
    wanted = trip.measure(first, found)
    assert 0.3 < wanted["AP"] < 0.7
    assert len(wanted) == 12
    for index, _ in trip.steps(first, tmp_path, sidecar=True).values():
        assert trip.measure(index, found) == wanted


def test_without_it_crowds_and_areas_are_lost_and_nothing_else(
    trip: ModuleType, first: DataIndex, tmp_path: Path
) -> None:
    found = trip.make_detections(first)
    wanted, without = trip.measure(first, found), trip.measure(without_crowds(first), found)
    assert abs(wanted["AP"] - without["AP"]) > 1e-3, "the detections must feel the crowds"
    steps = trip.steps(first, tmp_path, sidecar=False)
    for title in ("YOLO", "VOC", "COCO again"):
        stats = trip.measure(steps[title][0], found)
        for name in OVERALL:
            assert stats[name] == pytest.approx(without[name], abs=1e-12), (title, name)
    # VOC knows objects that are ignored: crowds stay, only the borders of small, medium and large move.
    stats = trip.measure(trip.direct(first, tmp_path, "voc"), found)
    for name in OVERALL:
        assert stats[name] == pytest.approx(wanted[name], abs=1e-12), name


def test_what_is_lost_is_listed(trip: ModuleType, first: DataIndex, tmp_path: Path) -> None:
    steps = trip.steps(first, tmp_path, sidecar=True)
    crowds = int(np.asarray(first.crowd).sum())
    assert crowds == 7
    both = ["area of 2525 boxes", "1 box reaches beyond", "ids of pictures, boxes, classes"]
    starts = {
        "YOLO": [f"{crowds} crowds", *both, "the last digits"],
        "VOC": [f"{crowds} crowds", *both, "order of the classes", "1 classes without boxes"],
        "COCO again": [],
    }
    for title, expected in starts.items():
        lost = steps[title][1]
        assert len(lost) == len(expected)
        assert all(line.startswith(start) for line, start in zip(lost, expected, strict=True))
