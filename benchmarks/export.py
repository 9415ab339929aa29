"""Export to every format and prove each file; prints the tables of docs/export.md.

Every recipe:     OMP_NUM_THREADS=1 python benchmarks/export.py [--data PATH] [--samples N] [--recipes NAME ...]
                  [--formats onnx pt2 ...] [--into FILE]
Trained weights:  python benchmarks/export.py --trained MODEL --data PATH [--samples N] [--formats ...]
Speed:            taskset -c 1 python benchmarks/export.py --speed RECIPE --size 800x1344 [--rounds N] [--formats ...]
Start-up:         python benchmarks/export.py --startup FILE ... --data PICTURE [--python PATH] [--rounds N]

The recipes are untrained: their outputs are made larger until many places pass the threshold, in every class and at
every level. That is harder than trained weights: scores lie close together, and boxes overlap everywhere. For speed few
places pass, as of trained weights; all files take the same image in turns with the detector in fp32, on one thread.

Every row comes as soon as it is known. With ``--into FILE`` it also goes to the end of FILE, and rows that FILE has
already are not made again: a run that was cut goes on. Without ``--samples`` a small recipe is proved on 100 images,
a large one (ResNet, VGG) on 5. Of a file beyond the bar the row says how far it and the detector in fp32 are from the
detector in float64: a file that is no farther than the detector is not wrong, it rounds differently.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

import gfocal
from gfocal.commands.export.export import export_files
from gfocal.commands.export.images import LookedAt, generated_images, unlabelled_images
from gfocal.detector import DenseDetector
from gfocal.export import formats, onnx_file
from gfocal.export.formats import FORMATS, CalibrationImages, ExportOptions, write_detector
from gfocal.export.parity import compare
from gfocal.export.proof import Proof, prove
from gfocal.exported.contract import Precision
from gfocal.exported.open import SessionOptions, open_exported
from gfocal.images.io import pad_batch, read_image
from gfocal.models.protocols import KINDS, OutputKind
from gfocal.recipe import Recipe
from gfocal.recipe.reading import recipe_names
from gfocal.runs.checkpoint import CheckpointInfo

NAMES = [f"class {i}" for i in range(20)]
SPREAD: dict[OutputKind, tuple[float, float]] = {"class": (-4.0, 1.0), "box": (0.0, 1.0), "quality": (0.0, 1.0)}
"""Mean and standard deviation that the outputs get; the mean of the boxes stays as it is."""

VARIANTS = {
    "gfl_nano, GFL v2": ("gfl_nano", ("model.quality.kind=joint_v2",)),
    "gfl_r50, GFL v2": ("gfl_r50", ("model.quality.kind=joint_v2",)),
    "gfl_r50, deformable": ("gfl_r50", ("model.deformable=[3,4,5]",)),
}
"""Detectors that checkpoints of others hold and no recipe has: its recipe, and the keys that differ."""
LARGE = ("_r18", "_r50", "_vgg16")
"""What is in the names of recipes of networks that take seconds an image."""


@torch.no_grad()
def stirred(recipe: Recipe, image: Path, class_mean: float = SPREAD["class"][0]) -> DenseDetector:
    """A detector whose outputs differ from place to place, found through the head's own protocol."""
    torch.manual_seed(0)
    detector = gfocal.build_detector(recipe, NAMES, pretrained=False)
    picture = detector.resize(read_image(image))
    # Batch norms get the statistics of an image and its mirror, those of a head that all levels share of all of them:
    # through new ones signals of deep networks die out. Centred on 0 they would cut half of each channel, layer after
    # layer, and small differences would grow to a thousand times their size, as they do in no trained network.
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean of all calls
            module.bias.fill_(1.0)
    batch = pad_batch([picture, picture.flip(-1)])
    detector.train()(batch)
    detector.eval()
    for module in detector.modules():  # a channel that hardly varies would make rounding large
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.clamp_(min=0.1 * float(module.running_var.mean()))
    for step in ("spread", "again", "again", "mean"):
        out = detector(batch)
        for kind, values in zip(KINDS, (out.class_logits, out.box, out.quality_logits), strict=True):
            if values is None:
                continue
            mean, std = SPREAD[kind]
            mean = class_mean if kind == "class" else mean
            varies, size = values.std(1).mean(), values.square().mean().sqrt()
            for layer in detector.head.output_layers(kind):
                # Not without end: what hardly varies is mostly rounding. Deep towers without norms need it again.
                if step == "spread" or (step == "again" and varies < 0.2 * std):
                    layer.weight.mul_(std / (varies + 0.01 * size))
                elif step == "mean" and kind != "box":
                    layer.bias.add_(mean - values.mean((0, 1)))
    return detector


