"""What does not fit: edges that no box reaches, objects that no point learns, objects of too few pixels."""

from __future__ import annotations

from gfocal.analysis.assignment import ALLOWED, Assigned, smallest_reg_max
from gfocal.recipe import Recipe
from gfocal.recipe.forms import BOXES
from gfocal.recipe.rows import AXES
from gfocal.utils.text import percent

DELTAS = (0.5, 1.0, 2.0)
"""Beside the recipe's own. The paper (Table 2c) finds no gain in others: AP 40.2, 40.2, 39.9 for these."""
MISSED = 0.01
"""Share of the objects without a point from which other sizes and strides are tried."""
LEAST_SIDE = 8.0
"""Pixels that the median of the smaller half of the objects should have."""


def smallest_by_delta(recipe: Recipe, assigned: Assigned) -> dict[str, int] | None:
    """The least n that leaves at most 0.1 % of the edges of every level out, by delta.

    None where the recipe's points have no such boxes, or nothing is positive, and of candidates: which of them will
    be positive nobody knows.
    """
    if assigned.dynamic:
        return None
    if "general" not in AXES[recipe.model.points.kind]["boxes.kind"] or not len(assigned.owner):
        return None
    deltas = sorted({*DELTAS, recipe.model.boxes.delta})
    return {f"{delta:g}": least_reach(assigned, delta) for delta in deltas}


def least_reach(assigned: Assigned, delta: float) -> int:
    """The least n that leaves at most 0.1 % of the edges of every level out."""
    return max(smallest_reg_max(assigned.of_level(level)[0], delta) for level in range(len(assigned.strides)))


def out_of_reach(assigned: Assigned, n: int, delta: float) -> float:
    """The largest share of a level's edges that General boxes with such bins cannot reach."""
    shares = []
    for level in range(len(assigned.strides)):
        edges, _ = assigned.of_level(level)
        if len(edges):
            shares.append(int(((edges < 0) | (edges > n * delta)).sum()) / len(edges))
    return max(shares, default=0.0)


def small_reasons(now: Assigned) -> list[str]:
    """A line where objects get no point, and one where objects have too few pixels."""
    if not len(now.boxes):
        return []
    reasons = []
    if now.missed_share > MISSED:
        side = float(now.sides[now.missed].median())
        reasons.append(
            f"{percent(now.missed_share)} of the objects get no point: half of those are smaller than {side:.3g} pixels"
        )
    if lower_quartile(now) < LEAST_SIDE:
        reasons.append(f"a quarter of the objects is smaller than {lower_quartile(now):.3g} pixels as they enter")
    return reasons


def lower_quartile(assigned: Assigned) -> float:
    """Pixels: the median of the smaller half of the objects."""
    return float(assigned.sides.sort().values[len(assigned.boxes) // 4])


def reach_reasons(recipe: Recipe, now: Assigned) -> list[str]:
    """A line for each level of which more than 0.1 % of the edges lie too far from their points; none of candidates."""
    reasons: list[str] = []
    if now.dynamic:
        return reasons
    for level, stride in enumerate(now.strides):
        edges, cut = now.of_level(level)
        far = int((cut & (edges >= 0)).sum())
        if len(edges) and far / len(edges) > ALLOWED:
            reasons.append(
                f"level of stride {stride}: {percent(far / len(edges))} of the edges lie beyond "
                f"{_reach_words(recipe)}, the farthest {float(edges.max()):.3g} strides from its point"
            )
    return reasons


def reach_fix(recipe: Recipe, n: int, trained: bool) -> str:
    """What to do where boxes do not reach far enough, and what that costs trained outputs."""
    if not BOXES[recipe.model.boxes.kind].bins:
        return "more levels may" + (", and those start from scratch" if trained else "")
    fix, new = f"--set model.boxes.reg_max={n} reaches them", n - recipe.model.boxes.reg_max
    if trained:
        fix += (
            f"; with --init the trained bins keep their outputs ({4 * new} of {4 * (n + 1)} numbers of a box are new)"
        )
    return fix


def _reach_words(recipe: Recipe) -> str:
    boxes = recipe.model.boxes
    if BOXES[boxes.kind].bins:
        return f"reg_max * delta = {boxes.reg_max * boxes.delta:g} strides"
    return "what the boxes can reach"
