"""The JavaScript around an exported file does what Python does, to the last bit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.calibration import Calibration
from gfocal.detections import Detections
from gfocal.export.web.page import MODULE
from gfocal.exported.contract import ExportInfo, ResizeRule
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.suppression import suppress_arrays
from gfocal.images.resizing import Resize, resize_to
from gfocal.utils.records import to_json
from helpers.calibrated import calibration, edge_samples
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


# ---- calibrations -------------------------------------------------------------------------------------------------


def stored(kind: Any, **changes: Any) -> tuple[Calibration, dict[str, Any]]:
    """A calibration with a class of its own, and what a file's metadata have of it."""
    own = calibration(kind, **changes)
    groups = own.edges.groups
    if len(groups) == 1:
        wider = tuple(tuple(2 * value for value in row) for row in groups[0].edges)
        groups = (replace(groups[0], name="dog", edges=wider), *groups)
    own = replace(own, edges=replace(own.edges, groups=groups))
    return own, {"names": ["cat", "dog"], "calibration": json.loads(json.dumps(own.to_dict(), allow_nan=False))}


def some(own: Calibration, count: int = 40) -> Detections:
    features = edge_samples(count, seed=9).features
    boxes, std = np.float32(features.boxes), np.float32(features.edge_std)
    boxes[0, 2], std[1], boxes[2] = boxes[0, 0], 0, [0, 0, 800, 900]  # no width; sure edges; all of the image
    probs = np.float32(np.random.default_rng(0).dirichlet(np.ones(32), (count, 4)))
    probs[3], probs[4] = np.eye(32)[:4], 0  # all in one bin
    probs[4, :, 0], probs[4, :, 31] = 0.95, 0.05  # quantiles near each other, and a large deviation
    scores = np.float32(np.linspace(0, 1, count))
    labels, levels = np.arange(count) % 2, np.arange(count) % 3
    return Detections(boxes, scores, labels, ("cat", "dog"), std, probs, levels, (900, 800), own)  # type: ignore[arg-type]


def as_given(found: Detections) -> list[dict[str, Any]]:
    own = found.numpy()
    columns = (own.labels, own.scores, own.boxes, own.edge_std, own.levels, own.edge_probs)
    names = ("label", "score", "box", "std", "level", "probs")
    return [
        {name: values[i].tolist() for name, values in zip(names, columns, strict=True)}  # type: ignore[index]
        for i in range(len(own))
    ]


@pytest.mark.parametrize("kind", ["constant", "size", "edge_std", "quantiles", "model"])
def test_intervals_are_those_of_python(kind: Any, tmp_path: Path) -> None:
    own, info = stored(kind)
    assert own.edges.scale.kind == kind
    found = some(own)
    levels = [0.001, 0.05, 0.29, 0.9, 0.905, 0.95, 0.999]
    script = """const image = { width: 800, height: 900 }, all = [];
    for (const level of given.levels) for (const wholeBox of [false, true])
      all.push(given.found.map((one) => gfocal.edgeIntervals(given.info, one, image, { level, wholeBox })));
    const usual = given.found.map((one) => gfocal.edgeIntervals(given.info, one, image));
    console.log(JSON.stringify({ all, usual }));"""
    theirs = run_module(IMPORT + script, tmp_path, {"info": info, "found": as_given(found), "levels": levels})
    ours = [found.edge_interval(level, whole_box=whole) for level in levels for whole in (False, True)]
    np.testing.assert_allclose(theirs["all"], ours, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(theirs["usual"], found.edge_interval(), rtol=1e-9, atol=1e-9)
    assert not np.allclose(ours[0], ours[1])


@pytest.mark.parametrize("kind", ["isotonic", "platt"])
def test_chances_are_those_of_python(kind: Any, tmp_path: Path) -> None:
    own, _ = stored("constant")
    own = replace(own, scores=replace(own.scores, kind=kind, slope=1.3, offset=-0.4))
    scores = np.float32([0, 1e-9, 0.05, *own.scores.x[:5], 0.3, 0.77, own.scores.x[-1], 1])
    script = "console.log(JSON.stringify(given.scores.map((one) => gfocal.chance(given.info, one))));"
    given = {"info": {"calibration": own.to_dict()}, "scores": scores.tolist()}
    theirs = run_module(IMPORT + script, tmp_path, given)
    np.testing.assert_allclose(theirs, own.scores.of(scores), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", [None, 640])
def test_a_calibrated_file_gives_intervals_where_they_hold(tile: int | None, tmp_path: Path) -> None:
    resize = {key: value for key, value in asdict(INFO.resize).items() if key != "method"}
    _, content = stored("model", resize=resize, tile=tile)
    info = replace(INFO, nms="out", calibration=content["calibration"], outputs=(*INFO.outputs, "levels"))
    image, made = noise(75, 100, 3), {**outputs(30, True), "levels": np.arange(30)[None] % 3}
    (ours,) = ExportedDetector(Given(info, made)).find([image])
    given: dict[str, Any] = {
        "info": to_json(info),
        "outputs": {name: values.ravel().tolist() for name, values in made.items()},
        "image": {"data": image.ravel().tolist(), "channels": 3, "height": 75, "width": 100},
    }
    wrap = "for (const [name, data] of Object.entries(given.outputs)) given.outputs[name] = "
    wrap += '["labels", "count", "levels"].includes(name) ? BigInt64Array.from(data.map(BigInt))'
    wrap += " : Float32Array.from(data);\n"
    found = run_module(IMPORT + wrap + RUN, tmp_path, given)["found"]
    assert len(found) == len(ours) > 5
    if tile is not None:
        assert not any("interval" in one or "chance" in one for one in found)
        return
    np.testing.assert_allclose([one["interval"] for one in found], ours.edge_interval(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose([one["chance"] for one in found], ours.score_calibrated, rtol=1e-6)


def test_what_does_not_hold_is_said(tmp_path: Path) -> None:
    infos = [{"calibration": own} for own in (None, {"tile": None}, {"tile": 640})]
    script = "console.log(JSON.stringify(given.map((info) => gfocal.calibrationMisfit(info))));"
    assert run_module(IMPORT + script, tmp_path, infos) == [
        "the detector is not calibrated",
        "",
        "it was calibrated on tiles of 640 pixels, and this looks at whole pictures",
    ]


def test_an_image_that_does_not_fit_is_said(tmp_path: Path) -> None:
    script = (
        "try { gfocal.inputs(given, { height: 90, width: 30 }) } catch (e) { console.log(JSON.stringify(e.message)) }"
    )
    said = run_module(IMPORT + script, tmp_path, to_json(replace(INFO, height=32, width=64)))
    assert said == "the image becomes 20x60 pixels, and the file takes 64x32"
