"""Files that are wrong or hostile: one message, nothing read beside them, nothing of them run."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.errors import UsageError
from gfocal.exported.contract import ExportInfo
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.onnx_file import check_onnx
from gfocal.exported.open import SessionOptions, is_exported, open_exported
from gfocal.utils.processor import asked_threads
from helpers.made_exports import INFO, graph, save


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_exported(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_right_file_runs(tmp_path: Path) -> None:
    detector = open_exported(save(tmp_path, graph(), INFO.to_text()))
    assert isinstance(detector, ExportedDetector)
    assert detector.predict(np.zeros((40, 40, 3), np.uint8)).boxes.tolist() == [[0, 0, 32, 32]]


def test_a_truncated_file(tmp_path: Path) -> None:
    file = save(tmp_path, graph(), INFO.to_text())
    file.write_bytes(file.read_bytes()[:-40])
    assert "is damaged" in refused(file)


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_machine_without_the_runtime_is_told_the_runtime_alone(
    suffix: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gfocal's extras bring torch, which running a file does not need."""
    monkeypatch.setitem(sys.modules, package, None)
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"x")
    assert f"needs {package}: pip install {package} (" in refused(file)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 1000])
def test_no_onnx_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    refused(file)


def test_another_project_s_file(tmp_path: Path) -> None:
    assert "another program wrote it" in refused(save(tmp_path, graph()))


def test_other_inputs_than_it_says(tmp_path: Path) -> None:
    assert "was changed after it was exported" in refused(save(tmp_path, graph(inputs=("x", "y")), INFO.to_text()))


def external(tensor: TensorProto, place: str) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def in_initializer(model: ModelProto, place: str) -> None:
    external(model.graph.initializer[0], place)


def in_attribute(model: ModelProto, place: str) -> None:
    """onnxruntime itself reads these, from the current folder, though it is given no path."""
    value = external(numpy_helper.from_array(np.float32([[[0, 0, 32, 32]]]), "q"), place)
    model.graph.node[0].CopyFrom(helper.make_node("Constant", [], ["boxes"], value=value))


def in_branch(model: ModelProto, place: str) -> None:
    value = external(numpy_helper.from_array(np.float32([1]), "deep"), place)
    output = helper.make_tensor_value_info("deep", TensorProto.FLOAT, [1])
    branch = helper.make_graph([], "branch", [], [output], [value])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def in_sparse(model: ModelProto, place: str) -> None:
    values, indices = numpy_helper.from_array(np.float32([1]), "s"), numpy_helper.from_array(np.int64([0]), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(external(values, place), indices, [1]))


def in_function(model: ModelProto, place: str) -> None:
    node = helper.make_node("Constant", [], ["o"], value=external(numpy_helper.from_array(np.float32([1]), "f"), place))
    model.functions.append(helper.make_function("", "Own", [], ["o"], [node], [helper.make_opsetid("", 20)]))


@pytest.mark.parametrize("where", [in_initializer, in_attribute, in_branch, in_sparse, in_function])
@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "link.bin", "absolute", "*/_ORT_MEM_ADDR_/*"])
def test_weights_in_another_file_are_not_read(
    tmp_path: Path, where: Callable[[ModelProto, str], None], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for secret in (tmp_path / "secret.bin", inner / "secret.bin"):
        secret.write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    (inner / "link.bin").symlink_to(tmp_path / "secret.bin")
    monkeypatch.chdir(inner)
    model = graph()
    where(model, str(tmp_path / "secret.bin") if place == "absolute" else place)
    assert "keeps weights in other files" in refused(save(inner, model, INFO.to_text()))


def test_operators_of_others(tmp_path: Path) -> None:
    model = graph()
    model.graph.node[0].domain = "evil.domain\x1b[2J"
    model.opset_import.append(helper.make_opsetid("evil.domain\x1b[2J", 1))
    assert "uses the operator evil.domain" in refused(save(tmp_path, model, INFO.to_text()))
    model = graph()
    model.graph.node[0].domain, model.graph.node[0].op_type = "com.microsoft", "EPContext"
    assert "uses the operator com.microsoft:EPContext" in refused(save(tmp_path, model, INFO.to_text()))
    model = graph()
    model.graph.node[0].op_type = "Nope"
    assert "does not know" in refused(save(tmp_path, model, INFO.to_text()))
    model = graph()
    model.ir_version = 999
    assert "does not know" in refused(save(tmp_path, model, INFO.to_text()))


@pytest.mark.parametrize("data", [b"", b"\0" * 16])
def test_a_tensor_larger_than_its_file(tmp_path: Path, data: bytes) -> None:
    model = graph()
    model.graph.initializer[0].dims[0] = 10**13
    model.graph.initializer[0].raw_data = data
    assert "more than the file can hold" in refused(save(tmp_path, model, INFO.to_text()))


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x05ab",  # a graph of 5 bytes, of which 2 are there
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length without end
        b"\x3b",  # a group, which ONNX has none of
        b"\x00\x00",  # field 0
        b"\x08\x09",  # no graph
        b"PK\x03\x04",
    ],
)
def test_messages_that_are_none(content: bytes) -> None:
    with pytest.raises(UsageError, match=r"a\.onnx is not an ONNX file, or is damaged"):
        check_onnx(content, Path("a.onnx"))


