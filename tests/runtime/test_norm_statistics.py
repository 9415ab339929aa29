"""Batch norms without statistics get those of images, and compute what they did before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gfocal.runtime.norm_statistics import Moments, measure_statistics, norms_without_statistics


def folded(channels: int, eps: float = 1e-5) -> nn.BatchNorm2d:
    """What is read from a file without batch norms: the identity and a bias."""
    norm = nn.BatchNorm2d(channels, eps=eps)
    assert norm.running_var is not None
    norm.running_var.fill_(1 - eps)
    norm.bias.data.copy_(torch.linspace(-1, 1, channels))
    return norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), folded(6), nn.ReLU(), nn.Conv2d(6, 4, 3), folded(4, 1e-3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(4, 2, 1)).eval()


def norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_worked_by_hand() -> None:
    norm = folded(1, eps=1.0)  # y = x - 1, and a variance of 0 is one that nobody measured as well as one near 1
    assert norm.running_var is not None
    norm.running_var.fill_(1.0)
    norm.weight.data.fill_(2.0)
    norm.bias.data.fill_(-1.0)  # y = 2 x / sqrt(1 + 1) - 1 = sqrt(2) x - 1
    batch = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2)  # mean 4, squares 9 + 1 + 1 + 9, variance 20 / 3
    assert measure_statistics(norm, [norm], [batch]) == 2
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, torch.tensor([4.0]))
    torch.testing.assert_close(norm.running_var, torch.tensor([20 / 3]))
    torch.testing.assert_close(norm.weight.data, torch.tensor([(2 * (20 / 3 + 1)) ** 0.5]))  # sqrt(2) sqrt(v + eps)
    torch.testing.assert_close(norm.bias.data, torch.tensor([2**0.5 * 4 - 1]))
    torch.testing.assert_close(norm.eval()(batch), 2**0.5 * batch - 1)


def test_a_network_says_the_same_afterwards_and_nearly_so_in_training() -> None:
    before, after = network(), network()
    images = 3 + 2 * torch.randn(16, 3, 20, 24)
    found = norms_without_statistics(after)
    assert found == norms_of(after)
    assert measure_statistics(after, found, images.split(5)) == 16
    assert norms_without_statistics(after) == []
    with torch.no_grad():
        wanted = before(images)
        torch.testing.assert_close(after(images), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after.double()(images.double()), before.double()(images.double()), atol=1e-5, rtol=0)
        # On the images that were measured, the batch's own statistics are those: training goes on from the network.
        torch.testing.assert_close(after.float().train()(images), wanted, rtol=1e-3, atol=1e-3)
        away = (before.float().train()(images) - wanted).abs().mean()
    assert float(away) > 0.2 * float(wanted.std())  # without statistics it would be another network


def test_statistics_are_those_of_what_comes_in() -> None:
    own, inputs = network(), []
    norms = norms_of(own)
    for norm in norms:
        norm.register_forward_pre_hook(lambda _, x: inputs.append(x[0].clone()))
    images = torch.randn(8, 3, 12, 12)
    with torch.no_grad():
        own(images)
    wanted = [x.double().transpose(0, 1).flatten(1) for x in inputs]
    measure_statistics(own, norms, images.split(3))
    for norm, x in zip(norms, wanted, strict=True):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        torch.testing.assert_close(norm.running_mean.double(), x.mean(1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), x.var(1), rtol=1e-5, atol=1e-6)


def test_moments_far_from_zero() -> None:
    """Sums of squares would lose all digits of the deviation."""
    moments, values = Moments(), 1e4 + torch.randn(4, 2, 50, 50)
    for part in values.split(1):
        moments.add(part)
    wide = values.double().transpose(0, 1).flatten(1)
    assert moments.mean is not None
    torch.testing.assert_close(moments.mean, wide.mean(1), rtol=1e-7, atol=0)
    torch.testing.assert_close(moments.var, wide.var(1), rtol=1e-3, atol=0)


def _changed(change: object) -> nn.BatchNorm2d:
    norm = folded(4)
    change(norm)  # type: ignore[operator]
    return norm


@pytest.mark.parametrize(
    ("norm", "lacks"),
    [
        (folded(4), True),
        (_changed(lambda n: n.running_var.fill_(1)), True),
        (_changed(lambda n: n.weight.data.uniform_(0.5, 2)), True),  # as Caffe's ResNets have them
        (_changed(lambda n: n.running_mean.__setitem__(0, 1e-3)), False),
        (_changed(lambda n: n.running_var.__setitem__(0, 1.1)), False),
        (_changed(lambda n: n.running_var.fill_(2.0)), False),
        (nn.BatchNorm2d(4), False),
        (_changed(lambda n: (n.bias.data.zero_(), n.weight.data.zero_())), False),  # as the last one of a block starts
        (nn.BatchNorm2d(4, affine=False), False),
        (nn.BatchNorm2d(4, track_running_stats=False), False),
        (nn.GroupNorm(2, 4), False),
    ],
)
def test_which_have_no_statistics(norm: nn.Module, lacks: bool) -> None:
    assert bool(norms_without_statistics(norm)) == lacks


def test_channels_that_never_change_and_maps_of_one_cell() -> None:
    for images in (torch.full((2, 3, 9, 9), 5.0), torch.randn(1, 3, 5, 5)):
        own = network()
        with torch.no_grad():
            wanted = own(images)
            measure_statistics(own, norms_of(own), [images])
            torch.testing.assert_close(own(images), wanted, rtol=1e-4, atol=1e-4)
            assert all(bool(value.isfinite().all()) for value in own.state_dict().values())


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 3, 9, 9)]])
def test_without_images_all_stays_as_it_is(batches: list[Tensor]) -> None:
    own = network()
    before = copy.deepcopy(own.state_dict())
    assert measure_statistics(own, norms_of(own), batches) == 0
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_modes_hooks_and_gradients_stay_as_they_were() -> None:
    own = network().train()
    own[1].eval()
    modes = [m.training for m in own.modules()]
    with pytest.raises(RuntimeError, match="channels"):
        measure_statistics(own, norms_of(own), [torch.zeros(1, 3, 9, 9), torch.zeros(1, 2, 9, 9)])
    measure_statistics(own, norms_of(own)[1:], [torch.randn(2, 3, 9, 9)])
    assert [m.training for m in own.modules()] == modes
    assert not any(m._forward_pre_hooks for m in own.modules())
    assert all(p.requires_grad and p.grad is None for p in own.parameters())
    assert norms_without_statistics(own) == norms_of(own)[:1]
