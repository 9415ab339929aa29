"""What the learning-rate finder leaves: a plot and its numbers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.utils.files import write_atomically

PLOT, NUMBERS = "lr.png", "lr.json"


def write_sweep(content: Mapping[str, Any], out: Path, title: str) -> dict[str, str]:
    """Write ``lr.json`` and ``lr.png``; an earlier sweep's are replaced.

    Args:
        content: of :func:`gfocal.training.lr_finder.described`.
        out: a folder, made if it is missing.
        title: of the plot.

    Returns:
        The files by name: "numbers", "plot".
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(out / NUMBERS, lambda file: file.write_text(text, encoding="utf-8"))
    write_atomically(out / PLOT, lambda file: _plot(content, file, title))
    return {"numbers": str(out / NUMBERS), "plot": str(out / PLOT)}


def _plot(content: Mapping[str, Any], file: Path, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lrs, losses, smoothed = content["lrs"], content["losses"], content["smoothed"]
    axes.semilogx(lrs, losses, ".", color="0.7", label="loss of a step")
    axes.semilogx(lrs, smoothed, color="tab:blue", label="smoothed")
    lowest, first = min(smoothed), smoothed[0]
    fall = max(first - lowest, 0.05 * abs(first))
    # What comes after the divergence would leave nothing to see of the rest.
    axes.set_ylim(lowest - 0.3 * fall, first + 0.8 * fall)
    if content["suggested_lr"] is not None:
        axes.axvspan(content["begin"], content["end"], color="tab:green", alpha=0.12, label="the loss falls")
        axes.axvline(content["suggested_lr"], color="tab:green", label=f"suggested: {content['suggested_lr']:.2g}")
    axes.axvline(content["recipe_lr"], color="tab:orange", ls="--", label=f"the recipe's: {content['recipe_lr']:.2g}")
    if content["diverged"] is not None:
        axes.axvline(content["diverged"], color="tab:red", ls=":", label=f"diverged: {content['diverged']:.2g}")
    axes.set(xlabel="learning rate", ylabel="loss", title=title)
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(file, dpi=120, format="png")


def describe_sweep(content: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """Lines for a person: what was found, and what to type: the words of ``command`` and the learning rate."""
    end = "never diverged" if content["diverged"] is None else f"diverged at {content['diverged']:.2g}"
    if content["set"] is None:
        return [
            f"no suggestion: the loss did not fall by a tenth at any learning rate ({len(content['lrs'])} steps, {end}"
            "); try --steps 200, other bounds (--low, --high), or look at the data with gfocal data check"
        ]
    lines = [
        f"the loss fell from {content['begin']:.2g} to {content['end']:.2g} and {end}",
        f"learning rate {content['suggested_lr']:.2g} for {content['pictures_a_step']} pictures per step; "
        f"the recipe's is {content['recipe_lr']:.2g}",
    ]
    return [*lines, f"next: {shlex.join([*command, '--set', content['set']])}"]
