"""INT8: which layers, on which images, and what a proof lets pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import gfocal
from gfocal.cli.tables.export import print_export
from gfocal.commands.export import export as command
from gfocal.commands.export.export import ExportReport, export_files
from gfocal.commands.export.images import LookedAt
from gfocal.errors import UsageError
from gfocal.export.int8 import _before, _delicate, _Operation, _quantisable
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.openvino_session import openvino_core
from helpers.exporting import checkpoint

# Untrained networks are more sensitive than trained ones: these proofs do not hold, and need not.
OPTIONS = {"precision": "int8", "samples": 2, "calibration": 4, "allow_drift": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "openvino")])
def report(request: pytest.FixtureRequest, model: Path, scenes: Path) -> ExportReport:
    return export_files(str(model), format=request.param, data=scenes, **OPTIONS)  # type: ignore[arg-type]


def test_what_a_file_says_of_its_calibration(report: ExportReport, model: Path) -> None:
    info = gfocal.load(report.path).info  # type: ignore[union-attr]
    how = info.quantization
    assert how is not None
    assert info.precision == "int8"
    assert how.images == 4
    assert how.layers > how.float_layers >= 3  # an output layer for each of three levels
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
    """Weights of every output layer are floats in the file; and behind such a layer no tensor has 8 bits."""
    operations = _onnx(report.path) if report.path.suffix == ".onnx" else _openvino(report.path)
    behind, last = set[str](), 0
    for kind, inputs, outputs in operations:
        own = any(name.startswith("detector.head.out.") and name.endswith(".weight") for name in inputs)
        last += own
        if own or behind & inputs:
            behind |= outputs
            assert kind not in ("QuantizeLinear", "DequantizeLinear", "FakeQuantize")
    assert last == 3
    assert len(behind) > 100
    assert any(kind in ("QuantizeLinear", "FakeQuantize") for kind, _, _ in operations)


def _onnx(file: Path) -> list[tuple[str, set[str], set[str]]]:
    return [(node.op_type, set(node.input), set(node.output)) for node in onnx.load(file).graph.node]


def _openvino(file: Path) -> list[tuple[str, set[str], set[str]]]:
    operations = openvino_core().read_model(file).get_ordered_ops()
    return [
        (
            op.get_type_name(),
            {value.get_source_output().get_node().get_friendly_name() for value in op.inputs()},
            {op.get_friendly_name()},
        )
        for op in operations
    ]


# --- which operations


def test_what_leads_to_the_outputs_and_uses_none_of_them() -> None:
    """stem -> tower -> out -> softmax -> quality; points stand beside, and the quality is an output too."""
    operations = [
        _Operation("stem", "Conv", ("images", "w0"), ("a",)),
        _Operation("tower", "Conv", ("a", "w1"), ("b",)),
        _Operation("points", "Range", ("sizes",), ("p",)),
        _Operation("out", "Conv", ("b", "w2"), ("c",)),
        _Operation("softmax", "Softmax", ("c",), ("d",)),
        _Operation("mixed", "Concat", ("b", "d"), ("e",)),
        _Operation("quality", "Conv", ("e", "w3"), ("f",)),
        _Operation("decode", "Add", ("f", "p"), ("g",)),
    ]
    assert _before(operations, {"out", "quality"}) == {"stem", "tower"}
    with pytest.raises(RuntimeError, match="not found"):
        _before(operations, set())


def convolution(name: str, given: str, largest: float = 1.0) -> _Operation:
    weights = np.ones((4, 2, 1, 1), np.float32)
    weights[1, 0] = largest
    return _Operation(name, "Conv", (given, f"{name}_w"), (f"{name}_o",), weights)


def test_around_a_channel_that_amplifies_all_is_exact() -> None:
    """stem -> relu -> { outlier -> after -> far, beside }; shapes are not values and connect nothing."""
    operations = [
        convolution("stem", "images"),
        _Operation("relu", "Relu", ("stem_o",), ("r",)),
        _Operation("size", "Shape", ("r",), ("s",)),
        convolution("outlier", "r", largest=17.0),
        convolution("beside", "r", largest=15.0),
        _Operation("shaped", "Reshape", ("outlier_o", "s"), ("t",)),
        convolution("after", "t"),
        _Operation("again", "Reshape", ("after_o", "s"), ("u",)),
        convolution("far", "u"),
    ]
    assert _delicate(operations) == {"stem", "outlier", "beside", "after"}
    assert _delicate([each for each in operations if each.name != "outlier"]) == set()


def test_a_detector_of_one_convolution_has_nothing_to_quantise() -> None:
    with pytest.raises(UsageError, match="INT8 would change nothing"):
        _quantisable([convolution("out", "images")], {"out"})


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
    original = command.calibration_images

    def apart(*given: object) -> object:
        looked_at, chosen = original(*given)  # type: ignore[arg-type]
        seen.append(({path.resolve() for path in looked_at.images}, {path.resolve() for path in chosen.images}))
        return looked_at, chosen

    monkeypatch.setattr(command, "calibration_images", apart)
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


def test_what_is_shown(report: ExportReport, capsys: pytest.CaptureFixture[str]) -> None:
    print_export(report)
    words = " ".join(capsys.readouterr().out.split())
    how = report.proof.info.quantization
    assert how is not None
    assert f"{how.layers} of {how.layers + how.float_layers} convolutions in 8 bits, calibrated with 4 images" in words
    assert "convolutions in 8 bits" in words
    assert " any " in words
