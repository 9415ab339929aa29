"""The graph of an ONNX file in the terms that networks of ours are compared in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gfocal.interop.graphs.structure import Forms, Node
from gfocal.serialization.onnx_files import Graph, Operation


class UnknownOperation(ValueError):
    """An operation, or a form of it, that networks of ours do not have; says which."""


@dataclass(frozen=True)
class Folded:
    """The numbers of a convolution with what was folded into it: a weight, and a bias."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Outputs:
    """What the maps of the last convolutions become.

    Attributes:
        maps: the nodes of these convolutions, finest level first as the file has them.
        parts: how many channels the parts have that each is cut into; () where none is.
    """

    maps: tuple[Node, ...]
    parts: tuple[int, ...]


_AFTER = ("Sigmoid", "Reshape", "Transpose", "Split")
"""What stands between the last convolutions and the outputs: it has no weights, and is done by others here."""


def convolutions_of(graph: Graph, forms: Forms) -> tuple[list[Node], Outputs]:
    """The nodes of a graph's convolutions in its order, and what leads from some of them to its outputs.

    Raises:
        UnknownOperation: it has operations that no network here has.
    """
    last = _last_maps(graph)
    if len(graph.images) != 1:
        raise UnknownOperation(f"it takes {len(graph.images)} inputs, and a detector one image")
    reader = _Reader(forms, dict(graph.constants), {next(iter(graph.images)): forms.image()})
    found = []
    for operation in graph.operations:
        if operation.outputs and operation.outputs[0] in last.skipped:
            continue
        for name, node in zip(operation.outputs, reader.read(operation), strict=False):
            reader.nodes[name] = node
        if operation.kind == "Conv":
            found.append(reader.nodes[operation.outputs[0]])
    missing = [name for name in last.maps if name not in reader.nodes]
    if missing:
        raise UnknownOperation("its outputs come from no convolution")
    return found, Outputs(tuple(reader.nodes[name] for name in last.maps), last.parts)


@dataclass(frozen=True)
class _Last:
    """Names of the maps that the outputs come from, of what is between them, and the parts that maps are cut into."""

    maps: tuple[str, ...]
    skipped: frozenset[str]
    parts: tuple[int, ...]


def _last_maps(graph: Graph) -> _Last:
    made_by = {name: operation for operation in graph.operations for name in operation.outputs}
    maps: dict[str, None] = {}
    skipped: set[str] = set()
    parts: tuple[int, ...] = ()
    for name in graph.outputs:
        passed: set[str] = set()
        while (operation := made_by.get(name)) is not None and operation.kind in _AFTER and name not in passed:
            passed.add(name)
            skipped.update(operation.outputs)
            if operation.kind == "Split":
                sizes = graph.constants.get(operation.inputs[1]) if len(operation.inputs) > 1 else None
                parts = tuple(_integers(operation.settings.get("split", ()) if sizes is None else sizes))
            name = operation.inputs[0]
        maps[name] = None
    return _Last(tuple(maps), frozenset(skipped), parts)


class _Reader:
    """Turns operations into nodes, one after the other.

    Attributes:
        nodes: by the name of what each gives.
    """

    def __init__(self, forms: Forms, constants: dict[str, np.ndarray], nodes: dict[str, Node]) -> None:
        self.forms, self.constants, self.nodes = forms, constants, nodes

    def read(self, operation: Operation) -> Sequence[Node]:
        if operation.kind == "Constant":
            value = operation.settings.get("value")
            if not isinstance(value, np.ndarray):
                raise UnknownOperation("a constant that is no array")
            self.constants[operation.outputs[0]] = value
            return []
        make = _MAKERS.get(operation.kind)
        if make is None:
            raise UnknownOperation(f"it has an operation {operation.kind[:40]}, which no such detector has")
        return make(self, operation)

    def node(self, operation: Operation, place: int = 0) -> Node:
        """The input at a place, which some operation has given.

        Raises:
            UnknownOperation: none has.
        """
        name = operation.inputs[place] if place < len(operation.inputs) else ""
        if name not in self.nodes:
            raise UnknownOperation(f"an operation {operation.kind} takes what no operation before it gives")
        return self.nodes[name]

    def constant(self, operation: Operation, place: int) -> np.ndarray | None:
        name = operation.inputs[place] if place < len(operation.inputs) else ""
        return self.constants.get(name)

    def number(self, operation: Operation, place: int) -> float | None:
        """The constant at a place, if it is one number."""
        value = self.constant(operation, place)
        return float(value.reshape(())) if value is not None and value.size == 1 else None


Made = Sequence[Node]


