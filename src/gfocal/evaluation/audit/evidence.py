"""What a detector found, with how likely each detection is right, and how far its edges may be off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gfocal.calibration.edges_fit import fit_edges
from gfocal.calibration.features import EdgeFeatures, image_folds
from gfocal.calibration.quantiles import check_level
from gfocal.calibration.scale import ScaleKind
from gfocal.calibration.scores_fit import FOLDS, fit_scores
from gfocal.calibration.stored import Calibration
from gfocal.detections import Detections
from gfocal.errors import UsageError
from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.trust.samples import matched_samples, score_samples


@dataclass(frozen=True)
class Evidence:
    """D detections beside N labels.

    Attributes:
        labels: what is looked at.
        kept: (I,) False for images that were not looked at; their labels are no suspects.
        rows: (D,) row of each detection's image, ascending.
        boxes: (D, 4) xyxy in original pixels.
        scores: (D,) in [0, 1].
        classes: (D,) in 0..C-1.
        chances: (D,) in [0, 1] that a label of its class is there, at an IoU of 0.5.
        half_widths: (D, 4) pixels: this share of edges is not farther off; None where it is not known.
        level: the share.
        intervals: where the half-widths come from, in words.
        notes: what could not be known.
    """

    labels: Labels
    kept: BoolArray
    rows: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    chances: FloatArray
    half_widths: FloatArray | None
    level: float
    intervals: str
    notes: tuple[str, ...] = ()


def weigh(labels: Labels, found: Mapping[int, Detections], *, level: float = 0.9, seed: int = 0) -> Evidence:
    """What is known of each detection.

    A calibrated detector says itself how likely it is right and where its edges lie. Of another one both are fitted on
    these very labels, for each image on those of the others (five folds): wrong labels among them make intervals a
    little too wide, and chances a little too low.

    Args:
        labels: of I images.
        found: by id of the image; images that are missing were not looked at.
        level: of the intervals, above 0 and at most 0.999.
        seed: of the folds.

    Raises:
        UsageError: the level is out of range.
    """
    check_level(level)
    kept = np.array([int(i) in found for i in labels.image_ids], bool).reshape(-1)
    own = [found[int(i)].numpy() for i in labels.image_ids[kept]]
    rows = np.repeat(np.flatnonzero(kept), [len(one) for one in own])
    findings = Findings(
        index=labels,
        rows=rows,
        boxes=_joined([one.boxes for one in own], (0, 4), np.float64),
        scores=_joined([one.scores for one in own], (0,), np.float64),
        labels=_joined([one.labels for one in own], (0,), np.int64),
        kept=kept,
    )
    calibration = next((one.calibration for one in own), None)
    half: FloatArray | None
    if isinstance(calibration, Calibration) and not calibration.unfit:
        chances = _joined([calibration.chances(one) for one in own], (0,), np.float64)
        half = _joined([_own_widths(calibration, one, level) for one in own], (0, 4), np.float64)
        words, notes = f"those that the model was calibrated to ({calibration.annotations})", list[str]()
    else:
        fold = np.full(len(kept), -1)
        fold[kept] = image_folds(np.flatnonzero(kept), FOLDS, seed)
        chances, notes = _fitted_chances(findings, fold, seed)
        half, words = _fitted_widths(labels, own, fold, level, seed)
    return Evidence(
        labels, kept, rows, findings.boxes, findings.scores, findings.labels, chances, half, level, words, tuple(notes)
    )


def _joined(parts: Sequence[Any], empty: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(empty, dtype), *(np.asarray(part, dtype) for part in parts)])


def _own_widths(calibration: Calibration, one: Detections, level: float) -> FloatArray:
    labels = np.asarray(one.labels, np.int64)
    return calibration.edges.half_widths(EdgeFeatures.of(one), labels, one.names, level)


def _fitted_chances(findings: Findings, fold: IntArray, seed: int) -> tuple[FloatArray, list[str]]:
    samples = score_samples(findings)
    mine, kept = fold[findings.rows], fold[findings.kept]
    chances = np.clip(findings.scores, 0, 1)
    try:
        for number in np.unique(mine):
            fitted = fit_scores(samples.of_images(kept != number), seed=seed, resamples=0)
            chances[mine == number] = fitted.of(findings.scores[mine == number])
    except UsageError:
        words = "note: too few pictures with detections to say how likely one is right: scores are taken as they are"
        return np.clip(findings.scores, 0, 1), [words]
    return chances, []


def _fitted_widths(
    labels: Labels, found: list[Detections], fold: IntArray, level: float, seed: int
) -> tuple[FloatArray | None, str]:
    """(D, 4), or None where too few objects were found to fit intervals on."""
    if not found:
        return None, "none, since no picture was looked at"
    kept = np.flatnonzero(fold >= 0)
    samples = matched_samples(labels, labels.image_ids[kept].tolist(), found)
    assert samples is not None
    dirac = samples.edges.features.edge_std is None
    kind: ScaleKind = "constant" if dirac else "edge_std"
    features = [EdgeFeatures.of(one) for one in found]
    half: list[FloatArray] = [np.zeros((len(one), 4)) for one in found]
    try:
        for number in np.unique(fold[kept]):
            fitted = fit_edges(samples.edges.only(fold[samples.edges.images] != number), kinds=[kind], seed=seed)
            for i in np.flatnonzero(fold[kept] == number).tolist():
                own = np.asarray(found[i].labels, np.int64)
                half[i] = fitted.half_widths(features[i], own, labels.names, level)
    except UsageError:
        return None, "none, since too few objects were found to fit them on: edges are not looked at"
    words = "constant, since these boxes have no distributions" if dirac else "edge_std times a conformal factor"
    return _joined(half, (0, 4), np.float64), f"{words}; fitted on these labels, for each picture on those of others"
