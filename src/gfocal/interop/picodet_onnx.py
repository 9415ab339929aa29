"""PicoDet of 2021 as an ONNX file -> gfocal: weights by the places of their layers in the graph, names say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.interop.graphs.onnx_graph import Folded, Outputs, UnknownOperation, convolutions_of
from gfocal.interop.graphs.structure import Forms, Node, same_weights, walk
from gfocal.interop.graphs.traced import Layer, trace
from gfocal.interop.names import Recognised
from gfocal.interop.picodet import SIZES_IN_NAMES, Parts, recognised
from gfocal.interop.report import (
    ImportReport,
    class_names,
    folded_note,
    free_place,
    input_size,
    refuse_unusable,
    save_import,
)
from gfocal.models.backbones.esnet import SIZES
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import build_within
from gfocal.serialization.onnx_files import Graph, read_onnx

_LEVELS = 4
_WIDEST = 512  # channels of an ESNet's last map, at the width 1


def import_picodet_onnx(
    checkpoint: Path,
    out: Path,
    *,
    size: int | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write ``out/best.safetensors`` from the ONNX file of a PicoDet of 2021, without the suppression in it.

    The graph must be that of our network, operation by operation, so a file of another network is refused. Its batch
    norms are folded into the convolutions.

    Args:
        checkpoint: the ``.onnx`` file. It is read as data.
        out: the folder to write to; made if it does not exist.
        size: input side in pixels, >= 32; by default that of the graph.
        names: of the classes, which the file does not have; by default COCO's for 80 of them, else "class 0", ...
        overwrite: replace a checkpoint that ``out`` has already.

    Raises:
        UsageError: it is no such file or no such network; the package ``onnx`` is not installed; another number of
            names; or ``out`` has a checkpoint already.
    """
    file = free_place(out, overwrite=overwrite)
    graph = read_onnx(checkpoint)
    forms = Forms()
    try:
        convolutions, outputs = convolutions_of(graph, forms)
        found = _recognised(convolutions, outputs, size or _size(graph, checkpoint))
    except Exception as error:  # damaged graphs fail in many ways
        reason = str(error) if isinstance(error, UnknownOperation) else f"damaged: {type(error).__name__}"
        _refuse(checkpoint, reason)
    recipe = load_recipe(found.row, found.changed)
    class_list, note = class_names(None, found.classes, names)
    folded = [node.weights for node in convolutions]
    detector = build_within(recipe, class_list, _tensors(folded), checkpoint).eval()
    taken = _taken(detector, outputs, forms, checkpoint)
    refuse_unusable(checkpoint, {name: value for name, value in taken.items() if not name.endswith("running_var")})
    detector.load_state_dict({**detector.state_dict(), **taken})
    save_import(file, detector.state_dict(), recipe, class_list, source=checkpoint, format="picodet")
    return ImportReport(
        file,
        "picodet",
        found.row,
        found.changed,
        2 * len(folded),
        (),
        found.classes,
        notes=(*((note,) if note else ()), *folded_note(detector)),
    )


def _refuse(checkpoint: Path, reason: str) -> NoReturn:
    raise UsageError(
        f"{checkpoint} holds no PicoDet of 2021 that can be imported: {reason}. Of ONNX files those are read that end "
        "in scores and distributions of four levels, without a suppression; the .pdparams file of the same network is "
        "read, too"
    )


def _size(graph: Graph, checkpoint: Path) -> int:
    """The side of the image that the graph takes, where it says it."""
    dimensions = next(iter(graph.images.values()))
    height, width = dimensions[2:] if len(dimensions) == 4 else (None, None)
    return height if height is not None and height == width else input_size(checkpoint, None, SIZES_IN_NAMES)[0]


def _recognised(convolutions: Sequence[Node], outputs: Outputs, size: int) -> Recognised:
    """The PicoDet that has such layers.

    Raises:
        UnknownOperation: none has.
    """
    if len(outputs.maps) != _LEVELS or len(outputs.parts) != 2:
        raise UnknownOperation(
            f"its outputs are {len(outputs.parts) or 1} parts of {len(outputs.maps)} levels, not 2 of {_LEVELS}"
        )
    if any(node.what[0] != "conv" for node in outputs.maps):
        raise UnknownOperation("its outputs come from no convolution")
    classes, edges = outputs.parts
    widest = max(_shape(node)[1] for node in convolutions)
    backbone = next((name for name, (scale, _) in SIZES.items() if int(_WIDEST * scale) == widest), None)
    if edges % 4 or edges < 8 or backbone is None:
        raise UnknownOperation(f"its widest layer takes {widest} channels, and {edges} outputs are of boxes")
    channels = _shape(outputs.maps[0])[1]
    parts = Parts(backbone, "csp_pan", "pico")
    return recognised(parts, channels, _head_depth(outputs.maps[0]), edges // 4 - 1, size, classes)


def _shape(convolution: Node) -> tuple[int, ...]:
    """Of its weight."""
    shape: tuple[int, ...] = convolution.what[1]
    return shape


def _head_depth(output: Node) -> int:
    """How many separable 5x5 blocks stand one after the other before an output."""
    depth, before = 0, _convolutions_before(output)
    while len(before) == 1:
        depth += _shape(before[0])[1:] == (1, 5, 5)
        before = _convolutions_before(before[0])
    return max(depth, 1)


def _convolutions_before(node: Node) -> list[Node]:
    """The nearest ones."""
    found, waiting, seen = [], list(node.inputs), set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if each.what[0] == "conv":
            found.append(each)
        else:
            waiting += each.inputs
    return found


def _taken(detector: DenseDetector, outputs: Outputs, forms: Forms, checkpoint: Path) -> dict[str, Tensor]:
    """The numbers of the graph by our names.

    Raises:
        UsageError: it is the graph of another network; names the first of our layers that it does not have.
    """
    ours = trace(lambda image: detector.head(detector.neck(detector.backbone(image))), detector, forms)
    by_form = {node.form: node for node in outputs.maps}
    last = [ours[f"head.out.{level}.weight"] for level in range(_LEVELS)]
    if any(node.form not in by_form for node in last):
        theirs = _forms_of(outputs.maps)
        other = next(name for name, node in ours.items() if node.form not in theirs)
        _refuse(checkpoint, f"its graph has no layer like {other} {_shape(ours[other])}, which takes what ours takes")
    pairs = same_weights(last, [by_form[node.form] for node in last])
    return {name: value for layer, folded in pairs for name, value in _placed(layer, folded, detector).items()}


def _forms_of(roots: Iterable[Node]) -> set[int]:
    return {node.form for node in walk(list(roots))}


def _placed(layer: Layer, folded: Folded, detector: DenseDetector) -> dict[str, Tensor]:
    """A convolution's numbers under our names; a batch norm after it becomes the identity and a bias."""
    weight, bias = _tensor(folded.weight), _tensor(folded.bias)
    if layer.norm is None:
        return {layer.weight: weight, **({layer.bias: bias} if layer.bias else {})}
    norm = detector.get_submodule(layer.norm)
    assert isinstance(norm, nn.BatchNorm2d)
    ones = torch.ones_like(bias)
    values = {"weight": ones, "bias": bias, "running_mean": 0 * ones, "running_var": ones - norm.eps}
    return {layer.weight: weight, **{f"{layer.norm}.{name}": value for name, value in values.items()}}


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _tensors(folded: Iterable[Folded]) -> Mapping[str, Tensor]:
    """All numbers of a graph, by anything."""
    return {str(i): torch.from_numpy(np.array(each.weight)) for i, each in enumerate(folded)}
