"""Graphs whose layers are found again by what they compute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gfocal.interop.graphs.structure import Forms, Node, same_weights
from gfocal.interop.graphs.traced import Layer, trace


def conv(forms: Forms, x: Node, name: str, channels: int = 4, groups: int = 1) -> Node:
    return forms.conv(
        x, (channels, 4, 1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=groups, weights=name
    )


def test_twins_are_told_by_what_comes_after_them() -> None:
    forms = Forms()

    def network(names: str) -> Node:
        image = forms.image()
        a, b = conv(forms, image, names[0]), conv(forms, image, names[1])
        return forms.concat([conv(forms, a, names[2], 8), b])

    one, other = network("abc"), network("xyz")
    assert one.form == other.form
    assert one.inputs[1].form == one.inputs[0].inputs[0].form  # alike where they stand
    assert dict(same_weights([one], [other])) == {"a": "x", "b": "y", "c": "z"}


@pytest.mark.parametrize(
    "change",
    [
        lambda f, a, b: f.concat([b, a]),
        lambda f, a, b: f.add(a, b),
        lambda f, a, b: f.concat([a, a]),
        lambda f, a, b: f.concat([a, f.act("relu", b)]),
        lambda f, a, b: f.concat([a, f.shift(b, 3.5)]),
        lambda f, a, b: f.concat([a, conv(f, b, "c")]),
    ],
)
def test_what_computes_something_else_has_another_form(change: Callable[..., Node]) -> None:
    forms = Forms()
    image = forms.image()
    a, b = conv(forms, image, "a"), conv(forms, image, "b", 8)
    wanted, found = forms.concat([a, b]), change(forms, a, b)
    assert wanted.form != found.form
    with pytest.raises(ValueError, match="not the same"):
        same_weights([wanted], [found])


def test_sums_and_products_have_no_order() -> None:
    forms = Forms()
    image = forms.image()
    a, b = conv(forms, image, "a"), conv(forms, image, "b", 4, 2)
    assert forms.add(a, b).form == forms.add(b, a).form
    assert forms.mul(a, b).form == forms.mul(b, a).form != forms.add(a, b).form
    assert dict(same_weights([forms.add(a, b)], [forms.add(b, a)])) == {"a": "a", "b": "b"}


def test_contradictions_are_no_answer() -> None:
    """Twins that a sum and what comes after it pair in different ways."""
    forms = Forms()
    image = forms.image()
    a, b, x, y = (conv(forms, image, name) for name in "abxy")
    one = forms.concat([forms.add(a, b), a])
    other = forms.concat([forms.add(x, y), y])
    assert one.form == other.form
    with pytest.raises(ValueError, match="several ways"):
        same_weights([one], [other])


class Small(nn.Module):
    """A convolution and a norm, changed in place, beside one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(2, 4, 1)
        self.act = nn.Hardswish(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(images)))
        kept, seen = x.chunk(2, 1)
        return torch.cat((self.second(seen) + x, kept), 1)


def test_a_network_is_followed_as_it_runs() -> None:
    forms, network = Forms(), Small().eval()
    found = trace(network, network, forms)
    assert list(found) == ["first.weight", "second.weight"]
    assert found["first.weight"].weights == Layer("first.weight", None, "norm")
    assert found["second.weight"].weights == Layer("second.weight", "second.bias", None)
    first = forms.conv(
        forms.image(), (4, 3, 3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=1, weights=None
    )
    seen = forms.chunk(forms.hard_swish(first), 1, 2)
    second = forms.conv(seen, (4, 2, 1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, weights=None)
    assert found["first.weight"].form == first.form
    assert found["second.weight"].form == second.form


def test_a_layer_after_what_is_not_known_is_no_guess() -> None:
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
    network = nn.Sequential(first, nn.Softplus(), second)
    with pytest.raises(NotImplementedError, match="has no form here"):
        trace(network, network, Forms())