def made_once(function: Callable[..., Any], key: Callable[..., tuple[object, ...]]) -> Callable[..., Any]:
    """A function that remembers its last result, for as long as the key stays the same."""
    last: list[tuple[tuple[object, ...], Any]] = []

    def remembered(*given: Any) -> Any:
        if not last or last[0][0] != key(*given):
            last[:] = [(key(*given), function(*given))]
        return copy.deepcopy(last[0][1]) if isinstance(last[0][1], ModelProto) else last[0][1]

    return remembered


def share_conversion() -> None:
    """OpenVINO reads the graph as ONNX: let one trace and one conversion, of minutes, serve both formats."""
    formats.trace = made_once(formats.trace, lambda graph, *shape: (graph.detector, graph.best, *shape))
    onnx_file.converted = made_once(onnx_file.converted, lambda program, info: (program, info.opset))


def apart(detector: DenseDetector, exact: DenseDetector, file: Path, images: list[Path]) -> str:
    """How far a file and its detector are from the detector in float64: score, box and edge_std, "file / detector"."""
    runs = open_exported(file)
    found = [[use.predict(image, tile=0) for image in images] for use in (exact, runs, detector)]
    limits = runs.info.thresholds
    differences = [
        compare(found[0], other, threshold=limits.score_threshold, limit=limits.max_detections, rounding=1e-3)
        for other in found[1:]
    ]
    cells = []
    for name in ("score", "box", "edge_std"):
        own, other = (getattr(parity, name) for parity in differences)
        if own is not None:
            cells.append(f"{name} {own.largest:.1e} / {other.largest:.1e}")
    return ", ".join(cells)


def in_float64(detector: DenseDetector) -> DenseDetector:
    """A copy that computes so; logits of classes alone are rounded once, before the choice of candidates."""
    own = copy.deepcopy(detector).double()
    own.pixels.register_forward_hook(lambda module, given, pixels: pixels.double())
    return own