def _conv(own: _Reader, op: Operation) -> Made:
    weight, bias = own.constant(op, 1), own.constant(op, 2)
    if weight is None or weight.ndim != 4:
        raise UnknownOperation("a convolution whose weight is no constant of four dimensions")
    bias = np.zeros(len(weight), weight.dtype) if bias is None else bias
    pads = _integers(op.settings.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or op.settings.get("auto_pad", "NOTSET") != "NOTSET":
        raise UnknownOperation("a convolution that pads one side more than the other")
    node = own.forms.conv(
        own.node(op),
        weight.shape,
        stride=_integers(op.settings.get("strides", (1, 1))),
        padding=pads[:2],
        dilation=_integers(op.settings.get("dilations", (1, 1))),
        groups=int(op.settings.get("group", 1)),
        weights=Folded(weight, bias),
    )
    return [node]


def _sum(own: _Reader, op: Operation) -> Made:
    for constant, other in ((1, 0), (0, 1)):
        if (by := own.number(op, constant)) is not None:
            return [own.forms.shift(own.node(op, other), by)]
    return [own.forms.add(own.node(op, 0), own.node(op, 1))]


def _product(own: _Reader, op: Operation) -> Made:
    for constant, other in ((1, 0), (0, 1)):
        if (by := own.number(op, constant)) is not None:
            return [own.forms.scale(own.node(op, other), by)]
    return [own.forms.mul(own.node(op, 0), own.node(op, 1))]


def _quotient(own: _Reader, op: Operation) -> Made:
    by = own.number(op, 1)
    if not by:
        raise UnknownOperation("a division by what is no constant")
    return [own.forms.scale(own.node(op), 1 / by)]


def _clip(own: _Reader, op: Operation) -> Made:
    low, high = (
        op.settings.get(name) if own.number(op, place) is None else own.number(op, place)
        for place, name in ((1, "min"), (2, "max"))
    )
    if low is None or high is None:
        raise UnknownOperation("a clip with one bound")
    return [own.forms.clip(own.node(op), low, high)]


def _split(own: _Reader, op: Operation) -> Made:
    sizes = _integers(op.settings.get("split", ()) if own.constant(op, 1) is None else own.constant(op, 1))
    if op.settings.get("axis", 0) != 1 or len(set(sizes)) > 1:
        raise UnknownOperation("a split into parts that are not equal")
    parts = len(op.outputs)
    return [own.forms.chunk(own.node(op), i, parts) for i in range(parts)]


def _concat(own: _Reader, op: Operation) -> Made:
    if op.settings.get("axis") != 1:
        raise UnknownOperation("maps put together otherwise than by channels")
    return [own.forms.concat([own.node(op, i) for i in range(len(op.inputs))])]


def _reshape(own: _Reader, op: Operation) -> Made:
    shape = own.constant(op, 1)
    x = own.node(op)
    if shape is not None and shape.size == 5:
        return [own.forms.split_channels(x, int(shape[1]))]
    if shape is not None and shape.size == 4 and x.what == ("swap_channels",):
        return [own.forms.join_channels(x)]
    raise UnknownOperation("a map is brought into another shape")


def _transpose(own: _Reader, op: Operation) -> Made:
    if _integers(op.settings.get("perm", ())) != [0, 2, 1, 3, 4]:
        raise UnknownOperation("the dimensions of a map are exchanged")
    return [own.forms.swap_channels(own.node(op))]


def _max_pool(own: _Reader, op: Operation) -> Made:
    kernel, stride = _integers(op.settings.get("kernel_shape", ())), _integers(op.settings.get("strides", (1, 1)))
    pads = _integers(op.settings.get("pads", (0, 0, 0, 0)))
    if len({*kernel}) != 1 or len({*stride}) != 1 or len({*pads}) != 1 or op.settings.get("ceil_mode", 0):
        raise UnknownOperation("a pool that is not the same in both directions")
    return [own.forms.max_pool(own.node(op), kernel[0], stride[0], pads[0])]


def _resize(own: _Reader, op: Operation) -> Made:
    scales = own.constant(op, 2)
    steps = [] if scales is None else [float(scale) for scale in scales.ravel()]
    if len(steps) != 4 or steps[:2] != [1, 1] or steps[2] != steps[3] or not steps[3].is_integer():
        raise UnknownOperation("a map is resized by another factor than a whole number")
    return [own.forms.enlarge(own.node(op), str(op.settings.get("mode", "nearest")), int(steps[3]))]


def _hard_sigmoid(own: _Reader, op: Operation) -> Made:
    slope, middle = op.settings.get("alpha", 0.2), op.settings.get("beta", 0.5)
    if abs(slope - 1 / 6) > 1e-4 or abs(middle - 0.5) > 1e-4:
        raise UnknownOperation(f"a hard sigmoid of slope {slope:.4g}")
    return [own.forms.act("hard_sigmoid", own.node(op))]


_MAKERS: Mapping[str, Callable[[_Reader, Operation], Made]] = {
    "Conv": _conv,
    "Add": _sum,
    "Mul": _product,
    "Div": _quotient,
    "Clip": _clip,
    "Split": _split,
    "Concat": _concat,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "GlobalAveragePool": lambda own, op: [own.forms.mean(own.node(op))],
    "Relu": lambda own, op: [own.forms.act("relu", own.node(op))],
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda own, op: [own.forms.hard_swish(own.node(op))],
}
"""From an operation's kind to the nodes of what it gives."""


def _integers(values: Any) -> list[int]:
    return [int(value) for value in values]
