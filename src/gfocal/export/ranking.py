"""The best of many numbers, of equal ones the first: what a detector promises, and ``torch.topk`` does not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Best = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(B, N) numbers and K <= N -> (B, K) the best of each row in order, and (B, K) int64 where they stand."""


def stable_best(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What a stable sort begins with, in a tenth of its time for a million numbers.

    Args:
        values: (B, N); where less than ``count`` of a row are above minus infinity, any of the others fill it up.
        count: K, from 1 to N.

    Returns:
        (B, K) values, and (B, K) int64 places.
    """
    last = values.topk(count).values[..., -1:]
    room = count - (values > last).sum(-1, keepdim=True)
    tied = values == last
    chosen = torch.where(tied & (tied.cumsum(-1) > room), -torch.inf, values).topk(count).indices
    places = chosen.sort(dim=-1).values
    best, order = values.gather(-1, places).sort(dim=-1, descending=True, stable=True)
    return best, places.gather(-1, order)
