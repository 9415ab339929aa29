"""One optimizer step: several forward and backward passes that together do what one large batch would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from gfocal.criterion import BatchAssignment, count_positives, divisors
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, UsageError
from gfocal.runtime.batch_norm import batch_norm_untouched
from gfocal.runtime.distributed import ALONE, Processes, launched
from gfocal.runtime.precision import real_precision
from gfocal.structures import Batch
from gfocal.training.optimizer import set_lr


def make_accelerator(precision: str) -> Accelerator:
    """Device, precision ("auto", "fp32", "bf16" or "fp16") and the processes that a launcher started.

    Raises:
        UsageError: fp16 without a CUDA device.
    """
    precision = real_precision(precision)
    if precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("runtime.precision: fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    # accelerate keeps the first precision for the whole process and refuses another one.
    AcceleratorState._reset_state()
    # accelerate connects processes on CPUs only where it is told that there is nothing else.
    alone_on_cpu = launched() and not torch.accelerator.is_available()
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=alone_on_cpu)


@dataclass
class Counts:
    """What assignment met in one epoch, so that nothing is truncated in silence."""

    objects: int = 0
    missed: int = 0
    edges: int = 0
    truncated: int = 0

    def add(self, other: Counts) -> None:
        """Add those of a step."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def describe(self) -> dict[str, float | int]:
        """The numbers, and the shares they come to."""
        return {
            **vars(self),
            "missed_share": self.missed / max(self.objects, 1),
            "truncated_share": self.truncated / max(self.edges, 1),
        }


@dataclass(frozen=True)
class StepResult:
    """What a step met.

    Attributes:
        losses: each term, summed over the batches and processes of the step.
        grad_norm: before clipping.
        counts: what assignment met, in all of them.
    """

    losses: dict[str, float]
    grad_norm: float
    counts: Counts


class NotFinite(GfocalError):
    """A loss or gradient that no step can be taken with; the message says which."""


def optimizer_step(
    detector: DenseDetector,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    accelerator: Accelerator,
    batches: Sequence[Batch],
    *,
    lr: float,
    clip_norm: float | None,
    processes: Processes = ALONE,
) -> StepResult:
    """Learn from some batches; the normalisers are those of all of them together, in all processes.

    Args:
        detector: assigns, and has the losses.
        model: ``detector`` as accelerate prepared it: its forward pass.
        optimizer: over the detector's parameters.
        accelerator: device and precision.
        batches: of the step, in this process; as many in each.
        lr: learning rate.
        clip_norm: the largest norm of the gradient, or None.
        processes: that take this step together.

    Raises:
        NotFinite: in all processes, with the loss terms, learning rate and image ids. No parameter has changed then.
    """
    detector.train()
    images = [batch.images.to(accelerator.device) for batch in batches]
    assignments = [detector.assign_batch(p, batch.targets) for p, batch in zip(images, batches, strict=True)]
    set_lr(optimizer.optimizer, lr)
    divided, counts = _counts(detector, assignments, processes)
    norms: dict[str, Any] = dict(zip(("cls_norm", "box_norm"), divided, strict=True))
    shared = len(batches) > 1 or processes.count > 1
    if not shared:
        norms["box_norm"] = None  # this batch is the whole step
    elif len(batches) > 1:
        norms |= _sums_before(detector, images, assignments, processes)
    terms: list[Tensor] = []
    names: list[str] = []
    for i, (image, assignment) in enumerate(zip(images, assignments, strict=True)):
        # Gradients are exchanged once, after the last batch.
        with nullcontext() if i == len(batches) - 1 else accelerator.no_sync(model):
            out = model(image)
            if shared and len(batches) == 1:
                norms |= _sums(detector, [detector.step_sums(out, assignment, _size(image))], processes)
            losses = detector.losses(out, assignment, _size(image), **norms)
            names = list(losses)
            terms.append(torch.stack([value.detach() for value in losses.values()]))
            # Processes take the mean of their gradients; the loss is a sum over all images.
            accelerator.backward(sum(losses.values()) * processes.count)
    own = torch.stack(terms).cpu().double()
    sums = dict(zip(names, processes.add_up(own.sum(0)).tolist(), strict=True))
    if not all(math.isfinite(value) for value in sums.values()):
        raise _not_finite("the loss", sums, _guilty(own, batches), lr, processes)
    norm = float(accelerator.clip_grad_norm_(detector.parameters(), clip_norm or math.inf))
    # With fp16 the scaler itself leaves out such a step and lowers its factor.
    if not math.isfinite(norm) and accelerator.scaler is None:
        raise _not_finite(f"the gradient (norm {norm})", sums, batches, lr, processes)
    optimizer.step()
    optimizer.zero_grad()
    return StepResult(sums, norm, counts)


def _counts(
    detector: DenseDetector, assignments: list[BatchAssignment], processes: Processes
) -> tuple[tuple[float, float], Counts]:
    """The divisors that counts give, and what assignment met, over all batches and processes."""
    fields = list(vars(Counts()))
    numbers = [
        *count_positives(assignments, detector.count_rule),
        *(sum(getattr(a, f) for a in assignments) for f in fields),
    ]
    cls, box, *met = processes.add_up(torch.tensor(numbers)).tolist()
    return divisors((cls, box)), Counts(**dict(zip(fields, met, strict=True)))


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _sums_before(
    detector: DenseDetector, images: list[Tensor], assignments: list[BatchAssignment], processes: Processes
) -> dict[str, Any]:
    """What is added up over all batches of the step, from a pass without gradients where it takes outputs."""
    with torch.no_grad(), batch_norm_untouched(detector):
        each = [
            detector.step_sums(detector(image) if detector.sums_need_outputs else None, assignment, _size(image))
            for image, assignment in zip(images, assignments, strict=True)
        ]
    return _sums(detector, each, processes)


def _sums(detector: DenseDetector, each: list[Tensor], processes: Processes) -> dict[str, Any]:
    """The sums of the step as arguments of the losses."""
    sums = processes.add_up(torch.stack(each).sum(0))
    # Unweighted box terms are divided by a count, which is known already.
    box_norm = {} if detector.box_weight is None else {"box_norm": sums[0].clamp(min=1)}
    return {**box_norm, "quality_sums": sums[1:] if detector.quality.sums is not None else None}


def _guilty(terms: Tensor, batches: Sequence[Batch]) -> list[Batch]:
    """The batches whose (batches, terms) are not all finite."""
    bad = ~torch.isfinite(terms).all(1)
    return [batch for batch, is_bad in zip(batches, bad.tolist(), strict=True) if is_bad]


def _not_finite(
    what: str, sums: dict[str, float], batches: Sequence[Batch], lr: float, processes: Processes
) -> NotFinite:
    terms = ", ".join(f"{name} {value:.4g}" for name, value in sums.items())
    own = [i for batch in batches for i in batch.image_ids.tolist()]
    ids = ", ".join(str(i) for some in processes.gather(own) for i in some)
    return NotFinite(f"{what} is not finite: loss terms {terms}; learning rate {lr:.3g}; image ids {ids}")
