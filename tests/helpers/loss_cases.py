"""Random input for the losses on logits, and gradients to look at."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    return found


def random_case(seed: int = 0, rows: int = 40, classes: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels, quality and the dense target that says the same."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator) * 4 - 1
    labels = torch.randint(-2, classes + 2, (rows,), generator=generator)
    score = torch.rand(rows, generator=generator)
    dense = torch.zeros(rows, classes)
    for row, label in enumerate(labels.tolist()):
        if 0 <= label < classes:
            dense[row, label] = score[row]
    return logits, labels, score, dense
