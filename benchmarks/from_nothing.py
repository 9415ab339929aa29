"""Small detectors from random values on generated scenes, each as many epochs as the same time holds.

    python benchmarks/from_nothing.py --out runs/from_nothing --plan          # on an idle machine
    python benchmarks/from_nothing.py --out runs/from_nothing --jobs 2        # then this takes as long as it takes

``--plan`` measures the pace of each recipe by `gfocal train`, in turns, and writes how many epochs --minutes of this
machine are. Runs then go ``--jobs`` beside each other with a thread each; AP is of the last weights on scenes that
nothing was chosen by. A run that benchmarks/results/from_nothing.json has is not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from gfocal.data.scenes.generate import make_scenes
from own_data import SHARE, gfocal, mean, pace_of

RESULTS = Path(__file__).parent / "results" / "from_nothing.json"


def plan(data: Path, options: argparse.Namespace) -> None:
    """Epochs of each recipe, into OUT/plan.json."""
    known = {name: float(number) for name, number in (own.split("=") for own in options.pace)}
    paces: dict[str, list[float]] = {name: [known[name]] if name in known else [] for name in options.recipes}
    for _ in range(options.rounds):
        for name in options.recipes:
            if name not in known:
                with tempfile.TemporaryDirectory() as folder:
                    paces[name].append(pace_of(name, data, Path(folder, name), size=options.size))
    seconds = 60 * SHARE * options.minutes
    rows = {
        name: {"pace": median(own), "epochs": max(1, round(seconds * median(own) / options.train))}
        for name, own in paces.items()
    }
    content = {"minutes": options.minutes, "train": options.train, "size": options.size, "rows": rows}
    (options.out / "plan.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


def measured(name: str, seed: int, epochs: int, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """AP after a run of its last weights."""
    out = options.out / f"{name}-seed{seed}"
    words = ["--data", str(data), "--seed", str(seed), "--out", str(out), "--size", str(options.size), "--no-plots"]
    words += ["--set", f"schedule.epochs={epochs}", "--set", f"schedule.eval_every={epochs}"]
    if options.jobs > 1:
        words += ["--set", "runtime.threads=1", "--set", "data.workers=1"]
    if (out / "state.pt").exists():
        words.append("--resume")
    gfocal("train", name, *words)
    found = json.loads(gfocal("eval", str(out / "last.safetensors"), "--data", str(data), "--json"))
    return {"seed": seed, "epochs": epochs, **{key: round(found[key], 4) for key in ("AP", "AP50", "AP75")}}


def measure(data: Path, options: argparse.Namespace) -> None:
    """All runs that are not there yet, into RESULTS as they end."""
    planned = json.loads((options.out / "plan.json").read_text())
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {**planned, "runs": {}}
    runs, lock = content["runs"], threading.Lock()

    def run(seed: int, name: str) -> None:
        if any(own["seed"] == seed for own in runs.get(name, [])):
            return
        found = measured(name, seed, planned["rows"][name]["epochs"], data, options)
        with lock:
            runs.setdefault(name, []).append(found)
            RESULTS.write_text(json.dumps(content, indent=1) + "\n")
            print(table(content), flush=True)

    wanted = [(seed, name) for seed in range(options.seeds) for name in options.recipes]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(run, *own) for own in wanted]:
            done.result()


def table(content: dict[str, Any]) -> str:
    """A line for each recipe."""
    lines = ["| recipe | pictures/s | epochs | AP of each seed | mean |", "|---|---|---|---|---|"]
    for name, runs in content["runs"].items():
        row, found = content["rows"][name], [run["AP"] for run in sorted(runs, key=lambda run: run["seed"])]
        listed = ", ".join(f"{value:.3f}" for value in found)
        lines.append(f"| `{name}` | {row['pace']:.1f} | {row['epochs']} | {listed} | {mean(found):.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/from_nothing"))
    parser.add_argument("--recipes", nargs="+", default=["gfl_nano", "nanodet_plus_m"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--train", type=int, default=2000, help="scenes to learn from")
    parser.add_argument("--val", type=int, default=500, help="scenes to measure on")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--plan", action="store_true", help="measure the pace and write the plan, no more")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring the pace")
    parser.add_argument("--pace", nargs="*", default=[], help="RECIPE=pictures a second, known instead of measured")
    parser.add_argument("--jobs", type=int, default=1, help="runs beside each other")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.out / "scenes"
    make_scenes(data, train=options.train, val=options.val, size=options.size)
    if options.plan:
        plan(data, options)
    else:
        measure(data, options)


if __name__ == "__main__":
    main()
