"""NanoDet-m checkpoints -> gfocal: the same network under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.data.coco_classes import COCO_CATEGORY_IDS, COCO_NAMES
from gfocal.engine.checkpoint import BEST, save_detector
from gfocal.errors import UsageError
from gfocal.recipe import Recipe, load_recipe
from gfocal.zoo import build_detector

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


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        file: the checkpoint written.
        used: number of tensors that are in it.
        unused: names of the tensors that have no place in the network, all of them known to be without effect.
        classes: number of classes.
    """

    file: Path
    used: int
    unused: tuple[str, ...]
    classes: int


def import_nanodet(checkpoint: Path, out: Path, *, size: int | None = None, overwrite: bool = False) -> ImportReport:
    """Write ``out/best.safetensors`` from a NanoDet-m checkpoint; every tensor is accounted for.

    Args:
        checkpoint: a ``.ckpt`` or ``.pth`` file. Only tensors and plain types are read from it: code inside it is
            not run.
        out: the folder to write to; made if it does not exist.
        size: input side in pixels, >= 32; by default 416 if the file's name says so, else 320.
        overwrite: replace a checkpoint that ``out`` has already.

    Raises:
        UsageError: the file is missing or no NanoDet-m checkpoint; a tensor is missing, unknown or of another shape
            (the message names it); or ``out`` has a checkpoint already.
    """
    checkpoint, file = Path(checkpoint), Path(out) / BEST
    if file.exists() and not overwrite:
        raise UsageError(
            f"{file} exists already; choose another folder, or replace it with --overwrite (overwrite=True)"
        )
    state = read_state(checkpoint)
    if size is None:
        size = 416 if "416" in checkpoint.name else 320
    recipe, classes = _recipe(state, size, checkpoint)
    coco = classes == len(COCO_NAMES)
    names = COCO_NAMES if coco else tuple(f"class {i}" for i in range(classes))
    detector = build_detector(recipe, names, pretrained=False)
    own = detector.state_dict()
    detector.load_state_dict(_ours(state, own, checkpoint))
    save_detector(
        file,
        detector.state_dict(),
        recipe,
        names,
        category_ids=COCO_CATEGORY_IDS if coco else None,
        notes={"imported_from": checkpoint.name, "format": "nanodet"},
    )
    unused = tuple(name for name in state if _UNUSED.fullmatch(name))
    return ImportReport(file, len(own), unused, classes)


def read_state(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a NanoDet checkpoint by name, without the ``model.`` that its trainer puts before them.

    Raises:
        UsageError: the file is missing, cannot be read without running code, or is another kind of file.
    """
    if not checkpoint.is_file():
        raise UsageError(f"there is no checkpoint {checkpoint}")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or unsafe files
        raise UsageError(
            f"{checkpoint} is not a checkpoint of plain tensors ({type(error).__name__}); nothing in it was run"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    state = {str(k).removeprefix("model."): v for k, v in state.items()} if isinstance(state, dict) else {}
    if not isinstance(state.get(_OUTPUT), Tensor):
        raise UsageError(f"{checkpoint} is not a NanoDet-m checkpoint: it has no tensor model.{_OUTPUT}")
    return state


def _recipe(state: Mapping[str, Tensor], size: int, checkpoint: Path) -> tuple[Recipe, int]:
    """The recipe that the shapes ask for, and the number of classes."""
    outputs = len(state[_OUTPUT]) if state[_OUTPUT].ndim else 0
    bins = state[_PROJECT].numel() if isinstance(state.get(_PROJECT), Tensor) else 8
    classes = outputs - 4 * bins
    if classes < 1 or bins < 2:
        raise UsageError(
            f"{checkpoint} does not fit: model.{_OUTPUT} has {outputs} outputs, which must be the classes and "
            f"4 x {bins} bins"
        )
    return load_recipe("gfl_nano", [f"data.resize.size={size}", f"model.boxes.reg_max={bins - 1}"]), classes


def _theirs(name: str) -> str:
    """NanoDet's name of one of our tensors; the backbone's are the same."""
    for pattern, replacement in _NAMES:
        if match := pattern.fullmatch(name):
            return match.expand(replacement)
    return name


def _ours(state: Mapping[str, Tensor], own: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The state under our names.

    Raises:
        UsageError: naming tensors that are missing, unknown or of another shape.
    """
    names = {name: _theirs(name) for name in own}
    expected = set(names.values())
    missing = [theirs for theirs in names.values() if theirs not in state]
    unknown = [name for name in state if name not in expected and not _UNUSED.fullmatch(name)]
    misshapen = [
        f"{theirs} {_shape(state[theirs])} instead of {_shape(own[name])}"
        for name, theirs in names.items()
        if theirs in state and _shape(state[theirs]) != _shape(own[name])
    ]
    problems = [
        f"{len(found)} {word}: model.{', model.'.join(found[:3])}{', ...' if len(found) > 3 else ''}"
        for word, found in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
        if found
    ]
    if problems:
        raise UsageError(f"{checkpoint} does not fit NanoDet-m; tensors {'; '.join(problems)}")
    return {name: state[theirs] for name, theirs in names.items()}


def _shape(value: object) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