def print_startup(files: list[Path], picture: Path, python: str, rounds: int) -> None:
    """Seconds from the start of Python to the first boxes, in turns, each in a process of its own, on one thread."""
    code = "import sys, gfocal; gfocal.load(sys.argv[1]).predict(sys.argv[2]).boxes.tolist()"
    paths = [str(picture.resolve()), *(str(file.resolve()) for file in files)]
    ways = {"Python": [python, "-c", code], "gfocal predict": [python, "-m", "gfocal", "predict"]}
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {(file, way): [] for file in paths[1:] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):  # one untimed: files come into memory
            for file, way in seconds:
                begin, used = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
                subprocess.run(
                    [*ways[way], file, paths[0]],
                    check=True,
                    cwd=folder,
                    capture_output=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                now = time.perf_counter() - begin, sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used
                if turn:
                    seconds[file, way].append(now)
    print("| file | how | s to the first boxes, median (least to most) | s of the processor |\n|---|---|---|---|")
    for (file, way), took in seconds.items():
        wall, busy = zip(*took, strict=True)
        spread = f"{statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f})"
        print(f"| `{Path(file).name}` | {way} | {spread} | {statistics.median(busy):.2f} |")


def print_recipe(name: str, looked_at: LookedAt, folder: Path, formats: list[str], tell: Callable[[str], None]) -> None:
    """The rows of a recipe."""
    base, keys = VARIANTS.get(name, (name, ()))
    recipe = gfocal.load_recipe(base, keys)
    detector = stirred(recipe, looked_at.images[0])
    for format in sorted(formats):  # onnx and openvino share a conversion
        file = folder / f"{name}{FORMATS[format].suffix}"
        write_detector(detector, recipe, CheckpointInfo(recipe.to_dict(), NAMES), ExportOptions(format), file)
        proof = prove(detector, file, looked_at.images, data=looked_at.words)
        rounds = "" if proof.holds else apart(detector, in_float64(detector), file, looked_at.images)
        tell(row(name, format, proof, rounds))


def row(name: str, format: str, proof: Proof, rounds: str) -> str:
    std = "-" if proof.parity.edge_std is None else f"{proof.parity.edge_std.largest:.1e}"
    cells = [
        *(f"`{name}`", format, f"{proof.parity.images}", "yes" if proof.holds else "no"),
        *(f"{proof.parity.detections:,}", f"{proof.parity.unmatched}", f"{proof.parity.borderline}"),
        *(f"{proof.parity.score.largest:.1e}", f"{proof.parity.box.largest:.1e}", std),
        *(f"{proof.bytes / 2**20:.1f}", rounds),
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


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
        shown = generated_images(Path(folder), 3)
        recipe = gfocal.load_recipe(name)
        detector = stirred(recipe, shown.images[0], class_mean=-7.0)
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


def print_recipes(
    names: list[str], formats: list[str] | None, data: Path | None, samples: int | None, into: Path | None
) -> None:
    """Every recipe in every format, in fp32."""
    share_conversion()
    head = "| recipe | format | images | proved | detections | unmatched | at a threshold | score | box (px) "
    head += "| edge_std (px) | MB | from float64: file / detector |\n"
    head += "|---" * 12 + "|"
    done = "" if into is None or not into.exists() else into.read_text(encoding="utf-8")

    def tell(line: str) -> None:
        print(line, flush=True)
        if into is not None:
            with into.open("a", encoding="utf-8") as table:
                table.write(line + "\n")

    if not done:
        tell(head)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            large = any(part in name for part in LARGE)
            asked = formats or [f for f in FORMATS if f != "openvino" or not large or name == "gfl_r50"]
            left = [format for format in asked if f"| `{name}` | {format} |" not in done]
            if left:
                most = samples or (5 if large else 100)
                looked_at = generated_images(Path(folder), most) if data is None else unlabelled_images(data, most)
                print_recipe(name, looked_at, Path(folder), left, tell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="images; by default generated ones")
    parser.add_argument("--samples", type=int, help="images, at most; by default 100, or 5 of a large recipe")
    parser.add_argument("--into", type=Path, help="a table that is made, or gone on with")
    parser.add_argument("--recipes", nargs="+", default=[*(n for n in recipe_names() if n != "demo"), *VARIANTS])
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=list(FORMATS),
        help="by default all; of large recipes OpenVINO for gfl_r50 alone",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trained", metavar="MODEL", help="a run folder or checkpoint, measured on --data")
    which.add_argument("--speed", metavar="RECIPE", help="a recipe, timed at --size")
    which.add_argument("--startup", metavar="FILE", nargs="+", type=Path, help="exported files, timed on --data")
    parser.add_argument("--python", default=sys.executable, help="that starts; of an environment without torch, say")
    parser.add_argument("--size", default="320x320", help="height x width, multiples of 32")
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    if asked.trained:
        if asked.data is None:
            parser.error("--trained takes --data, a data set with labels")
        print_trained(asked.trained, asked.data, asked.samples or 100, asked.formats or list(FORMATS))
    elif asked.startup:
        if asked.data is None:
            parser.error("--startup takes --data, an image")
        print_startup(asked.startup, asked.data, asked.python, asked.rounds)
    elif asked.speed:
        height, width = map(int, asked.size.split("x"))
        print_speed(asked.speed, (height, width), asked.rounds, asked.formats or list(FORMATS))
    else:
        print_recipes(asked.recipes, asked.formats, asked.data, asked.samples, asked.into)


if __name__ == "__main__":
    main()
