"""Each loss and its gradient on a device, against the same on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gfocal import losses
from gfocal.boxes import giou_loss
from gfocal.losses import quality
from helpers.loss_cases import random_case

pytestmark = pytest.mark.cuda

ROWS = 300
Case = tuple[Callable[..., Tensor], list[Tensor], int]
"""A loss, its arguments, and how many of them get a gradient."""


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _boxes(seed: int) -> Tensor:
    corners = 50 * _random(ROWS, 2, seed=seed)
    return torch.cat((corners, corners + 5 + 40 * _random(ROWS, 2, seed=seed + 1).abs()), 1)


def _cases() -> dict[str, Case]:
    logits, labels, score, dense = random_case(17, rows=ROWS)
    share = torch.rand(ROWS, generator=torch.Generator().manual_seed(3))

    def pair(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, label, value: function(x, (label, value))

    return {
        "centerness": (losses.centerness_loss, [_random(ROWS), share], 1),
        "distribution": (losses.distribution_focal_loss, [_random(ROWS, 17), 16 * share], 1),
        "focal": (losses.focal_loss, [logits, labels], 1),
        "gaussian": (losses.gaussian_nll_loss, [_random(ROWS, 4), _random(ROWS, 4, seed=1), _random(ROWS, 4)], 2),
        "giou": (giou_loss, [_boxes(0), _boxes(5)], 1),
        "quality": (pair(losses.quality_focal_loss), [logits, labels, score], 1),
        "quality of a dense target": (losses.quality_focal_loss, [logits, dense], 1),
        "smooth_l1": (losses.smooth_l1_loss, [_random(ROWS, 4), _random(ROWS, 4, seed=2)], 1),
        "varifocal": (pair(losses.varifocal_loss), [logits, labels, score], 1),
        "varifocal of a dense target": (losses.varifocal_loss, [logits, dense], 1),
        "extremes": (losses.quality_focal_loss, [torch.tensor([[-100.0, 100.0, 0.0]]), torch.tensor([[0, 1, 0.5]])], 1),
        "none": (pair(losses.quality_focal_loss), [logits[:0], labels[:0], score[:0]], 1),
    }


CASES = _cases()


def _results(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """The loss and its gradients."""
    function, arguments, learnt = case
    inputs = [value.to(dtype) if i < learnt else value for i, value in enumerate(arguments)]
    there = [value.to(device, copy=True) for value in inputs]
    for value in there[:learnt]:
        value.requires_grad_()
    loss = function(*there)
    return [loss.detach(), *torch.autograd.grad(loss.sum(), there[:learnt])]


@pytest.mark.parametrize("form", [1 << 40, 1], ids=["formula", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_as_on_the_cpu(
    name: str, dtype: torch.dtype, form: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "_MANY", form)
    if form == 1 and "quality" not in name:
        pytest.skip("has one form")
    here, there = (_results(CASES[name], dtype, each) for each in (torch.device("cpu"), device))
    assert here[0].dtype == there[0].dtype == torch.float32
    for one, other in zip(here, there, strict=True):
        assert other.device.type == device.type
        assert torch.isfinite(other).all()
        rounding = torch.finfo(one.dtype).eps  # gradients have the type of the logits
        torch.testing.assert_close(other.cpu(), one, rtol=max(1e-4, 2 * rounding), atol=1e-6)
