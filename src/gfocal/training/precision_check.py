"""Mixed precision beside float32, on one batch before the first step."""

from __future__ import annotations

import math

import torch

from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError
from gfocal.runtime.memory import untouched
from gfocal.runtime.precision import autocast
from gfocal.structures import Batch, BatchAssignment

_FAR = 0.1  # of a term, or of a tenth of the whole loss where the term is small


def precision_notes(detector: DenseDetector, batch: Batch, precision: str) -> list[str]:
    """Compare the loss terms of a batch in ``precision`` with those in float32; the detector stays as it is.

    Returns:
        A line for each term that is more than 10 % off; none for "fp32".

    Raises:
        GfocalError: a term is finite in float32 and not in ``precision``.
    """
    if precision == "fp32":
        return []
    exact, assignment = _terms(detector, batch, "fp32", None)
    # Both learn the same: an assigner that looks at predictions may choose other points for a rounding.
    half, _ = _terms(detector, batch, precision, assignment)
    broken = [name for name in exact if math.isfinite(exact[name]) and not math.isfinite(half[name])]
    if broken:
        raise GfocalError(
            f"runtime.precision={precision}: on the first batch the loss terms {', '.join(broken)} are not finite, in "
            "fp32 they are: set runtime.precision to bf16 or fp32"
        )
    whole = sum(abs(value) for value in exact.values())
    return [
        f"warning: runtime.precision={precision}: on the first batch the loss term {name} is {half[name]:.4g}, in fp32 "
        f"{value:.4g}: expect other results, or set runtime.precision=fp32"
        for name, value in exact.items()
        if abs(half[name] - value) > _FAR * max(abs(value), _FAR * whole)
    ]


@torch.no_grad()
def _terms(
    detector: DenseDetector, batch: Batch, precision: str, assignment: BatchAssignment | None
) -> tuple[dict[str, float], BatchAssignment]:
    """The loss terms in a precision, and what was learnt: what is given, or the assignment by these outputs."""
    images = batch.images.to(detector.device)
    with untouched(detector), autocast(detector.device, precision):
        size = images.shape[-2], images.shape[-1]
        # raw: accelerate wraps the forward pass in its own autocast.
        out = detector.raw(images)
        if assignment is None:
            assignment = detector.assign_batch(images, batch.targets, out, sizes=batch.sizes, epoch=0)
        losses = detector.losses(out, assignment, size)
    return {name: value.item() for name, value in losses.items()}, assignment
