"""OpenVINO files that are wrong or hostile: one message, nothing of them run, no other file read."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset15 as ops

from gfocal.errors import UsageError
from gfocal.exported.contract import OUTPUTS
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import SessionOptions, files_of, open_exported
from gfocal.exported.openvino_session import WEIGHTS, digest_of, openvino_core
from helpers.made_exports import INFO

VALUES = {
    "boxes": np.float32([[[0, 0, 32, 32]]]),
    "scores": np.float32([[0.5]]),
    "labels": np.int64([[1]]),
    "edge_std": np.float32([[[1, 1, 1, 1]]]),
    "count": np.int64([1]),
}
assert [name for name in OUTPUTS if name in VALUES] == list(INFO.outputs)


def save(folder: Path, text: str | None = INFO.to_text(), inputs: tuple[str, str] = ("images", "sizes")) -> Path:
    """A graph that finds one box in each image."""
    images = ops.parameter([-1, -1, -1, 3], np.uint8, name=inputs[0])
    sizes = ops.parameter([-1, 2], np.int64, name=inputs[1])
    for given, name in ((images, inputs[0]), (sizes, inputs[1])):
        given.output(0).set_names({name})
    results = []
    for name, value in VALUES.items():
        constant = ops.constant(value).output(0)
        constant.set_names({name})
        results.append(ops.result(constant))
    model = openvino.Model(results, [images, sizes], "own")
    file = folder / "model.xml"
    openvino.save_model(model, file, compress_to_fp16=False)
    if text is not None:
        model.set_rt_info(text, "gfocal")
    model.set_rt_info(digest_of(file.with_suffix(".bin").read_bytes()), WEIGHTS)
    openvino.save_model(model, file, compress_to_fp16=False)
    return file


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_exported(file)
    assert file.stem in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_right_file_runs(tmp_path: Path) -> None:
    file = save(tmp_path)
    detector = open_exported(file, SessionOptions(provider="cpu", threads=1))
    assert isinstance(detector, ExportedDetector)
    found = detector.predict(np.zeros((40, 40, 3), np.uint8))
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[0, 0, 32, 32]], [1])
    assert files_of(file) == (tmp_path / "model.bin", file)
    assert files_of(tmp_path / "a.onnx") == (tmp_path / "a.onnx",)


def test_outputs_of_one_run_outlive_the_next(tmp_path: Path) -> None:
    session = open_exported(save(tmp_path)).session
    images, sizes = np.zeros((1, 32, 32, 3), np.uint8), np.array([[32, 32]])
    first = session.run(images, sizes)["boxes"]
    first[:] = -1
    assert session.run(images, sizes)["boxes"].min() == 0
    assert first.max() == -1


@pytest.mark.parametrize(
    "change",
    [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"", lambda b: bytes([b[0] ^ 1]) + b[1:]],
    ids=["short", "long", "empty", "other"],
)
def test_weights_that_are_not_its_own(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    file = save(tmp_path)
    weights = file.with_suffix(".bin")
    weights.write_bytes(change(weights.read_bytes()))
    assert "does not hold the weights of model.xml" in refused(file)


def test_no_weights(tmp_path: Path) -> None:
    file = save(tmp_path)
    file.with_suffix(".bin").unlink()
    assert "model.bin is missing" in refused(file)


def test_weights_that_are_endless(tmp_path: Path) -> None:
    """What is no file is not opened, or reading would not end."""
    file = save(tmp_path)
    file.with_suffix(".bin").unlink()
    file.with_suffix(".bin").symlink_to("/dev/zero")
    assert "is missing" in refused(file)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_graph(tmp_path: Path, share: float) -> None:
    file = save(tmp_path)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert "is not a graph of OpenVINO, or is damaged" in refused(file)


@pytest.mark.parametrize("content", [b"not a graph", b"\x00" * 100, b"\xff\xfe<net/>", "<néü/>".encode("latin-1")])
def test_no_xml_at_all(tmp_path: Path, content: bytes) -> None:
    file = save(tmp_path)
    file.write_bytes(content)
    refused(file)


def test_the_xml_of_something_else(tmp_path: Path) -> None:
    file = save(tmp_path)
    file.write_text("<annotation><object/></annotation>")
    assert "the XML of something else, <annotation>" in refused(file)


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE net [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE net SYSTEM "http://localhost:9/net.dtd">',
    ],
    ids=["bomb", "file", "network"],
)
def test_entities_are_not_followed(tmp_path: Path, doctype: str) -> None:
    file = save(tmp_path)
    content = file.read_text().replace('<?xml version="1.0"?>', f'<?xml version="1.0"?>{doctype}')
    file.write_text(content.replace('name="own"', 'name="&b;"'))
    assert "declares a document type" in refused(file)


def test_another_project_s_file(tmp_path: Path) -> None:
    assert "another program wrote it" in refused(save(tmp_path, text=None))


def test_other_inputs_than_it_says(tmp_path: Path) -> None:
    assert "was changed after it was exported" in refused(save(tmp_path, inputs=("x", "y")))


def test_other_outputs_than_it_says(tmp_path: Path) -> None:
    less = replace(INFO, outputs=INFO.outputs[:-1])
    assert "was changed after it was exported" in refused(save(tmp_path, less.to_text()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'offset="\d+" size="16"', 'offset="999999" size="16"'),
        (r'offset="\d+" size="16"', 'offset="18446744073709551608" size="16"'),
        (r'offset="\d+" size="16"', 'offset="-8" size="16"'),
        (r'shape="1, 1, 4"', 'shape="1, 1, 400000000"'),
        (r'type="Const"', 'type="ReadFile"'),
        (r'<net name="own" version="11">', '<net name="own" version="99">'),
    ],
)
def test_a_graph_that_reaches_beyond_its_weights(tmp_path: Path, old: str, new: str) -> None:
    file = save(tmp_path)
    content, changed = re.subn(old, new, file.read_text(), count=1)
    assert changed == 1
    file.write_text(content)
    assert "is damaged, or this openvino does not run it" in refused(file)


def test_devices(tmp_path: Path) -> None:
    file = save(tmp_path)
    with pytest.raises(UsageError, match="is one of cpu, gpu, npu, auto, not 'tensorrt'"):
        open_exported(file, SessionOptions("tensorrt"))
    if "NPU" not in openvino_core().available_devices:
        with pytest.raises(UsageError, match="finds no npu here; it has cpu"):
            open_exported(file, SessionOptions("npu"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_after_several_models_is_handled(tmp_path: Path) -> None:
    """Each Core of OpenVINO sets a stack for handlers; cores that go in the order in which they came leave a freed one.

    In a process of its own: where this fails, the process is killed.
    """
    script = """
import os, signal, sys
import gfocal

signal.signal(signal.SIGINT, lambda number, frame: print("handled"))
models = [gfocal.load(sys.argv[1]) for _ in range(3)]
while models:
    del models[0]
os.kill(os.getpid(), signal.SIGINT)
"""
    file = save(tmp_path)
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")
