"""Loading any detector; torch comes with those that need it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.errors import UsageError, require_texts
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import USUAL, SessionOptions, is_exported, open_exported
from gfocal.images.tiling import Tiling
from gfocal.utils.progress import notice
from gfocal.utils.text import Say

if TYPE_CHECKING:
    from gfocal.detector import DenseDetector
    from gfocal.recipe import Recipe

_EXPORTED_BATCH = 8


def load(
    name_or_path: str | Path,
    overrides: Sequence[str] = (),
    *,
    names: Sequence[str] | None = None,
    provider: str | None = None,
    threads: int | None = None,
) -> DenseDetector | ExportedDetector:
    """A detector, in evaluation mode on the CPU.

    Args:
        name_or_path: a run folder (its best weights), a ``.safetensors`` file that gfocal wrote; the name of published
            weights such as "gfl_r50_coco" (`gfocal models`), or "hub:owner/name", which are fetched where they are
            not here yet; or a recipe: a name such as "gfl_nano" or a YAML file. A recipe gives an untrained detector.
            Or a file that ``gfocal export`` wrote (``.onnx``, ``.pt2``, ``.xml``): that finds the same, and but for a
            ``.pt2`` needs no torch.
        overrides: "a.b=c" recipe keys, for example "data.resize.size=416"; an exported file takes none.
        names: class names, for a recipe only; by default "class 0" to "class 79".
        provider, threads: what runs an exported file, see :class:`gfocal.exported.open.SessionOptions`; for one only.

    Raises:
        UsageError: nothing of the kind is there, or it does not fit.
        GfocalError: weights cannot be fetched.

    Example:
        >>> import gfocal
        >>> detector = gfocal.load("gfl_nano", names=("cat", "dog"))
        >>> detector.names
        ('cat', 'dog')
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UsageError(f"a path or the name of a recipe is needed, not {type(name_or_path).__name__} {name_or_path}")
    require_texts("overrides", overrides)
    if names is not None:
        require_texts("names", names)
    if names is not None and len(names) == 0:
        raise UsageError("names is empty: a detector needs at least one class")
    session = SessionOptions(provider, threads)
    if is_exported(name_or_path):
        if names is not None:
            raise UsageError(f"names goes with a recipe; {name_or_path} has its own class names")
        refuse_overrides(name_or_path, overrides)
        return open_exported(name_or_path, session)
    if session.asked:
        raise UsageError(f"provider and threads are for exported files, which {name_or_path} is not")
    from gfocal.prediction.load import load_recipe_or_trained

    return load_recipe_or_trained(name_or_path, overrides, names)


def refuse_overrides(path: str | Path, overrides: Sequence[str]) -> None:
    """Refuse recipe keys for an exported file.

    Raises:
        UsageError: there are some.
    """
    if overrides:
        raise UsageError(f"{path} is an exported file, which is fixed: give {overrides[0]} to gfocal export --set")


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """What a MODEL stands for, ready to be used.

    Attributes:
        detector: where it runs.
        path: the run folder, checkpoint or exported file.
        file: of the weights; of a run folder its best ones.
        recipe: None for an exported file, whose own is plain data.
        category_ids: the data set's id of each class, where they are known.
        precision: to compute in: "fp32" for an exported file, which has its own inside.
        score_threshold: of the recipe, or of the exported file.
        max_detections: of an image.
        usual_batch: images a forward pass of a measurement.
        measured_by: options of :func:`gfocal.evaluation.evaluator.evaluate` that its recipe decides.
    """

    detector: DenseDetector | ExportedDetector
    path: Path
    file: Path
    recipe: Recipe | None
    category_ids: Sequence[int] | None
    precision: str
    score_threshold: float
    max_detections: int
    usual_batch: int
    measured_by: Mapping[str, Any] = field(default_factory=dict)


def open_any(
    model: str,
    overrides: Sequence[str] = (),
    *,
    tile: int | None = None,
    overlap: float | None = None,
    device: str | None = None,
    session: SessionOptions = USUAL,
    say: Say = notice,
) -> OpenedModel:
    """Open what a person gives as MODEL: an exported file, or anything that :func:`open_model` takes.

    Args:
        model, overrides, tile, overlap: see :func:`gfocal.prediction.load.open_model`; an exported file takes no
            overrides.
        device: of a model of torch: "cpu" or "cuda"; by default CUDA where there is one.
        session: how an exported file is run; others have keys of their recipe for that.
        say: gets lines about what is taken, and about fetching it.

    Raises:
        UsageError: there is no such thing, or an option does not go with it.
    """
    if is_exported(model):
        refuse_overrides(model, overrides)
        exported = open_exported(model, session)
        exported.tiling = Tiling.chosen(exported.tiling, tile, overlap, dashes="--")
        info = exported.info
        return OpenedModel(
            detector=exported,
            path=Path(model),
            file=Path(model),
            recipe=None,
            category_ids=info.category_ids,
            precision="fp32",
            score_threshold=info.thresholds.score_threshold,
            max_detections=info.thresholds.max_detections,
            usual_batch=_EXPORTED_BATCH,
        )
    if session.asked:
        raise UsageError("--provider and --threads are for exported files; a model has --set runtime.threads=N")
    from gfocal.catalogue.resolve import model_path  # not above: an exported file is used where torch is not
    from gfocal.prediction.load import open_model
    from gfocal.runs.checkpoint import find_weights

    path = model_path(model, say=say)
    detector, recipe, about = open_model(str(path), overrides, tile=tile, overlap=overlap, device=device)
    return _of_torch(detector, recipe, path, find_weights(path), about.category_ids)


def open_untrained(name: str, overrides: Sequence[str] = (), *, device: str | None = None) -> OpenedModel:
    """The detector of a recipe with random weights, for 80 classes.

    Args:
        name: of a recipe, or its YAML file.
        overrides: recipe keys.
        device: "cpu" or "cuda"; by default CUDA where there is one.

    Raises:
        UsageError: there is no such recipe, or no such device.
    """
    from gfocal.prediction.load import build_untrained, placed

    detector, recipe = build_untrained(name, overrides)
    return _of_torch(placed(detector, recipe, overrides, device=device), recipe, Path(name), Path(name), None)


def _of_torch(
    detector: DenseDetector, recipe: Recipe, path: Path, file: Path, category_ids: Sequence[int] | None
) -> OpenedModel:
    from gfocal.evaluation.evaluator import measured_by
    from gfocal.prediction.load import usual_batch
    from gfocal.runtime.precision import usable_precision

    return OpenedModel(
        detector=detector,
        path=path,
        file=file,
        recipe=recipe,
        category_ids=category_ids,
        precision=usable_precision(detector, recipe),
        score_threshold=recipe.predict.score_threshold,
        max_detections=recipe.predict.max_detections,
        usual_batch=usual_batch(recipe),
        measured_by={**measured_by(recipe, detector)},
    )
