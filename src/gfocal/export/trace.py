"""From a detector to torch's own description of a graph, with sizes left open."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from gfocal.detector import DenseDetector
from gfocal.exported.contract import MULTIPLE
from gfocal.images.io import pad_batch


@dataclass(frozen=True)
class GraphShape:
    """What a graph takes: None where that is open.

    Attributes:
        batch: images.
        height, width: pixels, multiples of :data:`gfocal.exported.contract.MULTIPLE`.
    """

    batch: int | None = None
    height: int | None = None
    width: int | None = None


OPEN = GraphShape()
"""Any batch and size."""


def entering(detector: DenseDetector, image: Tensor, shape: GraphShape) -> tuple[Tensor, tuple[int, int]]:
    """An image as it enters the graph, on the size that is fixed there, if one is.

    Args:
        detector: whose rule brings it to its size.
        image: (3, H, W) uint8.
        shape: of the graph.

    Returns:
        (1, 3, H', W') uint8, and height and width of the image inside.
    """
    resized = detector.resize(image)
    height, width = resized.shape[-2:]
    batch = pad_batch([resized], fill=detector.resize.fill)
    if shape.height and shape.width and tuple(batch.shape[-2:]) != (shape.height, shape.width):
        colour = torch.tensor(detector.resize.fill, dtype=torch.uint8).view(1, 3, 1, 1)
        larger = colour.expand(1, 3, shape.height, shape.width).clone()
        larger[..., : batch.shape[-2], : batch.shape[-1]] = batch
        batch = larger
    return batch, (height, width)


def trace(graph: nn.Module, shape: GraphShape, coarsest: int) -> ExportedProgram:
    """The graph for images of a shape.

    Args:
        graph: takes ``images`` and ``sizes``.
        shape: what is fixed.
        coarsest: the largest stride: a map of one cell would be taken for one that always has one.
    """
    # Sides differ, or the two would be taken for one.
    height, width = (-(-n * coarsest // MULTIPLE) * MULTIPLE for n in (2, 3))
    height, width = shape.height or height, shape.width or width
    batch = shape.batch or 2
    images = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    sizes = torch.tensor([[height, width]] * batch)
    many = {0: Dim("batch", min=1)} if shape.batch is None else {}
    sides = {
        axis: MULTIPLE * Dim(name, min=1)
        for axis, name, fixed in ((1, "rows", shape.height), (2, "columns", shape.width))
        if fixed is None
    }
    with quiet(), torch.no_grad():
        return torch.export.export(
            graph, (images, sizes), dynamic_shapes={"images": {**many, **sides}, "sizes": many}, strict=False
        )


def output_names(program: ExportedProgram) -> tuple[str, ...]:
    """The keys of the dictionary that the graph gives, in its order."""
    spec = program.call_spec.out_spec
    assert spec is not None
    return tuple(torch.utils._pytree.tree_unflatten(list(range(spec.num_leaves)), spec))


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn of their own internals, which nobody who exports can change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
