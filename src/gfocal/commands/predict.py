"""`gfocal predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.errors import UsageError
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import USUAL, SessionOptions, is_exported, open_exported
from gfocal.images.drawing import PARTS, Part
from gfocal.images.tiling import Tiling
from gfocal.prediction.open import refuse_overrides
from gfocal.prediction.predict import Prediction, predict
from gfocal.prediction.search import search_images
from gfocal.utils.progress import ProgressBar

if TYPE_CHECKING:  # an exported file is used where torch is not
    from gfocal.detector import DenseDetector

DEFAULT_SCORE = 0.3
"""Of the boxes that are drawn; a recipe's own threshold is for measuring, which wants the poor ones too."""


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
    draw: str | None = None,
    line_width: int | None = None,
    recursive: bool = False,
    session: SessionOptions = USUAL,
) -> Prediction:
    """Find images and objects in them; see :func:`gfocal.prediction.predict.predict`.

    Args:
        model, overrides, tile, overlap: see :func:`gfocal.prediction.load.open_model`.
        patterns, recursive: see :func:`gfocal.prediction.search.find_images`.
        out, batch_size: see :func:`gfocal.prediction.predict.predict`.
        score: leave out boxes with a lower score; by default ``predict.score_threshold`` where the overrides set it,
            else 0.3.
        draw: what is drawn of each box, "boxes,scores" and so on, or "none" for no drawings; by default everything.
        line_width: of the drawings in pixels.
        session: how an exported file is run.
    """
    if score is not None and not 0 <= score < 1:
        raise UsageError(f"--score must be at least 0 and below 1, got {score:g}")
    parts = PARTS if draw is None else drawn_parts(draw)
    found = search_images(patterns, recursive=recursive)
    opened = (_open_exported if is_exported(model) else _open_trained)(
        model, overrides, tile=tile, overlap=overlap, session=session
    )
    with ProgressBar(len(found.images), "predicting") as bar:
        result = predict(
            opened.detector,
            found.images,
            out,
            score_threshold=opened.usual_score if score is None else score,
            category_ids=opened.category_ids,
            precision=opened.precision,
            batch_size=batch_size,
            parts=parts,
            line_width=line_width,
            progress=bar.callback,
        )
    return replace(result, passed_over=(*found.passed_over, *result.passed_over))


@dataclass(frozen=True)
class _Opened:
    """A detector, and how it is used where nothing else is asked for."""

    detector: DenseDetector | ExportedDetector
    category_ids: Sequence[int] | None
    precision: str
    usual_score: float


def _open_trained(
    model: str,
    overrides: Sequence[str],
    *,
    tile: int | None,
    overlap: float | None,
    session: SessionOptions,
) -> _Opened:
    from gfocal.prediction.load import open_model, sets_key
    from gfocal.runtime.precision import usable_precision

    if session.asked:
        raise UsageError("--provider and --threads are for exported files; a model has --set runtime.threads=N")
    detector, recipe, about = open_model(model, overrides, tile=tile, overlap=overlap)
    asked = sets_key(overrides, "predict.score_threshold")
    usual = recipe.predict.score_threshold if asked else DEFAULT_SCORE
    return _Opened(detector, about.category_ids, usable_precision(detector, recipe), usual)


def _open_exported(
    model: str,
    overrides: Sequence[str],
    *,
    tile: int | None,
    overlap: float | None,
    session: SessionOptions,
) -> _Opened:
    refuse_overrides(model, overrides)
    detector = open_exported(model, session)
    detector.tiling = Tiling.chosen(detector.tiling, tile, overlap, dashes="--")
    info = detector.info
    return _Opened(detector, info.category_ids, "fp32", max(DEFAULT_SCORE, info.thresholds.score_threshold))


def drawn_parts(text: str) -> tuple[Part, ...]:
    """What ``--draw`` names.

    Raises:
        UsageError: a word that is none of them.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return ()
    wrong = [word for word in words if word not in PARTS]
    if wrong or not words:
        known = ",".join(PARTS)
        raise UsageError(f"--draw takes some of {known}, or none; got {', '.join(map(repr, wrong)) or 'nothing'}")
    return tuple(part for part in PARTS if part in words)
