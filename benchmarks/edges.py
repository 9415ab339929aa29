"""Does ``edge_std`` follow the true ambiguity of edges? Gaussian, General and General + DFL on generated scenes.

    python benchmarks/edges.py --out runs/edges --jobs 2 --threads 1
    python benchmarks/edges.py --out runs/edges-hard --hard --jobs 2 --threads 1

Each is trained by the `gfocal` command as `gfocal demo` trains, on the same 2,000 scenes from random values, and
measured on 500 others. Runs that are finished are not done again. Prints a Markdown table and writes
benchmarks/results/edges.json. Scenes know how ambiguous each edge was drawn, mostly 1 to 3 pixels. Bins of a stride
(8 pixels and more) are too coarse for that, since a distribution over bins is never narrower than the distance to its
two neighbours; so General has the bins of the recipe gfl_nano_fine, four a stride; General + DFL has both.
Sharp edges all tie, which is why there is a ceiling below 1 (gfocal/evaluation/uncertainty.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.scenes.generate import make_scenes
from gfocal.evaluation import spearman
from gfocal.recipe import load_recipe

RESULTS = Path(__file__).parent / "results" / "edges.json"
BINS = load_recipe("gfl_nano_fine").model.boxes
FINE = [f"model.boxes.delta={BINS.delta}", f"model.boxes.reg_max={BINS.reg_max}"]
ROWS: dict[str, list[str]] = {
    "general_dfl": ["model.boxes.kind=general_dfl", *FINE],
    "gaussian": ["model.boxes.kind=gaussian"],
    "general": ["model.boxes.kind=general", *FINE],
    "general_dfl, bins of a stride": ["model.boxes.kind=general_dfl"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/edges"))
    parser.add_argument(
        "--hard", action="store_true", help="hard scenes of 512 pixels: ambiguities up to 12 % of the side"
    )
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    scenes = options.out / "scenes"
    if not (scenes / "annotations" / "val.json").is_file():
        size, style = (512, "hard") if options.hard else (256, "plain")
        make_scenes(scenes, train=options.train, val=options.val, size=size, style=style)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(ROWS, pool.map(lambda title: run(title, scenes, options), ROWS), strict=True))
    report(results)
    print_perfect(open_dataset(scenes, "val"))
    results_file = RESULTS.with_name("edges_hard.json") if options.hard else RESULTS
    results_file.write_text(json.dumps(results, indent=1) + "\n")


def print_perfect(index: DataIndex) -> None:
    """What a detector would reach that has learnt DFL's optimum for every edge, for bins of several widths.

    Its distribution is that of the labels, each spread over the two bins beside it: the label y between two bins, at f
    of the way, adds f (1 - f) squared bin widths to the variance.
    """
    assert index.edge_ambiguity is not None
    ambiguity, size, random = index.edge_ambiguity, np.sqrt(index.area), np.random.default_rng(0)
    third = np.searchsorted(np.quantile(size, (1 / 3, 2 / 3)), size)
    spread = random.normal(size=400)
    spread = spread[np.abs(spread) < 2]  # as the generator truncates it
    print("\n| bins of | all edges | not sharp |\n|---|---|---|")
    for width in (8, 4, 2, 1):
        labels = random.uniform(0, width, ambiguity.shape)[..., None] + ambiguity[..., None] * spread
        f = np.mod(labels / width, 1)
        std = np.sqrt(labels.var(-1) + (f * (1 - f)).mean(-1) * width**2)
        means = []
        for some in (np.ones_like(ambiguity, bool), ambiguity > 0):
            masks = [some & (third == k)[:, None] for k in range(3)]
            means.append(np.mean([spearman(std[mask], ambiguity[mask]) for mask in masks]))
        print(f"| {width} pixels | {means[0]:.2f} | {means[1]:.2f} |")


def run(title: str, scenes: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train unless that is done, and measure."""
    out = options.out / title.replace(", ", "-").replace(" ", "_")
    if not (out / "best.safetensors").is_file():
        words = ["train", "demo", "--data", str(scenes), "--out", str(out), *(["--resume"] if out.exists() else [])]
        changes = [*ROWS[title], f"schedule.epochs={options.epochs}", f"schedule.eval_every={options.epochs}"]
        changes.append(f"runtime.threads={options.threads}")
        if options.hard:
            changes.append("data.resize.size=512")
        gfocal(*words, *(word for change in changes for word in ("--set", change)))
    measured: dict[str, Any] = json.loads(gfocal("eval", str(out), "--data", str(scenes), "--json"))
    return {"AP": measured["AP"], **measured["edge_uncertainty"]}


def gfocal(*words: str) -> str:
    print("+ gfocal", " ".join(words), flush=True)
    done = subprocess.run([sys.executable, "-m", "gfocal", *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def report(results: dict[str, dict[str, Any]]) -> None:
    """The table: rank correlations over all edges, and over those that are not sharp; thirds by size; levels."""
    print("\n| boxes | AP | edges | mean of thirds | small | medium | large | level 0 | 1 | 2 | all | ceiling |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for boxes, result in results.items():
        for kind, key in (("all", ""), ("not sharp", "uncertain_")):
            thirds = [size[f"{key}correlation"] for size in result["sizes"]]
            levels = {level["level"]: level[f"{key}correlation"] for level in result["levels"]}
            overall = result["overall"]
            cells = [result[f"{key}mean_over_sizes"], *thirds, *(levels.get(i) for i in range(3))]
            cells += [overall[f"{key}correlation"], overall["ceiling"] if not key else 1.0]
            shown = " | ".join("-" if cell is None else f"{cell:.2f}" for cell in cells)
            print(f"| {boxes} | {result['AP']:.3f} | {kind} | {shown} |")


if __name__ == "__main__":
    main()