def test_flipped_bytes_never_come_as_another_error(tmp_path: Path) -> None:
    content = save(tmp_path, graph(), INFO.to_text()).read_bytes()
    errors = []
    for seed in range(300):
        generator, one = np.random.default_rng(seed), bytearray(content)
        for place in generator.integers(0, len(one), 3):
            one[place] ^= 1 << int(generator.integers(8))
        (tmp_path / "model.onnx").write_bytes(one)
        try:  # some are as good as before
            open_exported(tmp_path / "model.onnx").predict(np.zeros((9, 9, 3), np.uint8))
        except UsageError as error:
            errors.append(str(error))
    assert len(errors) > 100
    assert not [error for error in errors if "\n" in error]


def own(**changes: Any) -> str:
    return json.dumps({**json.loads(INFO.to_text()), **changes})


RESIZE, LIMITS = json.loads(INFO.to_text())["resize"], json.loads(INFO.to_text())["thresholds"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (own(names=[]), "names: 0 classes"),
        (own(category_ids=[1]), "category_ids"),
        (own(resize={**RESIZE, "size": 10**9}), "resize.size"),
        (own(resize={**RESIZE, "kind": "square", "size": 640}, height=320, width=320), "takes a height of 320"),
        (own(resize={**RESIZE, "short_side": 0}), "short_side"),
        (own(resize={**RESIZE, "method": "bicubic"}), "method: 'bicubic'"),
        (own(resize={**RESIZE, "fill": [300, 0, 0]}), "fill"),
        (own(height=33), "height: 33"),
        (own(height=-32), "height: -32"),
        (own(width=10**9), "width"),
        (own(batch=0), "batch: 0"),
        (own(batch=10**12), "batch"),
        (own(thresholds={**LIMITS, "max_detections": -1}), "max_detections"),
        (own(thresholds={**LIMITS, "pre_nms_top_k": 10**12}), "pre_nms_top_k"),
        (own(thresholds={**LIMITS, "nms_iou": -1}), "nms_iou"),
        (own(thresholds={**LIMITS, "score_threshold": float("inf")}), "score_threshold"),
        (own(thresholds={**LIMITS, "clip_margin": float("nan")}), "clip_margin"),
        (own(tiling={"side": -1, "overlap": 0.2, "whole": True}), "tile"),
        (own(value_range=[5, 1]), "range of values"),
        (own(value_range=None), "range of values"),
        (own(outputs=["boxes"]), "was changed after"),
        (own(outputs=["boxes", "scores", "labels", "count", "evil"]), "was changed after"),
        (own(layout="NCHW"), "NCHW"),
        (own(format=float("inf")), "cannot be read"),
        (own(format=2), "newer gfocal"),
        ('{"format": 1, "names": ' + "[" * 90_000, "cannot be read"),
        ("null", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_file_that_says_what_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(save(tmp_path, graph(), text))


def test_metadata_of_other_tools(tmp_path: Path) -> None:
    model = graph()
    model.metadata_props.add(key="names", value="{0: 'person'}")
    model.metadata_props.add(key="stride", value="32")
    assert "another program wrote it" in refused(save(tmp_path, model))


# --- what a file gives

BOXES = np.float32([[[0, 0, 32, 32]]])


def gives(name: str, value: np.ndarray) -> ModelProto:
    model = graph()
    for tensor in model.graph.initializer:
        if tensor.name == f"{name}_0":
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for output in model.graph.output:
        if output.name == name:
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            output.CopyFrom(helper.make_tensor_value_info(name, kind, list(value.shape)))
    return model


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("boxes", BOXES[0]),
        ("boxes", BOXES[..., :3].copy()),
        ("boxes", BOXES.astype(np.int64)),
        ("boxes", BOXES * np.float32(np.nan)),
        ("boxes", np.zeros((0, 1, 4), np.float32)),
        ("scores", np.float32([[0.5, 0.4]])),
        ("scores", np.float32([[np.inf]])),
        ("scores", np.float32([0.5])),
        ("labels", np.int64([[2]])),
        ("labels", np.int64([[-1]])),
        ("labels", np.float32([[1]])),
        ("edge_std", np.float32([[1]])),
        ("count", np.int64([2])),
        ("count", np.int64([-1])),
        ("count", np.int64([1, 1])),
        ("count", np.float32([1])),
        ("count", np.int64(1)),
    ],
)
def test_outputs_that_are_no_detections(tmp_path: Path, name: str, value: np.ndarray) -> None:
    detector = open_exported(save(tmp_path, gives(name, value), INFO.to_text()))
    with pytest.raises(UsageError, match=r"model\.onnx gives (boxes|scores|labels|edge_std|count)"):
        detector.predict(np.zeros((40, 40, 3), np.uint8))


def test_rows_behind_the_count_may_be_anything(tmp_path: Path) -> None:
    model = gives("count", np.int64([0]))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(BOXES * np.float32(np.nan), "boxes_0"))
    assert len(open_exported(save(tmp_path, model, INFO.to_text())).predict(np.zeros((40, 40, 3), np.uint8))) == 0


