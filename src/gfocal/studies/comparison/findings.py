"""Differences and verdicts as records: ``compare`` and ``verdicts`` make them, reports show them without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfocal.studies.paper.claims import Measure

Basis = Literal["nothing", "pictures", "timing", "pictures and seeds"]
"""What an interval comes from."""
NOTHING: Basis = "nothing"
IMAGES: Basis = "pictures"
TIMING: Basis = "timing"
BOTH: Basis = "pictures and seeds"
Verdict = Literal["holds", "does not", "cannot tell"]
HOLDS: Verdict = "holds"
DOES_NOT: Verdict = "does not"
CANNOT_TELL: Verdict = "cannot tell"


@dataclass(frozen=True)
class Difference:
    """A difference, or another weighted sum of rows, with its interval.

    Attributes:
        value: mean over the seeds.
        low, high: ends of the interval.
        by: which spread it comes from.
    """

    value: float
    low: float
    high: float
    by: Basis


@dataclass(frozen=True)
class PartVerdict:
    """A part of a claim in the runs.

    Attributes:
        text: what it says.
        measure: of what.
        difference, low, high: what was measured with its interval, in shares; None where it was not.
        published: the paper's own number in points, of time in percent; None if there is none.
        verdict: whether it holds.
    """

    text: str
    measure: Measure
    difference: float | None
    low: float | None
    high: float | None
    published: float | None
    verdict: Verdict


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim in the runs.

    Attributes:
        statement: what the paper says.
        verdict: "holds" if all parts do, "does not" if one does not, else "cannot tell".
        by: the weakest of what the deciding parts' intervals come from.
        published: the paper's figures, as text.
        parts: what it rests on.
    """

    statement: str
    verdict: Verdict
    by: Basis
    published: str
    parts: tuple[PartVerdict, ...]
