"""Loss, learning rate and AP of a run over its epochs, from ``metrics.jsonl``; drawn with matplotlib."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.report.plot import UNDER_WORDS, plain_text
from gfocal.runs.metrics_log import METRICS
from gfocal.utils.files import write_atomically

CURVES = "curves.png"
_MOST = 400  # points of a line: means of that many parts of a long run
_NOT_LOSSES = ("loss", "lr", "grad_norm", "pictures_per_second", "kind", "step")
_TOTAL, _QUIET = "#1c1d1f", "#66696e"


@dataclass
class History:
    """What a run wrote so far.

    Attributes:
        steps: of each training step that was logged.
        train: its numbers by name.
        measured: of each evaluation (step, numbers by name).
        epochs: (step, epoch) of each epoch that ended.
    """

    steps: list[int] = field(default_factory=list)
    train: list[Mapping[str, Any]] = field(default_factory=list)
    measured: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    epochs: list[tuple[int, int]] = field(default_factory=list)


def read_history(folder: Path) -> History:
    """Every whole line of a run's metrics; lines that are cut off or of other kinds are passed over."""
    found = History()
    try:
        text = (folder / METRICS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    for line in text.splitlines():
        try:
            content = json.loads(line)
            kind, step = content["kind"], int(content["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if kind == "train":
            found.steps.append(step)
            found.train.append(content)
        elif kind == "val":
            found.measured.append((step, content))
        elif kind == "epoch" and isinstance(content.get("epoch"), int):
            found.epochs.append((step, content["epoch"]))
    return found


def draw_curves(folder: Path) -> Path | None:
    """Draw ``curves.png`` into a run folder.

    Returns:
        The file; None where nothing was logged yet.
    """
    history = read_history(folder)
    if not history.steps and not history.measured:
        return None
    file = folder / CURVES
    write_atomically(file, partial(curves_figure(history, folder.name).savefig, format="png", dpi=120))
    return file


def curves_figure(history: History, title: str) -> Any:
    """Losses and learning rate above each other, AP beside them.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    panels: Any = figure.subplot_mosaic([["losses", "accuracy"], ["rate", "accuracy"]], height_ratios=[3, 1])
    losses, rate, accuracy = panels["losses"], panels["rate"], panels["accuracy"]
    losses.sharex(rate)
    losses.tick_params(labelbottom=False)
    figure.suptitle(plain_text(title), fontsize=12)
    an_epoch, x_label = scale(history.epochs)
    _draw_losses(losses, rate, history, an_epoch)
    _draw_accuracy(accuracy, history, an_epoch)
    for panel in (losses, rate, accuracy):
        panel.grid(alpha=0.25)
        for edge in ("top", "right"):
            panel.spines[edge].set_visible(False)
    for panel in (rate, accuracy):
        panel.set_xlabel(x_label)
    return figure


def loss_names(history: History) -> list[str]:
    """The parts of the training loss, in the order in which they are logged."""
    return [name for line in history.train[:1] for name in line if name not in _NOT_LOSSES]


def scale(epochs: Sequence[tuple[int, int]]) -> tuple[float, str]:
    """Steps of one unit of the x axis, and its name: epochs, once one has ended."""
    step, epoch = epochs[-1] if epochs else (1, 0)
    return (step / epoch, "epoch") if epoch else (1.0, "step")


def _draw_losses(losses: Any, rate: Any, history: History, an_epoch: float) -> None:
    steps = np.array(history.steps, float) / an_epoch
    names = loss_names(history)
    for name in ("loss", *names):
        x, y = thinned(steps, [line.get(name) for line in history.train])
        if name == "loss":
            losses.plot(x, y, color=_TOTAL, linewidth=1.8, label="loss", zorder=3)
        elif len(names) > 1:
            losses.plot(x, y, linewidth=1, label=name)
    losses.set_ylabel("training loss")
    values = np.concatenate([line.get_ydata() for line in losses.lines])
    total = np.asarray(losses.lines[0].get_ydata())
    if np.isfinite(total).any():  # the first steps may be far above all others
        top = min(float(np.nanmax(values)), 4 * float(np.nanmedian(total)))
        losses.set_ylim(0, 1.05 * top if top > 0 else 1)
        losses.legend(frameon=False, fontsize=9)
    rate.plot(*thinned(steps, [line.get("lr") for line in history.train]), color=_QUIET, linewidth=1.2)
    rate.set_ylabel("lr")
    rate.set_ylim(bottom=0)


def _draw_accuracy(panel: Any, history: History, an_epoch: float) -> None:
    panel.set_ylabel("on the validation data")
    x = [step / an_epoch for step, _ in history.measured]
    shown = False
    for name, colour, width in (("AP", _TOTAL, 1.8), ("AP50", "#1f5fa9", 1.2), ("AP75", "#b0480e", 1.2)):
        y = [_number(content.get(name)) for _, content in history.measured]
        if any(map(math.isfinite, y)):
            shown = True
            panel.plot(x, y, color=colour, linewidth=width, marker="o", markersize=3.5, label=name)
            if name == "AP":
                best = int(np.nanargmax(y))
                panel.plot(x[best], y[best], "o", color=colour, markersize=9, fillstyle="none")
                place = {"xytext": (0, -16), "textcoords": "offset points", "ha": "right", "va": "top"}
                panel.annotate(f"best {y[best]:.3f}", (x[best], y[best]), **place, bbox=UNDER_WORDS)
    if shown:
        panel.set_xlim(left=0)
        panel.set_ylim(0, 1)
        panel.legend(frameon=False, fontsize=9, loc="lower right")
    else:
        panel.text(0.5, 0.5, "not measured yet", ha="center", va="center", transform=panel.transAxes)
        panel.set_axis_off()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def thinned(steps: np.ndarray, values: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Means of parts, so that the noise of single steps does not hide the course of a long run."""
    numbers = np.array([_number(value) for value in values], float)
    if len(steps) <= _MOST:
        return steps, numbers
    parts = np.array_split(np.arange(len(steps)), _MOST)
    means = [numbers[part][np.isfinite(numbers[part])] for part in parts]
    return np.array([steps[part].mean() for part in parts]), np.array([m.mean() if len(m) else math.nan for m in means])
