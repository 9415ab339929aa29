"""ONNX files as plain data: the operations of a graph, and its constants. Nothing of it is run.

Read by the package ``onnx``, which the extra ``onnx`` installs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import UsageError
from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable, check_at_most


@dataclass(frozen=True)
class Operation:
    """One node of a graph.

    Attributes:
        kind: "Conv", "Add", ...
        inputs: names of what it takes; "" where an optional one is left out.
        outputs: names of what it gives.
        settings: its attributes by name: numbers, texts, lists of them, arrays; other kinds are left out.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """What an ONNX file computes.

    Attributes:
        operations: in an order in which they can be done.
        constants: by name.
        images: names of what it takes beside them, with their dimensions; None for one that is free.
        outputs: names of what it gives.
        about: who made it, as the file says.
    """

    operations: tuple[Operation, ...]
    constants: Mapping[str, np.ndarray]
    images: Mapping[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    about: str


def read_onnx(file: Path) -> Graph:
    """The graph of an ONNX file.

    Raises:
        UsageError: the package ``onnx`` is not installed; there is no such file; or it is damaged, too large or keeps
            numbers in other files.
    """
    try:
        import onnx
    except ImportError:
        raise UsageError(
            f"{file}: onnx, which reads such files, is not installed: pip install 'gfocal[onnx]'"
        ) from None
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    try:
        check_at_most(file.stat().st_size, bounds.GRAPH, "it has {} bytes")
        # From bytes: given a path, onnx would open other files that this one names.
        return _graph(onnx.load_model_from_string(file.read_bytes()))
    except Exception as error:  # damaged files fail in many ways
        reason = str(error) if isinstance(error, Unreadable) else f"damaged: {type(error).__name__}"
        raise UsageError(f"{file} is not an ONNX file that can be read ({reason})") from error


def _graph(model: Any) -> Graph:
    graph = model.graph
    if not graph.node:
        raise Unreadable("it has no operations")
    constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
    operations = []
    for node in graph.node:
        settings = {each.name: value for each in node.attribute if (value := _setting(each)) is not None}
        operations.append(Operation(node.op_type, tuple(node.input), tuple(node.output), settings))
    images = {each.name: _dimensions(each) for each in graph.input if each.name not in constants}
    about = " ".join(filter(None, (model.producer_name, model.producer_version)))
    return Graph(tuple(operations), constants, images, tuple(each.name for each in graph.output), about)


def _setting(attribute: Any) -> Any:
    from onnx import AttributeProto, helper

    if attribute.type == AttributeProto.TENSOR:
        return _array(attribute.t)
    plain = (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.FLOATS)
    if attribute.type not in (*plain, AttributeProto.INTS, AttributeProto.STRINGS):
        return None
    value = helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _array(tensor: Any) -> np.ndarray:
    """The numbers of a constant.

    Raises:
        Unreadable: they are in another file.
    """
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise Unreadable("it keeps numbers in another file")
    return numpy_helper.to_array(tensor)


def _dimensions(value: Any) -> tuple[int | None, ...]:
    shape = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in shape)
