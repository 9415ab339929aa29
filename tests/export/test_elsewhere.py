"""The examples of docs/use-it-elsewhere.md: they are built, run, and find what gfocal finds in the same file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import gfocal
from gfocal.commands.export.export import export_files
from gfocal.detections import Detections
from gfocal.export.web.page import MODULE
from gfocal.exported.contract import ExportInfo
from gfocal.images.resizing import resize_to
from helpers.javascript import node, npm
from helpers.paths import ROOT

EXAMPLES = ROOT / "docs" / "examples"
PAGE = ROOT / "docs" / "use-it-elsewhere.md"


def check_same(ours: Detections, labels: list[int], scores: list[float], numbers: list[list[float]]) -> None:
    """``numbers``: x1, y1, x2, y2 and their standard deviations."""
    assert len(scores) > 10
    assert labels == ours.labels.tolist()
    np.testing.assert_allclose(scores, ours.scores, atol=1e-5)
    np.testing.assert_allclose(numbers, np.concatenate([ours.boxes, ours.edge_std], 1), atol=5e-3)


def build(folder: Path, source: Path, *words: str) -> Path:
    """A program."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is here: apt-get install g++")
    program = folder / source.stem
    command = [compiler, "-std=c++17", "-O2", "-Wall", f"-I{EXAMPLES}", str(source), *words, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return program


TRY = """#include <cstdio>
#include "resize.hpp"
int main() {
    size_t size[4];
    while (std::scanf("%zu %zu %zu %zu", size, size + 1, size + 2, size + 3) == 4) {
        std::vector<uint8_t> image(size[0] * size[1] * 3);
        for (auto& value : image) std::scanf("%hhu", &value);
        for (int value : gfocal::resize(image, size[0], size[1], size[2], size[3])) std::printf("%d ", value);
        std::printf("\\n");
    }
}
"""


@pytest.mark.slow
def test_images_are_resized_in_cpp_as_in_python(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "try.cpp").write_text(TRY)
    sizes = [(1, 1, 3, 2), (7, 5, 7, 5), (48, 64, 32, 32), (33, 40, 64, 96), (40, 33, 1, 1), (97, 131, 32, 50)]
    images = [random.integers(0, 2, (h, w, 3), dtype=np.uint8) * 255 for h, w, *_ in sizes]
    images[-1] = random.integers(0, 256, images[-1].shape, dtype=np.uint8)
    lines = [" ".join(map(str, [*size, *image.ravel().tolist()])) for size, image in zip(sizes, images, strict=True)]
    given = "\n".join(lines)
    program = build(tmp_path, tmp_path / "try.cpp")
    said = subprocess.run([program], input=given, capture_output=True, text=True, timeout=60, check=True).stdout
    for (_, _, height, width), image, line in zip(sizes, images, said.splitlines(), strict=True):
        assert list(map(int, line.split())) == resize_to(image, (height, width)).ravel().tolist()


@pytest.mark.slow
def test_cpp_finds_what_gfocal_finds(nanodet: Path, shared: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="C++ headers of a runtime come from the package openvino")
    package = Path(openvino.__file__).parent
    (library,) = (package / "libs").glob("libopenvino.so.*")
    file = tmp_path / "best.onnx"
    export_files(str(nanodet), out=file, static="1", samples=2)
    where = (f"-isystem{package / 'include'}", f"-L{library.parent}", f"-l:{library.name}")
    program = build(tmp_path, EXAMPLES / "detect.cpp", *where, f"-Wl,-rpath,{library.parent}")
    detector = gfocal.load(file)
    for name in ("000000000025.jpg", "000000000036.jpg"):
        picture = tmp_path / "picture.ppm"
        Image.open(shared / "data" / "coco_mini" / "images" / name).convert("RGB").save(picture)
        done = subprocess.run([program, file, picture], capture_output=True, text=True, timeout=60, check=True)
        rows = [line.split() for line in done.stdout.splitlines()]
        numbers = [list(map(float, row[2::2] + row[3::2])) for row in rows]
        check_same(detector.predict(picture), [int(row[0]) for row in rows], [float(row[1]) for row in rows], numbers)
    model = onnx.load(file)  # as of boxes that say nothing of their edges
    model.graph.output.remove(next(value for value in model.graph.output if value.name == "edge_std"))
    onnx.save(model, tmp_path / "dirac.onnx")
    done = subprocess.run([program, tmp_path / "dirac.onnx", picture], capture_output=True, text=True, timeout=60)
    assert [line.split() for line in done.stdout.splitlines()] == [[*row[:2], *row[2::2]] for row in rows]
    for words in ((), (str(file), str(file)), (str(PAGE), str(tmp_path / "picture.ppm"))):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "error: " in done.stderr  # OpenVINO may log before it
    check_refusals(program, file, tmp_path)


def check_refusals(program: Path, file: Path, folder: Path) -> None:
    """Files that want another resize, or a suppression of one's own: boxes would be wrong."""
    model, static, other = onnx.load(file), onnx.load(file), folder / "other.onnx"
    (entry,) = (entry for entry in model.metadata_props if entry.key == "gfocal")
    info = ExportInfo.from_texts({"gfocal": entry.value}, "it")
    for changes, said in (
        ({"resize": replace(info.resize, kind="short_long")}, '"kind": "short_long"'),
        ({"resize": replace(info.resize, size=32)}, '"size": 32,'),
        ({"resize": replace(info.resize, size=3200)}, '"size": 3200,'),
        ({"resize": replace(info.resize, method="nearest")}, '"method": "nearest"'),
        ({"nms": "out"}, "export it with --nms in"),
        ({"batch": None}, "export it with --static 1"),
        ({}, "no .onnx of `gfocal export`"),
    ):
        entry.value = replace(info, **changes).to_text()
        if not changes:
            model.metadata_props.remove(entry)
        shape = model.graph.input[0].type.tensor_type.shape
        shape.CopyFrom(static.graph.input[0].type.tensor_type.shape)
        if "batch" in changes:
            shape.dim[0].dim_param = "batch"
        onnx.save(model, other)
        done = subprocess.run([program, other, folder / "picture.ppm"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert said in line


@pytest.mark.slow
def test_node_finds_what_gfocal_finds(nanodet_page: Path, shared: Path, tmp_path: Path) -> None:
    program = node()
    npm(tmp_path, "install", "--ignore-scripts", "--no-save", "onnxruntime-node", "sharp")
    for file in (EXAMPLES / "detect.mjs", nanodet_page / MODULE):
        shutil.copy(file, tmp_path)
    model = nanodet_page / "best.onnx"
    detector = gfocal.load(model)
    for name in ("000000000025.jpg", "000000000036.jpg"):
        photo = shared / "data" / "coco_mini" / "images" / name
        words = [program, str(tmp_path / "detect.mjs"), str(model), str(photo)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        labels = [detector.names.index(row["class"]) for row in rows]
        check_same(detector.predict(photo), labels, [r["score"] for r in rows], [r["box"] + r["std"] for r in rows])
    own = shutil.copy(model, tmp_path)
    parity = json.loads(model.with_name("best.onnx.parity.json").read_text())
    for changes, sha256, said in (
        ({"kind": "letterbox"}, parity["sha256"], 'resized by "letterbox"'),
        ({"method": "nearest"}, parity["sha256"], 'resized "nearest"'),
        ({}, "0" * 64, "best.onnx.parity.json is of another file"),
    ):
        info = {**parity["info"], "resize": {**parity["info"]["resize"], **changes}}
        (tmp_path / "best.onnx.parity.json").write_text(json.dumps({**parity, "info": info, "sha256": sha256}))
        words = [program, str(tmp_path / "detect.mjs"), own, str(photo)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert said in line


def test_the_page_shows_the_examples_as_they_are() -> None:
    text = PAGE.read_text()
    for name, language in (("detect.cpp", "cpp"), ("detect.mjs", "js")):
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert (EXAMPLES / name).read_text() in blocks, f"{PAGE.name} shows another {name} than docs/examples has"
