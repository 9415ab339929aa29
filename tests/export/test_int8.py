"""INT8: which layers, on which images, and what a proof lets pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import openvino
import pytest

import gfocal
from gfocal.commands import export as command
from gfocal.commands.export import ExportReport, LookedAt, export_files
from gfocal.errors import UsageError
from gfocal.export.int8 import Int8, _before, _Operation, quantized_onnx
from gfocal.exported.detector import ExportedDetector
from helpers.exporting import checkpoint

# Untrained networks are more sensitive than trained ones: these proofs do not hold, and need not.
OPTIONS = {"precision": "int8", "samples": 2, "calibration": 4, "allow_drift": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def report(request: pytest.FixtureRequest, model: Path, scenes: Path) -> ExportReport:
    return export_files(str(model), format=request.param, data=scenes, **OPTIONS)  # type: ignore[arg-type]


def test_what_a_file_says_of_its_calibration(report: ExportReport, model: Path) -> None:
    info = gfocal.load(report.path).info  # type: ignore[union-attr]
    how = info.quantization
    assert how is not None
    assert info.precision == "int8"
    assert (how.images, how.float_layers) == (4, 1 if report.path.suffix == ".onnx" else how.float_layers)
    assert how.layers > 10
    assert "4 images of train of" in how.data
    content = json.loads(report.parity.read_text())
    assert content["info"]["quantization"]["images"] == 4
    assert "2 images of val of" in content["data"]
    assert content["bar"]["score"] is None
    assert content["bytes"] < 0.7 * model.stat().st_size


def test_it_finds_about_the_same(report: ExportReport, model: Path, scenes: Path) -> None:
    ours, theirs = gfocal.load(model), gfocal.load(report.path)
    assert isinstance(theirs, ExportedDetector)
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    one, other = ours.predict(image).numpy(), theirs.predict(image)
    assert min(len(one), len(other)) > 0.7 * max(len(one), len(other)) > 0
    assert abs(one.scores[0] - other.scores[0]) < 0.1


def test_the_outputs_of_the_head_stay_in_float(report: ExportReport) -> None:
    """Of every output layer weights and inputs; and from there on there is no tensor of 8 bits."""
    if report.path.suffix == ".onnx":
        graph = onnx.load(report.path).graph
        made = {name: node for node in graph.node for name in node.output}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        last = [node for node in convolutions if made.get(node.input[1]) is None]
        assert {node.input[1].rsplit(".", 2)[0] for node in last} == {"detector.head"}
        behind = set[str]()
        for node in graph.node:
            if node in last or behind & set(node.input):
                behind.update(node.output)
                assert node.op_type not in ("QuantizeLinear", "DequantizeLinear")
        assert len(behind) > 100
        assert len(convolutions) > len(last) > 0
        return
    model = openvino.Core().read_model(report.path)
    operations = model.get_ordered_ops()
    weights = {op.get_friendly_name(): op for op in operations if op.get_friendly_name().startswith("detector.head")}
    assert any(".out." in name or "_out" in name for name in weights)
    behind = set[str]()
    for op in operations:
        sources = {value.get_source_output().get_node().get_friendly_name() for value in op.inputs()}
        own = "Convolution" in op.get_type_name() and any(".out." in name or "_out" in name for name in sources)
        if own or behind & sources:
            behind.add(op.get_friendly_name())
            assert op.get_type_name() != "FakeQuantize"
    assert len(behind) > 100
    assert any(op.get_type_name() == "FakeQuantize" for op in operations)


# --- which operations


def test_what_leads_to_the_outputs_and_uses_none_of_them() -> None:
    """stem -> tower -> out -> softmax -> quality; points stand beside, and the quality is an output too."""
    operations = [
        _Operation("stem", ("images", "w0"), ("a",)),
        _Operation("tower", ("a", "w1"), ("b",)),
        _Operation("points", ("sizes",), ("p",)),
        _Operation("out", ("b", "w2"), ("c",)),
        _Operation("softmax", ("c",), ("d",)),
        _Operation("mixed", ("b", "d"), ("e",)),
        _Operation("quality", ("e", "w3"), ("f",)),
        _Operation("decode", ("f", "p"), ("g",)),
    ]
    assert _before(operations, {"out", "quality"}) == {"stem", "tower"}
    with pytest.raises(RuntimeError, match="not found"):
        _before(operations, set())


def test_a_detector_of_one_convolution_has_nothing_to_quantise() -> None:
    node = onnx.helper.make_node("Conv", ["images", "w"], ["o"], name="out")
    graph = SimpleNamespace(graph=SimpleNamespace(node=[node]))
    with pytest.raises(UsageError, match="INT8 would change nothing"):
        quantized_onnx(graph, Int8((), "", lambda path: {}, frozenset({"w"})))


# --- which images


def test_no_image_is_both_fitted_to_and_proved_on(
    model: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the data are: with splits, the train split asked for, a folder without labels, one image twice."""
    seen: list[tuple[set[Path], set[Path]]] = []
    fitted: set[Path] = set()

    def write(*given: object) -> None:
        fitted.clear()
        fitted.update(path.resolve() for path in given[-1].images)  # type: ignore[attr-defined]
        raise RuntimeError("enough")

    monkeypatch.setattr(command, "write_detector", write)
    original = command._apart

    def apart(*given: object) -> object:
        looked_at, chosen = original(*given)  # type: ignore[arg-type]
        seen.append(({path.resolve() for path in looked_at.images}, {path.resolve() for path in chosen.images}))
        return looked_at, chosen

    monkeypatch.setattr(command, "_apart", apart)
    cases: list[Mapping[str, object]] = [
        {"data": scenes},
        {"data": scenes, "split": "train"},
        {"data": scenes, "split": "train", "samples": 1},
        {"data": scenes / "images"},
        {"data": scenes / "images", "samples": 1000},
    ]
    for case in cases:
        with pytest.raises(RuntimeError, match="enough"):
            export_files(str(model), out=tmp_path / "a.onnx", precision="int8", **case)  # type: ignore[arg-type]
        proved, calibrated = seen[-1]
        assert calibrated == fitted
        assert proved
        assert calibrated
        assert not proved & calibrated, case
    train = gfocal.open_dataset(scenes, "train")
    assert seen[0][1] == {train.path(i).resolve() for i in range(len(train))}
    assert len(seen[2][0]) == 1


