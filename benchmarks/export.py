"""Export every recipe to every format and prove each file; prints the table of docs/export.md.

Run: python benchmarks/export.py [--data PATH] [--samples N] [--recipes NAME ...] [--formats onnx pt2]

The recipes are untrained: their outputs are made larger until many places pass the threshold, in every class and at
every level. That is harder than trained weights: scores lie close together, and boxes overlap everywhere.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

import gfocal
from gfocal.commands.export import images_for_proof
from gfocal.detector import DenseDetector
from gfocal.export.formats import FORMATS, ExportOptions, write_detector
from gfocal.export.proof import Proof, prove
from gfocal.images.io import pad_batch, read_image
from gfocal.models.protocols import KINDS, OutputKind
from gfocal.recipe.reading import recipe_names
from gfocal.runs.checkpoint import CheckpointInfo

NAMES = [f"class {i}" for i in range(20)]
SPREAD: dict[OutputKind, tuple[float, float]] = {"class": (-4.0, 1.0), "box": (0.0, 1.0), "quality": (0.0, 1.0)}
"""Mean and standard deviation that the outputs get; the mean of the boxes stays as it is."""


@torch.no_grad()
def stirred(name: str, image: Path) -> DenseDetector:
    """A detector whose outputs differ from place to place, found through the head's own protocol."""
    torch.manual_seed(0)
    detector = gfocal.build_detector(gfocal.load_recipe(name), NAMES, pretrained=False)
    picture = detector.resize(read_image(image))
    # Batch norms get the statistics of an image and its mirror: through new ones signals of deep networks die out.
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    batch = pad_batch([picture, picture.flip(-1)])
    detector.train()(batch)
    detector.eval()
    for module in detector.modules():  # a channel that hardly varies would make rounding large
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.clamp_(min=0.1 * float(module.running_var.mean()))
    for step in ("spread", "mean"):
        out = detector(batch)
        for kind, values in zip(KINDS, (out.class_logits, out.box, out.quality_logits), strict=True):
            if values is None:
                continue
            mean, std = SPREAD[kind]
            varies, size = values.std(1).mean(), values.square().mean().sqrt()
            for layer in detector.head.output_layers(kind):
                if step == "spread":  # not without end: what hardly varies is mostly rounding
                    layer.weight.mul_(std / (varies + 0.01 * size))
                elif kind != "box":
                    layer.bias.add_(mean - values.mean((0, 1)))
    return detector


def exported(name: str, format: str, folder: Path, images: list[Path], words: str) -> Proof:
    recipe = gfocal.load_recipe(name)
    detector = stirred(name, images[0])
    file = folder / f"{name}{FORMATS[format].suffix}"
    info = CheckpointInfo(recipe.to_dict(), NAMES)
    write_detector(detector, recipe, info, ExportOptions(format), file)
    return prove(detector, file, images, data=words)


def row(name: str, format: str, proof: Proof) -> str:
    std = "-" if proof.parity.edge_std is None else f"{proof.parity.edge_std.largest:.1e}"
    cells = [
        *(f"`{name}`", format, "yes" if proof.holds else "NO: " + "; ".join(proof.beyond)),
        *(f"{proof.parity.detections:,}", f"{proof.parity.unmatched}", f"{proof.parity.borderline}"),
        *(f"{proof.parity.score.largest:.1e}", f"{proof.parity.box.largest:.1e}", std),
        f"{proof.bytes / 2**20:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="images; by default generated ones")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=[n for n in recipe_names() if n != "demo"])
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    asked = parser.parse_args()
    print(
        "| recipe | format | proved | detections | unmatched | at a threshold | score | box (px) | edge_std (px) | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        looked_at = images_for_proof(asked.data, Path(folder), asked.samples)
        for name in asked.recipes:
            for format in asked.formats:
                made = exported(name, format, Path(folder), looked_at.images, looked_at.words)
                print(row(name, format, made), flush=True)


if __name__ == "__main__":
    main()
