"""`gfocal export --format openvino`: two files that find what the detector finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gfocal
from gfocal.commands.export import export as command
from gfocal.commands.export.export import ExportReport, export_files
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.export import openvino_file, proof
from gfocal.export.formats import ExportOptions
from gfocal.export.parity import BARS
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.openvino_session import openvino_core
from helpers.exporting import checkpoint, small_square, stirred, written

PYRAMID = ("model.neck=fpn", "model.strides=[16,32,64]", "data.resize.size=160")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"), *PYRAMID)


@pytest.fixture(scope="module")
def exported(model: Path) -> ExportReport:
    return export_files(str(model), format="openvino", samples=3)


def test_the_files_and_their_proof(model: Path, exported: ExportReport) -> None:
    assert exported.path == model.with_suffix(".xml")
    assert exported.proof.holds, exported.proof.beyond
    assert exported.proof.parity.detections > 40
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "tiny.bin",
        "tiny.safetensors",
        "tiny.xml",
        "tiny.xml.parity.json",
    ]
    content = json.loads(exported.parity.read_text())
    assert content["bytes"] == sum(model.with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin"))
    assert content["score"]["largest"] <= 1e-4
    assert {"openvino", "onnx", "torch"} <= set(content["info"]["versions"])
    assert content["info"]["opset"] is None
    read = openvino_core().read_model(exported.path)
    assert [port.get_any_name() for port in read.inputs] == ["images", "sizes"]
    assert read.input(0).partial_shape.to_string() == "[?,?,?,3]"
    assert read.get_rt_info("gfocal").value == gfocal.load(exported.path).info.to_text()  # type: ignore[union-attr]


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (3, 64, 96), (8, 160, 32)])
def test_any_batch_and_size(model: Path, exported: ExportReport, batch: int, height: int, width: int) -> None:
    ours, theirs = gfocal.load(model), gfocal.load(exported.path)
    assert isinstance(ours, DenseDetector)
    assert isinstance(theirs, ExportedDetector)
    images = np.random.default_rng(batch).integers(0, 256, (batch, height, width, 3), np.uint8)
    sizes = np.array([[height - 3 * i, width - i] for i in range(batch)], np.int64)
    wanted = ours.detect(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(sizes))
    outputs = theirs.session.run(images, sizes)
    assert outputs["count"].tolist() == [len(one) for one in wanted]
    assert outputs["count"].min() > 0
    for i, one in enumerate(wanted):
        for name in ("boxes", "scores", "labels", "edge_std"):
            np.testing.assert_allclose(outputs[name][i, : len(one)], getattr(one, name).numpy(), rtol=0, atol=2e-3)


def test_predict_and_eval_without_torch(exported: ExportReport, scenes: Path, tmp_path: Path) -> None:
    source = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx", "onnxruntime"):
            raise ImportError(f"there is no {name} here")
sys.meta_path.insert(0, Nothing())
import gfocal
found = gfocal.load(sys.argv[1]).predict(sys.argv[2])
from gfocal.cli import main
sys.argv[1:] = ["predict", sys.argv[1], sys.argv[2], "--out", sys.argv[3], "--threads", "1", "--json"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(len(found))
"""
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    done = subprocess.run(
        [sys.executable, "-c", source, str(exported.path), str(image), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "predictions.json").is_file()
    assert int(done.stdout.split()[-1]) > 0


def test_a_file_beyond_the_bar_leaves_both_old_files(
    model: Path, exported: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*given: object) -> None:
        file = given[4]
        assert isinstance(file, Path)
        for suffix in (".xml", ".bin"):
            file.with_suffix(suffix).write_bytes(exported.path.with_suffix(suffix).read_bytes())

    monkeypatch.setattr(command, "write_detector", copy)
    strict = {name: BARS[name].__class__("largest", -1, -1, -1, -1, 0, 0, 1e-4) for name in BARS}
    monkeypatch.setattr(proof, "BARS", strict)
    out = tmp_path / "street.xml"
    for suffix in (".xml", ".bin"):
        out.with_suffix(suffix).write_bytes(b"what was there before")
    report = export_files(str(model), format="openvino", out=out, samples=1)
    assert not report.kept
    assert out.read_bytes() == out.with_suffix(".bin").read_bytes() == b"what was there before"
    assert report.path == tmp_path / "street.drift.xml"
    assert isinstance(gfocal.load(report.path), ExportedDetector)
    kept = export_files(str(model), format="openvino", out=out, samples=1, allow_drift=True)
    assert kept.kept
    assert out.with_suffix(".bin").read_bytes() == exported.path.with_suffix(".bin").read_bytes()


def test_somebody_else_s_bin_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    (tmp_path / "street.bin").write_bytes(b"weights of another project")
    with pytest.raises(UsageError, match=r"street.bin is there already, without a street.xml"):
        export_files(str(model), format="openvino", out=tmp_path / "street.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["street.bin"]


def test_a_processor_without_bfloat16_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_file, "openvino_core", Core)
    info = type("Info", (), {"precision": "bf16"})
    with pytest.raises(UsageError, match="this processor has no bfloat16"):
        openvino_file.write(None, info, tmp_path / "a.xml")  # type: ignore[arg-type]


@pytest.mark.slow
def test_bfloat16(tmp_path: Path, scenes: Path) -> None:
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    recipe = small_square(*PYRAMID)
    detector = stirred(recipe)
    images = sorted((scenes / "images").glob("*.jpg"))[:3]
    one, _ = written(tmp_path, detector, recipe, ExportOptions("openvino", precision="bf16"))
    rough = proof.prove(detector, one, images, data="scenes").parity
    assert rough.score.largest > 1e-4  # it is another precision
    assert rough.unmatched < 0.1 * rough.detections


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_trained_weights_lose_less_than_a_point_in_eight_bits(shared: Path, tmp_path: Path, format: str) -> None:
    gfocal.import_weights(shared / "weights" / "nanodet_m.ckpt", tmp_path / "nanodet_m")
    report = export_files(
        str(tmp_path / "nanodet_m"),
        format=format,
        precision="int8",
        data=shared / "data" / "coco_mini",
        calibration=100,
    )
    assert report.proof.holds, report.proof.beyond
    assert report.proof.ap is not None
    assert report.proof.ap.detector > 0.15
    assert report.proof.edges is not None
    one, other = report.proof.edges.detector.covered, report.proof.edges.exported.covered
    assert one == pytest.approx(other, abs=0.03)
    assert report.proof.info.quantization is not None
    assert report.proof.info.quantization.float_layers == 7  # the outputs, and those around one odd channel
