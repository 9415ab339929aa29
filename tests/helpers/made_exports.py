"""What an exported file may say about itself, and a graph that needs no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from gfocal.exported.contract import ExportInfo, ResizeRule, Thresholds

INFO = ExportInfo(
    names=("cat", "dog"),
    resize=ResizeRule("short_long", 320, 40, 60, (1, 2, 3)),
    thresholds=Thresholds(0.05, 1000, 0.5, 100, 0.0, False),
    tiling=None,
    nms="in",
    precision="fp32",
    outputs=("boxes", "scores", "labels", "edge_std", "count"),
    batch=None,
    height=None,
    width=None,
    value_range="type",
    category_ids=None,
    recipe={},
    versions={"gfocal": "0"},
    opset=20,
)


def graph(*, inputs: tuple[str, str] = ("images", "sizes"), external: bool = False) -> onnx.ModelProto:
    """Finds one box, the image, in each image."""
    kinds = {"images": (TensorProto.UINT8, ["b", "h", "w", 3]), "sizes": (TensorProto.INT64, ["b", 2])}
    given = [helper.make_tensor_value_info(name, *kind) for name, kind in zip(inputs, kinds.values(), strict=True)]
    values = {
        "boxes": np.float32([[[0, 0, 32, 32]]]),
        "scores": np.float32([[0.5]]),
        "labels": np.int64([[1]]),
        "edge_std": np.float32([[[1, 1, 1, 1]]]),
        "count": np.int64([1]),
    }
    weights = [onnx.numpy_helper.from_array(value, f"{name}_0") for name, value in values.items()]
    if external:
        weights[0].ClearField("raw_data")
        weights[0].data_location = TensorProto.EXTERNAL
        weights[0].external_data.add(key="location", value="../secret.bin")
    nodes = [helper.make_node("Identity", [f"{name}_0"], [name]) for name in values]
    kinds_out = [helper.make_tensor_value_info(w.name[:-2], w.data_type, list(w.dims)) for w in weights]
    own = helper.make_graph(nodes, "own", given, kinds_out, weights)
    return helper.make_model(own, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def save(folder: Path, model: onnx.ModelProto, text: str | None = None) -> Path:
    """Write a graph, with a text about itself perhaps."""
    if text is not None:
        model.metadata_props.add(key="gfocal", value=text)
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file
