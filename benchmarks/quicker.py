"""What each of three ways of training quicker on a CPU is worth: a training step with all of them, and without each.

    OMP_NUM_THREADS=1 python benchmarks/quicker.py

Each is measured in a process of its own, in turns: processor time of a step of 16 generated scenes (forward and
backward pass, assignment, losses, optimizer, averaged weights), fp32, channels last. Prints a table and writes
benchmarks/results/quicker.json.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
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
from gfocal.utils.allocation import kept_memory
from small import BATCH, step_of

RESULTS = Path(__file__).parent / "results" / "quicker.json"
RECIPES = ("gfl_nano", "nanodet_plus_m", "picodet_s")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=320, help="pixels")
    parser.add_argument("--steps", type=int, default=5, help="of a process, after two that do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "WITHOUT"), help="measure this in this process")
    options = parser.parse_args()
    if options.one:
        measure(*options.one, options.size, options.steps)
        return
    found: dict[str, dict[str, list[tuple[float, int]]]] = {}
    about = harness.machine()
    for _ in range(options.rounds):
        for recipe in RECIPES:
            for without in WITHOUT:
                words = [sys.executable, __file__, "--one", recipe, without, "--size", str(options.size)]
                done = subprocess.run([*words, "--steps", str(options.steps)], stdout=subprocess.PIPE, check=True)
                ms, faults = done.stdout.split()
                found.setdefault(recipe, {}).setdefault(without, []).append((float(ms), int(faults)))
    rows = {
        recipe: {
            without: {"ms": round(median(ms for ms, _ in own)), "page_faults": round(median(n for _, n in own))}
            for without, own in each.items()
        }
        for recipe, each in found.items()
    }
    print(f"| {options.size} pixels, {BATCH} pictures | " + " | ".join(WITHOUT) + " |")
    print("|---" * (1 + len(WITHOUT)) + "|")
    for recipe, each in rows.items():
        print(f"| `{recipe}` | " + " | ".join(f"{each[without]['ms']} ms" for without in WITHOUT) + " |")
    RESULTS.write_text(harness.dumps({"machine": about, "size": options.size, "rows": rows}), encoding="utf-8")


if __name__ == "__main__":
    main()
