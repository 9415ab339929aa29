"""From what a person typed (paths, names, overrides) to what the engine works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from gfocal.data.coco import CocoIndex, find_coco, read_coco
from gfocal.detector import DenseDetector
from gfocal.engine.checkpoint import find_weights
from gfocal.engine.evaluate import evaluate
from gfocal.engine.predict import Prediction, collect_pictures, load_trained, predict_files
from gfocal.engine.progress import ProgressBar
from gfocal.errors import UsageError
from gfocal.recipe import Recipe


def default_run_folder(recipe: str, data: Path) -> Path:
    """``runs/RECIPE-DATA``: data is the folder's name, for an annotation file that of the data set around it."""
    data = data.resolve()
    if data.suffix == ".json":
        data = data.parent.parent if data.parent.name in ("annotations", "train", "valid", "val") else data.parent
    return Path("runs") / f"{Path(recipe).stem}-{data.name or 'data'}"


def open_train_data(data: Path, val: Path | None, *, skip_broken: bool = False) -> tuple[CocoIndex, CocoIndex | None]:
    """The training data and what to measure on: ``val``, or the val split of ``data`` if it has one.

    Raises:
        UsageError: data is missing or broken, or val has boxes of a class that train lacks.
    """
    train_index = read_coco(*find_coco(data, "train"), skip_broken=skip_broken)
    val_files = _val_files(data, val)
    if val_files is None:
        return train_index, None
    val_index = read_coco(*val_files, skip_broken=skip_broken)
    # Training would only find out at its first evaluation.
    return train_index, val_index.with_classes(train_index.names)


def _val_files(data: Path, val: Path | None) -> tuple[Path, Path] | None:
    if val is not None:
        return find_coco(val, "val")
    if data.is_file():
        return None  # The one file is what the detector learns from.
    try:
        return find_coco(data, "val")
    except UsageError:
        return None


def open_model(model: str, overrides: Sequence[str]) -> tuple[DenseDetector, Recipe, dict[str, Any]]:
    """A trained detector on the device it will run on, its recipe, and what its checkpoint says about it.

    Raises:
        UsageError: there is none, or fp16 was asked for on a CPU.
    """
    detector, recipe, about = load_trained(model, overrides)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if recipe.runtime.precision == "fp16" and device.type == "cpu" and _sets(overrides, "runtime.precision"):
        raise UsageError("runtime.precision: fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    return detector.to(device), recipe, about


def _sets(overrides: Sequence[str], key: str) -> bool:
    return any(override.partition("=")[0].strip() == key for override in overrides)


def evaluate_files(
    model: str,
    data: Path,
    *,
    split: str = "val",
    overrides: Sequence[str] = (),
    batch_size: int | None = None,
    skip_broken: bool = False,
    warn: Callable[[list[str]], None] | None = None,
) -> dict[str, Any]:
    """Measure a model on a data set.

    Args:
        model: run folder or checkpoint.
        data: data set.
        split: "train" or "val".
        overrides: recipe keys.
        batch_size: pictures a forward pass; by default 16, or 2 where pictures keep their shape.
        skip_broken: leave out what is broken.
        warn: called with one line for everything left out.

    Returns:
        JSON types: the 12 numbers, per_class, score_iou_correlation, num_images, num_detections, speed, skipped,
        model, data, split.
    """
    if split not in ("train", "val"):
        raise UsageError(f"--split is train or val, not {split!r}")
    which: Literal["train", "val"] = "train" if split == "train" else "val"
    detector, recipe, _ = open_model(model, overrides)
    index = read_coco(*find_coco(data, which), skip_broken=skip_broken)
    # A model trained in fp16 on a GPU is measured in fp32 on a CPU.
    slow_half = detector.device.type == "cpu" and recipe.runtime.precision == "fp16"
    with ProgressBar(len(index), "evaluating") as bar:
        measured = evaluate(
            detector,
            index,
            batch_size=batch_size or (16 if recipe.data.resize.kind == "square" else 2),
            workers=recipe.data.workers,
            precision="fp32" if slow_half else recipe.runtime.precision,
            progress=bar.callback,
            skip_broken=skip_broken,
        )
    skipped = [*index.skipped, *measured.skipped]
    if warn is not None:
        warn(skipped)
    place = {"model": str(find_weights(Path(model))), "data": str(index.annotations), "split": split}
    return {**measured.to_dict(), "skipped": skipped, **place}


def predict_patterns(
    model: str, patterns: Sequence[str], out: Path, *, score: float = 0.3, overrides: Sequence[str] = ()
) -> Prediction:
    """Find pictures and objects in them; see :func:`gfocal.engine.predict.predict_files`."""
    if not 0 <= score < 1:
        raise UsageError(f"--score must be at least 0 and below 1, got {score:g}")
    pictures = collect_pictures(patterns)
    detector, _, about = open_model(model, overrides)
    with ProgressBar(len(pictures), "predicting") as bar:
        return predict_files(
            detector,
            pictures,
            out,
            score_threshold=score,
            category_ids=about["category_ids"],
            progress=bar.callback,
        )
