"""Every row on one small data set, each trained by the `gfocal` command from the same backbone and neck.

    python benchmarks/rows.py --data path/to/bccd --init path/to/nanodet --out runs/rows --jobs 2

``--init`` is what `gfocal import nanodet_m.ckpt` wrote: backbone and neck come from there, every head starts from
random values. Runs that are finished are not done again, so the script goes on where it was cut off. At the end it
prints a Markdown table and writes benchmarks/results/rows.json. One seed a row: differences below a point of AP mean
little (the spread over seeds of one row is printed by --seeds 3).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "rows.json"
QUALITIES = ("none", "centerness", "iou", "centerness_guided", "iou_guided", "joint")
BOXES = ("dirac", "gaussian", "general", "general_dfl")


def rows() -> dict[str, tuple[str, list[str]]]:
    """Title -> (recipe, overrides); the rows of the paper's tables on the small pyramid."""
    found: dict[str, tuple[str, list[str]]] = {}
    for detector in ("fcos", "atss", "gfl", "retinanet", "foveabox", "ssd"):
        found[detector] = (f"{detector}_nano", [])
    for detector in ("fcos", "atss"):
        for quality in QUALITIES:
            if quality != "centerness":  # the default
                found[f"{detector}, {quality}"] = (f"{detector}_nano", [f"model.quality.kind={quality}"])
    for detector in ("retinanet", "foveabox", "ssd"):
        found[f"{detector}, joint"] = (f"{detector}_nano", ["model.quality.kind=joint"])
    found["atss, dirac distances"] = ("atss_nano", ["model.boxes.code=distances"])
    for boxes in BOXES[1:]:
        found[f"atss, {boxes}"] = ("atss_nano", [f"model.boxes.kind={boxes}"])
    found["atss, general_dfl, joint_v2"] = (
        "atss_nano",
        ["model.boxes.kind=general_dfl", "model.quality.kind=joint_v2"],
    )
    return found


def folder(out: Path, title: str, seed: int) -> Path:
    return out / f"{title.replace(', ', '-').replace(' ', '_')}-{seed}"


def train(title: str, seed: int, options: argparse.Namespace) -> str | None:
    """Train a row unless it is done; the error if it fails."""
    recipe, changes = rows()[title]
    out = folder(options.out, title, seed)
    if finished(out) is not None:
        return None
    words = [sys.executable, "-m", "gfocal", "train", recipe, "--data", str(options.data), "--out", str(out)]
    if out.exists():
        words.append("--resume")
    elif options.init is not None:
        words += ["--init", str(options.init), "--init-parts", "backbone,neck"]
    settings = [
        *changes,
        f"schedule.epochs={options.epochs}",
        f"schedule.eval_every={options.epochs}",
        "schedule.ema=0.99",
        "data.workers=1",
        f"runtime.threads={options.threads}",
        f"runtime.seed={seed}",
    ]
    for setting in settings:
        words += ["--set", setting]
    print("+", " ".join(words[2:]), flush=True)
    done = subprocess.run(words, capture_output=True, text=True)
    return None if done.returncode == 0 else f"{title}: {done.stderr.strip().splitlines()[-1]}"


def finished(out: Path) -> dict[str, float] | None:
    """The last evaluation of a run that reached its end."""
    file = out / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    evaluations = [line for line in lines if line["kind"] == "val"]
    return evaluations[-1] if evaluations else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/rows"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="titles; by default all")
    options = parser.parse_args()
    titles = options.only or list(rows())
    work = [(title, seed, options) for seed in range(options.seeds) for title in titles]
    with ThreadPoolExecutor(options.jobs) as pool:
        failures = [error for error in pool.map(lambda job: train(*job), work) if error]
    results = {}
    for title in titles:
        runs = [r for seed in range(options.seeds) if (r := finished(folder(options.out, title, seed))) is not None]
        results[title] = [{k: r[k] for k in ("AP", "AP50", "AP75", "score_iou_correlation")} for r in runs]
    report(results)
    if not options.only:
        RESULTS.write_text(json.dumps({"epochs": options.epochs, "rows": results}, indent=1) + "\n")
    if failures:
        sys.exit("\n".join(failures))


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """The table on standard output: means over seeds, with the range where there are several."""
    print("\n| row | AP | AP50 | AP75 | score and IoU |\n|---|---|---|---|---|")
    for title, runs in results.items():
        if runs:
            columns = [[run[key] for run in runs] for key in runs[0]]
            print(f"| {title} | {' | '.join(map(cell, columns))} |")


def cell(values: list[float]) -> str:
    """The mean, and the range where there are several."""
    mean = f"{sum(values) / len(values):.3f}"
    return f"{mean} ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
