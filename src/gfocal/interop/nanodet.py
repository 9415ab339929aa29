"""NanoDet-m and NanoDet-Plus checkpoints -> gfocal: the same networks under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from gfocal.errors import UsageError
from gfocal.interop.names import NameMap, Recognised, Rule, import_by_names, layers, rename, rules
from gfocal.interop.report import ImportReport, differing, free_place, input_size, printable
from gfocal.interop.wrappers import read_wrapped
from gfocal.models.backbones.shufflenet import WIDTHS
from gfocal.serialization.torch_files import Checkpoint

_OUTPUT = "head.gfl_cls.0.weight"
_PROJECT = "head.distribution_project.project"
_STAGE = "backbone.stage2.0.branch1.0.weight"
_DEPTHWISE = re.compile(r"head\.cls_convs\.0\.\d+\.depthwise\.weight")


_SEPARABLE = {0: "depthwise", 1: "dwnorm", 3: "pointwise", 4: "pwnorm"}
_HEAD = (
    (r"^head\.out\.", "head.gfl_cls."),
    (r"^head\.blocks\.", "head.cls_convs."),
    *layers(r"head\.cls_convs\.\d+\.\d+", _SEPARABLE),
)
_LIGHT_PAN = rules((r"^neck\.lateral\.(\d+)\.", r"fpn.lateral_convs.\1.conv."), *_HEAD)
_GHOST_PAN = rules(
    (r"^neck\.lateral\.(\d+)\.0\.", r"fpn.reduce_layers.\1.conv."),
    (r"^neck\.lateral\.(\d+)\.1\.", r"fpn.reduce_layers.\1.bn."),
    (r"^neck\.down_blocks\.(\d+)\.", r"fpn.top_down_blocks.\1.blocks.0."),
    (r"^neck\.up_blocks\.(\d+)\.", r"fpn.bottom_up_blocks.\1.blocks.0."),
    (r"\.first\.(primary|cheap)\.", r".ghost1.\1."),
    (r"\.second\.(primary|cheap)\.", r".ghost2.\1."),
    (r"\.primary\.", ".primary_conv."),
    (r"\.cheap\.", ".cheap_operation."),
    (r"^neck\.halvings\.", "fpn.downsamples."),
    (r"^neck\.extra\.lateral\.", "fpn.extra_lvl_in_conv.0."),
    (r"^neck\.extra\.level\.", "fpn.extra_lvl_out_conv.0."),
    *layers(r"fpn\.(?:downsamples|extra_lvl_in_conv|extra_lvl_out_conv)\.\d+", _SEPARABLE),
    *_HEAD,
)


@dataclass(frozen=True)
class _Kind:
    """A detector of NanoDet's.

    Attributes:
        network: its name, for messages.
        recipes: of ours, by the backbone.
        lateral: the convolution of a map, with {} for its number.
        levels: the most that it has, 3 of them of the backbone's maps.
        rules: from our names to theirs; the backbone's are the same.
        unused: constants, and branches that play no part in inference.
    """

    network: str
    recipes: Mapping[str, str]
    lateral: str
    levels: int
    rules: tuple[Rule, ...]
    unused: str

    @property
    def pyramid(self) -> str:
        """What the names of its lateral convolutions begin with."""
        return self.lateral.partition("{")[0]

    @property
    def names(self) -> NameMap:
        theirs = partial(rename, by=self.rules)
        return NameMap("nanodet", self.network, theirs, re.compile(self.unused), "model.")


_M = _Kind(
    "NanoDet-m",
    dict.fromkeys(WIDTHS, "gfl_nano"),
    "fpn.lateral_convs.{}.conv.weight",
    3,
    _LIGHT_PAN,
    r"head\.(gfl_reg\.\d+\.(weight|bias)|distribution_project\.project)",  # gfl_reg: its outputs are part of gfl_cls
)
_PLUS = _Kind(
    "NanoDet-Plus",
    {"shufflenet_v2_x1_0": "nanodet_plus_m", "shufflenet_v2_x1_5": "nanodet_plus_m_1.5x"},
    "fpn.reduce_layers.{}.conv.weight",
    4,
    _GHOST_PAN,
    r"head\.distribution_project\.project|aux_(fpn|head)\..+",  # for training alone
)
_KINDS = (_PLUS, _M)
RECIPES = frozenset(recipe for kind in _KINDS for recipe in kind.recipes.values())
"""That files of NanoDet are taken for."""


def import_nanodet(
    checkpoint: Path,
    out: Path,
    *,
    size: int | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
    content: Checkpoint | None = None,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a checkpoint of NanoDet-m or NanoDet-Plus; every tensor is accounted for.

    Args:
        checkpoint: a ``.ckpt`` or ``.pth`` file. It is read as data: nothing in it is imported or called.
        out: the folder to write to; made if it does not exist.
        size: input side in pixels, >= 32; by default 416 if the file's name says so, else 320.
        names: of the classes, which the file does not have; by default COCO's for 80 of them, else "class 0", ...
        overwrite: replace a checkpoint that ``out`` has already.
        content: what the file holds, if it was read already.

    Raises:
        UsageError: the file is missing or no such checkpoint; a tensor is missing, unknown or of another shape (the
            message names it); another number of names; or ``out`` has a checkpoint already.
    """
    checkpoint, file = Path(checkpoint), free_place(out, overwrite=overwrite)
    content = content or read_wrapped(checkpoint)
    if not is_nanodet(content.state):
        raise UsageError(f"{checkpoint} is not a NanoDet checkpoint: it has no tensor model.{_OUTPUT}")
    state = {name.removeprefix("model."): value for name, value in content.state.items()}
    kind = next((kind for kind in _KINDS if any(name.startswith(kind.pyramid) for name in state)), _M)
    side, notes = input_size(checkpoint, size, (416,))
    found = _recognised(kind, state, side, checkpoint)
    found = replace(found, notes=(*content.notes, *notes))
    return import_by_names(checkpoint, file, state, kind.names, found, names=names, foreign=content.foreign)


