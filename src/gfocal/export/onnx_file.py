"""ONNX files: one file, standard operators, names and shapes as the contract says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from gfocal.errors import UsageError
from gfocal.export.int8 import Int8, quantized_onnx
from gfocal.export.suppression import Suppress, greedy_mask_op
from gfocal.export.trace import quiet
from gfocal.exported.contract import ABOUT, INPUTS, ExportInfo
from gfocal.models import PostProcess

OPSET = 20
"""Of ONNX, by default: ONNX Runtime 1.17 (January 2024) and later read it."""
_LARGEST = 2**31 - 1  # bytes of a file of protobuf


def best(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """ONNX's TopK takes the first of equal numbers."""
    found = values.topk(count)
    return found.values, found.indices


def suppression(post: PostProcess, classes: int) -> Suppress:
    """ONNX has an operator for it, NonMaxSuppression: see :func:`_translated`."""
    return partial(
        greedy_mask_op, classes=1 if post.class_agnostic else classes, iou=post.nms_iou, limit=post.max_detections
    )


def write(program: ExportedProgram, info: ExportInfo, file: Path, int8: Int8 | None = None) -> ExportInfo:
    """Write a traced graph as ONNX.

    Raises:
        UsageError: it is larger than such a file may be.
    """
    model = converted(program, info)
    if int8 is not None:
        model, quantization = quantized_onnx(model, int8)
        info = replace(info, quantization=quantization)
    model.producer_name, model.producer_version = "gfocal", info.versions["gfocal"]
    del model.metadata_props[:]
    model.metadata_props.add(key=ABOUT, value=info.to_text())
    _check(model, info)
    file.write_bytes(model.SerializeToString())
    return info


def converted(program: ExportedProgram, info: ExportInfo) -> Any:
    """A traced graph as ONNX, without metadata.

    Raises:
        UsageError: it is larger than such a file may be.
    """
    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=info.opset,
            optimize=True,
            external_data=False,
            input_names=list(INPUTS),
            output_names=list(info.outputs),
            custom_translation_table={torch.ops.gfocal.greedy_mask.default: _translated},
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    if model.ByteSize() > _LARGEST:
        raise UsageError(f"the network takes {model.ByteSize() / 2**30:.1f} GB: an ONNX file holds less than 2")
    _name_dimensions(model, info)
    return model


def _translated(boxes: Any, scores: Any, labels: Any, classes: int, iou: float, limit: int) -> Any:
    """:func:`gfocal.export.suppression.greedy_mask` by ONNX's own operator; its places become a mask."""
    import onnxscript

    op: Any = onnxscript.opset18  # its own types do not allow what it takes

    numbers = op.Constant(value_ints=list(range(classes)))
    column = op.Reshape(numbers, op.Constant(value_ints=[1, classes, 1]))
    own = op.Equal(op.Unsqueeze(labels, op.Constant(value_ints=[1])), column)
    nothing = op.Constant(value_float=-1.0)
    by_class = op.Where(own, op.Unsqueeze(scores, op.Constant(value_ints=[1])), nothing)
    picked = op.NonMaxSuppression(
        boxes,
        by_class,
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[iou]),
        op.Constant(value_floats=[0.0]),
    )
    place = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)  # image and box, without the class
    zeros = op.Mul(scores, op.Constant(value_float=0.0))
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(place, start=0, end=1))
    return op.Greater(op.ScatterND(zeros, place, ones), op.Constant(value_float=0.0))


def _name_dimensions(model: Any, info: ExportInfo) -> None:
    """Names instead of torch's symbols, and no notes on the inside: its shapes, and which lines of code it is from."""
    named = {0: ("batch", info.batch), 1: ("height", info.height), 2: ("width", info.width)}
    for value in [*model.graph.input, *model.graph.output]:
        axes = named if value.name == INPUTS[0] else {0: named[0]}
        for axis, (name, fixed) in axes.items():
            if fixed is None:
                value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    for part in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del part.metadata_props[:]


def _check(model: Any, info: ExportInfo) -> None:
    """The file is what the contract says: exporters have been seen to fix what was left open, and to rename.

    Raises:
        RuntimeError: it is not.
    """
    import onnx

    onnx.checker.check_model(model)
    domains = {entry.domain: entry.version for entry in model.opset_import}
    if domains != {"": info.opset}:
        raise RuntimeError(f"the ONNX graph has operators of {domains}, not the standard ones of opset {info.opset}")
    own = {value.name: _dimensions(value) for value in [*model.graph.input, *model.graph.output]}
    batch: int | str = info.batch or "batch"
    images = (batch, info.height or "height", info.width or "width", 3)
    wanted = {"images": images, "sizes": (batch, 2), **dict.fromkeys(info.outputs, (batch,))}
    if list(own) != list(wanted) or any(own[name][: len(shape)] != shape for name, shape in wanted.items()):
        raise RuntimeError(f"the ONNX graph has {own}, not {wanted}")


def _dimensions(value: Any) -> tuple[int | str, ...]:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
