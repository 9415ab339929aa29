"""One optimizer step: several forward and backward passes that together do what one large batch would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from gfocal.assigners import DynamicAssigner
from gfocal.criterion import count_positives, divisors
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, UsageError
from gfocal.runtime.batch_norm import batch_norm_untouched
from gfocal.runtime.distributed import ALONE, Processes, launched
from gfocal.runtime.precision import real_precision
from gfocal.structures import Batch, BatchAssignment, HeadOutput
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
    epoch: int = 0,
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
        epoch: from 0; the assigner may depend on it.

    Raises:
        NotFinite: in all processes, with the loss terms, learning rate and image ids. No parameter has changed then.
    """
    detector.train()
    images = [batch.images.to(accelerator.device) for batch in batches]
    set_lr(optimizer.optimizer, lr)
    ahead = _look_ahead(detector, images, batches, epoch) if len(batches) > 1 else None
    terms: list[Tensor] = []
    names: list[str] = []
    for i, (image, batch) in enumerate(zip(images, batches, strict=True)):
        # Gradients are exchanged once, after the last batch.
        with nullcontext() if i == len(batches) - 1 else accelerator.no_sync(model):
            out = model(image, epoch)
            # A single batch is assigned by the very outputs that it learns from.
            seen = ahead or _see(detector, image, batch, out, epoch, whole_step=processes.count == 1)
            if i == 0:
                normalisers, counts = _normalisers(detector, seen, processes)
            losses = detector.losses(out, seen.assignments[i], _size(image), **vars(normalisers))
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


@dataclass(frozen=True)
class _Seen:
    """What is known of some batches before their losses.

    Attributes:
        assignments: of each batch.
        sums: (H, 1 + S) of each batch, see :meth:`DenseDetector.step_sums`; None where the only batch of the only
            process is the whole step, whose losses find the sums themselves.
    """

    assignments: list[BatchAssignment]
    sums: list[Tensor] | None


@dataclass(frozen=True)
class _Normalisers:
    """What a step's losses are divided by, and its sums, as :meth:`DenseDetector.losses` takes them."""

    cls_norm: float
    box_norm: Tensor | float | None
    quality_sums: Tensor | None


def _normalisers(detector: DenseDetector, seen: _Seen, processes: Processes) -> tuple[_Normalisers, Counts]:
    """What the losses of the step are divided by, and what assignment met, over all batches and processes."""
    fields = list(vars(Counts()))
    numbers = [
        *count_positives(seen.assignments, detector.count_rule),
        *(sum(getattr(a, f) for a in seen.assignments) for f in fields),
    ]
    cls, box, *met = processes.add_up(torch.tensor(numbers)).tolist()
    counts = Counts(**dict(zip(fields, met, strict=True)))
    cls_norm, box_norm = divisors((cls, box))
    if seen.sums is None:
        return _Normalisers(cls_norm, None, None), counts
    sums = processes.add_up(torch.stack(seen.sums).sum(0))
    return _Normalisers(
        cls_norm,
        # Unweighted box terms are divided by a count.
        box_norm if detector.box_weight is None else sums[:, 0].clamp(min=1),
        None if detector.quality.sums is None else sums[:, 1:],
    ), counts


def _look_ahead(detector: DenseDetector, images: list[Tensor], batches: Sequence[Batch], epoch: int) -> _Seen:
    """Assign and add up all batches of the step, from a pass without gradients where that takes outputs."""
    needs_outputs = detector.sums_need_outputs or isinstance(detector.assigner_in(epoch), DynamicAssigner)
    assignments, sums = [], []
    with torch.no_grad(), batch_norm_untouched(detector):
        for image, batch in zip(images, batches, strict=True):
            out = detector(image, epoch) if needs_outputs else None
            assignments.append(detector.assign_batch(image, batch.targets, out, sizes=batch.sizes, epoch=epoch))
            sums.append(detector.step_sums(out, assignments[-1], _size(image)))
    return _Seen(assignments, sums)


def _see(
    detector: DenseDetector, image: Tensor, batch: Batch, out: HeadOutput, epoch: int, *, whole_step: bool
) -> _Seen:
    """Assign the only batch of this process, and add it up unless it is the whole step."""
    assignment = detector.assign_batch(image, batch.targets, out, sizes=batch.sizes, epoch=epoch)
    return _Seen([assignment], None if whole_step else [detector.step_sums(out, assignment, _size(image))])


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


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
