"""PicoDet of PaddleDetection -> gfocal: the networks of 2021 and of 2022 under other names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.interop.names import Recognised, import_by_names
from gfocal.interop.picodet_names import names_of
from gfocal.interop.report import ImportReport, differing, free_place, input_size, printable
from gfocal.models.backbones import esnet, lcnet
from gfocal.models.blocks import rounded_channels
from gfocal.serialization.torch_files import Checkpoint

RECIPES = {
    ("pico", "esnet_x0_75"): "picodet_s",
    ("pico", "esnet_x1_0"): "picodet_m",
    ("pico", "esnet_x1_25"): "picodet_l",
    ("pico_se", "lcnet_x0_35"): "picodet_xs_lcnet",
    ("pico_se", "lcnet_x0_75"): "picodet_s_lcnet",
    ("pico_se", "lcnet_x1_5"): "picodet_m_lcnet",
    ("pico_se", "lcnet_x2_0"): "picodet_l_lcnet",
}
"""By the head and the backbone; of other pairs, as they were published beside, the keys are set in that of S."""
_SMALLEST = {"pico": "picodet_s", "pico_se": "picodet_s_lcnet"}
SIZES_IN_NAMES = (640, 416)
"""Of the published files, beside 320."""
_CLASSES, _EDGES = "head.head_cls0.weight", "head.head_reg0.weight"
_PROJECT = "head.distribution_project.project"
_TOWER = re.compile(r"head\.conv_feat\.cls_conv_dw0\.\d+\.conv\.weight")
_AGAIN = re.compile(r"head\.head_(cls|reg)_list\.(\d)\.(weight|bias)")
# A layer, and the width of it at the scale 1: lateral convolutions need not tell the backbone.
_WIDTHS = (
    ("backbone.2_1._conv_pw_mv1._conv.weight", {int(128 * scale): name for name, (scale, _) in esnet.SIZES.items()}),
    (
        "backbone.blocks6.1.pw_conv.conv.weight",
        {rounded_channels(512 * scale, 8): name for name, scale in lcnet.SIZES.items()},
    ),
)


@dataclass(frozen=True)
class Parts:
    """What a PicoDet is made of, in the words of a recipe."""

    backbone: str
    neck: str
    head: str


def import_picodet(
    checkpoint: Path,
    out: Path,
    content: Checkpoint,
    *,
    size: int | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a PicoDet by PaddleDetection; every tensor is accounted for.

    Its form (of 2021 or of 2022), XS, S, M or L, the classes and n follow from names and shapes.

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
    state = _once(content.state, checkpoint)
    _check_kind(state, checkpoint)
    parts = _parts(state, checkpoint)
    found = _recognised(parts, state, side, checkpoint)
    found = replace(found, notes=(*content.notes, *notes))
    by = names_of(parts.backbone, parts.neck, parts.head)
    return import_by_names(checkpoint, file, state, by, found, names=names)


def recognised(parts: Parts, channels: int, head_depth: int, reg_max: int, size: int, classes: int) -> Recognised:
    """The PicoDet that has these."""
    row = RECIPES.get((parts.head, parts.backbone), _SMALLEST[parts.head])
    keys = {
        "model.backbone": parts.backbone,
        "model.neck": parts.neck,
        "model.channels": channels,
        "model.head_depth": head_depth,
        "model.boxes.reg_max": reg_max,
        "data.resize.size": size,
    }
    return Recognised(row, differing(row, keys), classes)


def _once(state: Mapping[str, object], checkpoint: Path) -> dict[str, object]:
    """Their head of 2022 has its outputs under two names; a file may have either.

    Raises:
        UsageError: it has both, and they are not the same.
    """
    found = dict(state)
    for name, value in state.items():
        if match := _AGAIN.fullmatch(name):
            other = found.setdefault(f"head.head_{match[1]}{match[2]}.{match[3]}", value)
            if isinstance(value, Tensor) and isinstance(other, Tensor) and not torch.equal(value, other):
                raise UsageError(f"{checkpoint} has other numbers in {name} than in head.head_{match[1]}{match[2]}")
    return found


def _check_kind(state: Mapping[str, object], checkpoint: Path) -> None:
    """Refuse what is no PicoDet, naming what it is instead."""
    if not any(name.startswith("head.conv_feat.") for name in state):
        few = ", ".join([printable(name) for name in state][:3]) or "none"
        kind = "an optimizer's state (.pdopt)" if "LR_Scheduler" in state else f"its tensors are {few}, ..."
        raise UsageError(f"{checkpoint} holds no PicoDet ({kind}), which alone is read of paddle's files")


def _parts(state: Mapping[str, object], checkpoint: Path) -> Parts:
    """The parts that the names tell.

    Raises:
        UsageError: another backbone.
    """
    separable = any(name.startswith("neck.top_down_blocks.0.0.dw_conv.") for name in state)
    aligned = any(name.startswith("head.cls_align.") for name in state)
    return Parts(_backbone(state, checkpoint), "lc_pan" if separable else "csp_pan", "pico_se" if aligned else "pico")


def _backbone(state: Mapping[str, object], checkpoint: Path) -> str:
    for name, widths in _WIDTHS:
        weight = state.get(name)
        found = widths.get(len(weight)) if isinstance(weight, Tensor) and weight.ndim else None
        if found is not None:
            return found
    few = ", ".join([printable(name) for name in state if name.startswith("backbone.")][:2]) or "none"
    known = ", ".join(name for _, widths in _WIDTHS for name in widths.values())
    raise UsageError(f"{checkpoint}: its backbone ({few}, ...) is none of {known}")


def _recognised(parts: Parts, state: Mapping[str, object], size: int, checkpoint: Path) -> Recognised:
    """The recipe that the shapes ask for, the keys that they set, and the number of classes."""
    outputs, channels = _shape(state, _CLASSES, checkpoint)
    if parts.head == "pico_se":  # whose boxes have outputs of their own
        edges = _shape(state, _EDGES, checkpoint)[0]
    else:
        project = state.get(_PROJECT)
        edges = 4 * (project.numel() if isinstance(project, Tensor) else 8)
        outputs -= edges
    if outputs < 1 or edges < 8 or edges % 4:
        raise UsageError(
            f"{checkpoint} does not fit: of the outputs of {_CLASSES} {edges} are of boxes, which must be 4 x the "
            f"bins, and {outputs} of classes"
        )
    return recognised(parts, channels, max(_depth(state), 1), edges // 4 - 1, size, outputs)


def _shape(state: Mapping[str, object], name: str, checkpoint: Path) -> tuple[int, int]:
    """Outputs and inputs of a convolution."""
    weight = state.get(name)
    if not isinstance(weight, Tensor) or weight.ndim != 4:
        raise UsageError(f"{checkpoint} holds no PicoDet: it has no tensor {name} of four dimensions")
    return weight.shape[0], weight.shape[1]


def _depth(names: Iterable[str]) -> int:
    return sum(_TOWER.fullmatch(name) is not None for name in names)