def test_one_image_is_not_enough(scenes: Path, model: Path) -> None:
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    with pytest.raises(UsageError, match="has one picture: INT8 is calibrated with some and proved on others"):
        export_files(str(model), precision="int8", data=image)


def test_parts_keep_their_labels(scenes: Path) -> None:
    index = gfocal.open_dataset(scenes, "val")
    looked_at = LookedAt([index.path(i) for i in range(len(index))], "all", index)
    part = looked_at.part(np.array([0, 2]), "two")
    assert part.images == [index.path(0), index.path(2)]
    assert part.index is not None
    assert part.index.image_ids.tolist() == index.image_ids[[0, 2]].tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int8"}, "give --data"),
        ({"calibration": 10}, "add --precision int8"),
        ({"precision": "int8", "calibration": 0, "data": Path(".")}, "calibration must be"),
        ({"precision": "int8", "format": "pt2", "data": Path(".")}, "precision of format pt2 is one of fp32, fp16"),
        ({"precision": "bf16"}, "precision of format onnx is one of fp32, fp16, int8"),
    ],
)
def test_wrong_options(model: Path, options: dict[str, object], said: str) -> None:
    before = sorted(model.parent.iterdir())
    with pytest.raises(UsageError, match=said):
        export_files(str(model), **options)  # type: ignore[arg-type]
    assert sorted(model.parent.iterdir()) == before


