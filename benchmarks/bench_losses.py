"""Quality Focal Loss beside peers in the same run: time of forward and backward, bytes kept between them.

The logits are those of two pictures of 800 x 1333 (44,800 points, 80 classes, 300 positives). Peers: the formula in
plain torch operations, and torchvision's sigmoid focal loss, the nearest published relative.

    python benchmarks/bench_losses.py --threads 1 --repeats 9
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from gfocal.losses import quality_focal_loss


def plain(logits: Tensor, dense: Tensor) -> Tensor:
    distance = (dense - logits.sigmoid()).abs()
    return (F.binary_cross_entropy_with_logits(logits, dense, reduction="none") * distance.pow(2)).sum()


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return sum(sizes.values())


def milliseconds(loss: Callable[[], Tensor], logits: Tensor, repeats: int) -> float:
    """Median processor time of one forward and backward pass (it does not see other programs' turns)."""
    spent = []
    for _ in range(repeats + 2):
        logits.grad = None
        start = time.process_time()
        loss().backward()
        spent.append(time.process_time() - start)
    return statistics.median(spent[2:]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    logits = (torch.randn(44_800, 80) * 2 - 4).requires_grad_()
    labels = torch.full((44_800,), -1)
    labels[torch.randperm(44_800)[:300]] = torch.randint(0, 80, (300,))
    quality = torch.rand(44_800)
    dense = torch.zeros(logits.shape)
    rows = labels.ge(0).nonzero().squeeze(1)
    dense[rows, labels[rows]] = quality[rows]
    candidates: dict[str, Callable[[], Tensor]] = {
        "plain torch, dense target": lambda: plain(logits, dense),
        "torchvision sigmoid_focal_loss": lambda: sigmoid_focal_loss(logits, dense, reduction="sum"),
        "gfocal, dense target": lambda: quality_focal_loss(logits, dense, reduction="sum"),
        "gfocal, (labels, quality)": lambda: quality_focal_loss(logits, (labels, quality), reduction="sum"),
    }
    print(f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, ", end="")
    print(f"torch {torch.__version__}, {options.threads} thread(s), median of {options.repeats}\n")
    print("| loss | ms | times plain | MB kept |\n|---|---|---|---|")
    first = 0.0
    for name, loss in candidates.items():
        spent = milliseconds(loss, logits, options.repeats)
        first = first or spent
        print(f"| {name} | {spent:.1f} | {first / spent:.1f} | {kept_bytes(loss) / 1e6:.0f} |")


if __name__ == "__main__":
    main()
