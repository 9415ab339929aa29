"""What a finished run leaves for the tables: its numbers, its matches, and how both move with other images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from gfocal.errors import GfocalError
from gfocal.evaluation import Matches, resampled_weights, save_matches, spearman, weighted_ap, weighted_correlation
from gfocal.evaluation.bootstrap import weighted_mean, weighted_spearman
from gfocal.evaluation.evaluator import Evaluation
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.evaluation.positives import Positives
from gfocal.utils.files import write_atomically
from gfocal.utils.records import FLAT, from_json, named, to_json

MEASURED, MATCHES, RESAMPLED = "measured.json", "matches.npz", "resampled.npz"
AT = "at"
"""Folder of what was measured before the end, a folder a step."""
RESAMPLES = 300
"""Sets of validation images, the same for all runs, so that differences between runs are paired."""


_T = TypeVar("_T")
RunMeasureName = Literal["AP", "correlation", "positives", "mean_iou"]
"""What a run measures: AP, Spearman's correlation of score and IoU over its detections and over its positives, and the
mean IoU of the positives."""


@dataclass(frozen=True)
class PositivesSummary:
    """What the points that the assigner gives an object come to.

    Attributes:
        count: how many there are.
        correlation: Spearman's, of score and IoU; None where it is not defined.
        mean_iou: None without any.
    """

    count: int
    correlation: float | None
    mean_iou: float | None


@dataclass(frozen=True)
class Measurement:
    """What weights come to on the validation images; ``positives`` is None where they were not looked at."""

    metrics: Evaluation
    positives: PositivesSummary | None = None


@dataclass(frozen=True)
class FirstWeights:
    """What a run started from: the file's name, and a hash of a person's weights in it."""

    name: str = field(metadata=named("first weights"))
    init: str | None


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a finished run says of itself, in ``measured.json``.

    Attributes:
        seed: of the run.
        measurement: of its last weights.
        steps: optimizer steps.
        images_per_second: while training, at the end.
        train_seconds, measure_seconds: of all calls together.
        truncated_share, missed_share: of the last epoch's edges and objects.
        data: fingerprint.
        versions, host: what it ran on, by name; runs of the first versions did not say their host.
        start: the weights that it started from.
    """

    seed: int
    measurement: Measurement = field(metadata=FLAT)
    steps: int
    images_per_second: float = field(metadata=named("pictures_per_second"))
    train_seconds: float
    truncated_share: float
    missed_share: float
    measure_seconds: float
    data: str
    versions: Mapping[str, object]
    host: Mapping[str, object] | None = None
    start: FirstWeights


@dataclass(frozen=True)
class Measured:
    """Weights of a run that were measured.

    Attributes:
        measurement: on the validation images.
        resampled: (B,) values on the resampled sets of images, by measure; of the positives where they were looked at.
        folder: where the matches lie.
    """

    measurement: Measurement
    resampled: Mapping[str, FloatArray]
    folder: Path

    def value(self, measure: RunMeasureName) -> float | None:
        """One of :attr:`resampled` on the images themselves; None where it is not defined, or was not looked at."""
        result, positives = self.measurement.metrics.result, self.measurement.positives
        if measure == "AP":
            return None if math.isnan(result.stats["AP"]) else result.stats["AP"]
        if measure == "correlation":
            return result.score_iou_correlation
        if positives is None:
            return None
        return positives.correlation if measure == "positives" else positives.mean_iou


@dataclass(frozen=True)
class FinishedRun:
    """A run that is done.

    Attributes:
        facts: what it says of itself.
        last: its last weights.
        before: weights that were measured before the end, by optimizer step.
    """

    facts: RunFacts
    last: Measured
    before: Mapping[int, Measured] = field(default_factory=dict)


def at_step(folder: Path, step: int) -> Path:
    """Where a run keeps what was measured after ``step`` optimizer steps, before its end."""
    return folder / AT / str(step)


def summarize_positives(positives: Positives | None) -> PositivesSummary | None:
    """None where they were not looked at."""
    if positives is None:
        return None
    return PositivesSummary(
        count=len(positives.ious),
        correlation=spearman(positives.scores, positives.ious),
        mean_iou=float(positives.ious.mean()) if len(positives.ious) else None,
    )


def write_measured(
    folder: Path, facts: RunFacts | Measurement, matches: Matches, positives: Positives | None = None
) -> None:
    """Write what :func:`read_run` reads; the JSON file last, since it says that the run is done.

    Args:
        folder: of the run, or one within it for what was measured before the end.
        facts: of the run; before the end the measurement alone.
        matches: which detection found which object.
        positives: None where they were not looked at.
    """
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
    text = json.dumps(to_json(facts), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / MEASURED, lambda file: file.write_text(text, encoding="utf-8"))


def read_run(folder: Path) -> FinishedRun | None:
    """A finished run; None of one that is not.

    Raises:
        GfocalError: its files are damaged.
    """
    if not (folder / MEASURED).is_file():
        return None
    facts, resampled = _read(folder, RunFacts)
    kept = sorted(int(file.parent.name) for file in folder.glob(f"{AT}/*/{MEASURED}") if file.parent.name.isdecimal())
    before = {step: Measured(*_read(at, Measurement), at) for step in kept for at in [at_step(folder, step)]}
    return FinishedRun(facts, Measured(facts.measurement, resampled, folder), before)


def _read(folder: Path, kind: type[_T]) -> tuple[_T, dict[str, FloatArray]]:
    """The content of the JSON file, and the resampled values by measure."""
    try:
        facts = from_json(kind, json.loads((folder / MEASURED).read_text(encoding="utf-8")))
        with (folder / RESAMPLED).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            resampled: dict[str, FloatArray] = {name: content[name] for name in content}
        if not {"AP", "correlation"} <= resampled.keys():
            raise ValueError("not all measures")
        return facts, resampled
    except Exception as error:  # a damaged archive raises whatever its decoder meets
        raise GfocalError(
            f"{folder} is a finished run whose results cannot be read ({type(error).__name__}: {error}); repeat "
            "the command to do that run again"
        ) from error
