"""The graph of a network of ours, as it is when an image passes through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gfocal.interop.graphs.structure import Forms, Node

_SIDE = 128  # of the image, in pixels: the coarsest map of stride 64 has more than one cell


@dataclass
class Layer:
    """The numbers of a convolution, by their names in the network.

    Attributes:
        weight: of the convolution.
        bias: of the convolution; None where it has none.
        norm: of the batch norm after it, without the names of its parts; None where there is none.
    """

    weight: str
    bias: str | None = None
    norm: str | None = None


@torch.no_grad()
def trace(network: Callable[[Tensor], Any], module: nn.Module, forms: Forms) -> dict[str, Node]:
    """The convolutions of a network in the order in which they are computed, by the names of their weights.

    Args:
        network: from an image (B, 3, H, W) to whatever it gives.
        module: what has the parameters of ``network``; it is in evaluation mode.
        forms: makes the nodes.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    image = torch.zeros(1, 3, _SIDE, _SIDE)
    recorder = _Recorder(forms, names, image)
    with recorder:
        network(image)
    return recorder.convolutions


class _Recorder(TorchFunctionMode):
    """Notes what torch's functions are called with; those that are not known give nothing that is noted."""

    def __init__(self, forms: Forms, names: Mapping[int, str], image: Tensor) -> None:
        super().__init__()
        self.forms, self.names = forms, names
        self.convolutions: dict[str, Node] = {}
        self._nodes = {id(image): forms.image()}
        self._alive: list[Any] = [image]  # an id counts as long as its object lives

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        make = _MAKERS.get(getattr(func, "__name__", ""))
        if make is not None:
            nodes = make(self, result, *args, **(kwargs or {}))
            for tensor, node in zip(result if isinstance(result, list | tuple) else [result], nodes, strict=True):
                self._nodes[id(tensor)] = node
                self._alive.append(tensor)
        return result

    def of(self, tensor: Tensor) -> Node:
        """The node that gave a tensor."""
        node = self._nodes.get(id(tensor))
        if node is None:
            raise NotImplementedError("a layer takes what an operation gives that has no form here")
        return node

    def name_of(self, parameter: Tensor | None) -> str | None:
        return None if parameter is None else self.names[id(parameter)]


Made = Sequence[Node]


def _conv(
    own: _Recorder,
    _: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Made:
    name = own.name_of(weight)
    assert name is not None
    node = own.forms.conv(
        own.of(x),
        weight.shape,
        stride=_two(stride),
        padding=_two(padding),
        dilation=_two(dilation),
        groups=groups,
        weights=Layer(name, own.name_of(bias)),
    )
    own.convolutions[name] = node
    return [node]


def _batch_norm(own: _Recorder, _: Tensor, x: Tensor, *arguments: Any, **options: Any) -> Made:
    node = own.of(x)
    weight = own.name_of(options.get("weight", arguments[2] if len(arguments) > 2 else None))
    if not isinstance(node.weights, Layer) or weight is None:
        raise NotImplementedError("a batch norm that no convolution comes before")
    node.weights.norm = weight.removesuffix(".weight")
    return [node]


def _chunk(own: _Recorder, result: Sequence[Tensor], x: Tensor, *_: Any, **__: Any) -> Made:
    return [own.forms.chunk(own.of(x), i, len(result)) for i in range(len(result))]


def _cat(own: _Recorder, _: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Made:
    known = dim == 1 and all(id(tensor) in own._nodes for tensor in tensors)
    # Elsewhere along, and of rows of outputs: after the last convolution.
    return [own.forms.concat([own.of(tensor) for tensor in tensors])] if known else [own.forms.node("rows", inputs=())]


def _max_pool(
    own: _Recorder, _: Tensor, x: Tensor, kernel_size: int, stride: int, padding: int = 0, *__: Any, **___: Any
) -> Made:
    return [own.forms.max_pool(own.of(x), kernel_size, stride, padding)]


def _interpolate(own: _Recorder, result: Tensor, x: Tensor, *_: Any, mode: str = "nearest", **__: Any) -> Made:
    return [own.forms.enlarge(own.of(x), mode, result.shape[-1] // x.shape[-1])]


def _shuffle(own: _Recorder, _: Tensor, x: Tensor, groups: int) -> Made:
    forms = own.forms
    return [forms.join_channels(forms.swap_channels(forms.split_channels(own.of(x), groups)))]


def _two_of(make: str) -> Callable[..., Made]:
    return lambda own, _, x, y: [getattr(own.forms, make)(own.of(x), own.of(y))]


def _act(name: str) -> Callable[..., Made]:
    return lambda own, _, x, *__, **___: [own.forms.act(name, own.of(x))]


_MAKERS: dict[str, Callable[..., Made]] = {
    "conv2d": _conv,
    F.batch_norm.__name__: _batch_norm,
    "hardswish": lambda own, _, x, *__, **___: [own.forms.hard_swish(own.of(x))],
    "relu": _act("relu"),
    "hardsigmoid": _act("hard_sigmoid"),
    "max_pool2d": _max_pool,
    "chunk": _chunk,
    "cat": _cat,
    "channel_shuffle": _shuffle,
    "adaptive_avg_pool2d": lambda own, _, x, *__: [own.forms.mean(own.of(x))],
    "interpolate": _interpolate,
    **dict.fromkeys(("mul", "__mul__"), _two_of("mul")),
    **dict.fromkeys(("add", "__add__"), _two_of("add")),
}
"""From a function of torch, by its name, to the nodes of what it gives."""


def _two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
