"""Graphs whose nodes have equal numbers where they compute the same, whatever the weights are.

A number stands for an operation, its settings (kernel, stride, groups, shape of the weight, ...) and the numbers of its
inputs, so for all that comes before. The order of the inputs counts but in sums and products. Two networks with equal
numbers at their outputs are the same function of image and weights; from there back, node by node, follows which weight
of one is which of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_HALF_WIDTH, _UPPER = 3.0, 6.0  # hard swish: x * clip(x + 3, 0, 6) / 6


@dataclass(eq=False)
class Node:
    """What one operation gives.

    Attributes:
        form: equal for nodes that compute the same.
        what: the operation and its settings.
        inputs: what it takes; of a sum or product in the order of their forms.
        weights: of a convolution, what the network calls or holds its numbers as.
    """

    form: int
    what: tuple[Any, ...]
    inputs: tuple[Node, ...] = ()
    weights: Any = None


@dataclass
class Forms:
    """Makes nodes. Those of the graphs that are to be compared come from one.

    Attributes:
        numbers: of each operation with its inputs.
    """

    numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def node(self, *what: Any, inputs: Sequence[Node], weights: Any = None) -> Node:
        """The node of an operation ``what`` with its settings, which can be compared and hashed."""
        key = (what, tuple(node.form for node in inputs))
        return Node(self.numbers.setdefault(key, len(self.numbers)), what, tuple(inputs), weights)

    def image(self) -> Node:
        """What the network takes."""
        return self.node("image", inputs=())

    def conv(
        self,
        x: Node,
        shape: Sequence[int],
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        weights: Any,
    ) -> Node:
        """A convolution by a weight of ``shape``, and a bias or what was folded into one."""
        settings = (tuple(shape), tuple(stride), tuple(padding), tuple(dilation), groups)
        return self.node("conv", *settings, inputs=(x,), weights=weights)

    def act(self, name: str, x: Node, *settings: float) -> Node:
        """An activation of one input."""
        return self.node(name, *(round(value, 4) for value in settings), inputs=(x,))

    def shift(self, x: Node, by: float) -> Node:
        return self.act("shift", x, by)

    def scale(self, x: Node, by: float) -> Node:
        return self.act("scale", x, by)

    def clip(self, x: Node, low: float, high: float) -> Node:
        return self.act("clip", x, low, high)

    def hard_swish(self, x: Node) -> Node:
        """In its parts, as graphs have it that know no such operation."""
        inside = self.clip(self.shift(x, _HALF_WIDTH), 0.0, _UPPER)
        return self.scale(self.mul(x, inside), 1 / _UPPER)

    def add(self, *inputs: Node) -> Node:
        return self.node("add", inputs=sorted(inputs, key=lambda node: node.form))

    def mul(self, *inputs: Node) -> Node:
        return self.node("mul", inputs=sorted(inputs, key=lambda node: node.form))

    def concat(self, inputs: Sequence[Node]) -> Node:
        """Along the channels."""
        return self.node("concat", inputs=inputs)

    def chunk(self, x: Node, part: int, parts: int) -> Node:
        """One of equal parts of the channels."""
        return self.node("chunk", part, parts, inputs=(x,))

    def max_pool(self, x: Node, kernel: int, stride: int, padding: int) -> Node:
        return self.node("max_pool", kernel, stride, padding, inputs=(x,))

    def mean(self, x: Node) -> Node:
        """Over all places of a map."""
        return self.node("mean", inputs=(x,))

    def enlarge(self, x: Node, mode: str, factor: int) -> Node:
        return self.node("enlarge", mode, factor, inputs=(x,))

    def split_channels(self, x: Node, groups: int) -> Node:
        """(B, C, H, W) -> (B, groups, C / groups, H, W)."""
        return self.node("split_channels", groups, inputs=(x,))

    def swap_channels(self, x: Node) -> Node:
        """(B, G, C, H, W) -> (B, C, G, H, W)."""
        return self.node("swap_channels", inputs=(x,))

    def join_channels(self, x: Node) -> Node:
        """(B, C, G, H, W) -> (B, C * G, H, W)."""
        return self.node("join_channels", inputs=(x,))


def walk(roots: Sequence[Node]) -> Iterator[Node]:
    """All nodes that some come from, and these, each once."""
    waiting, seen = list(roots), set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += node.inputs


def same_weights(one: Sequence[Node], other: Sequence[Node]) -> list[tuple[Any, Any]]:
    """The weights of two graphs that stand in the same places.

    Args:
        one: the outputs of the first.
        other: those of the second, of equal forms.

    Returns:
        (weights of the first, weights of the second) of each convolution of the first.

    Raises:
        ValueError: the outputs have other forms, or the inputs of sums can be paired in several ways that contradict.
    """
    pairs: dict[int, tuple[Node, Node]] = {}
    waiting = list(zip(one, other, strict=True))
    while waiting:
        left, right = waiting.pop()
        if left.form != right.form:
            raise ValueError("the graphs are not the same")
        if id(left) in pairs:
            if pairs[id(left)][1] is not right:
                raise ValueError("the graphs can be laid over each other in several ways")
            continue
        pairs[id(left)] = (left, right)
        waiting += zip(left.inputs, right.inputs, strict=True)
    return [(left.weights, right.weights) for left, right in pairs.values() if left.weights is not None]
