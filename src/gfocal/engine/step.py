"""One optimizer step: several forward and backward passes that together do what one large batch would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from gfocal.criterion import Matched, count_positives
from gfocal.detector import DenseDetector
from gfocal.engine.optim import set_lr
from gfocal.errors import GfocalError, UsageError
from gfocal.structures import Batch


def make_accelerator(precision: str) -> Accelerator:
    """Device and precision ("fp32", "bf16" or "fp16").

    Raises:
        UsageError: fp16 without a CUDA device, or several processes.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("runtime.precision: fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    # accelerate keeps the first precision for the whole process and refuses another one.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    if accelerator.num_processes > 1:
        raise UsageError("training in several processes is not supported yet: start one process")
    return accelerator


@dataclass
class Counts:
    """What assignment met in one epoch, so that nothing is truncated in silence."""

    objects: int = 0
    missed: int = 0
    edges: int = 0
    truncated: int = 0

    def add(self, matched: Matched) -> None:
        """Add a batch."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(matched, name))

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
        losses: each term, summed over the batches of the step.
        grad_norm: before clipping.
        matches: what each batch learnt.
    """

    losses: dict[str, float]
    grad_norm: float
    matches: list[Matched]


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
) -> StepResult:
    """Learn from some batches; the normalisers are those of all of them together.

    Args:
        detector: matches, and has the losses.
        model: ``detector`` as accelerate prepared it: its forward pass.
        optimizer: over the detector's parameters.
        accelerator: device and precision.
        batches: of the step.
        lr: learning rate.
        clip_norm: the largest norm of the gradient, or None.

    Raises:
        NotFinite: with the loss terms, learning rate and image ids. No parameter has changed then.
    """
    detector.train()
    pictures = [batch.pictures.to(accelerator.device) for batch in batches]
    matches = [detector.match(p, batch.targets) for p, batch in zip(pictures, batches, strict=True)]
    set_lr(optimizer.optimizer, lr)
    norms: dict[str, Any] = dict(zip(("cls_norm", "box_norm"), count_positives(matches, detector.norm), strict=True))
    norms |= _sums(detector, model, pictures, matches) if len(batches) > 1 else {"box_norm": None}
    sums: dict[str, float] = {}
    for picture, matched in zip(pictures, matches, strict=True):
        losses = detector.losses(model(picture), matched, _size(picture), **norms)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if not all(math.isfinite(value) for value in sums.values()):
            raise _not_finite("the loss", sums, batches, lr)
        accelerator.backward(sum(losses.values()))
    norm = float(accelerator.clip_grad_norm_(detector.parameters(), clip_norm or math.inf))
    # With fp16 the scaler itself leaves out such a step and lowers its factor.
    if not math.isfinite(norm) and accelerator.scaler is None:
        raise _not_finite(f"the gradient (norm {norm})", sums, batches, lr)
    optimizer.step()
    optimizer.zero_grad()
    return StepResult(sums, norm, matches)


def _size(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-2], picture.shape[-1]


def _sums(
    detector: DenseDetector, model: nn.Module, pictures: list[Tensor], matches: list[Matched]
) -> dict[str, Tensor | None]:
    """What is added up over all batches of the step, from a pass without gradients where it takes outputs."""
    with torch.no_grad(), batch_norm_untouched(detector):
        each = [
            detector.step_sums(model(picture) if detector.sums_need_outputs else None, matched, _size(picture))
            for picture, matched in zip(pictures, matches, strict=True)
        ]
    sums = torch.stack(each).sum(0)
    # Unweighted box terms are divided by a count, which is known already.
    box_norm = {} if detector.box_weight == "none" else {"box_norm": sums[0].clamp(min=1)}
    return {**box_norm, "quality_sums": sums[1:] if detector.quality.summed else None}


@contextmanager
def batch_norm_untouched(module: nn.Module) -> Iterator[None]:
    """Forward passes in training mode leave the running statistics as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)


def _not_finite(what: str, sums: dict[str, float], batches: Sequence[Batch], lr: float) -> NotFinite:
    terms = ", ".join(f"{name} {value:.4g}" for name, value in sums.items())
    ids = ", ".join(str(i) for batch in batches for i in batch.image_ids.tolist())
    return NotFinite(f"{what} is not finite: loss terms {terms}; learning rate {lr:.3g}; image ids {ids}")
