"""Whether the paper's claims hold in the runs at hand: holds, does not, or cannot tell at this budget."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from gfocal.studies.comparison.compare import Runs, SeedNoise, contrast, seed_noise
from gfocal.studies.comparison.findings import (
    BOTH,
    CANNOT_TELL,
    DOES_NOT,
    HOLDS,
    IMAGES,
    NOTHING,
    TIMING,
    Basis,
    ClaimVerdict,
    Difference,
    PartVerdict,
    Verdict,
)
from gfocal.studies.paper.claims import CLAIMS, Claim, Part
from gfocal.studies.speed.records import SpeedResult

_BASES = (NOTHING, IMAGES, TIMING, BOTH)  # the weakest first
LEAST_AP = 0.05
"""Rows that have all less than this are not called equally good: detectors that learnt nothing are all alike."""

Published = Mapping[str, Mapping[str, float] | None]


def judge(
    table: str,
    measures: Mapping[str, Mapping[str, Runs]],
    speed: SpeedResult | None = None,
    *,
    published: Published | None = None,
    noise: Mapping[str, SeedNoise | None] | None = None,
    rows: Collection[str] | None = None,
) -> list[ClaimVerdict]:
    """The claims of a table with their verdicts.

    A part holds where its whole 95 % interval lies where the claim puts it. With k parts, one of them is refuted only
    where the whole interval of confidence 1 - 0.05 / k lies elsewhere: some interval of many misses by chance. Nothing
    of the kind is needed to hold, since all parts have to.

    Args:
        table: its name; one without claims has none.
        measures: "AP" and "correlation": the runs of each row by its key; rows may be missing or empty.
        speed: of its rows; None if it was not measured.
        published: the paper's figures by row key, in percent: ``AP``, and ``fps`` where it has one.
        noise: between seeds, by measure; None: that of the table's own rows.
        rows: those that are part of the study, where it leaves some out: claims about others alone are not judged.

    Raises:
        GfocalError: the runs were not resampled alike.
    """
    if noise is None:
        noise = {name: seed_noise(rows.values()) for name, rows in measures.items()}
    claims = [claim for claim in CLAIMS.get(table, ()) if rows is None or _speaks_of(claim, rows)]
    return [_claim(claim, measures, speed, published or {}, noise) for claim in claims]


def _speaks_of(claim: Claim, rows: Collection[str]) -> bool:
    """Whether a part of it has all of its rows."""
    return any(all(key in rows for key, _ in part.weights) for part in claim.parts)


def _claim(
    claim: Claim,
    measures: Mapping[str, Mapping[str, Runs]],
    speed: SpeedResult | None,
    published: Published,
    noise: Mapping[str, SeedNoise | None],
) -> ClaimVerdict:
    strict = 1 - 0.05 / len(claim.parts)
    parts: list[tuple[PartVerdict, Basis]] = []
    for part in claim.parts:
        printed = _published(part, published)
        if part.measure == "time":
            found = wide = _time(part, speed)
            blank = False
        else:
            rows = measures.get(part.measure, {})
            terms = [(weight, rows.get(key, {})) for key, weight in part.weights]
            own = noise.get(part.measure)
            found, wide = contrast(terms, own), contrast(terms, own, level=strict)
            blank = part.measure == "AP" and _best(terms) < LEAST_AP
        judged = _judged(part, found, printed, _verdict(part, found, wide, blank))
        parts.append((judged, NOTHING if found is None else found.by))
    verdicts = {part.verdict for part, _ in parts}
    verdict = DOES_NOT if DOES_NOT in verdicts else HOLDS if verdicts == {HOLDS} else CANNOT_TELL
    deciding = [by for part, by in parts if verdict != DOES_NOT or part.verdict == DOES_NOT]
    by = min(deciding, key=_BASES.index)
    return ClaimVerdict(claim.statement, verdict, by, claim.published, tuple(part for part, _ in parts))


def _judged(part: Part, found: Difference | None, printed: float | None, verdict: Verdict) -> PartVerdict:
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return PartVerdict(part.text, part.measure, value, low, high, printed, verdict)


def _verdict(part: Part, found: Difference | None, wide: Difference | None, blank: bool) -> Verdict:
    """Of a part, from its interval and from the wider one that refutes it; ``blank``: its rows learnt nothing."""
    if found is None or wide is None:
        return CANNOT_TELL
    low, high, margin = found.low, found.high, part.margin
    holds = {
        "above": low > 0,
        "at_least": low >= -margin,
        "at_most": high <= margin,
        "about": low >= -margin and high <= margin,
    }
    fails = {
        "above": wide.high < 0,
        "at_least": wide.high < -margin,
        "at_most": wide.low > margin,
        "about": wide.high < -margin or wide.low > margin,
    }
    if holds[part.kind]:
        return CANNOT_TELL if blank and part.kind != "above" else HOLDS
    return DOES_NOT if fails[part.kind] else CANNOT_TELL


def _best(terms: list[tuple[float, Runs]]) -> float:
    """The highest mean of a row; -infinity without any run."""
    values = [[run.value for run in runs.values() if run.value is not None and run.known] for _, runs in terms]
    return max((float(np.mean(own)) for own in values if own), default=-math.inf)


def _time(part: Part, speed: SpeedResult | None) -> Difference | None:
    """The share that a row takes longer than the first of ``speed``, if that is the one it is compared with."""
    rows = () if speed is None else speed.rows
    (key, _), (base, _) = part.weights
    if not rows or rows[0].key != base:
        return None
    ratio = next((row.ratio_whole for row in rows if row.key == key), None)
    if ratio is None or not all(map(math.isfinite, (ratio.median, ratio.low, ratio.high))):
        return None
    return Difference(ratio.median - 1, ratio.low - 1, ratio.high - 1, TIMING)


def _published(part: Part, figures: Published) -> float | None:
    """The paper's own number, in points, of time in percent."""
    name = {"AP": "AP", "time": "fps"}.get(part.measure)
    own = [(figures.get(key) or {}).get(name or "") for key, _ in part.weights]
    if any(value is None for value in own):
        return None
    values = [float(value) for value in own if value is not None]
    if part.measure == "time":
        return round(100 * (values[1] / values[0] - 1), 1) + 0.0
    # Adding 0 makes 0 of -0.
    return round(sum(weight * value for (_, weight), value in zip(part.weights, values, strict=True)), 2) + 0.0
