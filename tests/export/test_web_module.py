"""The JavaScript around an exported file does what Python does, to the last bit."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.export.web.page import MODULE
from gfocal.exported.contract import ExportInfo, ResizeRule
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.suppression import suppress_arrays
from gfocal.images.resizing import Resize, resize_to
from gfocal.utils.records import to_json
from helpers.javascript import run_module
from helpers.made_exports import INFO
from helpers.paths import PACKAGE

JAVASCRIPT = PACKAGE / "export" / "web" / "templates" / MODULE
IMPORT = f'import * as gfocal from "{JAVASCRIPT.as_uri()}";\n'
SIZES = [
    (1, 1, 3, 2),
    (7, 5, 7, 5),
    (48, 64, 32, 32),
    (33, 40, 64, 96),
    (40, 33, 1, 1),
    (97, 131, 32, 50),
    (6, 90, 64, 7),
]


def noise(*shape: int) -> np.ndarray:
    values = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
    values[: shape[0] // 2] = np.where(values[: shape[0] // 2] > 127, 255, 0)  # sums at both ends of a byte
    return values


@pytest.mark.parametrize("channels", [3, 4])
def test_images_are_resized_as_arrays_are(channels: int, tmp_path: Path) -> None:
    images = [noise(height, width, channels) for height, width, *_ in SIZES]
    given = [
        {"data": image.ravel().tolist(), "channels": channels, "height": h, "width": w, "size": [nh, nw]}
        for image, (h, w, nh, nw) in zip(images, SIZES, strict=True)
    ]
    script = "console.log(JSON.stringify(given.map((one) => Array.from(gfocal.resize(one, one.size)))));"
    theirs = run_module(IMPORT + script, tmp_path, given)
    for image, (_, _, height, width), found in zip(images, SIZES, theirs, strict=True):
        ours = resize_to(np.ascontiguousarray(image[..., :3]), (height, width))
        assert found == ours.ravel().tolist()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "letterbox"}, 'wants images resized by "letterbox", and this module knows square and short_long'),
        ({"method": "nearest"}, 'wants images resized "nearest", and this module does it "bilinear with antialiasing'),
    ],
)
def test_another_resize_is_refused(changes: dict[str, str], said: str, tmp_path: Path) -> None:
    info = to_json(INFO)
    info["resize"].update(changes)
    script = """
