"""How it learnt: losses, learning rate, AP over the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gfocal.report.numbers import NONE, points
from gfocal.report.plot import HERE, INK, PAPER, QUIET, plain_text
from gfocal.run_report.blocks import Block, Figure, Figures, Section, Table, Words
from gfocal.run_report.charts import COLOURS, DASHES, chart, finished, legend, sampled
from gfocal.runs.curves import History, loss_names, scale, thinned
from gfocal.utils.text import counted

_BARE = "This is a file of weights without its run folder: how it was trained is not known here."
_NOTHING = "The run folder has no metrics.jsonl that can be read: how the training went is not known here."


def training_section(history: History | None, calls: Sequence[Mapping[str, Any]]) -> Section:
    """Of a run; ``history`` is None for weights without one."""
    return Section("training", "Training", [*_calls(calls), *_blocks(history)])


def _blocks(history: History | None) -> list[Block]:
    if history is None:
        return [Words(_BARE)]
    if not history.steps and not history.measured:
        return [Words(_NOTHING)]
    an_epoch, unit = scale(history.epochs)
    figures = [*_losses(history, an_epoch, unit), *_accuracy(history, an_epoch, unit)]
    blocks: list[Block] = [Figures(figures)]
    if not history.measured:
        blocks.append(Words("AP was never measured during this training."))
    return blocks


def _calls(calls: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What became of each call of the run, as its card says."""
    if not calls:
        return []
    last = calls[-1]
    steps = last.get("steps")
    reached = steps[-1] if isinstance(steps, list) and steps else None
    done = f" after {counted(reached, 'step')}" if isinstance(reached, int) else ""
    words = f"Begun {_when(calls[0].get('started'))}"
    words += f", {counted(len(calls), 'call')} in all" if len(calls) > 1 else ""
    ended = f" ({_when(last['ended'])})" if last.get("ended") else ""
    return [Words(f"{words}. The last call: {last.get('outcome', 'not known')}{done}{ended}.")]


def _when(stamp: object) -> str:
    return str(stamp or "at an unknown time").replace("T", " ").replace("+00:00", " UTC")


def _losses(history: History, an_epoch: float, unit: str) -> list[Figure]:
    if not history.steps:
        return []
    steps = np.array(history.steps, float) / an_epoch
    names = loss_names(history)
    drawing, panel = chart(unit, "training loss")
    for number, name in enumerate(names):
        line = {"color": COLOURS[number % 5], "linestyle": DASHES[number % 5], "linewidth": 1.3}
        panel.plot(*thinned(steps, [each.get(name) for each in history.train]), label=plain_text(name), **line)
    x, total = thinned(steps, [each.get("loss") for each in history.train])
    panel.plot(x, total, color=INK, linewidth=1.9, label="all together")
    if np.isfinite(total).any():  # the first steps may be far above all others
        top = min(float(np.nanmax(total)), 4 * float(np.nanmedian(total)))
        panel.set_ylim(0, 1.05 * top if top > 0 else 1)
    legend(panel, loc="upper right")
    rows = sampled(len(history.steps))
    columns = [unit, "all together", *names, "learning rate"]
    keys = ["loss", *names, "lr"]
    table = Table(columns, [[f"{steps[i]:.2f}", *(_number(history.train[i].get(key)) for key in keys)] for i in rows])
    caption = "The training loss and its parts; it should fall, and flatten at the end."
    rate, panel = chart(unit, "learning rate")
    panel.plot(*thinned(steps, [each.get("lr") for each in history.train]), color=HERE, linewidth=1.6)
    panel.set_ylim(bottom=0)
    rates = Table([unit, "learning rate"], [[row[0], row[-1]] for row in table.rows])
    return [
        finished(drawing, "Loss", caption, table),
        finished(rate, "Learning rate", "How large the steps were.", rates),
    ]


def _accuracy(history: History, an_epoch: float, unit: str) -> list[Figure]:
    known = [(step / an_epoch, each) for step, each in history.measured if math.isfinite(_value(each.get("AP")))]
    if not known:
        return []
    drawing, panel = chart(unit, "on the validation data")
    x = [step for step, _ in known]
    for name, colour, dash in (("AP50", PAPER, "--"), ("AP75", QUIET, "-."), ("AP", HERE, "-")):
        y = [100 * _value(each.get(name)) for _, each in known]
        panel.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=3.5, linewidth=1.6, label=name)
    values = [_value(each.get("AP")) for _, each in known]
    best = int(np.argmax(values))
    panel.plot(x[best], 100 * values[best], "o", color=HERE, markersize=10, fillstyle="none")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    legend(panel, loc="lower right")
    caption = f"The best was {points(values[best])} at {unit} {x[best]:.3g}: these weights are kept as best."
    rows = [
        [f"{step:.2f}", *(points(_share(each.get(name))) for name in ("AP", "AP50", "AP75"))] for step, each in known
    ]
    return [finished(drawing, "AP on the way", caption, Table([unit, "AP", "AP50", "AP75"], rows))]


def _value(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else NONE
