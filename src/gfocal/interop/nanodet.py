"""NanoDet-m checkpoints -> gfocal: the same network under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gfocal.errors import UsageError
from gfocal.interop.report import (
    ImportReport,
    class_names,
    differing,
    free_place,
    refuse_misfits,
    refuse_not_finite,
    save_import,
    shape_of,
)
from gfocal.interop.wrappers import read_wrapped
from gfocal.recipe import Recipe, load_recipe
from gfocal.runs.checkpoint import build_within
from gfocal.serialization.torch_files import Checkpoint

_OUTPUT = "head.gfl_cls.0.weight"
_PROJECT = "head.distribution_project.project"
# Constants, and a branch that training never reached: its outputs are part of gfl_cls.
_UNUSED = re.compile(r"head\.(gfl_reg\.\d+\.(weight|bias)|distribution_project\.project)")
# Ours -> theirs. The layers of a depthwise-separable block stand in a Sequential, activations at 2 and 5.
_NAMES = (
    (re.compile(r"neck\.lateral\.(\d+)\.(\w+)"), r"fpn.lateral_convs.\1.conv.\2"),
    (re.compile(r"head\.out\.(\d+)\.(\w+)"), r"head.gfl_cls.\1.\2"),
    (re.compile(r"head\.blocks\.(\d+)\.(\d+)\.0\.(\w+)"), r"head.cls_convs.\1.\2.depthwise.\3"),
    (re.compile(r"head\.blocks\.(\d+)\.(\d+)\.1\.(\w+)"), r"head.cls_convs.\1.\2.dwnorm.\3"),
    (re.compile(r"head\.blocks\.(\d+)\.(\d+)\.3\.(\w+)"), r"head.cls_convs.\1.\2.pointwise.\3"),
    (re.compile(r"head\.blocks\.(\d+)\.(\d+)\.4\.(\w+)"), r"head.cls_convs.\1.\2.pwnorm.\3"),
)


def import_nanodet(
    checkpoint: Path,
    out: Path,
    *,
    size: int | None = None,
    overwrite: bool = False,
    content: Checkpoint | None = None,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a NanoDet-m checkpoint; every tensor is accounted for.

    Args:
        checkpoint: a ``.ckpt`` or ``.pth`` file. It is read as data: nothing in it is imported or called.
        out: the folder to write to; made if it does not exist.
        size: input side in pixels, >= 32; by default 416 if the file's name says so, else 320.
        overwrite: replace a checkpoint that ``out`` has already.
        content: what the file holds, if it was read already.

    Raises:
        UsageError: the file is missing or no NanoDet-m checkpoint; a tensor is missing, unknown or of another shape
            (the message names it); or ``out`` has a checkpoint already.
    """
    checkpoint, file = Path(checkpoint), free_place(out, overwrite=overwrite)
    content = content or read_wrapped(checkpoint)
    if not is_nanodet(content.state):
        raise UsageError(f"{checkpoint} is not a NanoDet-m checkpoint: it has no tensor model.{_OUTPUT}")
    state = {name.removeprefix("model."): value for name, value in content.state.items()}
    if size is None:
        size = 416 if "416" in checkpoint.name else 320
    recipe, changed, classes = _recipe(state, size, checkpoint)
    names, note = class_names(None, classes)
    refuse_not_finite(checkpoint, {name: value for name, value in state.items() if not _UNUSED.fullmatch(name)})
    detector = build_within(recipe, names, state, checkpoint)
    own = detector.state_dict()
    detector.load_state_dict(_ours(state, own, checkpoint))
    save_import(file, detector.state_dict(), recipe, names, source=checkpoint, format="nanodet")
    unused = tuple(name for name in state if _UNUSED.fullmatch(name))
    notes = (*content.notes, *((note,) if note else ()))
    return ImportReport(
        file, "nanodet", "gfl_nano", changed, len(own), unused, classes, notes=notes, foreign=content.foreign
    )


def is_nanodet(state: Mapping[str, object]) -> bool:
    """Whether these are tensors of NanoDet-m, with or without the ``model.`` that its trainer puts before them."""
    return any(isinstance(state.get(prefix + _OUTPUT), Tensor) for prefix in ("model.", ""))


def _recipe(state: Mapping[str, object], size: int, checkpoint: Path) -> tuple[Recipe, tuple[str, ...], int]:
    """The recipe that the shapes ask for, the keys that they set, and the number of classes."""
    weight, project = state.get(_OUTPUT), state.get(_PROJECT)
    outputs = len(weight) if isinstance(weight, Tensor) and weight.ndim else 0
    bins = project.numel() if isinstance(project, Tensor) else 8
    classes = outputs - 4 * bins
    if classes < 1 or bins < 2:
        raise UsageError(
            f"{checkpoint} does not fit: model.{_OUTPUT} has {outputs} outputs, which must be the classes and "
            f"4 x {bins} bins"
        )
    changed = differing("gfl_nano", {"data.resize.size": size, "model.boxes.reg_max": bins - 1})
    return load_recipe("gfl_nano", changed), changed, classes


def _theirs(name: str) -> str:
    """NanoDet's name of one of our tensors; the backbone's are the same."""
    for pattern, replacement in _NAMES:
        if match := pattern.fullmatch(name):
            return match.expand(replacement)
    return name


def _ours(state: Mapping[str, object], own: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The state under our names.

    Raises:
        UsageError: naming tensors that are missing, unknown or of another shape.
    """
    names = {name: _theirs(name) for name in own}
    expected = set(names.values())
    missing = [theirs for theirs in names.values() if theirs not in state]
    unknown = [name for name in state if name not in expected and not _UNUSED.fullmatch(name)]
    misshapen = [
        f"{theirs} {shape_of(state[theirs])} instead of {shape_of(own[name])}"
        for name, theirs in names.items()
        if theirs in state and shape_of(state[theirs]) != shape_of(own[name])
    ]
    found = {"missing": missing, "unknown": unknown, "of another shape": misshapen}
    refuse_misfits(f"{checkpoint} does not fit NanoDet-m", found, "model.")
    placed = {name: state[theirs] for name, theirs in names.items()}
    return {name: value for name, value in placed.items() if isinstance(value, Tensor)}
