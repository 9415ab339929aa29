"""How many planted faults a list of suspects shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gfocal.detections import Detections
from gfocal.evaluation.audit.candidates import Candidates, Scale, candidates, ranked
from gfocal.evaluation.audit.evidence import Evidence, weigh
from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.audit.planting import KINDS, NONE, Planted, plant
from gfocal.evaluation.audit.suspicion import Suspicion, suspicion
from gfocal.evaluation.ground_truth import BoolArray
from gfocal.evaluation.overlaps import box_ious
from gfocal.evaluation.thresholds.matching import IOU

FIRST = 50
"""Suspects that the expectation is about."""
_FITTED, _MEASURED = (1, 2), (3, 4)  # seeds of faults that scores are fitted on, and of those they are measured on


@dataclass(frozen=True)
class Trial:
    """Planted faults, and what is said of the labels that have them.

    Attributes:
        planted: the labels.
        evidence, suspicion, candidates: of these labels.
        right: (K,) candidates that point at a planted fault, of whatever kind.
    """

    planted: Planted
    evidence: Evidence
    suspicion: Suspicion
    candidates: Candidates
    right: BoolArray


@dataclass(frozen=True)
class Expectation:
    """What to expect of the first suspects, by faults planted into a copy of these labels.

    Real faults that rank among the first count as wrong, and push planted ones down.

    Attributes:
        planted: share of labels that got a fault.
        faults: how many these are.
        first: so many suspects, or all where there are fewer.
        right: mean number of them that point at a planted fault.
        per_kind: the same of the first suspects of each kind alone.
    """

    planted: float
    faults: int
    first: int
    right: float
    per_kind: dict[str, First]


@dataclass(frozen=True)
class First:
    """Of one kind: how many suspects come first, and how many of these are right."""

    first: int
    right: float


def attempt(labels: Labels, found: Mapping[int, Detections], share: float, seed: int, *, level: float = 0.9) -> Trial:
    """Plant faults into a copy, and look at it as at the original."""
    planted = plant(labels, share, seed)
    evidence = weigh(planted.labels, found, level=level, seed=seed)
    own = suspicion(evidence)
    listed = candidates(evidence, own)
    return Trial(planted, evidence, own, listed, _right(planted, evidence, own, listed))


def _right(planted: Planted, evidence: Evidence, found: Suspicion, listed: Candidates) -> BoolArray:
    about = listed.label != NONE
    faulty = planted.kind != NONE
    right = np.zeros(len(listed), bool)
    right[about] = faulty[listed.label[about]]
    twins = np.flatnonzero(about & (listed.kind == KINDS.index("duplicate")))
    right[twins] |= faulty[found.twin[listed.label[twins]]]
    for k in np.flatnonzero(~about).tolist():
        here = planted.removed_boxes[planted.removed_rows == evidence.rows[listed.detection[k]]]
        box = evidence.boxes[listed.detection[k]]
        right[k] = bool((box_ious(box[None], here) >= IOU).any())
    return right


def learn(
    labels: Labels, found: Mapping[int, Detections], share: float, seed: int, *, level: float = 0.9
) -> tuple[Scale, Expectation | None]:
    """Scores that are chances, and what the first suspects are worth: fitted and measured on other planted faults.

    Args:
        labels, found: see :func:`gfocal.evaluation.audit.evidence.weigh`.
        share: faults over labels.
        seed: the faults are drawn from seeds that follow from it.
        level: of the intervals.

    Returns:
        (scale, expectation); None of the latter where no label can have a fault.
    """
    seeds = [1000 * seed + number for number in (*_FITTED, *_MEASURED)]
    trials = [attempt(labels, found, share, number, level=level) for number in seeds]
    fitted, measured = trials[: len(_FITTED)], trials[len(_FITTED) :]
    scale = Scale.of([(trial.candidates, trial.right) for trial in fitted])
    count = sum(int((trial.planted.kind != NONE).sum()) + len(trial.planted.removed) for trial in measured)
    return scale, _expected(scale, measured, share, count) if count else None


def _expected(scale: Scale, trials: list[Trial], share: float, faults: int) -> Expectation:
    def first_of(kind: int | None) -> First:
        counts, right = [], []
        for trial in trials:
            order = ranked(trial.candidates, scale.scores(trial.candidates))
            chosen = order if kind is None else order[trial.candidates.kind[order] == kind]
            counts.append(len(chosen[:FIRST]))
            right.append(int(trial.right[chosen[:FIRST]].sum()))
        return First(max(counts), float(np.mean(right)))

    every = first_of(None)
    each = {kind: first_of(number) for number, kind in enumerate(KINDS)}
    return Expectation(
        planted=share,
        faults=round(faults / len(trials)),
        first=every.first,
        right=every.right,
        per_kind={kind: own for kind, own in each.items() if own.first},
    )
