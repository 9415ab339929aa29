"""`gfocal export`: the file, its proof, and what stays where that fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import gfocal
from gfocal.cli.tables.export import print_export
from gfocal.commands.evaluate import evaluate_files
from gfocal.commands.export import export as command
from gfocal.commands.export.export import ExportReport, export_files
from gfocal.commands.export.images import unlabelled_images
from gfocal.commands.predict import predict_patterns
from gfocal.commands.trust.calibrate import calibrate_files
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.export import formats, proof
from gfocal.export.formats import FORMATS, ExportOptions, fixed_shape
from gfocal.export.parity import BARS
from gfocal.export.trace import GraphShape
from gfocal.exported.contract import Precision
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import SessionOptions, files_of
from gfocal.images.resizing import Resize
from gfocal.recipe.reading import recipe_names
from gfocal.training.train import train
from gfocal.utils.records import to_json
from helpers.calibrated import Reach, data_for
from helpers.exporting import NAMES, checkpoint, small_square, stirred, written
from helpers.made_exports import INFO
from helpers.paths import ROOT
from helpers.small_runs import TINY, small

# A level of stride 64: sides that are no multiples of it showed that ONNX divides towards 0.
PYRAMID = ("model.neck=fpn", "model.strides=[16,32,64]", "data.resize.size=160")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"), *PYRAMID)


@pytest.fixture(scope="module")
def exported(model: Path) -> ExportReport:
    """The one export that the quick tests share: to write a file takes longer than all else here."""
    return export_files(str(model), edge_probs=True, samples=3)


@pytest.fixture(scope="module")
def both(model: Path, exported: ExportReport) -> tuple[DenseDetector, ExportedDetector]:
    ours, theirs = gfocal.load(model), gfocal.load(exported.path)
    assert isinstance(ours, DenseDetector)
    assert isinstance(theirs, ExportedDetector)
    return ours, theirs


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def check_same(ours: DenseDetector, theirs: ExportedDetector, batch: int, height: int, width: int) -> None:
    """One batch, as it enters the network."""
    images = np.stack([noise(height, width, seed) for seed in range(batch)])
    sizes = np.array([[height - 3 * i, width - i] for i in range(batch)], np.int64)
    wanted = ours.detect(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(sizes))
    outputs = theirs.session.run(images, sizes)
    assert outputs["count"].tolist() == [len(one) for one in wanted]
    assert outputs["count"].min() > 0
    for i, one in enumerate(wanted):
        for name in ("boxes", "scores", "labels", "edge_std", "edge_probs"):
            values = outputs[name][i, : len(one)]
            np.testing.assert_allclose(values, getattr(one, name).numpy(), rtol=0, atol=2e-3, err_msg=name)


def test_the_proof_holds_and_stands_beside_the_file(model: Path, exported: ExportReport) -> None:
    assert exported.path == model.with_suffix(".onnx")
    assert exported.kept
    assert exported.proof.holds
    assert exported.proof.parity.detections > 40
    content = json.loads(exported.parity.read_text())
    assert exported.parity.name == "tiny.onnx.parity.json"
    assert (content["images"], content["beyond"], content["bytes"]) == (3, [], exported.path.stat().st_size)
    assert content["score"]["largest"] <= 1e-4
    assert content["box"]["largest"] <= 0.02
    assert content["edge_std"]["largest"] <= 0.02
    assert content["info"]["names"] == list(NAMES)
    assert content["ms_per_image"]["exported"] > 0
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "tiny.onnx",
        "tiny.onnx.parity.json",
        "tiny.safetensors",
    ]


def test_the_file_says_what_it_is(exported: ExportReport) -> None:
    graph = onnx.load(exported.path)
    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": 20}
    assert not graph.functions
    info = gfocal.load(exported.path).info  # type: ignore[union-attr]
    assert (info.names, info.category_ids, info.layout, info.colours) == (NAMES, (7, 9, 11), "NHWC", "RGB")
    assert (info.resize.kind, info.resize.size, info.thresholds.nms_iou) == ("square", 160, 0.6)
    assert info.recipe["model"]["strides"] == [16, 32, 64]
    assert {"gfocal", "torch", "onnx", "onnxruntime", "onnxscript"} <= set(info.versions)
    assert "weights" in info.licence
    content = exported.path.read_bytes()
    assert b"site-packages" not in content, "nothing about where the code lay that wrote it"
    assert str(ROOT).encode() not in content
    softmaxes = [node for node in graph.graph.node if node.op_type == "Softmax"]
    assert softmaxes
    for node in softmaxes:  # WebGPU knows no other
        assert {entry.name: entry.i for entry in node.attribute}["axis"] == -1


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (3, 64, 96), (8, 160, 32)])
def test_any_batch_and_size(both: tuple[DenseDetector, ExportedDetector], batch: int, height: int, width: int) -> None:
    check_same(*both, batch, height, width)


def test_the_same_detections_drawings_and_json(
    model: Path, exported: ExportReport, scenes: Path, tmp_path: Path
) -> None:
    pictures = [str(scenes / "images")]
    one = predict_patterns(str(model), pictures, tmp_path / "one", score=0.1)
    two = predict_patterns(str(exported.path), pictures, tmp_path / "two", score=0.1)
    assert one.num_detections == two.num_detections > 0
    ours, theirs = (json.loads(each.results.read_text()) for each in (one, two))
    assert ours["categories"] == theirs["categories"]
    for a, b in zip(ours["annotations"], theirs["annotations"], strict=True):
        assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
        np.testing.assert_allclose(a["bbox"] + a["edge_std"], b["bbox"] + b["edge_std"], atol=0.01)
    assert [path.name for path in one.drawings] == [path.name for path in two.drawings]


def test_recipe_keys_and_class_names_are_fixed(exported: ExportReport, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gfocal export --set"):
        gfocal.load(exported.path, ["data.resize.size=96"])
    with pytest.raises(UsageError, match="its own class names"):
        gfocal.load(exported.path, names=["a"])
    with pytest.raises(UsageError, match="has no provider cuda"):
        predict_patterns(str(exported.path), [str(exported.path)], tmp_path, session=SessionOptions("cuda"))
    with pytest.raises(UsageError, match="--provider is one of"):
        predict_patterns(str(exported.path), [str(exported.path)], tmp_path, session=SessionOptions("npu"))


WITHOUT_TORCH = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "accelerate", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
"""


