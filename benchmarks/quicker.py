"""What each of three ways of training quicker on a CPU is worth: a training step with all of them, and without each.

    OMP_NUM_THREADS=1 python benchmarks/quicker.py

Each is measured in a process of its own, in turns: processor time of a step of 16 generated scenes (forward and
backward pass, assignment, losses, optimizer, averaged weights), fp32, channels last; and what is behind it: single
operations, and the network alone in evaluation. Prints a table and writes benchmarks/results/quicker.json.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torchvision.models.shufflenetv2 import channel_shuffle

import harness
from gfocal.data.formats.open import open_dataset
from gfocal.data.scenes.generate import make_scenes
from gfocal.models.backbones import shufflenet
from gfocal.models.depthwise import WideDepthwise
from gfocal.recipe import load_recipe
from gfocal.runtime.layout import in_layout
from gfocal.utils.allocation import kept_memory
from gfocal.zoo import build_detector
from small import BATCH, step_of

RESULTS = Path(__file__).parent / "results" / "quicker.json"
RECIPES = ("gfl_nano", "nanodet_plus_m", "picodet_s")
EVALUATION = "evaluation "
WITHOUT = ("none", "shuffle", "memory", "columns")
"""What is left out: nothing; the shuffle in the maps' layout, for torchvision's; kept memory; gradients by columns."""


def measure(recipe: str, without: str, size: int, steps: int) -> None:
    """Print milliseconds of a step, and its page faults."""
    torch.set_num_threads(1)
    if without == "shuffle":
        shufflenet.F = _TorchvisionsShuffle()  # type: ignore[assignment]
    if without == "columns":
        WideDepthwise.forward = nn.Conv2d.forward  # type: ignore[method-assign]
    taken = []
    with tempfile.TemporaryDirectory() as folder, nullcontext() if without == "memory" else kept_memory():
        make_scenes(Path(folder), train=BATCH, val=1, size=320)
        overrides = ["model.assigner.static_epochs=0"] if recipe == "nanodet_plus_m" else []
        step = step_of(recipe, overrides, size, open_dataset(Path(folder), "train"))
        for _ in range(2):
            step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(steps):
            begin = time.process_time()
            step()
            taken.append(1000 * (time.process_time() - begin))
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // steps
    print(median(taken), faults)


class _TorchvisionsShuffle:
    """Stands in for ``torch.nn.functional`` where a unit shuffles."""

    def channel_shuffle(self, maps: Tensor, groups: int) -> Tensor:
        return channel_shuffle(maps, groups)


def milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Processor time, the median."""
    work()
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - begin))
    return round(median(taken), 2)


def operations() -> dict[str, float]:
    """Milliseconds of what the three avoid beside what they do instead, on maps of 40 x 40, batches of 16."""
    last = torch.channels_last
    maps = torch.randn(BATCH, 116, 40, 40).contiguous(memory_format=last)
    found = {}
    for name, grad in (("along memory", torch.randn_like(maps)), ("across memory", torch.randn(maps.shape))):
        slope = partial(torch.ops.aten.leaky_relu_backward, grad, maps, 0.1, True)
        found[f"gradient of a leaky ReLU, {name}"] = milliseconds(slope)
    maps = torch.randn(BATCH, 192, 40, 40).contiguous(memory_format=last)
    for kernel in ((5, 5), (5, 3)):
        weight = torch.randn(192, 1, *kernel).contiguous(memory_format=last)
        padding = [side // 2 for side in kernel]
        back = partial(torch.ops.aten.convolution_backward, maps, maps, weight, None, [1, 1], padding, [1, 1])
        name = f"gradient of depthwise weights, {kernel[0]} x {kernel[1]}"
        found[name] = milliseconds(partial(back, False, [0, 0], 192, [False, True, False]))
    for name, forward in (("torch's", nn.Conv2d.forward), ("by columns", WideDepthwise.forward)):
        layer, entering = WideDepthwise(192, 5).to(memory_format=last), maps.clone().requires_grad_()
        out = forward(layer, entering)
        back = partial(torch.autograd.grad, out, [entering, layer.weight], maps, retain_graph=True)
        found[f"backward pass of a depthwise 5 x 5 layer, {name}"] = milliseconds(back)
    return found


def evaluation(recipe: str, without: str) -> None:
    """Print milliseconds of an image in evaluation, the network alone, and page faults of a batch of 16."""
    torch.set_num_threads(1)
    detector = in_layout(build_detector(load_recipe(recipe), [str(n) for n in range(80)], pretrained=False), True)
    images = torch.zeros(BATCH, 3, 320, 320, dtype=torch.uint8)
    with nullcontext() if without == "memory" else kept_memory(), torch.no_grad():
        work = partial(detector.eval().raw, images)
        work()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        taken = milliseconds(work, 11)
        print(taken / BATCH, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=320, help="pixels")
    parser.add_argument("--steps", type=int, default=5, help="of a process, after two that do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "WITHOUT"), help="measure this in this process")
    options = parser.parse_args()
    if options.one:
        recipe, without = options.one
        if recipe.startswith(EVALUATION):
            evaluation(recipe.removeprefix(EVALUATION), without)
        else:
            measure(recipe, without, options.size, options.steps)
        return
    torch.set_num_threads(1)
    with kept_memory():
        parts = operations()
    found: dict[str, dict[str, list[tuple[float, int]]]] = {}
    about = harness.machine()
    for _ in range(options.rounds):
        for recipe in (*RECIPES, *(EVALUATION + recipe for recipe in RECIPES)):
            for without in ("none", "memory") if recipe.startswith(EVALUATION) else WITHOUT:
                words = [sys.executable, __file__, "--one", recipe, without, "--size", str(options.size)]
                done = subprocess.run([*words, "--steps", str(options.steps)], stdout=subprocess.PIPE, check=True)
                ms, faults = done.stdout.split()
                found.setdefault(recipe, {}).setdefault(without, []).append((float(ms), int(faults)))
    rows = {
        recipe: {
            without: {"ms": round(median(ms for ms, _ in own), 1), "page_faults": round(median(n for _, n in own))}
            for without, own in each.items()
        }
        for recipe, each in found.items()
    }
    print(f"| {options.size} pixels, {BATCH} pictures | " + " | ".join(WITHOUT) + " |")
    print("|---" * (1 + len(WITHOUT)) + "|")
    for recipe, each in rows.items():
        print(
            f"| `{recipe}` | " + " | ".join(f"{each[own]['ms']} ms" if own in each else "-" for own in WITHOUT) + " |"
        )
    for name, taken in parts.items():
        print(f"{name}: {taken} ms")
    content = {"machine": about, "size": options.size, "rows": rows, "operations_ms": parts}
    RESULTS.write_text(harness.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