const image = { data: new Uint8Array(12), channels: 3, height: 2, width: 2 };
let said = "nothing";
try { gfocal.inputs(given, image); } catch (error) { said = error.message; }
console.log(JSON.stringify(said));
"""
    assert said in run_module(IMPORT + script, tmp_path, info)


def test_sizes_are_those_of_the_rule(tmp_path: Path) -> None:
    rules = [Resize("square", size=320), Resize("short_long", short_side=800, long_side=1333)]
    sizes = [(480, 640), (640, 480), (1, 5000), (5000, 1), (333, 999), (801, 1201), (427, 641)]
    given = [[asdict(rule), *size] for rule in rules for size in sizes]
    script = "console.log(JSON.stringify(given.map((one) => gfocal.targetSize(...one))));"
    assert run_module(IMPORT + script, tmp_path, given) == [
        list(rule.target_size(*size)) for rule in rules for size in sizes
    ]


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_what_is_suppressed(class_agnostic: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    cases = []
    for count, iou, limit in ((0, 0.5, 10), (1, 0.5, 10), (80, 0.0, 100), (80, 0.5, 7), (80, 0.6, 100), (80, 1.0, 100)):
        corner = random.random((count, 2)) * 40
        boxes = np.concatenate([corner, corner + random.random((count, 2)) * 30], 1).astype(np.float32)
        boxes[count // 2 :] = boxes[: count - count // 2]  # equal ones
        cases.append((boxes, random.integers(0, 3, count), {"iou": iou, "limit": limit}))
    given = [
        [boxes.ravel().tolist(), labels.tolist(), len(boxes), {**limits, "classAgnostic": class_agnostic}]
        for boxes, labels, limits in cases
    ]
    script = "console.log(JSON.stringify(given.map((one) => gfocal.suppress(...one))));"
    theirs = run_module(IMPORT + script, tmp_path, given)
    for (boxes, labels, limits), kept in zip(cases, theirs, strict=True):
        ours = suppress_arrays(boxes, labels, class_agnostic=class_agnostic, **limits)
        assert kept == ours.tolist()


class Given:
    """A session that gives what it is told to."""

    def __init__(self, info: ExportInfo, outputs: dict[str, np.ndarray]) -> None:
        self.info, self.outputs = info, outputs

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        self.images, self.sizes = images, sizes
        return {name: np.repeat(values, len(images), 0) for name, values in self.outputs.items()}


def outputs(count: int, edges: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    corner = random.random((1, 30, 2)) * 40
    made = {
        "boxes": np.concatenate([corner, corner + random.random((1, 30, 2)) * 30], 2).astype(np.float32),
        "scores": np.sort(random.random((1, 30)).astype(np.float32))[:, ::-1].copy(),
        "labels": random.integers(0, 2, (1, 30)),
        "edge_std": random.random((1, 30, 4)).astype(np.float32) * 9,
        "count": np.array([count]),
    }
    return made if edges else {name: values for name, values in made.items() if name != "edge_std"}


RUN = """
const asked = [];
class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
const session = { run: async (feeds) => {
  for (const { type, dims, data } of Object.values(feeds)) asked.push({ type, dims, data: Array.from(data, Number) });
  return Object.fromEntries(Object.entries(given.outputs).map(([name, data]) => [name, { data }]));
} };
const found = await gfocal.detect({ Tensor }, session, given.info, given.image);
console.log(JSON.stringify({ asked, found }));
"""


@pytest.mark.parametrize(
    ("info", "count", "edges"),
    [
        (replace(INFO, nms="out"), 30, True),
        (replace(INFO, nms="out", batch=2, height=96, width=64), 20, True),
        (replace(INFO, nms="none"), 30, True),
        (replace(INFO, nms="in"), 11, False),
        (replace(INFO, nms="out", resize=ResizeRule("square", 50, 40, 60, (9, 8, 7))), 0, True),
    ],
)
def test_from_an_image_to_its_detections(info: ExportInfo, count: int, edges: bool, tmp_path: Path) -> None:
    image, made = noise(75, 100, 3), outputs(count, edges)
    session = Given(info, made)
    (ours,) = ExportedDetector(session).find([image])
    given: dict[str, Any] = {
        "info": to_json(info),
        "outputs": {name: values.ravel().tolist() for name, values in made.items()},
        "image": {"data": image.ravel().tolist(), "channels": 3, "height": 75, "width": 100},
    }
    # As a runtime gives them: floats of 32 bits, and whole numbers of 64.
    wrap = "for (const [name, data] of Object.entries(given.outputs)) given.outputs[name] = "
    wrap += '["labels", "count"].includes(name) ? BigInt64Array.from(data.map(BigInt)) : Float32Array.from(data);\n'
    theirs = run_module(IMPORT + wrap + RUN, tmp_path, given)
    images, sizes = theirs["asked"]
    assert (images["type"], images["dims"]) == ("uint8", list(session.images.shape))
    assert images["data"] == session.images.ravel().tolist()
    assert (sizes["type"], sizes["dims"]) == ("int64", list(session.sizes.shape))
    assert sizes["data"] == session.sizes.ravel().tolist()
    found = theirs["found"]
    assert [one["label"] for one in found] == ours.labels.tolist()
    assert np.float32([one["score"] for one in found]).tolist() == ours.scores.tolist()
    assert [one["box"] for one in found] == ours.boxes.tolist()
    assert [one["std"] for one in found] == (ours.edge_std.tolist() if edges else [None] * len(found))


def test_an_image_that_does_not_fit_is_said(tmp_path: Path) -> None:
    script = (
        "try { gfocal.inputs(given, { height: 90, width: 30 }) } catch (e) { console.log(JSON.stringify(e.message)) }"
    )
    said = run_module(IMPORT + script, tmp_path, to_json(replace(INFO, height=32, width=64)))
    assert said == "the image becomes 20x60 pixels, and the file takes 64x32"
