"""Checkpoints: weights that anybody can load safely, and the complete state that a run resumes from.

A run folder holds ``best.safetensors`` and ``last.safetensors`` (weights, recipe, class names) and ``state.pt``
(weights, optimizer, position: one file, so that nothing in it can disagree). Every file is written beside its
place and moved there, so a run killed while writing keeps the previous one. Every file has sums of what is in it, which
are compared whenever it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

import gfocal
from gfocal.calibration.stored import Calibration
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.recipe import Recipe, build_recipe
from gfocal.runs.replacement import BEST, LAST, STATE, describe_replacement
from gfocal.runtime.build_limit import NetworkTooLarge, parameters_within
from gfocal.runtime.layout import in_layout
from gfocal.serialization.bounds import Unreadable
from gfocal.serialization.sums import describe_unusable
from gfocal.serialization.tensor_files import NoTensorFile, read_tensors, read_texts, tensor_file_bytes
from gfocal.serialization.torch_files import check_torch_file
from gfocal.utils.files import write_atomically
from gfocal.zoo import build_detector

FORMAT = 1
ABOUT = "gfocal"
"""Where a checkpoint's text about itself stands in the file."""

StateDict = dict[str, Any]
"""What a ``state_dict()`` gives: tensors, plain values, and lists and dicts of them."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself.

    Attributes:
        recipe: what the detector is, as plain data for :func:`gfocal.recipe.build_recipe`.
        names: of its classes.
        category_ids: the data set's id of each class, for results in COCO's format.
        notes: further facts, JSON types: metrics, epoch, where the weights come from.
        gfocal: the version that wrote it.
        calibration: what :meth:`gfocal.calibration.Calibration.to_dict` gives; None where it is not calibrated.
    """

    recipe: dict[str, object]
    names: list[str]
    category_ids: list[int] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    gfocal: str = gfocal.__version__
    calibration: dict[str, Any] | None = None

    def to_json(self) -> str:
        """The text that stands in the file."""
        about = {"format": FORMAT, "gfocal": self.gfocal, "recipe": self.recipe, "names": self.names}
        calibration = {} if self.calibration is None else {"calibration": self.calibration}
        return json.dumps({**about, "category_ids": self.category_ids, "notes": self.notes, **calibration})


def kept_weights(folder: Path, step: int) -> Path:
    """Where a run keeps its weights of one of ``schedule.keep_steps``."""
    return folder / f"step-{step}.safetensors"


def save_detector(
    path: Path,
    weights: dict[str, Tensor],
    recipe: Recipe,
    names: Sequence[str],
    *,
    category_ids: Sequence[int] | None = None,
    notes: Mapping[str, object] | None = None,
    calibration: dict[str, Any] | None = None,
) -> None:
    """Write a ``.safetensors`` file that :func:`load_detector` turns back into the detector.

    Args:
        path: the file.
        weights: the detector's state dict.
        recipe: what the detector is.
        names: class names.
        category_ids: the data set's id of each class, for results in COCO's format.
        notes: further facts, JSON types: metrics, epoch, where the weights come from.
        calibration: see :class:`CheckpointInfo`.
    """
    ids = None if category_ids is None else [int(i) for i in category_ids]
    info = CheckpointInfo(recipe.to_dict(), list(names), ids, dict(notes or {}), calibration=calibration)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # Not save_file: it writes to a temporary file of its own, which a killed process would leave behind for good.
    content = tensor_file_bytes(tensors, {ABOUT: info.to_json()})
    write_atomically(path, lambda file: file.write_bytes(content), needed=len(content))


def add_notes(path: Path, notes: Mapping[str, object]) -> None:
    """Add facts to a checkpoint file, see :func:`save_detector`."""
    about, weights = read_about(path), read_weights(path)
    recipe, more = build_recipe(about.recipe, (), str(path)), {**about.notes, **notes}
    save_detector(path, weights, recipe, about.names, category_ids=about.category_ids, notes=more)


