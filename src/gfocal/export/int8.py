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

    def record(self, method: str, layers: int, float_layers: int) -> Quantization:
        """What an exported file says of it."""
        return Quantization(method, len(self.images), self.data, layers, float_layers)


def quantized_onnx(model: Any, int8: Int8) -> tuple[Any, Quantization]:
    """An ONNX model whose convolutions are quantised by onnxruntime: weights by channel, activations by range.

    Only convolutions are: what lies between them computes in float. On ``nanodet_m`` that is as quick and loses less.

    Raises:
        UsageError: there is no convolution but those of the outputs.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    class Reader(CalibrationDataReader):
        """onnxruntime asks for a batch at a time."""

        def __init__(self) -> None:
            self._batches = map(int8.batch_of, int8.images)

        def get_next(self) -> Batch | None:
            return next(self._batches, None)

    nodes = list(model.graph.node)
    convolutions = [node for node in nodes if node.op_type in ("Conv", "DeformConv")]
    before = _before(
        [_Operation(node.name, tuple(node.input), tuple(node.output)) for node in nodes],
        {node.name for node in convolutions if int8.outputs.intersection(node.input)},
    )
    inner = [node.name for node in convolutions if node.op_type == "Conv" and node.name in before]
    _check_layers(inner)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, file = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(model.SerializeToString())
        quantize(
            plain,
            file,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=inner,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        found = onnx.load(file)
    method = "onnxruntime, QDQ: weights of 8 bits by channel, activations of 8 bits between the extremes"
    return found, int8.record(method, len(inner), len(convolutions) - len(inner))


def quantized_openvino(model: Any, int8: Int8) -> tuple[Any, Quantization]:
    """An OpenVINO model that NNCF quantised: convolutions, and what between them computes in 8 bits.

    Raises:
        UsageError: there is no convolution but those of the outputs.
    """
    with _quiet():
        import nncf
    operations = [op for op in model.get_ordered_ops() if op.get_type_name() not in ("Constant", "Result", "Parameter")]
    convolutions = [op.get_friendly_name() for op in operations if "Convolution" in op.get_type_name()]
    names = [op.get_friendly_name() for op in operations]
    before = _before(
        [_Operation(name, _sources(op), (name,)) for name, op in zip(names, operations, strict=True)],
        {op.get_friendly_name() for op in operations if _weights_of(op) in int8.outputs},
    )
    inner = [name for name in convolutions if name in before]
    _check_layers(inner)
    with _quiet():
        found = nncf.quantize(
            model,
            nncf.Dataset(int8.images, int8.batch_of),
            subset_size=len(int8.images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=[name for name in names if name not in before], validate=False),
        )
    method = "NNCF: weights of 8 bits by channel, activations of 8 bits"
    return found, int8.record(method, len(inner), len(convolutions) - len(inner))


@dataclass(frozen=True)
class _Operation:
    """A node of either graph: its name, and those of what it takes and gives."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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


def _weights_of(operation: Any) -> str | None:
    """The name of the constant that an OpenVINO operation weighs its input with, whatever converts it on the way."""
    if "Convolution" not in operation.get_type_name():
        return None
    node = operation.input_value(1).get_node()
    while node.get_type_name() in ("Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return str(node.get_friendly_name()) if node.get_type_name() == "Constant" else None


def _check_layers(inner: Sequence[str]) -> None:
    if not inner:
        raise UsageError("this detector has no convolution before those of its outputs: INT8 would change nothing")


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
