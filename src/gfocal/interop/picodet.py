"""PicoDet of PaddleDetection -> gfocal: the networks of 2021, on ESNet, under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from re import Match

from torch import Tensor

from gfocal.errors import UsageError
from gfocal.interop.names import NameMap, Recognised, import_by_names, layers, rename, rules
from gfocal.interop.report import ImportReport, differing, free_place, input_size, printable
from gfocal.models.backbones.esnet import SIZES
from gfocal.serialization.torch_files import Checkpoint

RECIPES = {"esnet_x0_75": "picodet_s", "esnet_x1_0": "picodet_m", "esnet_x1_25": "picodet_l"}
"""By the backbone."""
SIZES_IN_NAMES = (640, 416)
"""Of the published files, beside 320."""
_OUTPUT = "head.head_cls0.weight"
_PROJECT = "head.distribution_project.project"
_FIRST_WIDTH = 128  # channels of an ESNet's first map, at the scale 1
_TOWER = re.compile(r"head\.conv_feat\.cls_conv_dw0\.\d+\.conv\.weight")
# A learnt factor of each level that its head does not apply, and the constants 0, 1, ..., n.
_UNUSED = re.compile(r"head\.p\d_feat\.scale_reg|head\.distribution_project\.project")

_BLOCKS = {
    "short.0": "_conv_dw_1",
    "short.1": "_conv_linear_1",
    "main.0": "_conv_pw_2",
    "main.1": "_conv_dw_2",
    "main.2": "_se",
    "main.3": "_conv_linear_2",
    "join.0": "_conv_dw_mv1",
    "join.1": "_conv_pw_mv1",
    "first": "_conv_pw",
    "depthwise": "_conv_dw",
    "attention": "_se",
    "last": "_conv_linear",
}
"""The parts of ESNet's blocks, of which the first of a stage has others than the rest."""


def _block(match: Match[str]) -> str:
    # Their stages are numbered from 2, by the stride's exponent less one, and blocks from 1.
    return f"backbone.{int(match[1]) + 2}_{int(match[2]) + 1}.{_BLOCKS[match[3]]}."


_DOWN, _SEPARABLE = r"^neck\.(?:top_down|bottom_up)_blocks\.\d+\.", {0: "dwconv", 1: "bn1", 3: "pwconv", 4: "bn2"}
_RULES = rules(
    (r"^backbone\.stem\.0\.", "backbone._conv1."),
    (r"^backbone\.stages\.(\d+)\.(\d+)\.((?:short|main|join)\.\d|[a-z]+)\.", _block),
    (r"^(backbone\..*_se)\.fc([12])\.", r"\1.conv\2."),
    (r"^(backbone\..*)\.0\.(\w+)$", r"\1._conv.\2"),
    (r"^(backbone\..*)\.1\.(\w+)$", r"\1._batch_norm.\2"),
    (r"^neck\.lateral\.(\d+)\.0\.", r"neck.conv_t.convs.\1.conv."),
    (r"^neck\.lateral\.(\d+)\.1\.", r"neck.conv_t.convs.\1.bn."),
    (r"^neck\.down_blocks\.", "neck.top_down_blocks."),
    (r"^neck\.up_blocks\.", "neck.bottom_up_blocks."),
    (rf"({_DOWN})main\.0\.", r"\1main_conv."),
    (rf"({_DOWN})main\.1\.", r"\1blocks.0.conv1."),
    (rf"({_DOWN})main\.2\.", r"\1blocks.0.conv2."),
    (rf"({_DOWN})short\.", r"\1short_conv."),
    (rf"({_DOWN})join\.", r"\1final_conv."),
    (rf"({_DOWN}(?:main_conv|short_conv|final_conv|blocks\.0\.conv1))\.0\.", r"\1.conv."),
    (rf"({_DOWN}(?:main_conv|short_conv|final_conv|blocks\.0\.conv1))\.1\.", r"\1.bn."),
    (r"^neck\.halvings\.", "neck.downsamples."),
    (r"^neck\.extra\.lateral\.", "neck.first_top_conv."),
    (r"^neck\.extra\.level\.", "neck.second_top_conv."),
    *layers(r"neck\.(?:downsamples\.\d+|\w+_top_conv|\w+_blocks\.\d+\.blocks\.0\.conv2)", _SEPARABLE),
    *(
        (rf"^head\.blocks\.(\d+)\.(\d+)\.{i}\.", rf"head.conv_feat.cls_conv_{layer}\1.\2.{part}.")
        for i, (layer, part) in {0: ("dw", "conv"), 1: ("dw", "norm"), 3: ("pw", "conv"), 4: ("pw", "norm")}.items()
    ),
    (r"^head\.out\.", "head.head_cls"),
    (r"\.running_mean$", "._mean"),
    (r"\.running_var$", "._variance"),
)
NAMES = NameMap("picodet", "PicoDet", partial(rename, by=_RULES), _UNUSED)


