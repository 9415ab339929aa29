"""A trained model on files: measure it, find objects with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gfocal.data.formats.open import SPLITS, Format
from gfocal.data.held_out import open_measured
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.evaluation.evaluator import evaluate
from gfocal.models.tiled_prediction import Tiling
from gfocal.prediction.predict import Prediction, collect_pictures, load_trained, predict_files
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import find_weights
from gfocal.runtime.distributed import ALONE, launched, processes_of
from gfocal.runtime.precision import real_precision
from gfocal.training.step import make_accelerator
from gfocal.utils.progress import ProgressBar

RESAMPLES = 200
"""Sets of pictures that are drawn for the intervals of AP."""
DEFAULT_SCORE = 0.3
"""Of the boxes that are drawn; a recipe's own threshold is for measuring, which wants the poor ones too."""


def open_model(
    model: str, overrides: Sequence[str], *, tile: int | None = None, overlap: float | None = None
) -> tuple[DenseDetector, Recipe, dict[str, Any]]:
    """A trained detector on the device it will run on, its recipe, and what its checkpoint says about it.

    Args:
        model: run folder or checkpoint.
        overrides: recipe keys.
        tile: ``data.tile``, 0 for none; by default the recipe's.
        overlap: ``data.tile_overlap``; by default the recipe's.

    Raises:
        UsageError: there is none, tile or overlap is out of range, or fp16 was asked for on a CPU.
    """
    if tile:  # checked here, or the message would be about a key that nobody typed
        Tiling(tile, 0.2 if overlap is None else overlap)
    keys = [] if tile is None else [f"data.tile={tile or 'null'}"]
    keys += [] if overlap is None else [f"data.tile_overlap={overlap}"]
    detector, recipe, about = load_trained(model, [*overrides, *keys])
    if overlap is not None and detector.tiling is None:
        raise UsageError("--overlap is that of tiles: give --tile too")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if recipe.runtime.precision == "fp16" and device.type == "cpu" and _sets(overrides, "runtime.precision"):
        raise UsageError("runtime.precision: fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    return detector.to(device), recipe, about


def usable_precision(detector: DenseDetector, recipe: Recipe) -> str:
    """The recipe's, but a model trained in fp16 on a GPU runs in fp32 on a CPU."""
    precision = real_precision(recipe.runtime.precision)
    return "fp32" if detector.device.type == "cpu" and precision == "fp16" else precision


def usual_batch(recipe: Recipe) -> int:
    """Pictures a forward pass of a measurement: few where they keep their shape, since those are large."""
    return 16 if recipe.data.resize.kind == "square" else 2


def _sets(overrides: Sequence[str], key: str) -> bool:
    return any(override.partition("=")[0].strip() == key for override in overrides)


def evaluate_files(
    model: str,
    data: Path,
    *,
    split: str = "val",
    format: Format | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    warn: Callable[[list[str]], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure a model on a data set; where a launcher started several processes, each takes its share.

    Args:
        model: run folder or checkpoint.
        data: data set.
        split: "train", "val" or "test"; what the run set apart is "val", see :mod:`gfocal.data.held_out`.
        format: of the data; by default what is found.
        overrides: recipe keys.
        tile: ``data.tile``, 0 for none; by default the recipe's.
        overlap: ``data.tile_overlap``; by default the recipe's.
        batch_size: pictures, or tiles, a forward pass; by default 16, or 2 where pictures keep their shape.
        skip_broken: leave out what is broken.
        warn: called with one line for everything left out.
        say: called with lines about how the data are understood.

    Returns:
        JSON types: the 12 numbers, per_class, score_iou_correlation, num_images, num_detections, speed, skipped,
        model, data, split; tile and tile_overlap (None for whole pictures).
    """
    which = next((name for name in SPLITS if name == split), None)
    if which is None:
        raise UsageError(f"--split is train, val or test, not {split!r}")
    detector, recipe, _ = open_model(model, overrides, tile=tile, overlap=overlap)
    processes = processes_of(make_accelerator("fp32")) if launched() else ALONE
    index = open_measured(model, data, which, format=format, skip_broken=skip_broken, say=say)
    with ProgressBar(len(index), "evaluating", shown=processes.main) as bar:
        measured = evaluate(
            detector.to(processes.device) if launched() else detector,
            index,
            batch_size=batch_size or usual_batch(recipe),
            workers=recipe.data.workers,
            precision=usable_precision(detector, recipe),
            progress=bar.callback,
            skip_broken=skip_broken,
            processes=processes,
            resamples=RESAMPLES,
        )
    skipped = [*index.skipped, *measured.skipped]
    if warn is not None:
        warn(skipped)
    place = {"model": str(find_weights(Path(model))), "data": str(index.annotations), "split": split}
    tiling = detector.tiling
    tiles = {"tile": tiling and tiling.side, "tile_overlap": tiling and tiling.overlap}
    return {**measured.to_dict(), "skipped": skipped, **place, **tiles}


def predict_patterns(
    model: str,
    patterns: Sequence[str],
    out: Path,
    *,
    score: float | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int = 8,
) -> Prediction:
    """Find pictures and objects in them; see :func:`gfocal.prediction.predict.predict_files`.

    Args:
        model: run folder or checkpoint.
        patterns: files, folders and patterns.
        out: where drawings and results go.
        score: leave out boxes with a lower score; by default ``predict.score_threshold`` where the overrides set it,
            else 0.3.
        overrides: recipe keys.
        tile: ``data.tile``, 0 for none; by default the recipe's.
        overlap: ``data.tile_overlap``; by default the recipe's.
        batch_size: tiles a forward pass.
    """
    if score is not None and not 0 <= score < 1:
        raise UsageError(f"--score must be at least 0 and below 1, got {score:g}")
    pictures = collect_pictures(patterns)
    detector, recipe, about = open_model(model, overrides, tile=tile, overlap=overlap)
    if score is None:
        score = recipe.predict.score_threshold if _sets(overrides, "predict.score_threshold") else DEFAULT_SCORE
    with ProgressBar(len(pictures), "predicting") as bar:
        return predict_files(
            detector,
            pictures,
            out,
            score_threshold=score,
            category_ids=about["category_ids"],
            precision=usable_precision(detector, recipe),
            batch_size=batch_size,
            progress=bar.callback,
        )