def find_weights(path: Path) -> Path:
    """The weights file that a run folder or a file stands for.

    Raises:
        UsageError: if there is none.
    """
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        if (path / STATE).is_file():
            raise UsageError(f"{path} is a run without weights yet: continue it with --resume")
        raise UsageError(f"{path} is not a finished run: it has neither {BEST} nor {LAST}")
    if not path.is_file():
        raise UsageError(f"there is no run folder or checkpoint {path}")
    return path


def read_about(path: Path) -> CheckpointInfo:
    """What a checkpoint says about itself.

    Raises:
        UsageError: for a file that is no gfocal checkpoint, or a damaged one.
    """
    try:
        about = read_texts(path).get(ABOUT)
    except (Unreadable, NoTensorFile) as error:
        raise _refused(path, error) from error
    if about is None:
        raise UsageError(
            f"{path} is a safetensors file, but not one that gfocal wrote: it has no recipe and no class names. If "
            f"another tool saved it, let that keep the text {ABOUT!r} of the metadata"
        )
    try:
        content = json.loads(about)
        newer = int(content["format"]) > FORMAT
        info = None if newer else msgspec.convert(content, CheckpointInfo)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{path}: its metadata cannot be read; the file is damaged") from error
    if info is None:
        raise UsageError(
            f"{path} was written by gfocal {content.get('gfocal')}, which is newer: update gfocal to read it"
        )
    _move_keys(info.recipe)
    return info


def _move_keys(recipe: dict[str, object]) -> None:
    """Put what 0.1.0 wrote under other keys where it is now."""
    model = recipe.get("model")
    if not isinstance(model, dict):  # said later, where the recipe is read
        return
    moved = {
        new: model.pop(old) for old, new in (("anchor_scale", "scale"), ("point_offset", "offset")) if old in model
    }
    if moved:
        model["points"] = {"kind": "square", **moved}


