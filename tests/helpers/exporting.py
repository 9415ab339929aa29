"""Small detectors to export, and files of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from gfocal.detector import DenseDetector
from gfocal.export.formats import FORMATS, ExportOptions, write_detector
from gfocal.exported.contract import ExportInfo
from gfocal.images.io import pad_batch, resize_to
from gfocal.models.protocols import KINDS
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import CheckpointInfo, save_detector
from gfocal.zoo import build_detector
from helpers.small_runs import TINY, small

NAMES = ("cat", "dog", "bird")
SQUARE = (*TINY, "data.resize.size=64")


@torch.no_grad()
def stirred(recipe: Recipe, names: tuple[str, ...] = NAMES, seed: int = 0, *, calm: bool = False) -> DenseDetector:
    """An untrained detector that finds something everywhere: outputs of about one threshold's size, all different.

    Those of deep networks depend on rounding: batch norms that are centred on 0 cut half of each channel, layer after
    layer, and small differences grow to a thousand times their size. ``calm`` ones are centred on 1, and do not.
    """
    torch.manual_seed(seed)
    detector = build_detector(recipe, names, pretrained=False)
    # Rough and smooth: statistics of one kind would let the other saturate every score.
    noise = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((64, 96), (64, 96), (8, 12), (5, 7))]
    batch = pad_batch([resize_to(image, (64, 96)) for image in noise])
    # Statistics of 0 and 1 would hide an export that forgets them, and signals of deep networks die out.
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None if calm else 1.0  # the mean of all calls: levels share the norms of a head
            module.bias.fill_(float(calm))
    detector.train()(batch)
    detector.eval()
    for module in detector.modules():  # a channel that hardly varies would make rounding large
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.clamp_(min=0.1 * float(module.running_var.mean()))
    out = detector(batch)
    for kind, values in zip(KINDS, (out.class_logits, out.box, out.quality_logits), strict=True):
        for layer in detector.head.output_layers(kind) if values is not None else ():
            layer.weight.mul_(1.0 / values.std(1).mean().clamp(min=1e-6))
            if kind == "class":
                layer.bias.add_(1.5)
    return detector


def written(
    folder: Path, detector: DenseDetector, recipe: Recipe, options: ExportOptions | None = None
) -> tuple[Path, ExportInfo]:
    """An exported file of a detector."""
    options = options or ExportOptions()
    file = folder / f"model{FORMATS[options.format].suffix}"
    about = CheckpointInfo(recipe.to_dict(), list(detector.names), [7, 9, 11][: len(detector.names)], {"metric": 1})
    return file, write_detector(detector, recipe, about, options, file)


def checkpoint(folder: Path, *overrides: str) -> Path:
    """A checkpoint file of a stirred small detector."""
    recipe = small(*SQUARE, *overrides)
    detector = stirred(recipe)
    file = folder / "tiny.safetensors"
    save_detector(file, detector.state_dict(), recipe, NAMES, category_ids=[7, 9, 11])
    return file


small_square = partial(small, *SQUARE)
