"""`gfocal predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gfocal.errors import UsageError
from gfocal.exported.open import USUAL, SessionOptions
from gfocal.images.drawing import PARTS, Part
from gfocal.prediction.open import OpenedModel, open_any
from gfocal.prediction.predict import Prediction, predict
from gfocal.prediction.search import search_images
from gfocal.utils.progress import ProgressBar

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
        model, overrides, tile, overlap: see :func:`gfocal.prediction.open.open_any`.
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
    opened = open_any(model, overrides, tile=tile, overlap=overlap, session=session)
    with ProgressBar(len(found.images), "predicting") as bar:
        result = predict(
            opened.detector,
            found.images,
            out,
            score_threshold=_usual_score(opened, overrides) if score is None else score,
            category_ids=opened.category_ids,
            precision=opened.precision,
            batch_size=batch_size,
            parts=parts,
            line_width=line_width,
            progress=bar.callback,
        )
    return replace(result, passed_over=(*found.passed_over, *result.passed_over))


def _usual_score(opened: OpenedModel, overrides: Sequence[str]) -> float:
    if opened.recipe is None:  # what an exported file has cut off is gone
        return max(DEFAULT_SCORE, opened.score_threshold)
    from gfocal.recipe.reading import sets_key  # an exported file is used without the recipes' sections

    return opened.score_threshold if sets_key(overrides, "predict.score_threshold") else DEFAULT_SCORE


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
