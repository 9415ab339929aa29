"""PicoDet as ONNX: its weights by their places in the graph, and other graphs refused by what they compute."""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.interop.load import import_weights
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import load_detector, read_weights
from gfocal.serialization import bounds
from gfocal.zoo import build_detector
from helpers.known_answers import assert_published
from helpers.onnx_files import paddle_onnx


def detector_of(recipe: str, classes: int = 3, *overrides: str) -> DenseDetector:
    """A detector of random values, its batch norms' too."""
    torch.manual_seed(0)
    detector = build_detector(load_recipe(recipe, overrides), [f"c{i}" for i in range(classes)], pretrained=False)
    for norm in detector.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            for tensor in (norm.running_mean, norm.bias.data):
                tensor.normal_(std=0.1)
            for tensor in (norm.running_var, norm.weight.data):
                tensor.uniform_(0.7, 1.4)
    return detector.eval()


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return paddle_onnx(detector_of("picodet_s"))


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_the_published_file_is_the_published_weights(shared: Path, tmp_path: Path) -> None:
    report = import_weights(shared / "weights/picodet_s_320_coco.onnx", tmp_path / "onnx")
    assert (report.format, report.recipe, report.changed) == ("picodet", "picodet_s", ())
    assert (report.used, report.unused, report.classes) == (266, (), 80)
    assert report.notes[-1].startswith("103 of 103 batch norms are folded")
    assert_published(load_detector(tmp_path / "onnx")[0], shared / "weights/picodet_s_320_raw.npz", sigmoid=True)
    import_weights(shared / "weights/picodet_s_320_coco.pdparams", tmp_path / "paddle")
    one, other = (read_weights(tmp_path / kind / "best.safetensors") for kind in ("onnx", "paddle"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("picodet_s", ()),
        ("picodet_m", ("model.boxes.reg_max=9",)),
        ("picodet_l", ()),
        ("picodet_s", ("model.channels=64", "model.head_depth=1")),
    ],
)
def test_a_detector_that_went_through_a_file_says_the_same(
    tmp_path: Path, recipe: str, overrides: tuple[str, ...]
) -> None:
    own = detector_of(recipe, 3, *overrides)
    report = import_weights(save(tmp_path / "a.bin", paddle_onnx(own, side=416)), tmp_path, names=["x", "y", "z"])
    assert report.changed == (*sorted(overrides), "data.resize.size=416")
    read, about, _ = load_detector(tmp_path)
    assert (read.names, about.data.resize.size) == (("x", "y", "z"), 416)
    images = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    with torch.no_grad():
        one, other = own(images), read(images)
    for ours, theirs in ((one.class_logits, other.class_logits), (one.box, other.box)):
        assert float((ours - theirs).abs().max()) < 1e-5
        assert float(ours.std()) > 1e-3


def test_a_free_size_and_names_in_any_order(tmp_path: Path, model: onnx.ModelProto) -> None:
    free = paddle_onnx(detector_of("picodet_s"), side=None)
    # Exporters order nodes and outputs as they like, as long as what comes first is done first.
    outputs = list(free.graph.output)
    del free.graph.output[:]
    free.graph.output.extend(outputs[::-1])
    del free.graph.initializer[:]
    free.graph.initializer.extend(list(model.graph.initializer)[::-1])
    assert import_weights(save(tmp_path / "a_416.onnx", free), tmp_path / "a").changed == ("data.resize.size=416",)
    assert import_weights(save(tmp_path / "a.onnx", model), tmp_path / "b", size=352).changed == (
        "data.resize.size=352",
    )
    one, other = (read_weights(tmp_path / kind / "best.safetensors") for kind in ("a", "b"))
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- other graphs


