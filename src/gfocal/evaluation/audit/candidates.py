"""From suspicions to a list: what is said of each label, and how likely it is a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gfocal.calibration.scores import odds
from gfocal.calibration.scores_fit import fit_platt
from gfocal.evaluation.audit.evidence import Evidence
from gfocal.evaluation.audit.planting import KINDS
from gfocal.evaluation.audit.suspicion import NONE, Suspicion
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray
from gfocal.evaluation.thresholds.matching import IOU

SHARP = 0.25
"""An edge is sharp where its interval reaches less than this share of the side that it bounds to either side."""
_LEAST = 0.02
"""Of suspicions that lie between 0 and 1: below there is nothing to say."""


@dataclass(frozen=True)
class Candidates:
    """K things that may be said of labels, at most one of each kind about each label.

    Attributes:
        kind: (K,) number in :data:`~gfocal.evaluation.audit.planting.KINDS`.
        label: (K,) which label; -1 for a missing one.
        detection: (K,) what contradicts it; -1 for none.
        strength: (K,) in [0, 1], how much; comparable within a kind alone.
    """

    kind: IntArray
    label: IntArray
    detection: IntArray
    strength: FloatArray

    def __len__(self) -> int:
        return len(self.kind)

    def only(self, rows: np.ndarray) -> Candidates:
        """Some of them: a mask or indices."""
        return Candidates(*(values[rows] for values in vars(self).values()))


def outside(evidence: Evidence, found: Suspicion) -> BoolArray:
    """(N, 4) edges of labels that lie outside of their interval, while that is narrow."""
    chosen = np.zeros((len(evidence.labels), 4), bool)
    has = np.flatnonzero(found.edge_by >= 0)
    if evidence.half_widths is None or not len(has):
        return chosen
    by = found.edge_by[has]
    half = evidence.half_widths[by]
    sides = np.tile(evidence.boxes[by, 2:] - evidence.boxes[by, :2], 2)
    chosen[has] = (np.abs(found.offsets[has]) > half) & (half <= SHARP * sides)
    return chosen


def candidates(evidence: Evidence, found: Suspicion) -> Candidates:
    """All that there is to say."""
    parts = {
        "edge": (outside(evidence, found).any(1), found.edge / (1 + found.edge), found.edge_by),
        "class": ((found.class_by >= 0) & (found.wrong_class > _LEAST), found.wrong_class, found.class_by),
        "duplicate": (found.weaker & (found.duplicate >= IOU), found.duplicate, found.near),
        "spurious": (found.spurious > _LEAST, found.spurious, found.near),
    }
    lists: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []
    for name, (chosen, strength, by) in parts.items():
        rows = np.flatnonzero(chosen)
        lists.append((np.full(len(rows), KINDS.index(name)), rows, by[rows], strength[rows]))
    rows = np.flatnonzero(found.missing > _LEAST)
    lists.append((np.full(len(rows), KINDS.index("missing")), np.full(len(rows), NONE), rows, found.missing[rows]))
    kind, label, detection, strength = (np.concatenate(column) for column in zip(*lists, strict=True))
    return Candidates(kind, label, detection, strength)


@dataclass(frozen=True)
class Scale:
    """What makes strengths of different kinds comparable: for each kind a logistic curve of the strength's odds.

    Attributes:
        curves: (slope above 0, offset) by number of the kind; kinds without one score 0.
    """

    curves: Mapping[int, tuple[float, float]]

    @staticmethod
    def of(known: Sequence[tuple[Candidates, BoolArray]]) -> Scale:
        """From candidates of labels whose faults are known: (candidates, whether each is right).

        Each kind is fitted by itself (Platt's logistic curve). One that never is right is drawn towards half a chance
        in as many as there are, so that it ranks low.
        """
        curves = {}
        for number in range(len(KINDS)):
            strength = np.concatenate([np.zeros(0), *(own.strength[own.kind == number] for own, _ in known)])
            right = np.concatenate([np.zeros(0), *(yes[own.kind == number] for own, yes in known)])
            if len(strength):
                curves[number] = fit_platt(strength, right)
        return Scale(curves)

    def scores(self, given: Candidates) -> FloatArray:
        """(K,) in [0, 1]: the chance that each is right, if faults are as frequent as those that were planted."""
        found = np.zeros(len(given))
        for number, (slope, offset) in self.curves.items():
            mine = given.kind == number
            found[mine] = 1 / (1 + np.exp(-np.clip(slope * odds(given.strength[mine]) + offset, -60, 60)))
        return found


def ranked(given: Candidates, scores: FloatArray) -> IntArray:
    """Rows of candidates, best score first, of equal ones the stronger; of each label the best alone."""
    order = np.lexsort((given.label, -given.strength, -scores))
    labels = given.label[order]
    _, first = np.unique(np.where(labels == NONE, -2 - np.arange(len(labels)), labels), return_index=True)
    return order[np.sort(first)]