def is_nanodet(state: Mapping[str, object]) -> bool:
    """Whether these are tensors of NanoDet, with or without the ``model.`` that its trainer puts before them.

    One that lacks some is one, too: what is missing shall be named.
    """
    for prefix in ("model.", ""):
        pyramids = tuple(prefix + kind.pyramid for kind in _KINDS)
        own = any(name.startswith(pyramids) for name in state)
        if isinstance(state.get(prefix + _OUTPUT), Tensor) or (own and f"{prefix}{_STAGE}" in state):
            return True
    return False


def _recognised(kind: _Kind, state: Mapping[str, object], size: int, checkpoint: Path) -> Recognised:
    """The recipe that the shapes ask for, the keys that they set, and the number of classes."""
    if _OUTPUT not in state:
        raise UsageError(f"{checkpoint} does not fit {kind.network}; tensors 1 missing: model.{_OUTPUT}")
    outputs, project = _rows(state, _OUTPUT), state.get(_PROJECT)
    bins = project.numel() if isinstance(project, Tensor) else 8
    classes = outputs - 4 * bins
    if classes < 1 or bins < 2:
        raise UsageError(
            f"{checkpoint} does not fit: model.{_OUTPUT} has {outputs} outputs, which must be the classes and "
            f"4 x {bins} bins"
        )
    levels = kind.levels if f"head.gfl_cls.{kind.levels - 1}.weight" in state else 3
    backbone = _backbone(kind, state, checkpoint)
    keys = {
        "data.resize.size": size,
        "model.backbone": backbone,
        "model.channels": _rows(state, kind.lateral.format(0)) or 96,
        "model.head_depth": sum(_DEPTHWISE.fullmatch(name) is not None for name in state) or 2,
        "model.strides": [8 * 2**level for level in range(levels)],
        "model.boxes.reg_max": bins - 1,
    }
    row = kind.recipes[backbone]
    return Recognised(row, differing(row, keys), classes)


def _rows(state: Mapping[str, object], name: str) -> int:
    """Outputs of a convolution; 0 where there is none."""
    weight = state.get(name)
    return len(weight) if isinstance(weight, Tensor) and weight.ndim else 0


def _backbone(kind: _Kind, state: Mapping[str, object], checkpoint: Path) -> str:
    """The ShuffleNet by the widths of its maps, which the lateral convolutions take.

    Raises:
        UsageError: it is another backbone.
    """
    laterals = [state.get(kind.lateral.format(i)) for i in range(3)]
    widths = tuple(w.shape[1] for w in laterals if isinstance(w, Tensor) and w.ndim == 4)
    if _STAGE in state:
        # Where a lateral convolution is missing or damaged, that is said of it and not of the backbone.
        known = [name for name, own in WIDTHS.items() if len(widths) < 3 or widths[0] == own[0]]
        if known:
            return known[0]
    few = ", ".join([printable(name) for name in state if name.startswith("backbone.")][:2]) or "none"
    raise UsageError(
        f"{checkpoint}: its backbone ({few}, ...; maps of {widths} channels) is none of {', '.join(WIDTHS)}"
    )
