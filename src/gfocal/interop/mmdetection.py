"""mmdetection's GFL -> gfocal: a mapping of names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from gfocal.errors import UsageError

_UNUSED = "bbox_head.integral.project"  # the constants 0, 1, ..., n
_TOWERS = {"cls_convs": "class_tower", "reg_convs": "box_tower"}
_OUTPUTS = {"gfl_cls": "class_out", "gfl_reg": "box_out"}
_CONVOLUTION = re.compile(r"neck\.(lateral_convs|fpn_convs)\.(\d+)\.conv\.(weight|bias)")
_TOWER = re.compile(r"bbox_head\.(cls_convs|reg_convs)\.(\d+)\.(conv\.weight|gn\.weight|gn\.bias)")
_OUTPUT = re.compile(r"bbox_head\.(gfl_cls|gfl_reg)\.(weight|bias)")
_SCALE = re.compile(r"bbox_head\.(scales\.\d+\.scale)")


def map_gfl_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of mmdetection's GFL (ResNet and FPN) under the names of the recipes ``gfl_r18`` and ``gfl_r50``.

    Args:
        state: ``backbone.*``, ``neck.*`` and ``bbox_head.*``; the constants of the integral are left out.

    Returns:
        ``backbone.body.*``, ``neck.*`` and ``head.*``, for ``load_state_dict``. Whether the ResNet strides on its
        1x1 (caffe style) or 3x3 convolutions cannot be told from names and shapes: these recipes take the latter.

    Raises:
        UsageError: naming the tensors that have no place.
    """
    levels = sum(name.startswith("neck.lateral_convs.") and name.endswith(".weight") for name in state)
    named = {name: _our_name(name, levels) for name in state if name != _UNUSED}
    unknown = [name for name, ours in named.items() if ours is None]
    if unknown:
        more = ", ..." if len(unknown) > 3 else ""
        raise UsageError(
            f"not a GFL of mmdetection: no place for {len(unknown)} tensors: {', '.join(unknown[:3])}{more}"
        )
    return {ours: state[name] for name, ours in named.items() if ours is not None}


def _our_name(name: str, levels: int) -> str | None:
    """Our name of a tensor, None if it has none; ``levels`` is the number of the backbone's maps."""
    if name.startswith("backbone."):
        return "backbone.body." + name.removeprefix("backbone.")
    if match := _CONVOLUTION.fullmatch(name):
        kind, number, what = match[1], int(match[2]), match[3]
        if kind == "lateral_convs":
            return f"neck.lateral.{number}.{what}"
        # The convolutions of the extra levels come after those of the backbone's.
        return f"neck.output.{number}.{what}" if number < levels else f"neck.extra.{number - levels}.{what}"
    if match := _TOWER.fullmatch(name):
        layer, what = match[3].split(".")
        # A convolution, its norm and an activation each: three places in our Sequential.
        return f"head.{_TOWERS[match[1]]}.{3 * int(match[2]) + (layer == 'gn')}.{what}"
    if match := _OUTPUT.fullmatch(name):
        return f"head.{_OUTPUTS[match[1]]}.{match[2]}"
    if match := _SCALE.fullmatch(name):
        return f"head.{match[1]}"
    return None
