"""The runtime around an exported file: what goes in, what comes out, what is refused; a session of numpy behind it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from gfocal.errors import UsageError
from gfocal.exported.checks import check_outputs
from gfocal.exported.contract import ExportInfo
from gfocal.exported.detector import ExportedDetector
from helpers.calibrated import calibration
from helpers.made_exports import INFO


class Session:
    """Finds two boxes of one dog, the second one of less score, at the right end of each image."""

    def __init__(self, info: ExportInfo) -> None:
        self.info = info
        self.given: list[tuple[np.ndarray, np.ndarray]] = []

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        self.given.append((images, sizes))
        batch, height, width, _ = images.shape
        assert (batch, 2) == sizes.shape
        assert height % 32 == width % 32 == 0
        boxes = np.zeros((batch, 3, 4), np.float32)
        boxes[:, 0] = np.stack([sizes[:, 1] - 10, 0 * sizes[:, 0], sizes[:, 1], sizes[:, 0]], 1)
        boxes[:, 1] = boxes[:, 0] + np.float32([0, 0, -1, 0])
        return {
            "boxes": boxes,
            "scores": np.tile(np.float32([0.9, 0.4, 0]), (batch, 1)),
            "labels": np.tile(np.int64([1, 1, -1]), (batch, 1)),
            "edge_std": np.ones((batch, 3, 4), np.float32),
            "count": np.full(batch, 2),
        }


def detector(**changes: Any) -> ExportedDetector:
    return ExportedDetector(Session(replace(INFO, **changes)))


def image(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 200, np.uint8)


def test_boxes_come_back_in_pixels_of_the_image_by_hand() -> None:
    """80 x 200 fits into 40 x 60 at a scale of 0.3: 24 x 60 pixels, padded to 32 x 64."""
    own = detector()
    found = own.predict(image(80, 200))
    images, sizes = own.session.given[0]  # type: ignore[attr-defined]
    assert images.shape == (1, 32, 64, 3)
    assert sizes.tolist() == [[24, 60]]
    assert images[0, 23, 59].tolist() == [200] * 3
    assert images[0, 24, 0].tolist() == images[0, 0, 60].tolist() == [1, 2, 3]
    np.testing.assert_allclose(found.boxes[0], [50 / 0.3, 0, 200, 80], rtol=1e-6)
    np.testing.assert_allclose(found.edge_std[0], [1 / 0.3] * 4, rtol=1e-6)
    assert (found.labels.tolist(), found.names, len(found)) == ([1, 1], ("cat", "dog"), 2)
    assert (found.image_size, found.calibration) == ((80, 200), None)


def test_a_calibration_comes_with_what_is_found() -> None:
    made = replace(calibration("size"), resize=asdict(detector().resize))
    own = detector(calibration=made.to_dict())
    found = own.predict(image(80, 200))
    assert found.calibration == own.calibration is not None
    low, high = np.moveaxis(found.edge_interval(0.9), -1, 0)
    assert (low.min(), high[0].tolist()[2:]) == (0, [200, 80])
    with pytest.raises(UsageError, match="the exported file was calibrated by a newer gfocal"):
        detector(calibration={"format": 99})
    own.resize = replace(own.resize, short_side=50)
    with pytest.raises(UsageError, match=r"data\.resize has another short_side than"):
        own.predict(image(80, 200)).edge_interval(0.9)


def test_a_threshold_leaves_the_better_ones() -> None:
    assert detector().predict(image(40, 40), score_threshold=0.5).scores.tolist() == [pytest.approx(0.9)]


def test_a_list_gives_a_list() -> None:
    assert [len(one) for one in detector().predict([image(9, 9), image(50, 20)])] == [2, 2]


@pytest.mark.parametrize("nms", ["out", "none"])
def test_suppression_outside_the_file(nms: str) -> None:
    assert len(detector(nms=nms).predict(image(40, 40))) == 1
    limits = replace(INFO.thresholds, nms_iou=0.95)
    assert len(detector(nms=nms, thresholds=limits).predict(image(40, 40))) == 2


def test_a_fixed_batch_is_filled_up_and_bounded() -> None:
    own = detector(batch=2, height=64, width=64)
    assert len(own.find([image(40, 40)] * 3)) == 3
    given = own.session.given  # type: ignore[attr-defined]
    assert [images.shape for images, _ in given] == [(2, 64, 64, 3)] * 2
    assert given[1][0][1].reshape(-1, 3).tolist() == [[1, 2, 3]] * 64 * 64


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, {"score_threshold": 0.01}, "below that of the exported file, 0.05"),
        ({}, {"score_threshold": 1.0}, "score_threshold must be"),
        ({}, {"class_agnostic": True}, "export it again with --nms out"),
        ({}, {"batch_size": 0}, "batch_size must be"),
        ({}, {"overlap": 0.5}, "overlap is that of tiles"),
        ({"height": 32, "width": 32}, {}, "is 64x64 pixels when it enters the network, and the exported file takes"),
    ],
)
def test_what_the_file_has_fixed_is_refused(changes: dict[str, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        detector(**changes).predict(image(60, 60), **options)


@pytest.mark.parametrize("nms", ["out", "none"])
def test_classes_may_suppress_each_other_outside_the_file(nms: str) -> None:
    assert len(detector(nms=nms).predict(image(40, 40), class_agnostic=True)) == 1


def test_tiles_find_what_lies_in_them() -> None:
    found = detector().predict(image(64, 100), tile=64, overlap=0.2)
    assert isinstance(found.boxes, np.ndarray)
    assert found.boxes[:, 2].max() == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("levels", np.zeros((1, 2), np.int64), r"levels of shape \(1, 2\)"),
        ("levels", np.zeros((1, 3, 1), np.int64), r"levels of shape \(1, 3, 1\)"),
        ("levels", np.zeros((1, 3), np.float32), "levels of shape .* and type float32"),
        ("levels", np.int64([[0, -1, 0]]), "levels below 0"),
        ("labels", np.int64([[0, 2, -1]]), "labels of a class it lacks"),
        ("scores", np.float32([[0.9, np.nan, 0]]), "scores that are infinite"),
    ],
)
def test_what_no_detections_can_be_made_of_is_refused(name: str, values: np.ndarray, said: str) -> None:
    right = detector().session.run(np.zeros((1, 32, 32, 3), np.uint8), np.int64([[32, 32]]))
    right["levels"] = np.int64([[0, 4, -1]])  # behind the count anything may stand
    check_outputs(right, INFO, 1, "model.onnx")
    with pytest.raises(UsageError, match=f"model.onnx gives {said}"):
        check_outputs({**right, name: values}, INFO, 1, "model.onnx")


def test_the_text_of_a_file_comes_back() -> None:
    assert ExportInfo.from_texts({"gfocal": INFO.to_text()}, "a") == INFO


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({}, "another program wrote it"),
        ({"gfocal": "{"}, "cannot be read"),
        ({"gfocal": '{"format": 1}'}, "names is missing"),
        ({"gfocal": '{"format": 99, "versions": {}}'}, "newer gfocal"),
        ({"gfocal": "[" * 100_000}, "cannot be read"),
    ],
)
def test_other_texts_are_refused(texts: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ExportInfo.from_texts(texts, "model.onnx")


@pytest.mark.parametrize(("batch_size", "runs"), [(8, [3, 2]), (2, [1, 1, 1, 1, 1]), (1, [1] * 5)])
def test_images_of_one_size_share_a_run(batch_size: int, runs: list[int]) -> None:
    """Others do not: with more padding a network finds something else."""
    own = detector()
    shapes = [(80, 200), (40, 40), (80, 200), (40, 41), (160, 400)]  # enter as 24 x 60, 40 x 40, 40 x 41
    own_shapes = [(80, 200), (40, 40), (80, 200), (40, 40), (160, 400)]
    found = own.predict([image(*shape) for shape in own_shapes], batch_size=batch_size)
    assert sorted(len(images) for images, _ in own.session.given) == sorted(runs)  # type: ignore[attr-defined]
    alone = [detector().predict(image(*shape)) for shape in own_shapes]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        assert one.image_size == other.image_size
    own = detector()
    own.predict([image(*shape) for shape in shapes])
    for images, sizes in own.session.given:  # type: ignore[attr-defined]
        assert len({tuple(size) for size in sizes.tolist()}) == 1
        assert len(images) == len(sizes)


def test_in_a_file_of_one_size_all_share_runs() -> None:
    own = detector(batch=2, height=64, width=64)
    found = own.predict([image(80, 200), image(40, 40), image(40, 41)])
    assert [one.image_size for one in found] == [(80, 200), (40, 40), (40, 41)]
    assert [sizes.tolist() for _, sizes in own.session.given] == [  # type: ignore[attr-defined]
        [[24, 60], [40, 40]],
        [[40, 41], [32, 32]],
    ]


def test_a_fixed_batch_is_filled() -> None:
    own = detector(batch=4, height=64, width=64)
    assert len(own.predict([image(40, 40)] * 6)) == 6
    assert [sizes.tolist() for _, sizes in own.session.given] == [  # type: ignore[attr-defined]
        [[40, 40]] * 4,
        [[40, 40]] * 2 + [[32, 32]] * 2,
    ]
