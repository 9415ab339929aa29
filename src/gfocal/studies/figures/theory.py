"""Figures without data or trained models: representations of an edge, Quality Focal Loss, use of a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from gfocal.losses import focal_loss, quality_focal_loss
from gfocal.report.plot import bare
from gfocal.representation import GeneralBoxes

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#222222",
)
BETAS = (0.0, 1.0, 2.0, 2.5, 4.0)
_NEAR, _FAR = 4.6, 7.6  # strides: where the object of the example may end, before and after its shadow
_REG_MAX = 12


def example_edge() -> tuple[np.ndarray, float, float]:
    """(n + 1,) probabilities of an edge with two likely positions; their mean and standard deviation in strides.

    The probabilities are those that :class:`~gfocal.representation.GeneralBoxes` reads from logits.
    """
    bins = torch.arange(_REG_MAX + 1, dtype=torch.float64)
    bumps = [0.62 * torch.exp(-(((bins - _NEAR) / 0.75) ** 2) / 2), 0.38 * torch.exp(-(((bins - _FAR) / 0.9) ** 2) / 2)]
    logits = (sum(bumps) + 1e-4).log()  # type: ignore[union-attr]
    probs = GeneralBoxes(_REG_MAX).edge_probs(logits.repeat(4)[None])[0, 0]
    mean = float(probs @ bins)
    return probs.numpy(), mean, float(((bins - mean) ** 2 @ probs).sqrt())


def representations_figure() -> Figure:
    """Dirac, Gaussian and General: what each of them can say about one edge that is not clear."""
    probs, mean, std = example_edge()
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    figure.suptitle(
        "Three representations of one edge: the box is the same, what is known about it is not", fontsize=13
    )
    panels = figure.subplots(2, 3, sharex=True, height_ratios=[1, 3.2])
    for panel in panels[0]:
        _image_row(panel)
    panels[0, 0].set_ylabel("picture", rotation=0, ha="right", va="center")
    dirac, gaussian, general = panels[1]
    dirac.annotate("", (mean, 1.0), (mean, 0), arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 2.5})
    at = np.linspace(0, _REG_MAX, 400)
    density = np.exp(-(((at - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))
    gaussian.fill_between(at, density, color=BLUE, alpha=0.35, linewidth=0)
    gaussian.plot(at, density, color=BLUE, linewidth=1.8)
    general.bar(np.arange(_REG_MAX + 1), probs, width=0.86, color=BLUE)
    titles = (
        "Dirac: one number\nnothing tells that the edge is unclear",
        "Gaussian: a mean and a variance\nunsure, but always with one peak",
        f"General: a softmax over {_REG_MAX + 1} bins\nany shape; here two likely places",
    )
    for panel, title in zip(panels[1], titles, strict=True):
        panel.set_title(title, fontsize=11)
        panel.axvline(mean, color=RED, linewidth=1.3, linestyle="--")
        panel.set_ylim(0, 1.08 if panel is dirac else 0.36)
        panel.set_xlim(-0.6, _REG_MAX + 0.6)
        panel.set_xticks(range(0, _REG_MAX + 1, 2))
        panel.set_xlabel("distance from the point in strides")
        bare(panel)
    dirac.set_yticks([])
    for panel, name in ((dirac, "all of the probability"), (gaussian, "density"), (general, "probability of a bin")):
        panel.set_ylabel(name)
    general.annotate(
        "the box: their mean",
        (mean, 0.31),
        (mean + 1.2, 0.31),
        color=RED,
        va="center",
        arrowprops={"arrowstyle": "-", "color": RED},
    )
    return figure


def _image_row(panel: Any) -> None:
    """An object that ends in a shadow: it ends at one of two places, and nobody can tell at which."""
    at = np.linspace(-0.6, _REG_MAX + 0.6, 800)
    steps = [1 / (1 + np.exp(-(at - place) / 0.18)) for place in (_NEAR, _FAR)]
    grey = 0.25 + 0.33 * steps[0] + 0.34 * steps[1]
    panel.imshow(np.tile(grey, (2, 1)), extent=(at[0], at[-1], 0, 1), cmap="gray", vmin=0, vmax=1, aspect="auto")
    panel.plot(0, 0.5, "o", color=SKY, markersize=7, markeredgecolor="white")
    panel.text(0.45, 0.5, "point", color=SKY, fontsize=8.5, va="center")
    panel.text(2.9, 0.5, "object", color="white", fontsize=8.5, va="center", ha="center")
    panel.text((_NEAR + _FAR) / 2, 0.5, "shadow?", color="white", fontsize=8.5, ha="center", va="center")
    panel.text((_FAR + _REG_MAX) / 2 + 0.4, 0.5, "background", color=BLACK, fontsize=8.5, ha="center", va="center")
    panel.set_yticks([])
    panel.tick_params(bottom=False)


def qfl_figure() -> Figure:
    """Quality Focal Loss over the score: for several beta, and for several targets with focal loss beside them."""
    score = torch.linspace(0.002, 0.998, 499, dtype=torch.float64)
    logits = score.logit()
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle("Quality Focal Loss is least where the score is the quality", fontsize=13)
    by_beta, by_target = figure.subplots(1, 2)
    for beta, colour in zip(BETAS, (BLACK, SKY, RED, PURPLE, BLUE), strict=True):
        loss = quality_focal_loss(logits, torch.full_like(logits, 0.5), beta=beta)
        note = " (binary cross-entropy)" if beta == 0 else " (the paper's choice)" if beta == 2 else ""
        by_beta.plot(score, loss, color=colour, linewidth=2.6 if beta == 2 else 1.6, label=f"β = {beta:g}{note}")
    by_beta.set_title("A larger β spares what is nearly right (quality y = 0.5)", fontsize=11)
    by_beta.set_ylim(0, 1.5)
    by_beta.legend(frameon=False, loc="upper center")
    for target, colour in ((0.0, BLUE), (0.5, RED), (0.8, GREEN), (1.0, ORANGE)):
        loss = quality_focal_loss(logits, torch.full_like(logits, target), beta=2.0)
        by_target.plot(score, loss, color=colour, linewidth=2, label=f"QFL, y = {target:g}")
        by_target.plot(target, 0, "o", color=colour, clip_on=False, zorder=5)
    for target in (0.0, 1.0):
        loss = focal_loss(logits, torch.full_like(logits, target), alpha=None, gamma=2.0)
        label = "focal loss, which has no other y" if target else None
        by_target.plot(score, loss, color=BLACK, linewidth=1.6, linestyle=(0, (2, 3)), label=label)
    by_target.set_title("Focal loss is the same for y = 0 and y = 1 (β = γ = 2)", fontsize=11)
    by_target.set_ylim(0, 2)
    by_target.legend(frameon=False, loc="upper center")
    for panel in (by_beta, by_target):
        panel.set_xlim(0, 1)
        panel.set_xlabel("score σ")
        panel.set_ylabel("loss")
        bare(panel)
    return figure


def score_schematic() -> Figure:
    """What a separate quality branch risks and a joint score does not; drawn numbers, no detector."""
    generator = np.random.default_rng(5)
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    figure.suptitle(
        "A schematic with invented numbers, no detector: give trained runs (--model) for real ones", fontsize=11
    )
    separate, joint = figure.subplots(1, 2, sharex=True, sharey=True)
    objects = np.clip(generator.normal(0.62, 0.19, (160, 2)), 0.03, 0.98)
    background = np.stack([generator.beta(1.2, 9, 260), generator.beta(1.6, 1.4, 260)], 1)
    separate.scatter(*background.T, s=16, color=ORANGE, alpha=0.75, linewidth=0, label="background")
    separate.scatter(*objects.T, s=16, color=BLUE, alpha=0.75, linewidth=0, label="on an object")
    separate.set_title(
        "Separate: classes and quality are learnt apart,\nmultiplied when objects are found", fontsize=11
    )
    separate.annotate(
        "the branch never learnt background:\nhere its quality can be anything",
        (0.13, 0.9),
        (0.33, 1.09),
        fontsize=9.5,
        va="center",
        arrowprops={"arrowstyle": "->", "color": BLACK},
    )
    for values, colour in ((generator.beta(1.2, 16, 260), ORANGE), (objects.mean(1), BLUE)):
        joint.scatter(values, values, s=16, color=colour, alpha=0.75, linewidth=0)
    joint.set_title("Joint: one number is class and quality at once,\nlearnt on background too (as 0)", fontsize=11)
    for panel in (separate, joint):
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.16)
        panel.set_yticks(np.linspace(0, 1, 6))
        panel.set_xlabel("classification score")
        bare(panel)
    separate.set_ylabel("predicted quality")
    separate.legend(frameon=True, framealpha=1, loc="lower right")
    return figure
