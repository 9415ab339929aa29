"""ONNX files of detectors as PaddlePaddle's exporter writes them: opset 11, batch norms folded, outputs per level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from gfocal.detector import DenseDetector
from gfocal.interop.graphs.structure import Forms, Node
from gfocal.interop.graphs.traced import Layer, trace


def paddle_onnx(detector: DenseDetector, *, side: int | None = 320) -> onnx.ModelProto:
    """The file of a detector whose head has one convolution for all outputs of a level.

    ``side``: of the image; None: any.
    """
    detector.eval()
    ours = trace(lambda image: detector.head(detector.neck(detector.backbone(image))), detector, Forms())
    last = [node for name, node in ours.items() if name.startswith("head.out.") and name.endswith(".weight")]
    writer = _Writer(detector)
    maps = [writer.name_of(node) for node in last]
    classes = len(detector.names)
    edges = last[0].what[1][0] - classes
    outputs = [*(f"scores_{i}" for i in range(len(maps))), *(f"boxes_{i}" for i in range(len(maps)))]
    for i, name in enumerate(maps):
        parts = writer.add("Split", [name], count=2, axis=1, split=[classes, edges])
        for part, rows, result in ((0, classes, f"scores_{i}"), (1, edges, f"boxes_{i}")):
            (x,) = writer.add("Sigmoid", [parts[part]]) if part == 0 else (parts[part],)
            (x,) = writer.add("Reshape", [x, writer.constant(np.array([1, rows, -1]))])
            writer.add("Transpose", [x], names=[result], perm=[0, 2, 1])
    size = [1, 3, side or "height", side or "width"]
    graph = helper.make_graph(
        writer.nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        writer.constants,
    )
    opset = helper.make_opsetid("", 11)
    return helper.make_model(graph, opset_imports=[opset], producer_name="PaddlePaddle", ir_version=7)


class _Writer:
    """Collects nodes and constants."""

    def __init__(self, detector: DenseDetector) -> None:
        self.detector, self.state = detector, detector.state_dict()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[int, str] = {}
        self.splits: dict[int, list[str]] = {}

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def add(
        self, kind: str, inputs: Sequence[str], count: int = 1, names: Sequence[str] = (), **settings: Any
    ) -> list[str]:
        outputs = list(names) or [f"{kind}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **settings))
        return outputs

    def name_of(self, node: Node) -> str:
        """The name of what a node gives, which is written if it is not there yet."""
        waiting = [node]
        while waiting:
            each = waiting[-1]
            missing = [x for x in each.inputs if id(x) not in self.names]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if id(each) not in self.names:
                self.names[id(each)] = self._write(each, [self.names[id(x)] for x in each.inputs])
        return self.names[id(node)]

    def _write(self, node: Node, inputs: list[str]) -> str:
        kind, *settings = node.what
        if kind == "image":
            return "image"
        if kind == "chunk":
            part, parts = settings
            source = id(node.inputs[0])
            if source not in self.splits:
                half = self._channels(node.inputs[0]) // parts
                self.splits[source] = self.add("Split", inputs, count=parts, axis=1, split=[half] * parts)
            return self.splits[source][part]
        if kind == "conv":
            return self._conv(node.weights, inputs, *settings)
        return _OPERATIONS[kind](self, inputs, *settings)[0]

    def _channels(self, node: Node) -> int:
        if node.what[0] == "conv":
            return int(node.what[1][0])
        counts = [self._channels(x) for x in node.inputs]
        return sum(counts) if node.what[0] == "concat" else counts[0]

    def _conv(
        self, layer: Layer, inputs: list[str], shape: Any, stride: Any, pad: Any, dilation: Any, group: int
    ) -> str:
        weight, bias = self.state[layer.weight].double(), None
        if layer.norm is not None:
            norm = self.detector.get_submodule(layer.norm)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight, bias = weight * slope.view(-1, 1, 1, 1), norm.bias - norm.running_mean * slope
        elif layer.bias is not None:
            bias = self.state[layer.bias]
        names = [self.constant(_array(weight)), *([] if bias is None else [self.constant(_array(bias))])]
        settings = {"strides": stride, "pads": [*pad, *pad], "dilations": dilation, "kernel_shape": shape[2:]}
        return self.add("Conv", [*inputs, *names], group=group, **settings)[0]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


_OPERATIONS: dict[str, Callable[..., list[str]]] = {
    "shift": lambda w, x, by: w.add("Add", [*x, w.number(by)]),
    "scale": lambda w, x, by: w.add("Div", [*x, w.number(1 / by)]),
    "clip": lambda w, x, low, high: w.add("Clip", [*x, w.number(low), w.number(high)]),
    "add": lambda w, x: w.add("Add", x),
    "mul": lambda w, x: w.add("Mul", x),
    "concat": lambda w, x: w.add("Concat", x, axis=1),
    "max_pool": lambda w, x, k, s, p: w.add("MaxPool", x, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4),
    "mean": lambda w, x: w.add("GlobalAveragePool", x),
    "relu": lambda w, x: w.add("Relu", x),
    "hard_sigmoid": lambda w, x: w.add("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "enlarge": lambda w, x, mode, factor: w.add(
        "Resize", [*x, w.constant(np.ones(8, np.float32)), w.constant(np.float32([1, 1, factor, factor]))], mode=mode
    ),
    "split_channels": lambda w, x, groups: w.add("Reshape", [*x, w.constant(np.array([1, groups, -1, 40, 40]))]),
    "swap_channels": lambda w, x: w.add("Transpose", x, perm=[0, 2, 1, 3, 4]),
    "join_channels": lambda w, x: w.add("Reshape", [*x, w.constant(np.array([1, -1, 40, 40]))]),
}