def without_torch(source: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + source, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_machine_without_torch_finds_the_same(
    both: tuple[DenseDetector, ExportedDetector], exported: ExportReport, scenes: Path, tmp_path: Path
) -> None:
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    source = """
import gfocal
found = gfocal.load(sys.argv[1]).predict(sys.argv[2])
print(found.boxes.tolist())
gfocal.draw(sys.argv[2], found)
from gfocal.cli import main
sys.argv[1:] = ["predict", sys.argv[1], sys.argv[2], "--out", sys.argv[3], "--json"]
main()
"""
    done = without_torch(source, exported.path, image, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    boxes, _, printed = done.stdout.partition("\n")
    np.testing.assert_allclose(json.loads(boxes), both[0].predict(image).boxes.numpy(), atol=0.01)
    assert len(json.loads(printed)["drawings"]) == 1
    assert (tmp_path / "out" / "predictions.json").is_file()


def test_so_does_eval(exported: ExportReport, scenes: Path, tmp_path: Path) -> None:
    source = """
from gfocal.cli import main
sys.argv[1:] = ["eval", sys.argv[1], "--data", sys.argv[2], "--only-common", "--rename", sys.argv[3], "--json"]
main()
"""
    first = gfocal.open_dataset(scenes, "val").names[0]
    done = without_torch(source, exported.path, scenes, f"{first}=cat")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours = evaluate_files(
        str(exported.path.with_suffix(".safetensors")), scenes, rename=[f"{first}=cat"], only_common=True
    )
    wanted = ours.evaluation.to_dict()
    assert found["measured"]["pictures"] == 4
    assert found["num_detections"] == wanted["num_detections"] > 0
    assert {key: found[key] for key in ("AP", "AP50", "AR100")} == pytest.approx(
        {key: wanted[key] for key in ("AP", "AP50", "AR100")}, abs=1e-6
    )


def named_alike(scenes: Path, tmp_path: Path) -> Path:
    """The scenes with their first class alone, under the name of the model's."""
    copy = Path(shutil.copytree(scenes, tmp_path / "named"))
    for file in (copy / "annotations").glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        first = {**content["categories"][0], "name": NAMES[0]}
        content["categories"] = [first]
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] == first["id"]]
        file.write_text(json.dumps(content), encoding="utf-8")
    return copy


