"""Quality Focal Loss and Distribution Focal Loss: forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from gfocal.losses import distribution_focal_loss, quality_focal_loss
from harness import Candidate, Row, compare


def plain_qfl(logits: Tensor, dense: Tensor) -> Tensor:
    """The formula in torch's own operations."""
    distance = (dense - logits.sigmoid()).abs()
    return (F.binary_cross_entropy_with_logits(logits, dense, reduction="none") * distance.pow(2)).sum()


def plain_qfl_of_pair(logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    """The same from what a detector has: a label and a quality for each point."""
    dense = torch.zeros_like(logits)
    rows = ((labels >= 0) & (labels < logits.shape[1])).nonzero().squeeze(1)
    dense[rows, labels[rows]] = quality[rows]
    return plain_qfl(logits, dense)


def two_cross_entropies(logits: Tensor, target: Tensor) -> Tensor:
    """DFL as it is often written: one cross-entropy for each of the two bins."""
    left = target.long()
    low = F.cross_entropy(logits, left, reduction="none") * (left + 1 - target)
    high = F.cross_entropy(logits, left + 1, reduction="none") * (target - left)
    return (low + high).sum()


def kept(loss: Callable[[], Tensor]) -> str:
    """Megabytes that autograd holds from forward to backward."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return f"{sum(sizes.values()) / 1e6:.1f}"


def step(loss: Callable[[], Tensor], logits: Tensor) -> Callable[[], None]:
    def call() -> None:
        logits.grad = None
        loss().backward()

    return call


def agreement(loss: Callable[[], Tensor], baseline: Callable[[], Tensor], logits: Tensor) -> str:
    """Largest differences of value and gradient; too large ones are an error, not a figure."""
    found = []
    for function in (baseline, loss):
        logits.grad = None
        value = function()
        value.backward()
        assert logits.grad is not None
        found.append((value.item(), logits.grad.clone()))
    (wanted, wanted_grad), (got, grad) = found
    value = abs(got - wanted) / abs(wanted)
    gradient = float((grad - wanted_grad).norm() / wanted_grad.norm())
    if value > 1e-4 or gradient > 1e-4:
        raise AssertionError(f"not the same loss: value differs by {value:.1e}, gradient by {gradient:.1e}")
    return f"value to {value:.0e}, gradient to {gradient:.0e}"


def qfl_case(points: int, classes: int, positives: int, repeats: int, inner: int = 1) -> list[Row]:
    torch.manual_seed(0)
    logits = (torch.randn(points, classes) * 2 - 4).requires_grad_()
    labels = torch.full((points,), -1)
    labels[torch.randperm(points)[:positives]] = torch.randint(0, classes, (positives,))
    quality = torch.rand(points)
    dense = torch.zeros(logits.shape)
    rows = labels.ge(0).nonzero().squeeze(1)
    dense[rows, labels[rows]] = quality[rows]

    def plain() -> Tensor:
        return plain_qfl(logits, dense)

    def plain_of_pair() -> Tensor:
        return plain_qfl_of_pair(logits, labels, quality)

    def ours() -> Tensor:
        return quality_focal_loss(logits, dense, reduction="sum")

    def ours_of_pair() -> Tensor:
        return quality_focal_loss(logits, (labels, quality), reduction="sum")

    def focal() -> Tensor:
        return sigmoid_focal_loss(logits, dense, reduction="sum")

    def candidate(name: str, loss: Callable[[], Tensor], agrees: str = "") -> Candidate:
        return Candidate(name, step(loss, logits), name.startswith("gfocal"), agrees, {"MB kept": kept(loss)})

    # Each beside plain torch on the same input: who has labels must make the dense target first.
    case = f"QFL {points:,} points x {classes} classes, {positives} positives"
    from_dense = [
        candidate("plain torch", plain),
        candidate("torchvision sigmoid_focal_loss", focal, "another loss (no soft target): time only"),
        candidate("gfocal", ours, agreement(ours, plain, logits)),
    ]
    from_pair = [
        candidate("plain torch", plain_of_pair),
        candidate("gfocal", ours_of_pair, agreement(ours_of_pair, plain_of_pair, logits)),
    ]
    return [
        *compare(f"{case}, dense target", from_dense, repeats=repeats * inner),
        *compare(f"{case}, labels and quality", from_pair, repeats=repeats * inner),
    ]


def dfl_case(positives: int, bins: int, repeats: int) -> list[Row]:
    torch.manual_seed(0)
    logits = torch.randn(4 * positives, bins, requires_grad=True)
    target = torch.rand(4 * positives) * (bins - 1.1)

    def pair() -> Tensor:
        return two_cross_entropies(logits, target)

    def ours() -> Tensor:
        return distribution_focal_loss(logits, target, reduction="sum")

    agrees = agreement(ours, pair, logits)
    candidates = [
        Candidate("two cross-entropies", step(pair, logits), more={"MB kept": kept(pair)}),
        Candidate("gfocal", step(ours, logits), True, agrees, {"MB kept": kept(ours)}),
    ]
    return compare(f"DFL {positives:,} positives, {bins} bins", candidates, repeats=repeats * 10, warmup=10)


def rows(repeats: int) -> list[Row]:
    return [
        *qfl_case(44_800, 80, 300, repeats),  # two images of 800 x 1333
        *qfl_case(8 * 2_100, 80, 400, repeats),  # eight images of 320 x 320, COCO's classes
        *qfl_case(2_100, 3, 50, repeats, inner=5),  # one image, three classes
        *dfl_case(300, 17, repeats),
        *dfl_case(4_000, 17, repeats),
    ]