def load_detector(path: str | Path, overrides: Sequence[str] = ()) -> tuple[DenseDetector, Recipe, CheckpointInfo]:
    """A detector from a run folder or a checkpoint file.

    Args:
        path: run folder (its best weights) or ``.safetensors`` file.
        overrides: "a.b=c" recipe keys, for example "data.resize.size=416"; of ``model`` only ``pixels``.

    Returns:
        The detector in evaluation mode, its recipe, and what the file says about itself.

    Raises:
        UsageError: for anything else, and for a file whose content is not what was written, or is not finite.
    """
    file = find_weights(Path(path))
    about = read_about(file)
    recipe = build_recipe(about.recipe, overrides, str(file))
    _same_network(build_recipe(about.recipe, (), str(file)), recipe, file)
    weights = read_weights(file)
    detector = build_within(recipe, about.names, weights, file)
    load_weights(detector, weights, str(file))
    if about.calibration is not None:
        found = Calibration.from_dict(about.calibration, str(file))
        detector.calibration = found.resized_by(asdict(detector.resize))
    return in_layout(detector, recipe.runtime.channels_last).eval(), recipe, about


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, as they were written.

    Raises:
        UsageError: some are not, or no network can compute with them; the message names the tensors, and what to use.
    """
    try:
        weights = read_tensors(file)
    except (Unreadable, NoTensorFile) as error:
        raise _refused(file, error) from error
    if what := describe_unusable(weights):
        raise UsageError(f"{file} has {what}. It would find nothing. {describe_replacement(file)}")
    return weights


def _refused(path: Path, error: Unreadable | NoTensorFile) -> UsageError:
    if not isinstance(error, NoTensorFile):
        return UsageError(f"{path} is damaged: {error}. {describe_replacement(path)}")
    hint = "; `gfocal import` reads weights of other projects" if path.suffix in (".pth", ".ckpt", ".pt") else ""
    if path.suffix == ".safetensors":
        hint = f", or its header is damaged. {describe_replacement(path)}"
    return UsageError(f"{path} is not a gfocal checkpoint (a .safetensors file){hint}")


def build_within(recipe: Recipe, names: Sequence[str], weights: Mapping[str, object], file: Path) -> DenseDetector:
    """The detector of a file, unless its recipe asks for far more numbers than the file has.

    Raises:
        UsageError: it does.
    """
    count = sum(tensor.numel() for tensor in weights.values() if isinstance(tensor, Tensor))
    try:
        with parameters_within(count):
            return build_detector(recipe, names, pretrained=False)
    except NetworkTooLarge as error:
        raise UsageError(
            f"{file} has {count:,} numbers, and its recipe with {len(names):,} classes asks for a network of far more "
            f"({error}): the file is damaged, or nobody trained it"
        ) from error


def _same_network(stored: Recipe, asked: Recipe, file: Path) -> None:
    """Trained weights mean one thing: under other boxes, points or qualities they would run, and find nonsense.

    Raises:
        UsageError: naming the keys.
    """
    before, after = (recipe.to_dict()["model"] for recipe in (stored, asked))
    changed = [f"model.{key}" for key in before if key != "pixels" and before[key] != after[key]]
    if changed:
        raise UsageError(
            f"{file} was trained with another {', '.join(changed)}: only data, predict, runtime and model.pixels can "
            "be set for trained weights; to train it further with something else, use gfocal train --init"
        )


def load_weights(detector: DenseDetector, weights: dict[str, Tensor], where: str) -> None:
    """Load all of them, or say which tensors do not fit.

    Raises:
        UsageError: naming the first missing, unexpected and misshapen tensors.
    """
    own = detector.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and own[name].shape != weights[name].shape
    ]
    problems = [
        f"{len(found)} {word} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for word, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if found
    ]
    if problems:
        raise UsageError(f"{where} does not fit the detector of its recipe; tensors: {'; '.join(problems)}")
    detector.load_state_dict(weights)


def save_state(path: Path, state: StateDict) -> None:
    """Write everything that a run needs to go on.

    Raises:
        DiskFull: there is no room; the state that was there before is whole.
    """

    def write(file: Path) -> None:
        with file.open("wb") as opened:  # given a path, torch hides why it could not write
            torch.save(state, opened)

    write_atomically(path, write, needed=_bytes_in(state))


def _bytes_in(content: object) -> int:
    """Of all tensors in nested dicts and lists."""
    if isinstance(content, Tensor):
        return content.nbytes
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(_bytes_in, inner))


def load_state(path: Path) -> StateDict:
    """Read it back; only tensors and plain types are accepted.

    Raises:
        UsageError: if the file is missing or no state of a run.
    """
    if not path.is_file():
        raise UsageError(f"nothing to resume: there is no {path}; start without --resume")
    try:
        check_torch_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Unreadable as error:
        raise UsageError(f"{path} is damaged: {error}. {describe_replacement(path)}") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UsageError(
            f"{path} is not the state of a gfocal run: {type(error).__name__}. {describe_replacement(path)}"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UsageError(f"{path} is not the state of a run that this gfocal can resume")
    if what := describe_unusable(_weights_in(state)):
        raise UsageError(
            f"{path} has {what}; a run that continued with them would learn nothing. {describe_replacement(path)}"
        )
    return state


def _weights_in(state: StateDict) -> dict[str, Tensor]:
    """The weights of a state, averaged ones and an assistant's too; an optimizer may hold what is infinite."""
    averaged = state.get("average")
    parts = {
        "model": state.get("model"),
        "average": averaged.get("state") if isinstance(averaged, dict) else None,
        "assistant": state.get("assistant"),
    }
    return {
        f"{part}.{name}": value
        for part, inner in parts.items()
        if isinstance(inner, dict)
        for name, value in inner.items()
        if isinstance(value, Tensor)
    }
