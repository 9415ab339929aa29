"""Export to every format and prove each file; prints the tables of docs/export.md.

Every recipe:     python benchmarks/export.py [--data PATH] [--samples N] [--recipes NAME ...] [--formats onnx pt2 ...]
Trained weights:  python benchmarks/export.py --trained MODEL --data PATH [--samples N] [--formats ...]
Speed:            taskset -c 1 python benchmarks/export.py --speed RECIPE --size 800x1344 [--rounds N] [--formats ...]

The recipes are untrained: their outputs are made larger until many places pass the threshold, in every class and at
every level. That is harder than trained weights: scores lie close together, and boxes overlap everywhere. For speed few
places pass, as of trained weights; all files take the same image in turns with the detector in fp32, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gfocal
from gfocal.commands.export import export_files, images_for_proof
from gfocal.detector import DenseDetector
from gfocal.export.formats import FORMATS, CalibrationImages, ExportOptions, write_detector
from gfocal.export.proof import Proof, prove
from gfocal.exported.contract import Precision
from gfocal.exported.open import SessionOptions, open_exported
from gfocal.images.io import pad_batch, read_image
from gfocal.models.protocols import KINDS, OutputKind
from gfocal.recipe.reading import recipe_names
from gfocal.runs.checkpoint import CheckpointInfo

NAMES = [f"class {i}" for i in range(20)]
SPREAD: dict[OutputKind, tuple[float, float]] = {"class": (-4.0, 1.0), "box": (0.0, 1.0), "quality": (0.0, 1.0)}
"""Mean and standard deviation that the outputs get; the mean of the boxes stays as it is."""


@torch.no_grad()
def stirred(name: str, image: Path, class_mean: float = SPREAD["class"][0]) -> DenseDetector:
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
            mean = class_mean if kind == "class" else mean
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


def variants(formats: list[str]) -> Iterator[tuple[str, Precision]]:
    """Every format in every precision that is more than a smaller file: OpenVINO computes fp16 as fp32 on a CPU."""
    for format in formats:
        for precision in FORMATS[format].precisions:
            if precision != "fp16":
                yield format, precision


def print_trained(model: str, data: Path, samples: int, formats: list[str]) -> None:
    """AP and edge coverage of a trained model, and of each of its files."""
    print(
        "| format | precision | proved | MB | AP | AP of the detector | edges in the 90 % interval | of the detector |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for format, precision in variants(formats):
            out = Path(folder) / f"{format}-{precision}{FORMATS[format].suffix}"
            report = export_files(
                model, out=out, format=format, precision=precision, data=data, samples=samples, allow_drift=True
            )
            proof = report.proof
            assert proof.ap is not None, "the data have no labels of its classes"
            edges = ("-", "-")
            if proof.edges is not None:
                edges = (f"{proof.edges.exported.covered:.1%}", f"{proof.edges.detector.covered:.1%}")
            cells = [format, precision, "yes" if proof.holds else "NO", f"{proof.bytes / 2**20:.1f}"]
            cells += [f"{proof.ap.exported:.4f}", f"{proof.ap.detector:.4f}", *edges]
            print(f"| {' | '.join(cells)} |", flush=True)


def print_speed(name: str, size: tuple[int, int], rounds: int, formats: list[str]) -> None:
    """Medians of a run from uint8 pixels to detections, and how many times as fast as the detector each file is."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shown = images_for_proof(None, Path(folder), 3)
        detector = stirred(name, shown.images[0], class_mean=-7.0)
        recipe = gfocal.load_recipe(name)
        images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        sizes = np.array([size], np.int64)
        batch, whole = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(sizes)
        runs: dict[str, Callable[[], object]] = {"detector, fp32": lambda: detector.detect(batch, whole)}
        for format, precision in variants(formats):
            file = Path(folder) / f"{precision}{FORMATS[format].suffix}"
            calibration = CalibrationImages(shown.images, shown.words) if precision == "int8" else None
            about = CheckpointInfo(recipe.to_dict(), NAMES)
            write_detector(detector, recipe, about, ExportOptions(format, precision), file, calibration)
            session = open_exported(file, SessionOptions(threads=1)).session
            runs[f"{format}, {precision}"] = lambda session=session: session.run(images, sizes)  # type: ignore[misc]
        spent: dict[str, list[float]] = {which: [] for which in runs}
        with torch.inference_mode():
            for turn in range(rounds + 2):  # two untimed: memory and kernels are chosen
                for which, run in runs.items():
                    begin = time.perf_counter()
                    run()
                    if turn > 1:
                        spent[which].append(1000 * (time.perf_counter() - begin))
    medians = {which: statistics.median(times) for which, times in spent.items()}
    print(f"`{name}`, {size[0]} x {size[1]}, one thread, {rounds} rounds in turns\n")
    print("| what | ms, median | times as fast |\n|---|---|---|")
    for which, median in medians.items():
        print(f"| {which} | {median:.1f} | {medians['detector, fp32'] / median:.2f} |")


def print_recipes(names: list[str], formats: list[str], data: Path | None, samples: int) -> None:
    """Every recipe in every format, in fp32."""
    print(
        "| recipe | format | proved | detections | unmatched | at a threshold | score | box (px) | edge_std (px) | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        looked_at = images_for_proof(data, Path(folder), samples)
        for name in names:
            for format in formats:
                made = exported(name, format, Path(folder), looked_at.images, looked_at.words)
                print(row(name, format, made), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="images; by default generated ones")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=[n for n in recipe_names() if n != "demo"])
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trained", metavar="MODEL", help="a run folder or checkpoint, measured on --data")
    which.add_argument("--speed", metavar="RECIPE", help="a recipe, timed at --size")
    parser.add_argument("--size", default="320x320", help="height x width, multiples of 32")
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    if asked.trained:
        if asked.data is None:
            parser.error("--trained takes --data, a data set with labels")
        print_trained(asked.trained, asked.data, asked.samples, asked.formats)
    elif asked.speed:
        height, width = map(int, asked.size.split("x"))
        print_speed(asked.speed, (height, width), asked.rounds, asked.formats)
    else:
        print_recipes(asked.recipes, asked.formats, asked.data, asked.samples)


if __name__ == "__main__":
    main()
