"""What the learning-rate finder leaves: a plot and its numbers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from gfocal.data.formats.common import Format
from gfocal.data.index.concat import join
from gfocal.data.index.data_index import DataIndex
from gfocal.recipe import Recipe
from gfocal.runs.datasets import open_parts, open_run_data
from gfocal.training.lr_finder import SweepReport
from gfocal.utils.files import write_atomically
from gfocal.utils.text import Say, counted

PLOT, NUMBERS = "lr.png", "lr.json"


def open_swept(
    recipe: Recipe,
    data: Sequence[Path],
    *,
    format: Format | None = None,
    images_dir: Path | None = None,
    skip_broken: bool = False,
    say: Say | None = None,
) -> tuple[DataIndex, DataIndex | None]:
    """What a sweep learns from; and where the recipe leaves out empty classes, what a training is measured on.

    Raises:
        UsageError: data is missing or broken.
    """
    if recipe.data.drop_empty_classes:  # The classes of both are those of the network.
        return open_run_data(data, None, format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)[:2]
    found = open_parts(data, "train", format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
    return join(found)[0], None


def write_sweep(report: SweepReport, out: Path, title: str) -> dict[str, str]:
    """Write ``lr.json`` and ``lr.png``; an earlier sweep's are replaced.

    Args:
        report: of :func:`gfocal.training.lr_finder.sweep_report`.
        out: a folder, made if it is missing.
        title: of the plot.

    Returns:
        The files by name: "numbers", "plot".
    """
    text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
    write_atomically(out / NUMBERS, lambda file: file.write_text(text, encoding="utf-8"))
    write_atomically(out / PLOT, lambda file: _plot(report, file, title))
    return {"numbers": str(out / NUMBERS), "plot": str(out / PLOT)}


def _plot(report: SweepReport, file: Path, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sweep, found, smoothed = report.sweep, report.suggestion, report.smoothed
    axes.semilogx(sweep.lrs, sweep.losses, ".", color="0.7", label="loss of a step")
    axes.semilogx(sweep.lrs, smoothed, color="tab:blue", label="smoothed")
    lowest, first = min(smoothed), smoothed[0]
    fall = max(first - lowest, 0.05 * abs(first))
    # What comes after the divergence would leave nothing to see of the rest.
    axes.set_ylim(lowest - 0.3 * fall, first + 0.8 * fall)
    if found is not None:
        axes.axvspan(found.begin, found.end, color="tab:green", alpha=0.12, label="the loss falls")
        axes.axvline(found.lr, color="tab:green", label=f"suggested: {found.lr:.2g}")
    axes.axvline(report.recipe_lr, color="tab:orange", ls="--", label=f"the recipe's: {report.recipe_lr:.2g}")
    if sweep.diverged is not None:
        axes.axvline(sweep.diverged, color="tab:red", ls=":", label=f"diverged: {sweep.diverged:.2g}")
    axes.set(xlabel="learning rate", ylabel="loss", title=title)
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(file, dpi=120, format="png")


def describe_sweep(report: SweepReport, command: Sequence[str]) -> list[str]:
    """Lines for a person: what was found, and what to type: the words of ``command`` and the learning rate."""
    sweep, found, override = report.sweep, report.suggestion, report.override
    end = "never diverged" if sweep.diverged is None else f"diverged at {sweep.diverged:.2g}"
    if found is None or override is None:
        return [
            f"no suggestion: the loss did not fall by a tenth at any learning rate ({len(sweep.lrs)} steps, {end}"
            "); try --steps 200, other bounds (--low, --high), or look at the data with gfocal data check"
        ]
    lines = [
        f"the loss fell from {found.begin:.2g} to {found.end:.2g} and {end}",
        f"learning rate {found.lr:.2g} for {counted(report.images_per_step, 'picture')} per step; "
        f"the recipe's is {report.recipe_lr:.2g}",
    ]
    return [*lines, f"next: {shlex.join([*command, '--set', override])}"]
