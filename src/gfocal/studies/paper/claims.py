"""What the paper claims of its tables, as data (arXiv 2006.04388, Tables 1-3 and their captions)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Measure = Literal["AP", "correlation", "time"]
Kind = Literal["above", "at_least", "at_most", "about"]

MARGIN = 0.005
"""Half a point of AP: rows that differ by no more count as equally good.

The settings among which the paper calls itself robust or good enough differ by up to 0.4 points (Table 2c, Δ = 4: 39.8
of 40.2): a smaller margin would refute the paper with its own figures.
"""
TIME_MARGIN = 0.035
"""Of the time of the baseline: what still counts as no overhead. The bins themselves are 1.5 to 2 % of the FLOPs."""


@dataclass(frozen=True)
class Part:
    """A statement about one number: a weighted sum of rows, mostly one row minus another.

    Attributes:
        text: what it says.
        kind: "above": the number is > 0; "at_least": >= -margin; "at_most": <= margin; "about": both.
        weights: (row key, weight) of each row; of "time" the row and what its time is a share of.
        measure: "AP" and "correlation" in shares; "time" as the share that a row takes longer.
        margin: >= 0, in the unit of the measure.
    """

    text: str
    kind: Kind
    weights: tuple[tuple[str, float], ...]
    measure: Measure = "AP"
    margin: float = MARGIN


@dataclass(frozen=True)
class Claim:
    """A claim: all of its parts.

    Attributes:
        statement: what the paper says.
        published: its figures, as text.
        parts: at least one.
    """

    statement: str
    published: str
    parts: tuple[Part, ...]


def _pair(text: str, kind: Kind, a: str, b: str, measure: Measure = "AP") -> Part:
    return Part(text, kind, ((a, 1.0), (b, -1.0)), measure)


def _above(texts: dict[str, str], a: str, b: str, measure: Measure = "AP", prefix: str = "") -> Part:
    return _pair(f"{texts[a]} above {texts[b]}", "above", prefix + a, prefix + b, measure)


_FORMS = {
    "joint": "joint",
    "iou": "IoU branch",
    "centerness": "centerness branch",
    "none": "none",
    "iou_guided": "IoU-guided",
    "centerness_guided": "centerness-guided",
}


def _quality(key: str, name: str, chain: str, guided: str) -> tuple[Claim, ...]:
    prefix, order = f"{key}-", ("joint", "iou", "centerness", "none")
    return (
        Claim(
            f"On {name}: joint > IoU branch > centerness branch > none",
            chain,
            tuple(_above(_FORMS, a, b, prefix=prefix) for a, b in pairwise(order)),
        ),
        Claim(
            f"On {name}: the guided forms stay below joint",
            guided,
            tuple(_above(_FORMS, "joint", b, prefix=prefix) for b in ("iou_guided", "centerness_guided")),
        ),
        Claim(
            f"On {name}: joint scores agree best with IoU",
            "no figures",
            tuple(_above(_FORMS, "joint", b, "correlation", prefix) for b in _FORMS if b != "joint"),
        ),
    )


def _helps(key: str, name: str, figures: str) -> Claim:
    part = _pair("with QFL above without", "above", f"{key}-joint", key)
    return Claim(f"Joint scores with QFL help {name}", figures, (part,))


_BETAS = {f"beta-{value}": f"β = {value}" for value in ("0", "1", "2", "2.5", "4")}


def _boxes(key: str, name: str, figures: str) -> Claim:
    return Claim(
        f"On {name}: General with DFL >= General > Gaussian ~ Dirac",
        figures,
        (
            _pair("with DFL no more than 0.5 points below without", "at_least", f"{key}-general_dfl", f"{key}-general"),
            _pair("General above Gaussian", "above", f"{key}-general", f"{key}-gaussian"),
            _pair("Gaussian within 0.5 points of Dirac", "about", f"{key}-gaussian", f"{key}-dirac"),
        ),
    )


_BINS = Claim(
    "Robust to the number of bins n",
    "n = 12, 14, 16, 18: 40.1, 40.2, 40.2, 40.1",
    tuple(_pair(f"n = {n} within 0.5 points of n = 16", "about", f"n-{n}", "n-16") for n in (12, 14, 18)),
)
_WIDTHS = Claim(
    "Bins of width Δ = 1 are good enough",
    "Δ = 0.5, 1, 2, 4: 40.2, 40.2, 39.9, 39.8",
    (
        _pair("Δ = 1 within 0.5 points of Δ = 0.5", "about", "delta-1", "delta-0.5"),
        _pair("Δ = 1 no more than 0.5 points below Δ = 2", "at_least", "delta-1", "delta-2"),
        _pair("Δ = 1 no more than 0.5 points below Δ = 4", "at_least", "delta-1", "delta-4"),
    ),
)
_TOGETHER = (
    Claim("QFL improves ATSS", "39.9 > 39.2", (_pair("QFL above ATSS", "above", "atss-qfl", "atss"),)),
    Claim("DFL improves ATSS", "39.5 > 39.2", (_pair("DFL above ATSS", "above", "atss-dfl", "atss"),)),
    Claim(
        "QFL and DFL add up",
        "QFL +0.7, DFL +0.3, both +1.0: 39.2, 39.9, 39.5, 40.2",
        (
            _pair("both above QFL alone", "above", "gfl", "atss-qfl"),
            _pair("both above DFL alone", "above", "gfl", "atss-dfl"),
            Part(
                "what QFL adds is within 0.5 points the same with and without DFL",
                "about",
                (("gfl", 1.0), ("atss-dfl", -1.0), ("atss-qfl", -1.0), ("atss", 1.0)),
            ),
        ),
    ),
    Claim(
        "QFL and DFL add no overhead",
        "19.4 pictures a second with and without",
        (
            Part(
                "both take no more than 3.5 % longer than ATSS, post-processing included",
                "at_most",
                (("gfl", 1.0), ("atss", -1.0)),
                "time",
                TIME_MARGIN,
            ),
        ),
    ),
)

CLAIMS: dict[str, tuple[Claim, ...]] = {
    "table1a": (
        *_quality("fcos", "FCOS", "39.0 > 38.7 > 38.5 > 37.8", "39.0; IoU-guided 38.2, centerness-guided 37.9"),
        *_quality("atss", "ATSS", "39.9 > 39.6 > 39.2 > 38.0", "39.9; IoU-guided 38.9, centerness-guided 38.2"),
    ),
    "table1b": (
        _helps("foveabox", "FoveaBox", "+0.6: 37.0 > 36.4"),
        _helps("retinanet", "RetinaNet", "+0.8: 36.4 > 35.6"),
        _helps("ssd", "SSD", "+0.8: 30.2 > 29.4"),
    ),
    "table1c": (
        Claim(
            "β = 2 is best",
            "β = 0, 1, 2, 2.5, 4: 37.6, 39.0, 39.9, 39.7, 38.2",
            tuple(_above(_BETAS, "beta-2", b) for b in _BETAS if b != "beta-2"),
        ),
    ),
    "table2a": (
        _boxes("fcos", "FCOS", "39.0 >= 38.8 > 38.6 ~ 38.5"),
        _boxes("atss", "ATSS", "39.5 >= 39.3 = 39.3 ~ 39.2: General and Gaussian are equal in the paper's own figures"),
    ),
    "table2b": (_BINS,),
    "table2c": (_WIDTHS,),
    "table3": _TOGETHER,
}
"""By table; the row keys are those of the tables."""
