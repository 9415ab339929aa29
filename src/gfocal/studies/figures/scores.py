"""What the scores of trained detectors are made of and what they are worth, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torchvision.ops import box_iou

from gfocal.detector import DenseDetector
from gfocal.evaluation import spearman
from gfocal.images.io import pad_batch
from gfocal.report.plot import bare
from gfocal.studies.figures.data import Source
from gfocal.studies.figures.theory import BLUE, ORANGE

IMAGES = 100
"""Predicted on, at most."""
OBJECT_IOU, BACKGROUND_IOU = 0.5, 0.1
_EACH = 12  # points of each kind that are drawn of an image


@dataclass(frozen=True)
class Trained:
    """A detector and how it is called in a figure."""

    detector: DenseDetector
    title: str


@dataclass(frozen=True)
class Scored:
    """N points of a detector, on objects or on background.

    Attributes:
        classification: (N,) score of the best class.
        quality: (N,) what the detector multiplies it with; the score itself where it has nothing else.
        score: (N,) final score.
        iou: (N,) of the decoded box and the object that it overlaps most.
    """

    classification: np.ndarray
    quality: np.ndarray
    score: np.ndarray
    iou: np.ndarray

    @property
    def on_object(self) -> np.ndarray:
        """(N,) bool."""
        return self.iou >= OBJECT_IOU


@torch.no_grad()
def scored_points(detector: DenseDetector, source: Source, *, images: int = IMAGES) -> Scored:
    """Points drawn by chance: as many whose box lies on an object as whose box lies on background, of each image."""
    generator = np.random.default_rng(0)
    kept: list[np.ndarray] = []
    branch = bool(detector.quality.quality_channels)
    for i in range(min(images, len(source.index))):
        image = source.image(i)
        resized = detector.resize(image)
        batch = pad_batch([resized], fill=detector.resize.fill).to(detector.device)
        out, points = detector.raw(batch)[0], detector.points(*batch.shape[-2:])
        classification = detector.quality.class_logits(out).sigmoid().amax(-1)
        score = detector.quality.scores(classification, out)
        quality = score / classification.clamp(min=1e-12) if branch else score
        factor = torch.tensor([resized.shape[-1] / image.shape[-1], resized.shape[-2] / image.shape[-2]] * 2)
        truth = (source.index.targets(i).boxes * factor).to(out.box.device)
        overlap = box_iou(detector.box_coder.decode(points, out.box), truth)
        iou = overlap.nan_to_num().amax(1) if len(truth) else score.new_zeros(len(score))
        rows = torch.stack((classification, quality, score, iou), 1).cpu().double().numpy()
        for mine in (np.flatnonzero(rows[:, 3] >= OBJECT_IOU), np.flatnonzero(rows[:, 3] < BACKGROUND_IOU)):
            kept.append(rows[generator.permutation(mine)[:_EACH]])
    return Scored(*np.concatenate(kept).T)


def score_figure(trained: Sequence[Trained], source: Source) -> Figure:
    """Score against predicted quality, and against the true one, of points on objects and on background."""
    count = len(trained)
    figure = Figure(figsize=(1.5 + 4.6 * count, 9), layout="constrained")
    figure.suptitle(f"What the score is made of, and what it is worth\n{source.title}", fontsize=12)
    panels = figure.subplots(2, count, squeeze=False, sharex=True, sharey="row")
    for column, one in enumerate(trained):
        found = scored_points(one.detector, source)
        parts, worth = panels[:, column]
        branch = bool(one.detector.quality.quality_channels)
        _scatter(parts, found, found.classification, found.quality)
        use = "a branch that never learnt background" if branch else "one number: class and quality at once"
        parts.set_title(f"{one.title}\n{use}", fontsize=11)
        parts.set_xlabel("classification score")
        _scatter(worth, found, found.score, found.iou)
        mine = found.on_object
        rank = spearman(found.score[mine], found.iou[mine])
        rank_text = "" if rank is None else f"\nrank correlation on objects {rank:.2f}"
        product = "classification x quality" if branch else "the same score"
        worth.set_title(f"final score ({product}) against the truth{rank_text}", fontsize=11)
        worth.set_xlabel("final score")
    panels[0, 0].set_ylabel("predicted quality")
    panels[1, 0].set_ylabel("IoU of the box with its object")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, markerscale=2)
    return figure


def _scatter(panel: Any, found: Scored, x: np.ndarray, y: np.ndarray) -> None:
    mine = found.on_object
    names = f"background (IoU below {BACKGROUND_IOU})", f"on an object (IoU at least {OBJECT_IOU})"
    for which, colour, name in zip((~mine, mine), (ORANGE, BLUE), names, strict=True):
        panel.scatter(x[which], y[which], s=9, color=colour, alpha=0.5, linewidth=0, label=name, rasterized=True)
    panel.set_xlim(-0.01, 1)
    panel.set_ylim(-0.01, 1)
    bare(panel)