def changed(model: onnx.ModelProto, kind: str, change: Callable[[Any], Any], nth: int = 0) -> onnx.ModelProto:
    """The model with its n-th node of a kind changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change([node for node in copy.graph.node if node.op_type == kind][nth])
    return copy


def turned_round(node: Any) -> None:
    inputs = list(node.input)
    del node.input[:]
    node.input.extend(inputs[::-1])


def with_setting(name: str, value: Any) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


@pytest.mark.parametrize(
    ("kind", "change", "nth", "message"),
    [
        ("Concat", turned_round, 0, r"no layer like backbone\.stages\.0\.0\.join\.0\.0\.weight \(96, 1, 3, 3\)"),
        ("Concat", turned_round, -1, r"no layer like neck\.up_blocks\.1\.join"),
        ("Conv", with_setting("strides", [1, 1]), 0, r"no layer like backbone\.stem\.0\.0\.weight"),
        ("Conv", with_setting("group", 2), 2, "no layer like backbone"),
        ("Conv", with_setting("dilations", [2, 2]), 20, "no layer like"),
        ("Conv", with_setting("pads", [1, 1, 0, 0]), 0, "pads one side more than the other"),
        ("Relu", lambda n: setattr(n, "op_type", "Elu"), 0, "an operation Elu, which no such detector has"),
        ("Relu", lambda n: setattr(n, "op_type", "LeakyRelu"), 0, "an operation LeakyRelu"),
        ("HardSigmoid", with_setting("alpha", 0.2), 0, r"a hard sigmoid of slope 0\.2"),
        ("Resize", with_setting("mode", "linear"), 0, r"no layer like neck\.down_blocks"),
        ("MaxPool", with_setting("kernel_shape", [2, 2]), 0, r"no layer like backbone\.stages\.0\.0\.short"),
        ("Split", with_setting("split", [20, 28]), 0, "a split into parts that are not equal"),
        ("Transpose", with_setting("perm", [0, 1, 2, 4, 3]), 0, "the dimensions of a map are exchanged"),
        ("Add", lambda n: n.input.__setitem__(0, "nothing"), 0, "takes what no operation before it gives"),
        ("Sigmoid", lambda n: setattr(n, "op_type", "NonMaxSuppression"), 0, "NonMaxSuppression, which no such"),
    ],
)
def test_another_network_is_refused(
    model: onnx.ModelProto, tmp_path: Path, kind: str, change: Callable[[Any], Any], nth: int, message: str
) -> None:
    file = save(tmp_path / "a.onnx", changed(model, kind, change, nth))
    with pytest.raises(UsageError, match=message) as caught:
        import_weights(file, tmp_path / "out")
    assert str(caught.value).startswith(f"{file} holds no PicoDet of 2021 that can be imported: ")
    assert not (tmp_path / "out").exists()


def graph_of(*operations: tuple[str, dict[str, Any]]) -> onnx.ModelProto:
    """A chain of operations on an image; each has a weight of four dimensions beside it."""
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    names = ["image", *(f"x{i}" for i in range(len(operations)))]
    nodes = [
        helper.make_node(
            kind, [names[i], "w"] if kind in ("Conv", "Gemm", "MatMul") else [names[i]], [names[i + 1]], **settings
        )
        for i, (kind, settings) in enumerate(operations)
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "other", [image], [out], [weight]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph_of(("Conv", {}), ("Gemm", {})), "an operation Gemm, which no such detector has"),
        (graph_of(("Conv", {}), ("Sigmoid", {})), "its outputs are 1 parts of 1 levels, not 2 of 4"),
        (graph_of(("Conv", {}), ("Split", {"axis": 1, "split": [4, 4]})), "its outputs are 2 parts of 1 levels"),
        (
            graph_of(
                ("Sigmoid", {}),
            ),
            "its outputs are 1 parts of 1 levels",
        ),
        (
            graph_of(
                ("MatMul", {}),
            ),
            "an operation MatMul",
        ),
    ],
)
def test_what_is_no_detector_is_refused(tmp_path: Path, model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_weights(save(tmp_path / "a.onnx", model), tmp_path / "out")


def test_weights_that_are_not_finite_are_refused(model: onnx.ModelProto, tmp_path: Path) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = copy.graph.initializer[0]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(UsageError, match=r"not a number: 1 of 648 in backbone\.stem\.0\.0\.weight"):
        import_weights(save(tmp_path / "a.onnx", copy), tmp_path / "out")


# --- the file


def test_numbers_in_other_files_are_not_looked_for(model: onnx.ModelProto, tmp_path: Path) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = copy.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(UsageError, match="keeps numbers in another file"):
        import_weights(save(tmp_path / "a.onnx", copy), tmp_path / "out")


def test_a_file_that_is_too_large_is_not_read(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "GRAPH", 1000)
    with pytest.raises(UsageError, match=r"it has [\d,]+ bytes, and at most 1,000 are read"):
        import_weights(save(tmp_path / "a.onnx", model), tmp_path / "out")


def test_without_the_package_it_says_what_to_install(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def lacking(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UsageError, match=r"is not installed: pip install 'gfocal\[onnx\]'"):
        import_weights(save(tmp_path / "a.onnx", model), tmp_path / "out")


def test_any_damage_ends_in_one_message(model: onnx.ModelProto, tmp_path: Path) -> None:
    small = onnx.ModelProto()
    small.CopyFrom(model)
    for tensor in small.graph.initializer:  # shorter, so that most of what is changed is structure
        if tensor.dims and len(tensor.dims) == 4:
            tensor.raw_data = b""
    whole, draw = small.SerializeToString(), random.Random(0)
    broken = [whole[: draw.randrange(4, len(whole))] for _ in range(15)]
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 30)):
            content[draw.randrange(3, len(content))] = draw.randrange(256)
        broken.append(bytes(content))
    for content in [*broken, b"\x08\x07\x12\x01a", b"\x08\x07" + b"\x3a\x02\x0a\x00"]:
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(UsageError, match=r"is not an ONNX file that can be read|holds no PicoDet"):
            import_weights(tmp_path / "a.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