def import_picodet(
    checkpoint: Path,
    out: Path,
    content: Checkpoint,
    *,
    size: int | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a PicoDet of 2021 by PaddleDetection; every tensor is accounted for.

    S, M or L, the classes and n follow from the shapes.

    Args:
        checkpoint: the ``.pdparams`` file.
        out: the folder to write to; made if it does not exist.
        content: what the file holds.
        size: input side in pixels, >= 32; by default 640 or 416 if the file's name says so, else 320.
        names: of the classes, which the file does not have; by default COCO's for 80 of them, else "class 0", ...
        overwrite: replace a checkpoint that ``out`` has already.

    Raises:
        UsageError: it is no such network; a tensor is missing, unknown or of another shape (the message names it);
            another number of names; or ``out`` has a checkpoint already.
    """
    file = free_place(out, overwrite=overwrite)
    side, notes = input_size(checkpoint, size, SIZES_IN_NAMES)
    found = _recognised(content.state, side, checkpoint)
    found = replace(found, notes=(*content.notes, *notes))
    return import_by_names(checkpoint, file, content.state, NAMES, found, names=names)


def recognised(backbone: str, channels: int, head_depth: int, reg_max: int, size: int, classes: int) -> Recognised:
    """The PicoDet that has these."""
    keys = {
        "model.channels": channels,
        "model.head_depth": head_depth,
        "model.boxes.reg_max": reg_max,
        "data.resize.size": size,
    }
    return Recognised(RECIPES[backbone], differing(RECIPES[backbone], keys), classes)


def _recognised(state: Mapping[str, object], size: int, checkpoint: Path) -> Recognised:
    """The recipe that the shapes ask for, the keys that they set, and the number of classes."""
    _check_generation(state, checkpoint)
    output, project = state.get(_OUTPUT), state.get(_PROJECT)
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise UsageError(f"{checkpoint} holds no PicoDet: it has no tensor {_OUTPUT} of four dimensions")
    outputs, channels = output.shape[:2]
    bins = project.numel() if isinstance(project, Tensor) else 8
    classes = outputs - 4 * bins
    if classes < 1 or bins < 2:
        raise UsageError(
            f"{checkpoint} does not fit: {_OUTPUT} has {outputs} outputs, which must be the classes and 4 x {bins} bins"
        )
    depth = sum(_TOWER.fullmatch(name) is not None for name in state)
    return recognised(_backbone(state, checkpoint), channels, max(depth, 1), bins - 1, size, classes)


def _check_generation(state: Mapping[str, object], checkpoint: Path) -> None:
    """Refuse what is no PicoDet, and the one of 2022.

    Raises:
        UsageError: naming what it is instead.
    """
    if any(name.startswith("head.cls_align.") for name in state):
        raise UsageError(
            f"{checkpoint} is a PicoDet of 2022 (LCNet, with an alignment branch), which cannot be imported yet; what "
            "can: those of 2021 (picodet_s_320_coco.pdparams, ... without lcnet in the name)"
        )
    if not any(name.startswith("head.conv_feat.") for name in state):
        few = ", ".join([printable(name) for name in state][:3]) or "none"
        kind = "an optimizer's state (.pdopt)" if "LR_Scheduler" in state else f"its tensors are {few}, ..."
        raise UsageError(f"{checkpoint} holds no PicoDet ({kind}), which alone is read of paddle's files")


def _backbone(state: Mapping[str, object], checkpoint: Path) -> str:
    """The ESNet by the width of its first stage, which the lateral convolutions need not tell.

    Raises:
        UsageError: it is another backbone.
    """
    widths = {int(_FIRST_WIDTH * scale): name for name, (scale, _) in SIZES.items()}
    weight = state.get("backbone.2_1._conv_pw_mv1._conv.weight")
    found = widths.get(len(weight)) if isinstance(weight, Tensor) and weight.ndim else None
    if found is None:
        few = ", ".join([printable(name) for name in state if name.startswith("backbone.")][:2]) or "none"
        raise UsageError(f"{checkpoint}: its backbone ({few}, ...) is none of {', '.join(SIZES)}")
    return found