def test_so_does_report(exported: ExportReport, scenes: Path, tmp_path: Path) -> None:
    source = "from gfocal.cli import main\nmain()\n"
    words = ["--data", named_alike(scenes, tmp_path), "--out", tmp_path / "page.html", "--timed", "1"]
    done = without_torch(source, "report", exported.path, *words)
    assert done.returncode == 0, done.stderr
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")


WITHOUT_IT = {
    "predict": ["predict", "best.safetensors", "images"],
    "bench": ["bench", "best.safetensors"],
    "export": ["export", "best.safetensors"],
    "calibrate": ["calibrate", "best.safetensors", "--data", "scenes"],
    "train": ["train", "gfl_nano", "--data", "scenes"],
    "doctor": ["doctor"],
}


@pytest.mark.parametrize("words", WITHOUT_IT.values(), ids=WITHOUT_IT.keys())
def test_what_needs_torch_says_so(words: list[str], model: Path, scenes: Path) -> None:
    source = "from gfocal.cli import main\nmain()\n"
    there = {"best.safetensors": str(model), "scenes": str(scenes), "images": str(scenes / "images")}
    done = without_torch(source, *[there.get(word, word) for word in words])
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: this needs torch, which is not installed: pip install torch; ")


# --- a calibration


@pytest.fixture(scope="module")
def labelled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_for(model, tmp_path_factory.mktemp("labelled") / "data", images=6)


def calibrated(file: Path, labelled: Path, reach: tuple[float, float]) -> proof.Proof:
    """The proof of a file and a detector whose intervals reach so far; the bar is that of fp32."""
    ours, theirs = gfocal.load(file.with_suffix(".safetensors")), gfocal.load(file)
    ours.calibration, theirs.calibration = (Reach(pixels) for pixels in reach)
    index = open_dataset(labelled, "val")
    paths = [index.path(i) for i in range(len(index))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "open_exported", lambda path: theirs)
        return proof.prove(ours, file, paths, data="images", index=index)


