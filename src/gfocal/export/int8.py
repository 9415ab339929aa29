"""INT8: convolutions compute with 8 bits, in ranges that were measured on the user's own images.

What gives the outputs of the head, and all that comes after it, stays in float: the distributions of the edges, softmax
and integral, decoding, scores, suppression. A tensor that holds scores and boxes together thus never has one scale.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import UsageError
from gfocal.exported.contract import Quantization

_OUTLIER = 16.0
"""A channel with weights so many times as large as the median channel's makes a convolution delicate."""
Batch = Mapping[str, np.ndarray]
"""What a graph takes, by name."""


@dataclass(frozen=True)
class Int8:
    """What INT8 is made with.

    Attributes:
        images: files that the ranges of activations are measured on.
        data: what they are, in words.
        batch_of: a batch as it enters the graph, of a file.
        outputs: names of the weights of the layers that give the head's outputs.
    """

    images: Sequence[Path]
    data: str
    batch_of: Callable[[Path], Batch]
    outputs: frozenset[str]

    def record(self, method: str, operations: Sequence[_Operation], inner: set[str]) -> Quantization:
        """What an exported file says of it."""
        every = sum(each.weights is not None for each in operations)
        return Quantization(method, len(self.images), self.data, len(inner), every - len(inner))


@dataclass(frozen=True)
class _Operation:
    """A node of either graph: its name, its kind, the names of what it takes and gives, and a convolution's weights."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: np.ndarray | None = None


def quantized_onnx(model: Any, int8: Int8) -> tuple[Any, Quantization]:
    """An ONNX model whose convolutions are quantised by onnxruntime: weights by channel, activations by range.

    Only convolutions are: what lies between them computes in float. On ``nanodet_m`` that is as quick and loses less.

    Raises:
        UsageError: there is no convolution but those of the outputs.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    class Reader:
        """What onnxruntime asks for batches, one at a time."""

        def __init__(self) -> None:
            self._batches = map(int8.batch_of, int8.images)

        def get_next(self) -> Batch | None:
            return next(self._batches, None)

    weights = {entry.name: entry for entry in model.graph.initializer}
    operations = [
        _Operation(
            node.name,
            node.op_type,
            tuple(node.input),
            tuple(node.output),
            onnx.numpy_helper.to_array(weights[node.input[1]]) if node.op_type == "Conv" else None,
        )
        for node in model.graph.node
    ]
    inner = _quantisable(operations, {each.name for each in operations if int8.outputs.intersection(each.inputs)})
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, file = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(model.SerializeToString())
        quantize(
            plain,
            file,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=sorted(inner),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},  # one odd image does not make all steps larger
        )
        found = onnx.load(file)
    method = "onnxruntime, QDQ: weights of 8 bits by channel, activations of 8 bits between the mean extremes"
    return found, int8.record(method, operations, inner)


def quantized_openvino(model: Any, int8: Int8) -> tuple[Any, Quantization]:
    """An OpenVINO model that NNCF quantised: convolutions, and what between them computes in 8 bits.

    Raises:
        UsageError: there is no convolution but those of the outputs.
    """
    with _quiet():
        import nncf
    operations = [
        _Operation(op.get_friendly_name(), op.get_type_name(), _sources(op), (op.get_friendly_name(),), _weights(op))
        for op in model.get_ordered_ops()
        if op.get_type_name() not in ("Constant", "Result", "Parameter")
    ]
    last = {op.get_friendly_name() for op in model.get_ordered_ops() if _weights_name(op) in int8.outputs}
    inner, before = _quantisable(operations, last), _before(operations, last)
    left = [each.name for each in operations if each.name not in (before if each.weights is None else inner)]
    with _quiet():
        found = nncf.quantize(
            model,
            nncf.Dataset(int8.images, int8.batch_of),
            subset_size=len(int8.images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=left, validate=False),
        )
    method = "NNCF: weights of 8 bits by channel, activations of 8 bits"
    return found, int8.record(method, operations, inner)


