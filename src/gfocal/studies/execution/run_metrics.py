"""What a finished run leaves for the tables: its numbers, its matches, and how both move with other images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import GfocalError
from gfocal.evaluation import Matches, resampled_weights, save_matches, weighted_ap, weighted_correlation
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.utils.files import write_atomically

MEASURED, MATCHES, RESAMPLED = "measured.json", "matches.npz", "resampled.npz"
RESAMPLES = 300
"""Sets of validation images, the same for all runs, so that differences between runs are paired."""


@dataclass(frozen=True)
class Measured:
    """A finished run.

    Attributes:
        facts: JSON types: the metrics, seconds, versions, fingerprints.
        resampled: (B,) values on the resampled sets of images, by measure: "AP", "correlation".
    """

    facts: dict[str, Any]
    resampled: dict[str, FloatArray]


def write_measured(folder: Path, facts: dict[str, Any], matches: Matches) -> None:
    """Write what :func:`read_measured` reads; the JSON file last, since it says that the run is done."""
    weights = resampled_weights(len(matches.objects), RESAMPLES)
    resampled = {"AP": weighted_ap(matches, weights).mean(1), "correlation": weighted_correlation(matches, weights)}
    save_matches(folder / MATCHES, matches)

    def save(file: Path) -> None:
        with file.open("wb") as stream:
            np.savez_compressed(stream, AP=resampled["AP"], correlation=resampled["correlation"])

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
            resampled: dict[str, FloatArray] = {name: content[name] for name in ("AP", "correlation")}
        if not isinstance(facts["metrics"], dict):
            raise ValueError("no metrics")
    except Exception as error:  # a damaged archive raises whatever its decoder meets
        raise GfocalError(
            f"{folder} is a finished run whose results cannot be read ({type(error).__name__}: {error}); repeat "
            "the command to do that run again"
        ) from error
    return Measured(facts, resampled)