def test_a_graph_that_asks_for_more_memory_than_there_is(tmp_path: Path) -> None:
    model = graph()
    model.graph.initializer.append(numpy_helper.from_array(np.int64([10**14, 1, 4]), "shape"))
    model.graph.node[0].CopyFrom(helper.make_node("ConstantOfShape", ["shape"], ["boxes"]))
    detector = open_exported(save(tmp_path, model, INFO.to_text()))
    with pytest.raises(UsageError, match="cannot be run on 1 x 64 x 64 pixels"):
        detector.predict(np.zeros((40, 40, 3), np.uint8))


# --- the verbs


def verbs(file: Path, image: Path, out: Path) -> list[list[str]]:
    return [
        ["predict", str(file), str(image), "--out", str(out)],
        ["eval", str(file), "--data", str(image.parents[1])],
        ["bench", str(file), "--repeats", "1"],
    ]


@pytest.mark.slow  # four verbs each, and bench starts processes
@pytest.mark.parametrize(
    "kind", ["truncated", "empty", "other", "external", "folder", "missing", "no box", "unreadable"]
)
def test_every_verb_says_it_in_one_line(tmp_path: Path, scenes: Path, kind: str) -> None:
    file = save(tmp_path, gives("count", np.int64([7])) if kind == "no box" else graph(), INFO.to_text())
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-9])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "other":
        save(tmp_path, graph())
    elif kind == "external":
        model = graph()
        in_initializer(model, "/etc/hostname")
        save(tmp_path, model, INFO.to_text())
    elif kind == "unreadable":
        file.chmod(0)
        if os.access(file, os.R_OK):
            pytest.skip("who runs this may read anything")
    elif kind in ("folder", "missing"):
        file.unlink()
    if kind == "folder":
        file.mkdir()
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    for words in verbs(file, image, tmp_path / "out"):
        result = CliRunner().invoke(app, words)
        errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        if kind == "no box" and words[0] == "eval":
            assert "the classes of" in errors[0]  # before the file is run
        else:
            assert str(file) in errors[0]
        assert (result.exit_code, len(errors), result.stdout) == (2, 1, ""), words
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_names_cannot_steer_a_terminal(tmp_path: Path, scenes: Path) -> None:
    info: ExportInfo = replace(INFO, names=("a\x1b[2J", "b\u202e\x07"), licence="\x1b]0;x\x07")
    file = save(tmp_path, graph(), info.to_text())
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    for words in verbs(file, image, tmp_path / "out"):
        result = CliRunner().invoke(app, words)
        assert not {"\x1b", "\x07", "\u202e"} & set(result.output), words


def test_an_opset_of_the_future(tmp_path: Path) -> None:
    model = graph()
    model.opset_import[0].version = 999
    assert "--opset" in refused(save(tmp_path, model, INFO.to_text()))


@pytest.mark.parametrize("version", [0, 7, 17])
def test_an_opset_that_gfocal_never_wrote(tmp_path: Path, version: int) -> None:
    """onnxruntime would run some of these graphs, and of others say what no user understands."""
    model = graph()
    model.opset_import[0].version = version
    said = refused(save(tmp_path, model, INFO.to_text()))
    assert f"has operators of ONNX's opset {version}, and gfocal writes 18 or later" in said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no exported file" in refused(tmp_path / "model.onnx")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run!",)


@pytest.mark.parametrize("kind", ["empty", "text", "zip", "pickle", "state"])
def test_pt2_files_of_other_kinds(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pt2"
    if kind in ("empty", "text"):
        file.write_bytes(b"" if kind == "empty" else b"not an archive")
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "a")
    else:
        torch.save(Evil() if kind == "pickle" else {"a": torch.zeros(1)}, file)
    refused(file)
    assert capsys.readouterr().out == ""


def test_a_pt2_file_with_our_text_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/extra/gfocal", INFO.to_text())
    file.write_bytes(content.getvalue())
    assert "it has no part 'models/model.json'" in refused(file)


def test_files_are_known_by_their_endings() -> None:
    assert [is_exported(name) for name in ("a.onnx", Path("a.PT2"), "a.pt", "runs/a", 3)] == [True, True] + [False] * 3


@pytest.mark.parametrize("threads", [0, -1, 4097, 99_999_999, 1.5, True])
def test_threads_out_of_range(threads: Any) -> None:
    """Runtimes start as many as they are told, until no memory is left."""
    with pytest.raises(UsageError, match="threads must be"):
        SessionOptions(threads=threads)


def test_an_empty_name_is_no_provider(tmp_path: Path) -> None:
    file = save(tmp_path, graph(), INFO.to_text())
    with pytest.raises(UsageError, match=r"--provider is one of cpu, .* not ''"):
        open_exported(file, SessionOptions(provider=""))


def test_an_environment_that_asks_for_millions_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, taken in {"99999999": 4096, "4097,2": 4096, "3,2": 3, "0": None, "many": None}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert asked_threads() == taken