def _quantisable(operations: Sequence[_Operation], last: set[str]) -> set[str]:
    """Names of the convolutions that compute in 8 bits.

    Raises:
        UsageError: there are none.
    """
    before, delicate = _before(operations, last), _delicate(operations)
    inner = {each.name for each in operations if each.weights is not None and each.name in before - delicate}
    if not inner:
        raise UsageError("this detector has no convolution before those of its outputs: INT8 would change nothing")
    return inner


def _delicate(operations: Sequence[_Operation]) -> set[str]:
    """Names of the convolutions with a channel that makes the steps of 8 bits large, and of those around them.

    A channel that hardly varied in training is scaled up by its batch norm, and with it the steps of its input. So the
    input must be exact, which means all convolutions that give or take it, and so must those that take the output:
    onnxruntime quantises the weights of a convolution between two others by itself, and not by channel.
    """
    wires, live = dict[str, str](), set[str]()

    def wire(name: str) -> str:
        while wires.setdefault(name, name) != name:
            name = wires[name]
        return name

    convolutions = [each for each in operations if each.weights is not None]
    for each in operations:
        values = live.intersection(each.inputs)
        if each.weights is not None:
            live.update(each.outputs)
        elif values and each.kind not in ("Shape", "ShapeOf"):
            live.update(each.outputs)
            for name in (*values, *each.outputs):
                wires[wire(name)] = wire(each.outputs[0])
    exact = {
        wire(name)
        for each in convolutions
        if each.weights is not None and _amplifies(each.weights)
        for name in (each.inputs[0], each.outputs[0])
    }
    return {each.name for each in convolutions if exact & {wire(each.inputs[0]), wire(each.outputs[0])}}


def _amplifies(weights: np.ndarray) -> bool:
    """Whether a channel's largest weight is far above that of others; (outputs, ...), or OpenVINO's groups before."""
    largest = np.abs(weights.astype(np.float32)).reshape(-1, *weights.shape[-3:]).max((1, 2, 3))
    return float(largest.max()) > _OUTLIER * float(np.median(largest)) > 0


def _before(operations: Sequence[_Operation], last: set[str]) -> set[str]:
    """Names of the operations that lead to the ``last`` ones and use nothing that one of those gives.

    Args:
        operations: in the order of computing.
        last: names of those that give the head's outputs; a quality may be computed from boxes.
    """
    if not last:
        raise RuntimeError("the layers that give the outputs were not found in the converted graph")
    late, given = set(last), set[str]()
    for each in operations:
        if each.name in late or given.intersection(each.inputs):
            late.add(each.name)
            given.update(each.outputs)
    before, needed = set[str](), set[str]()
    for each in reversed(operations):
        if each.name in last or needed.intersection(each.outputs):
            needed.update(each.inputs)
            before.add(each.name)
    return before - late


def _sources(operation: Any) -> tuple[str, ...]:
    return tuple(value.get_source_output().get_node().get_friendly_name() for value in operation.inputs())


def _weights_node(operation: Any) -> Any | None:
    """The constant that an OpenVINO operation weighs its input with, whatever converts it on the way."""
    if operation.get_type_name() not in ("Convolution", "GroupConvolution"):
        return None
    node = operation.input_value(1).get_node()
    while node.get_type_name() in ("Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _weights(operation: Any) -> np.ndarray | None:
    node = _weights_node(operation)
    return None if node is None else np.asarray(node.data)


def _weights_name(operation: Any) -> str | None:
    node = _weights_node(operation)
    return None if node is None else str(node.get_friendly_name())


@contextmanager
def _quiet() -> Iterator[None]:
    """Quantisers print and warn of their own internals; NNCF reports its use over the network, unless told not to."""
    before, level = os.environ.get("NNCF_CI"), logging.root.manager.disable
    os.environ["NNCF_CI"] = "1"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
