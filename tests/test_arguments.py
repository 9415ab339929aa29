"""Numbers, paths and lists of the wrong type in public Python calls: one clear error, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gfocal
from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError, require_number
from helpers.small_runs import SMALL

IMAGE = np.zeros((32, 32, 3), np.uint8)
NUMBERS = ["0.3", [0.3], True, float("nan"), 1j, -3, b"1", {}, object()]
OTHERS = [3, 0.5, True, 1j, [0.3], object()]


@pytest.fixture(scope="module")
def detector(val_index: DataIndex) -> DenseDetector:
    return gfocal.load("gfl_nano", [*SMALL], names=val_index.names)


Call = Callable[[DenseDetector, DataIndex, Path, Any], object]
BOX, SCORE, LABEL = torch.tensor([[0.0, 0.0, 5.0, 5.0]]), torch.tensor([0.5]), torch.tensor([0])

CALLS: dict[str, Call] = {
    "score_threshold": lambda d, i, p, v: d.predict(IMAGE, score_threshold=v),
    "tile": lambda d, i, p, v: d.predict(IMAGE, tile=v),
    "overlap": lambda d, i, p, v: d.predict(IMAGE, tile=64, overlap=v),
    "batch_size": lambda d, i, p, v: d.predict(IMAGE, batch_size=v),
    "score_threshold of predict": lambda d, i, p, v: gfocal.predict(d, [i.path(0)], p / "o", score_threshold=v),
    "batch_size of predict": lambda d, i, p, v: gfocal.predict(d, [i.path(0)], p / "o", batch_size=v),
    "category_ids of predict": lambda d, i, p, v: gfocal.predict(d, [i.path(0)], p / "o", category_ids=v),
    "precision of predict": lambda d, i, p, v: gfocal.predict(d, [i.path(0)], p / "o", precision=v),
    "iou": lambda d, i, p, v: gfocal.suppress(BOX, SCORE, LABEL, iou=v),
    "limit": lambda d, i, p, v: gfocal.suppress(BOX, SCORE, LABEL, limit=v),
    "boxes": lambda d, i, p, v: gfocal.suppress(v, SCORE, LABEL),
    "batch_size of evaluate": lambda d, i, p, v: gfocal.evaluate(d, i, batch_size=v),
    "workers": lambda d, i, p, v: gfocal.evaluate(d, i, workers=v),
    "resamples": lambda d, i, p, v: gfocal.evaluate(d, i, resamples=v),
    "precision of evaluate": lambda d, i, p, v: gfocal.evaluate(d, i, precision=v),
    "images": lambda d, i, p, v: gfocal.data_statistics(i, gfocal.load_recipe("gfl_nano"), images=v),
    "seed": lambda d, i, p, v: gfocal.data_statistics(i, gfocal.load_recipe("gfl_nano"), seed=v),
    "train": lambda d, i, p, v: gfocal.make_scenes(p / "o", train=v, val=1),
    "size": lambda d, i, p, v: gfocal.make_scenes(p / "o", train=1, val=1, size=v),
}
TEXTS: dict[str, Call] = {
    "out": lambda d, i, p, v: gfocal.predict(d, [i.path(0)], v),
    "a picture": lambda d, i, p, v: gfocal.predict(d, [v], p / "o"),
    "pictures": lambda d, i, p, v: gfocal.predict(d, v, p / "o"),
    "source": lambda d, i, p, v: d.predict([v]),
    "patterns": lambda d, i, p, v: gfocal.find_images(v),
    "a pattern": lambda d, i, p, v: gfocal.find_images([v]),
    "detections": lambda d, i, p, v: gfocal.draw(IMAGE, v),
    "model": lambda d, i, p, v: gfocal.load(v),
    "names": lambda d, i, p, v: gfocal.load("gfl_nano", names=v),
    "overrides": lambda d, i, p, v: gfocal.load("gfl_nano", v),
    "recipe": lambda d, i, p, v: gfocal.load_recipe(v),
    "recipe's overrides": lambda d, i, p, v: gfocal.load_recipe("gfl_nano", v),
    "content": lambda d, i, p, v: gfocal.build_recipe(v),
    "data": lambda d, i, p, v: gfocal.open_dataset(v, "train"),
    "splits": lambda d, i, p, v: gfocal.open_splits(v),
    "checkpoint": lambda d, i, p, v: gfocal.import_weights(v, p / "o"),
    "names of build": lambda d, i, p, v: gfocal.build_detector(gfocal.load_recipe("gfl_nano"), v, pretrained=False),
}


@pytest.mark.parametrize("name", CALLS)
def test_numbers(name: str, detector: DenseDetector, val_index: DataIndex, tmp_path: Path) -> None:
    for value in NUMBERS:
        with pytest.raises(UsageError) as caught:
            CALLS[name](detector, val_index, tmp_path, value)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TEXTS)
def test_paths_and_texts(name: str, detector: DenseDetector, val_index: DataIndex, tmp_path: Path) -> None:
    for value in [v for v in OTHERS if not (name == "pictures" and isinstance(v, list))]:
        if name == "names of build" and value == [0.3]:
            continue
        with pytest.raises(UsageError):
            TEXTS[name](detector, val_index, tmp_path, value)
        assert list(tmp_path.iterdir()) == []


def test_the_message_names_argument_range_and_value(detector: DenseDetector) -> None:
    with pytest.raises(UsageError, match=r"^score_threshold must be a number, at least 0 and below 1, got str '0\.3'$"):
        detector.predict(IMAGE, score_threshold="0.3")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"^score_threshold must be at least 0 and below 1, got 1\.5$"):
        detector.predict(IMAGE, score_threshold=1.5)
    with pytest.raises(UsageError, match=r"^iou must be between 0 and 1, got -1$"):
        gfocal.suppress(BOX, SCORE, LABEL, iou=-1)
    with pytest.raises(UsageError, match=r"^batch_size must be a whole number, at least 1, got 1\.5$"):
        detector.predict(IMAGE, batch_size=1.5)  # type: ignore[call-overload]


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), np.array(1), torch.tensor(1.0)])
def test_numbers_of_all_libraries_pass(value: object) -> None:
    require_number("x", value, least=0, most=1)


def test_a_generator_of_pictures_is_a_list_of_them(
    detector: DenseDetector, val_index: DataIndex, tmp_path: Path
) -> None:
    done = gfocal.predict(detector, (val_index.path(i) for i in range(2)), tmp_path / "o")  # type: ignore[arg-type]
    assert len(done.drawings) == 2
