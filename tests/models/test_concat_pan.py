"""GhostPAN, CSP-PAN, LC-PAN and ESNet: shapes, wiring, gradients, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models.backbones.esnet import SIZES, es_net
from gfocal.models.necks.concat_pan import ConcatPan
from gfocal.models.necks.csp_pan import csp_pan
from gfocal.models.necks.ghost_pan import ghost_pan
from gfocal.models.necks.lc_pan import lc_pan

NECKS = pytest.mark.parametrize("make", [ghost_pan, csp_pan, lc_pan])


class Sum(nn.Module):
    """A block whose output is the mean of both maps of a pair: the wiring alone is left."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.split(self.channels, 1)
        return (first + 2 * second) / 3


def maps(size: int = 64, channels: tuple[int, ...] = (3, 5, 7)) -> list[Tensor]:
    return [torch.randn(2, c, size // s, size // s) for c, s in zip(channels, (8, 16, 32), strict=True)]


@NECKS
@pytest.mark.parametrize("levels", [3, 4])
def test_levels_have_their_strides_and_every_parameter_learns(make: Callable[..., ConcatPan], levels: int) -> None:
    neck = make((3, 5, 7), levels=levels, channels=8)
    out = neck(maps())
    assert [tuple(x.shape) for x in out] == [(2, 8, 64 // s, 64 // s) for s in (8, 16, 32, 64)[:levels]]
    sum((x.sin().sum() for x in out), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())


def test_the_wiring_by_hand() -> None:
    """All convolutions are left out: what comes to each level is a weighted sum of the maps."""
    neck = ConcatPan((1, 1, 1), levels=4, channels=1, block=Sum, activation="hard_swish", enlarge="nearest").eval()
    neck.lateral = nn.ModuleList(nn.Identity() for _ in range(3))
    neck.halvings = nn.ModuleList(nn.MaxPool2d(2) for _ in range(2))
    neck.extra = nn.ModuleDict({"lateral": nn.MaxPool2d(2), "level": nn.MaxPool2d(2)})
    a, b, c = (torch.full((1, 1, 64 // s, 64 // s), value) for s, value in ((8, 9.0), (16, 27.0), (32, 81.0)))
    # Down: (coarser + 2 finer) / 3: 81, then (81 + 54) / 3 = 45, then (45 + 18) / 3 = 21.
    # Up: (finer halved + 2 own) / 3: 21, then (21 + 90) / 3 = 37, then (37 + 162) / 3. The extra: the lateral and that.
    levels = neck([a, b, c])
    last = (37 + 162) / 3
    for level, expected in zip(levels, (21, 37, last, 81 + last), strict=True):
        torch.testing.assert_close(level, torch.full_like(level, expected))


@NECKS
def test_sizes_that_do_not_halve(make: Callable[..., ConcatPan]) -> None:
    sizes = [(13, 9), (7, 5), (4, 3)]
    out = make((3, 5, 7), levels=4, channels=4).eval()(
        [torch.randn(1, c, *s) for c, s in zip((3, 5, 7), sizes, strict=True)]
    )
    assert [tuple(x.shape[-2:]) for x in out] == [*sizes, (2, 2)]


@NECKS
def test_what_a_neck_refuses(make: Callable[..., ConcatPan]) -> None:
    if make is not lc_pan:  # whose blocks do not work on halves
        with pytest.raises(ValueError, match="channels must be even"):
            make((3, 5, 7), levels=3, channels=5)
    for levels in (2, 5):
        with pytest.raises(ValueError, match=f"the 3 maps of the backbone or one more, got {levels}"):
            make((3, 5, 7), levels=levels, channels=4)


@pytest.mark.parametrize("name", SIZES)
def test_maps_of_an_esnet(name: str) -> None:
    torch.manual_seed(0)
    net = es_net(name).eval()
    with torch.no_grad():
        found = net(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape) for x in found] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(net.channels, (8, 16, 32), strict=True)
    ]
    widths = {"esnet_x0_75": (96, 192, 384), "esnet_x1_0": (128, 256, 512), "esnet_x1_25": (160, 320, 640)}
    assert net.channels == widths[name]


def test_frozen_stages_and_norms_of_an_esnet() -> None:
    net = es_net("esnet_x0_75", frozen_stages=2, norm_eval=True).train()
    learns = {name.split(".")[0] + "." + name.split(".")[1] for name, p in net.named_parameters() if p.requires_grad}
    assert learns == {"stages.1", "stages.2"}
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_weights_of_an_esnet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = es_net("esnet_x0_75")
    torch.save(net.state_dict(), tmp_path / "net.pth")
    again = es_net("esnet_x0_75", pretrained=str(tmp_path / "net.pth"))
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "no.pth").write_text("nothing")
    for pretrained, words in (
        (True, "nobody offers them"),
        (str(tmp_path / "gone.pth"), "there is no file"),
        (str(tmp_path / "no.pth"), "could not be loaded"),
    ):
        with pytest.raises(UsageError, match=words):
            es_net("esnet_x0_75", pretrained=pretrained)
    with pytest.raises(UsageError, match="there is no ESNet 'esnet'"):
        es_net("esnet")
