"""Which detections of all images deserve a look: the widest, the sharpest, and those that are sure but wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gfocal.explanation.records import EdgeFacts, Explained, PictureFacts, Shown, ShownGallery

MOST = 8
"""In a gallery."""


def galleries(pictures: Sequence[PictureFacts], level: float, calibrated: bool) -> tuple[ShownGallery, ...]:
    """The three, of all detections that are told."""
    every = [one for picture in pictures for one in picture.detections]
    known = [(spread, one) for one in every if (spread := one.widest) is not None]
    if not known:
        why = "These boxes do not say how sure their edges are." if every else "Nothing was found."
        return tuple(ShownGallery(name, why, ()) for name in ("widest", "sharpest", "sure but wrong"))
    up = sorted(known, key=lambda pair: (pair[0], pair[1].id))
    down = sorted(known, key=lambda pair: (-pair[0], pair[1].id))
    return (
        ShownGallery(
            "widest",
            "The least sure edges for the size of their boxes, the widest first.",
            tuple(Shown(one.id, _least_sure(one)) for _, one in down[:MOST]),
        ),
        ShownGallery(
            "sharpest",
            "Boxes whose least sure edge is surest for their size, the sharpest first.",
            tuple(Shown(one.id, _least_sure(one)) for _, one in up[:MOST]),
        ),
        _sure_but_wrong(pictures, every, level, calibrated),
    )


def _least_sure(one: Explained) -> str:
    edge = max(one.edges, key=lambda edge: one.spread(edge) or 0.0)
    across = "width" if edge.side in ("left", "right") else "height"
    return f"{edge.side}: σ {edge.std:.1f} px, {100 * (one.spread(edge) or 0.0):.1f} % of the {across}"


def _sure_but_wrong(
    pictures: Sequence[PictureFacts], every: Sequence[Explained], level: float, calibrated: bool
) -> ShownGallery:
    name = "sure but wrong"
    if not any(picture.labelled for picture in pictures):
        return ShownGallery(name, "This takes labels: --data PATH.", ())
    middle = float(np.median([spread for _, edge, spread in _edges(every)]))
    which = "calibrated interval" if calibrated else "interval of its distribution (there is no calibration)"
    text = (
        f"Edges among the surer half (σ at most {100 * middle:.1f} % of their side) whose label lies outside the "
        f"{100 * level:g} % {which}; by error over σ, the largest first. A wrong label looks the same."
    )
    wrong = [
        (abs(edge.error) / max(edge.std, 1e-6), one, edge)
        for one, edge, spread in _edges(every)
        if edge.inside is False and spread <= middle and edge.error is not None and edge.std is not None
    ]
    shown: dict[int, str] = {}
    for factor, one, edge in sorted(wrong, key=lambda row: (-row[0], row[1].id)):
        shown.setdefault(one.id, f"{edge.side}: off by {edge.error:+.1f} px, {factor:.1f} σ")
    if not shown:
        return ShownGallery(name, f"{text} There is none.", ())
    return ShownGallery(name, text, tuple(Shown(number, why) for number, why in list(shown.items())[:MOST]))


def _edges(every: Sequence[Explained]) -> Iterator[tuple[Explained, EdgeFacts, float]]:
    for one in every:
        for edge in one.edges:
            if (spread := one.spread(edge)) is not None:
                yield one, edge, spread