def test_intervals_of_a_calibration_are_compared(
    exported: ExportReport, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = calibrated(exported.path, labelled, (3, 3))
    assert found.holds
    assert found.parity.edge_interval is not None
    assert found.parity.edge_interval.largest <= 0.02
    assert found.intervals is not None
    assert found.intervals.detector == found.intervals.exported
    assert (found.intervals.detector.nominal, found.intervals.detector.edges > 40) == (0.9, True)
    share = found.intervals.detector.covered
    assert share is not None
    assert 0.2 < share < 1
    wider = calibrated(exported.path, labelled, (3, 3.5))
    assert [line.split(":")[0] for line in wider.beyond] == ["edge_interval"]
    assert wider.intervals is not None
    assert (wider.intervals.exported.covered or 0) > share
    content = to_json(replace(exported, proof=wider))
    assert content["edge_interval"]["largest"] == pytest.approx(0.5, abs=0.02)
    assert content["intervals"]["detector"]["covered"] == share
    print_export(replace(exported, proof=wider))
    words = " ".join(capsys.readouterr().out.split())
    assert "edge_interval │" in words
    assert f"the 90 % interval of the calibration holds {wider.intervals.exported.covered:.1%} of" in words
    assert f"of the detector {share:.1%}" in words


def test_without_a_calibration_none_is_shown(exported: ExportReport, capsys: pytest.CaptureFixture[str]) -> None:
    assert not {"edge_interval", "intervals"} & set(json.loads(exported.parity.read_text()))
    print_export(exported)
    assert "interval of the calibration" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_calibrated_detector_is_proved_with_its_intervals(model: Path, labelled: Path, tmp_path: Path) -> None:
    """From the command that calibrates to the file's own text; the intervals look at levels of the pyramid, too."""
    own = tmp_path / "own.safetensors"
    calibrate_files(str(model), labelled, out=own)
    report = export_files(str(own), data=labelled)
    content = json.loads(report.parity.read_text())
    assert report.proof.holds
    assert content["info"]["calibration"]["level"] == content["intervals"]["exported"]["nominal"]
    assert content["edge_interval"]["largest"] <= 0.02
    assert content["intervals"]["exported"]["covered"] > 0.8


# --- what fails


def test_a_file_beyond_the_bar_stays_under_a_name_that_shows_it(
    model: Path, exported: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the good file takes the place of one that an exporter got wrong; the bar is what it is beyond."""
    content = exported.path.read_bytes()
    monkeypatch.setattr(command, "write_detector", lambda *given: given[4].write_bytes(content))
    strict = {name: BARS[name].__class__("largest", -1, -1, -1, -1, 0, 0, 1e-4) for name in BARS}
    monkeypatch.setattr(proof, "BARS", strict)
    out = tmp_path / "street.onnx"
    out.write_bytes(b"what was there before")
    umask = os.umask(0o027)
    try:
        report = export_files(str(model), out=out, samples=1)
    finally:
        os.umask(umask)
    assert not report.kept
    assert {stat.S_IMODE(path.stat().st_mode) for path in (report.path, report.parity)} == {0o640}
    assert out.read_bytes() == b"what was there before"
    assert report.path == tmp_path / "street.drift.onnx"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "street.drift.onnx",
        "street.drift.onnx.parity.json",
        "street.onnx",
    ]
    assert len(json.loads(report.parity.read_text())["beyond"]) == 4
    kept = export_files(str(model), out=out, samples=1, allow_drift=True)
    assert kept.kept
    assert out.read_bytes() == content


def test_nothing_is_left_where_writing_fails(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(*given: Path) -> None:
        given[4].write_bytes(b"half")
        raise RuntimeError("the exporter broke")

    monkeypatch.setattr(command, "write_detector", half)
    with pytest.raises(RuntimeError, match="broke"):
        export_files(str(model), out=tmp_path / "a.onnx", samples=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "tflite"}, "format must be one of onnx, pt2, openvino"),
        ({"opset": 11}, "takes opsets 18 to 23"),
        ({"format": "pt2", "opset": 20}, "has no opset"),
        ({"out": Path("a.pt2")}, "must end in .onnx"),
        ({"static": "one"}, "--static takes"),
        ({"static": "1x30x30"}, "multiples of 32"),
        ({"static": "1x96x160"}, "does not hold every image"),
        ({"samples": 0}, "samples must be"),
        ({"out": Path(f"{'a' * 240}.onnx")}, "File name too long"),
        ({"overrides": ["predict.voting=0.02"]}, "predict.voting=null"),
        ({"data": Path("nowhere")}, "nowhere"),
    ],
)
def test_wrong_options_are_refused_at_once(model: Path, options: dict[str, object], said: str) -> None:
    before = sorted(model.parent.iterdir())
    with pytest.raises(UsageError, match=said):
        export_files(str(model), **options)  # type: ignore[arg-type]
    assert sorted(model.parent.iterdir()) == before


def test_deformable_convolutions_need_a_later_opset(tmp_path: Path) -> None:
    keys = "model.deformable=[5]", "model.pretrained=false", "data.resize.size=64"
    recipe = gfocal.load_recipe("gfl_r50", keys)
    detector = gfocal.build_detector(recipe, ["a"]).eval()
    with pytest.raises(UsageError, match="operators of opset 19 and later, got 18"):
        written(tmp_path, detector, recipe, ExportOptions("onnx", opset=18))


def test_what_a_fixed_size_costs_is_told(scenes: Path) -> None:
    """Networks see padding: the file beside a detector that is padded likewise is no proof for those who use it."""
    recipe = small_square()
    detector = stirred(recipe)
    index = open_dataset(scenes, "val")
    images = [index.path(i) for i in range(2)]
    info = replace(INFO, resize=replace(INFO.resize, kind="square", size=64), batch=1, height=64, width=64)
    alike = [proof._detected(detector, path, GraphShape(1, 64, 64)) for path in images]
    assert proof._fixed_size(detector, images, info, None, (alike, alike)) is None
    wide = [proof._detected(detector, path, GraphShape(1, 64, 160)) for path in images]
    found = proof._fixed_size(detector, images, replace(info, width=160), None, (wide, wide))
    assert found is not None
    assert found.images == 2
    assert found.parity.score.largest > 1e-3
    assert found.ap is None


def test_what_runs_a_file_is_chosen_in_python_too(model: Path, exported: ExportReport) -> None:
    assert gfocal.load(exported.path, provider="cpu", threads=1)
    with pytest.raises(UsageError, match="has no provider cuda"):
        gfocal.load(exported.path, provider="cuda")
    with pytest.raises(UsageError, match="threads"):
        gfocal.load(exported.path, threads=0)
    with pytest.raises(UsageError, match="provider and threads are for exported files"):
        gfocal.load(model, threads=1)


def test_a_recipe_has_no_weights_to_export() -> None:
    with pytest.raises(UsageError, match="is a recipe"):
        export_files("gfl_nano")


def test_edges_without_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "trace", None)  # said before the long work
    recipe = small_square("model.boxes.kind=dirac")
    with pytest.raises(UsageError, match="leave --edge-probs away"):
        written(tmp_path, stirred(recipe), recipe, ExportOptions("pt2", edge_probs=True))


@pytest.mark.parametrize(
    ("format", "precision", "lacks", "said"),
    [
        ("openvino", "fp32", {"openvino"}, r"fp32 of this format needs openvino: pip install 'gfocal\[openvino\]'"),
        ("openvino", "int8", {"nncf", "onnx"}, r"needs onnx, nncf: pip install 'gfocal\[onnx,int8\]'"),
        ("onnx", "fp32", {"onnx", "onnxruntime"}, r"needs onnx, onnxruntime: pip install 'gfocal\[onnx\]'"),
    ],
)
def test_only_what_is_missing_is_asked_for(
    format: str, precision: Precision, lacks: set[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_has", lambda name: name not in lacks)
    with pytest.raises(UsageError, match=said):
        FORMATS[format].writer(precision)


def test_every_package_is_brought_by_an_extra() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for form in FORMATS.values():
        for name in form.packages + form.int8_packages:
            assert any(re.match(rf"{name}\b", one) for one in declared[formats.EXTRAS[name]]), name


def test_fixed_shapes() -> None:
    assert fixed_shape("4", Resize("square", size=300)) == GraphShape(4, 320, 320)
    assert fixed_shape("1", Resize("short_long", short_side=800, long_side=1333)) == GraphShape(1, 1344, 1344)
    assert fixed_shape("2x64x96", Resize("square", size=64)) == GraphShape(2, 64, 96)


@pytest.mark.slow
def test_fine_bins_are_trained_and_exported(tmp_path: Path, train_index: DataIndex) -> None:
    keys = "model.pretrained=false", "data.resize.size=64", "predict.score_threshold=1e-4"
    recipe = small(*keys, name="gfl_nano_fine")
    train(recipe, train_index, None, tmp_path / "run", progress=False)
    trained = gfocal.load(tmp_path / "run")
    assert isinstance(trained, DenseDetector)
    assert trained.box_coder.channels == 4 * 29
    report = export_files(str(tmp_path / "run"), out=tmp_path / "fine.onnx", edge_probs=True, samples=2)
    assert report.proof.holds
    found = gfocal.load(report.path).predict(noise(64, 64)).numpy()
    assert found.edge_probs is not None
    assert found.edge_probs.shape[1:] == (4, 29)


# --- the matrix


# ssd512_vgg16 takes images of 512 pixels alone, which are too large here: benchmarks/export.py proves it.
MATRIX = [(name, (), format) for name in recipe_names() if name not in ("demo", "ssd512_vgg16") for format in FORMATS]
# What checkpoints of others hold, and no recipe.
MATRIX += [("gfl_nano", ("model.quality.kind=joint_v2",), format) for format in FORMATS]
MATRIX += [("gfl_r50", ("model.deformable=[5]", "model.backbone=resnet50.tv_in1k"), format) for format in FORMATS]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "others", "format"), MATRIX)
def test_every_recipe_in_every_format(
    name: str, others: tuple[str, ...], format: str, tmp_path: Path, scenes: Path
) -> None:
    """With the backbone and sizes of the tests where the row allows it; its own head, points, boxes and quality."""
    own = small(name=name)
    tiny = () if own.model.neck == "ssd" or name.endswith("_nano") else (*TINY, "model.channels=32")
    keys = () if own.model.neck == "ssd" else ("data.resize.kind=square", "data.resize.size=96")
    recipe = small(*tiny, *keys, "model.pretrained=false", *others, name=name)
    detector = stirred(recipe, calm=True)
    file, _ = written(tmp_path, detector, recipe, ExportOptions(format))
    images = sorted((scenes / "images").glob("*.jpg"))[:3]
    result = proof.prove(detector, file, images, data="scenes")
    assert result.holds, result.beyond
    assert result.parity.detections > 0
    has_edges = detector.box_coder.edge_std(*_one_row(detector)) is not None
    assert (result.parity.edge_std is not None) == has_edges == ("edge_std" in result.info.outputs)


def _one_row(detector: DenseDetector) -> tuple[object, torch.Tensor]:
    return detector.points(64, 64)[:1], torch.zeros(1, detector.box_coder.channels)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ExportOptions("onnx", nms="out"),
        ExportOptions("onnx", nms="none"),
        ExportOptions("onnx", opset=18),
        ExportOptions("onnx", opset=23),
        ExportOptions("onnx", shape=GraphShape(2, 192, 160)),
        ExportOptions("pt2", shape=GraphShape(1, 160, 160)),
        ExportOptions("pt2", nms="out"),
        ExportOptions("openvino", nms="out"),
        ExportOptions("openvino", shape=GraphShape(2, 192, 160)),
    ],
    ids=str,
)
def test_every_option(options: ExportOptions, tmp_path: Path, scenes: Path) -> None:
    recipe = small_square(*PYRAMID)
    detector = stirred(recipe)
    file, info = written(tmp_path, detector, recipe, options)
    result = proof.prove(detector, file, sorted((scenes / "images").glob("*.jpg"))[:3], data="scenes")
    assert result.holds, result.beyond
    assert (info.batch, info.height, info.width) == (options.shape.batch, options.shape.height, options.shape.width)
    assert info.opset == (options.opset or (20 if options.format == "onnx" else None))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "pt2", "openvino"])
def test_half_precision(format: str, tmp_path: Path, scenes: Path) -> None:
    recipe = small_square(*PYRAMID)
    detector = stirred(recipe)
    file, _ = written(tmp_path, detector, recipe, ExportOptions(format, precision="fp16"))
    result = proof.prove(detector, file, sorted((scenes / "images").glob("*.jpg"))[:3], data="scenes")
    assert result.holds, result.beyond
    assert result.parity.score.largest > 1e-6  # it is another precision
    full, _ = written(tmp_path, detector, recipe, ExportOptions(format))
    weights = sum(p.numel() for p in detector.parameters())
    assert sum(part.stat().st_size for part in files_of(full)) - result.bytes > 1.8 * weights


@pytest.mark.slow
def test_pt2_at_any_batch_and_size(model: Path, tmp_path: Path) -> None:
    report = export_files(str(model), format="pt2", out=tmp_path / "a.pt2", edge_probs=True, samples=3)
    assert report.proof.holds
    ours, theirs = gfocal.load(model), gfocal.load(report.path)
    assert isinstance(ours, DenseDetector)
    assert isinstance(theirs, ExportedDetector)
    for shape in ((1, 32, 32), (3, 64, 96), (8, 160, 32)):
        check_same(ours, theirs, *shape)


@pytest.mark.slow
def test_trained_weights_on_photos(shared: Path, tmp_path: Path) -> None:
    """AP of both on labelled images, equal to four digits."""
    gfocal.import_weights(shared / "weights" / "nanodet_m.ckpt", tmp_path / "nanodet_m")
    report = export_files(str(tmp_path / "nanodet_m"), data=shared / "data" / "coco_mini", samples=100)
    assert report.proof.holds, report.proof.beyond
    ap = report.proof.ap
    assert ap is not None
    assert ap.detector > 0.15
    assert ap.exported == pytest.approx(ap.detector, abs=5e-5)


def test_images_without_labels_are_taken_from_everywhere(tmp_path: Path) -> None:
    for number in range(9):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    looked = unlabelled_images(tmp_path, 3)
    assert [path.stem for path in looked.images] == ["0", "4", "8"]
    assert len(unlabelled_images(tmp_path, None).images) == 9
