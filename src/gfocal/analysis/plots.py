"""The statistics of a data set as images; drawn with matplotlib."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gfocal.analysis.assignment import Assigned
from gfocal.errors import UsageError
from gfocal.utils.files import write_atomically
from gfocal.utils.text import percent

_IN, _OUT, _LOST, _LINE = "#4c86c6", "#d1495b", "#d1495b", "#222222"
_FINEST, _COARSEST = np.array([0.73, 0.83, 0.94]), np.array([0.03, 0.19, 0.42])  # colours of the levels
_LEAST = 1e-3  # percent: the foot of the logarithmic axis


def draw_statistics(out: Path, assigned: Assigned, reach: float | None, title: str) -> list[Path]:
    """Write edges.png and sizes.png into a folder, which is made.

    Args:
        out: the folder.
        assigned: what the points learn.
        reach: see :func:`edges_figure`.
        title: over the figures.

    Returns:
        The files.

    Raises:
        UsageError: the folder cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"cannot write to {out}: it is a file; name a folder")
    figures = {
        out / "edges.png": edges_figure(assigned, reach, title),
        out / "sizes.png": sizes_figure(assigned, title),
    }
    for file, figure in figures.items():
        write_atomically(file, partial(figure.savefig, format="png", dpi=130))
    return list(figures)


def edges_figure(assigned: Assigned, reach: float | None, title: str) -> Any:
    """Histograms of the distances from positives to their edges, all levels and each; the paper's Figure 5c.

    Args:
        assigned: what the points learn.
        reach: in strides, drawn as a line; None for unlimited.
        title: over the figure.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    levels = [level for level in range(len(assigned.strides)) if bool((assigned.level == level).any())]
    figure = Figure(figsize=(9, 2.2 + 1.55 * (len(levels) + 1)), layout="constrained")
    figure.suptitle(
        f"Distance from point to edge, all {'candidates' if assigned.dynamic else 'positives'}\n{title}", fontsize=12
    )
    panels = figure.subplots(len(levels) + 1, 1, sharex=True, squeeze=False)[:, 0]
    if not levels:
        return _nothing(figure, panels[0])
    largest, start = float(assigned.edges.max()), min(0.0, float(assigned.edges.min().floor()))
    # A reach far beyond the edges would leave them no room; the legend says it then.
    shown = reach if reach is not None and reach < 4 * largest else None
    end = max(largest, shown or 0.0) * 1.05
    width = next(step for step in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 1e9) if end / step <= 120)
    bins = np.arange(start, end + width, width).tolist()
    groups = [("all levels", assigned.edges.flatten(), assigned.truncated.flatten())]
    groups += [(f"stride {assigned.strides[level]}", *assigned.of_level(level)) for level in levels]
    for panel, (name, edges, cut) in zip(panels, groups, strict=True):
        _edges_panel(panel, edges, cut, bins)
        share = int(cut.sum()) / len(cut)
        far = "reach unlimited" if reach is None and not share else f"{percent(share)} out of reach"
        heading = f"{name}: {len(edges):,} edges, largest {float(edges.max()):.1f}, {far}"
        panel.set_title(heading, fontsize=10, loc="left", pad=3)
        if shown is not None:
            panel.axvline(shown, color=_LINE, linewidth=1.4, linestyle="--")
    if reach is not None:
        where = f"reach {reach:g} strides" + ("" if shown is not None else " (beyond this picture)")
        panels[0].plot([], [], color=_LINE, linewidth=1.4, linestyle="--", label=where)
    panels[0].legend(loc="upper right", fontsize=9, frameon=False, ncols=3, bbox_to_anchor=(1, 1.42))
    panels[-1].set_xlabel("distance in strides of the level")
    figure.supylabel(f"percent of the edges, in bins of {width:g} strides (logarithmic)", fontsize=10)
    return figure


def _edges_panel(panel: Any, edges: Tensor, cut: Tensor, bins: list[float]) -> None:
    share, inside = np.full(len(edges), 100 / len(edges)), ~cut.numpy()
    values = edges.numpy() - 1e-5  # an edge just at the reach belongs to the bin before it
    panel.hist(
        [values[inside], values[~inside]],
        bins,
        weights=[share[inside], share[~inside]],
        stacked=True,
        color=[_IN, _OUT],
        label=["within reach", "out of reach"],
    )
    panel.set_yscale("log")
    panel.set_ylim(_LEAST, 100)
    panel.set_yticks([0.01, 1, 100], ["0.01", "1", "100"])
    panel.minorticks_off()
    panel.grid(axis="y", alpha=0.3)
    panel.set_axisbelow(True)
    panel.margins(x=0)
    _open(panel)


def _open(panel: Any) -> None:
    """No frame above and at the right."""
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def sizes_figure(assigned: Assigned, title: str) -> Any:
    """How many objects there are of each size, and the level that most of their points are on.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.2), layout="constrained")
    panel = figure.subplots()
    panel.set_title(f"Sizes of objects and the levels that learn them\n{title}", fontsize=12)
    if not len(assigned.boxes):
        return _nothing(figure, panel)
    sides = np.maximum(assigned.sides.numpy(), 0.5)
    bins = (2.0 ** np.arange(np.floor(np.log2(sides.min())), np.log2(sides.max()) + 0.5, 0.5)).tolist()
    level = _main_level(assigned)
    count = len(assigned.strides)
    groups = [(sides[level == number], f"stride {stride}") for number, stride in enumerate(assigned.strides)]
    colours = [_FINEST + (_COARSEST - _FINEST) * number / max(count - 1, 1) for number in range(count)]
    panel.hist(
        [*(values for values, _ in groups), sides[level < 0]],
        bins,
        stacked=True,
        color=[*colours, _LOST],
        label=[
            *(f"{name}: {len(values):,} objects" for values, name in groups),
            f"no point: {int((level < 0).sum()):,} objects",
        ],
        edgecolor="white",
        linewidth=0.4,
    )
    panel.set_xscale("log", base=2)
    ticks = [tick for tick in 2.0 ** np.arange(-1, 14) if bins[0] <= tick <= bins[-1]]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("side of the object (square root of its area) in pixels as it enters, logarithmic")
    panel.set_ylabel("objects")
    panel.legend(title="level of most of its points", fontsize=9, frameon=False)
    _open(panel)
    return figure


def _nothing(figure: Any, panel: Any) -> Any:
    panel.text(0.5, 0.5, "nothing to show: no object is learnt", ha="center", va="center", transform=panel.transAxes)
    panel.set_axis_off()
    return figure


def _main_level(assigned: Assigned) -> np.ndarray:
    """(G,) the level that has most of each object's points, the finest among equals; -1 without any."""
    table = np.zeros((len(assigned.boxes), len(assigned.strides)), np.int64)
    np.add.at(table, (assigned.owner.numpy(), assigned.level.numpy()), 1)
    return np.where(table.sum(1) > 0, table.argmax(1), -1)
