"""Loading detectors of torch: from a run folder, a checkpoint or a recipe name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gfocal.catalogue.resolve import is_recipe, model_path
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.images.tiling import Tiling
from gfocal.recipe import Recipe, build_recipe, load_recipe
from gfocal.recipe.reading import sets_key
from gfocal.runs.checkpoint import CheckpointInfo, load_detector
from gfocal.runtime.build_limit import NetworkTooLarge, parameters_within
from gfocal.runtime.layout import in_layout
from gfocal.zoo import build_detector

CLASSES = tuple(f"class {i}" for i in range(80))
"""Of a detector without training that nobody gave names."""


def open_model(
    model: str,
    overrides: Sequence[str],
    *,
    tile: int | None = None,
    overlap: float | None = None,
    device: str | None = None,
) -> tuple[DenseDetector, Recipe, CheckpointInfo]:
    """A trained detector on the device it will run on, its recipe, and what its checkpoint says about it.

    Args:
        model: a MODEL, see :func:`gfocal.catalogue.resolve.model_path`.
        overrides: recipe keys.
        tile, overlap: of the detector's tiling, see :meth:`gfocal.detector.DenseDetector.predict`; by default the
            recipe's.
        device: "cpu" or "cuda"; by default CUDA where there is one.

    Raises:
        UsageError: there is none, tile or overlap is out of range, or fp16 was asked for on a CPU.
    """
    detector, recipe, about = load_trained(model, overrides)
    usual = recipe.data.tile_overlap, recipe.data.tile_whole
    detector.tiling = Tiling.chosen(detector.tiling, tile, overlap, usual=usual, dashes="--")
    return placed(detector, recipe, overrides, device=device), recipe, about


def placed(
    detector: DenseDetector, recipe: Recipe, overrides: Sequence[str], *, device: str | None = None
) -> DenseDetector:
    """The detector on its device, with the threads that its recipe asks for; see :func:`open_model`."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no CUDA device, or torch was built without CUDA")
    if recipe.runtime.precision == "fp16" and chosen.type == "cpu" and sets_key(overrides, "runtime.precision"):
        raise UsageError("runtime.precision: fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    return detector.to(chosen)


def usual_batch(recipe: Recipe) -> int:
    """Images a forward pass of a measurement: few where they keep their shape, since those are large."""
    return 16 if recipe.data.resize.kind == "square" else 2


def load_recipe_or_trained(
    name_or_path: str | Path, overrides: Sequence[str], names: Sequence[str] | None
) -> DenseDetector:
    """What :func:`gfocal.prediction.open.load` gives for anything but an exported file."""
    if not is_recipe(name_or_path):
        if names is not None:
            raise UsageError(f"names goes with a recipe; {name_or_path} has its own class names")
        return load_trained(name_or_path, overrides)[0]
    recipe = load_recipe(name_or_path, overrides)
    return build_detector(recipe, CLASSES if names is None else names).eval()


def build_untrained(name: str, overrides: Sequence[str]) -> tuple[DenseDetector, Recipe]:
    """The detector of a recipe with random weights, in evaluation mode and its recipe's layout; and the recipe."""
    recipe = load_recipe(name, overrides)
    detector = build_detector(recipe, CLASSES, pretrained=False)
    return in_layout(detector, recipe.runtime.channels_last).eval(), recipe


def network_of(recipe: Mapping[str, object], names: Sequence[str], parameters: int) -> DenseDetector | None:
    """What an exported file was made of, with random weights; None where its recipe is not one of this version.

    Args:
        recipe: as the file says.
        names: of its classes.
        parameters: about how many there are at most; a recipe may ask for any number.
    """
    try:
        with parameters_within(parameters):
            return build_detector(build_recipe(recipe, (), "recipe"), names, pretrained=False).eval()
    except (UsageError, NetworkTooLarge):
        return None


def load_trained(model: str | Path, overrides: Sequence[str] = ()) -> tuple[DenseDetector, Recipe, CheckpointInfo]:
    """What :func:`gfocal.runs.checkpoint.load_detector` gives of a MODEL."""
    return load_detector(model_path(model), overrides)
