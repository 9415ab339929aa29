"""What a finished run leaves for the tables: its numbers, its matches, and how both move with other images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import GfocalError
from gfocal.evaluation import Matches, resampled_weights, save_matches, spearman, weighted_ap, weighted_correlation
from gfocal.evaluation.bootstrap import weighted_mean, weighted_spearman
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.evaluation.positives import Positives
from gfocal.utils.files import write_atomically

MEASURED, MATCHES, RESAMPLED = "measured.json", "matches.npz", "resampled.npz"
AT = "at"
"""Folder of what was measured before the end, a folder a step."""
RESAMPLES = 300
"""Sets of validation images, the same for all runs, so that differences between runs are paired."""


@dataclass(frozen=True)
class Measured:
    """A finished run.

    Attributes:
        facts: JSON types: the metrics, seconds, versions, fingerprints.
        resampled: (B,) values on the resampled sets of images, by measure: "AP", "correlation", and of the positives
            "positives" (the correlation) and "mean_iou" where they were looked at.
        folder: where its matches lie.
        before: what was measured before the end, by optimizer step.
    """

    facts: dict[str, Any]
    resampled: dict[str, FloatArray]
    folder: Path
    before: Mapping[int, Measured] = field(default_factory=dict)

    def value(self, measure: str) -> float | None:
        """One of :attr:`resampled` on the images themselves; None where it is not defined, or was not looked at."""
        if measure in ("AP", "correlation"):
            known: float | None = self.facts["metrics"]["AP" if measure == "AP" else "score_iou_correlation"]
        else:
            own = self.facts.get("positives") or {}
            known = own.get("correlation" if measure == "positives" else measure)
        return known


def at_step(folder: Path, step: int) -> Path:
    """Where a run keeps what was measured after ``step`` optimizer steps, before its end."""
    return folder / AT / str(step)


def described_positives(positives: Positives | None) -> dict[str, Any] | None:
    """JSON types: how many there are, Spearman's correlation of score and IoU, mean IoU."""
    if positives is None:
        return None
    return {
        "count": len(positives.ious),
        "correlation": spearman(positives.scores, positives.ious),
        "mean_iou": float(positives.ious.mean()) if len(positives.ious) else None,
    }


def write_measured(folder: Path, facts: dict[str, Any], matches: Matches, positives: Positives | None = None) -> None:
    """Write what :func:`read_measured` reads; the JSON file last, since it says that the run is done."""
    weights = resampled_weights(len(matches.objects), RESAMPLES)
    resampled = {"AP": weighted_ap(matches, weights).mean(1), "correlation": weighted_correlation(matches, weights)}
    if positives is not None:
        images, scores, ious = positives.images, positives.scores, positives.ious
        resampled["positives"] = weighted_spearman(images, scores, ious, weights)
        resampled["mean_iou"] = weighted_mean(images, ious, weights)
    save_matches(folder / MATCHES, matches)

    def save(file: Path) -> None:
        with file.open("wb") as stream:
            np.savez_compressed(stream, **resampled)

    write_atomically(folder / RESAMPLED, save)
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / MEASURED, lambda file: file.write_text(text, encoding="utf-8"))


def read_measured(folder: Path) -> Measured | None:
    """A finished run; None of one that is not.

    Raises:
        GfocalError: its files are damaged.
    """
    if not (folder / MEASURED).is_file():
        return None
    try:
        facts = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
        with (folder / RESAMPLED).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            resampled: dict[str, FloatArray] = {name: content[name] for name in content}
        if not {"AP", "correlation"} <= resampled.keys():
            raise ValueError("not all measures")
        if not isinstance(facts["metrics"], dict):
            raise ValueError("no metrics")
    except Exception as error:  # a damaged archive raises whatever its decoder meets
        raise GfocalError(
            f"{folder} is a finished run whose results cannot be read ({type(error).__name__}: {error}); repeat "
            "the command to do that run again"
        ) from error
    kept = sorted(int(file.parent.name) for file in folder.glob(f"{AT}/*/{MEASURED}") if file.parent.name.isdecimal())
    before = {step: one for step in kept if (one := read_measured(at_step(folder, step))) is not None}
    return Measured(facts, resampled, folder, before)
