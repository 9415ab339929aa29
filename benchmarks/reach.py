"""What a reach that is too short costs: large objects, trained with reg_max 3 and with what `data stats` proposes.

    python benchmarks/reach.py --out runs/reach

The data are generated scenes of 64 x 64 pixels, six times enlarged, so that their objects are 50 to 190 pixels wide.
Both runs start from the same random values (but for the outputs, whose number differs) and are trained by the `gfocal`
command in the same way, one after the other, on one thread. Runs that are finished are not done again. Prints a
Markdown table and writes benchmarks/results/reach.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from gfocal.analysis.statistics import data_statistics
from gfocal.data.formats.open import open_dataset
from gfocal.data.scenes.generate import make_scenes
from gfocal.recipe import load_recipe
from gfocal.utils.records import to_json

RESULTS = Path(__file__).parent / "results" / "reach.json"
TIMES = 6
SETTINGS = ("data.resize.size=320", "model.boxes.reg_max=3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/reach"))
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--val", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    data = options.out / f"scenes-{options.train}-{options.val}"
    if not data.is_dir():
        make_large(data, options.train, options.val)
    found, _ = data_statistics(open_dataset(data, "train"), load_recipe("demo", SETTINGS))
    assert found.proposal is not None
    (option,) = [one for one in found.proposal.options if one.kind == "reach"]
    print(f"proposed: {option.typed}, which leaves {option.truncated_share:.3%} of a level's edges out", flush=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, changes in (("reg_max 3", ()), ("proposed", option.overrides)):
        rows[name] = [run(data, options, name, changes, seed) for seed in range(options.seeds)]
    content = {
        "settings": {key: value for key, value in vars(options).items() if key != "out"},
        "levels": to_json(found.levels),
        "proposal": option,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    report(rows)


def make_large(out: Path, train: int, val: int) -> None:
    """Scenes and their boxes, enlarged."""
    small = out.with_name(out.name + "-small")
    make_scenes(small, train=train, val=val, size=64)
    for folder in ("images", "annotations"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for file in sorted((small / "images").iterdir()):
        with Image.open(file) as image:
            image.resize((64 * TIMES,) * 2, Image.Resampling.BICUBIC).save(out / "images" / file.name, quality=92)
    for file in sorted((small / "annotations").iterdir()):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["width"] = image["height"] = 64 * TIMES
        content["annotations"] = [
            {
                **{key: one[key] for key in ("id", "image_id", "category_id", "iscrowd")},
                "bbox": [TIMES * value for value in one["bbox"]],
                "area": TIMES**2 * one["area"],
            }
            for one in content["annotations"]
        ]
        (out / "annotations" / file.name).write_text(json.dumps(content))


def run(data: Path, options: argparse.Namespace, name: str, changes: Any, seed: int) -> dict[str, Any]:
    """Train unless that is done; what came out."""
    out = options.out / f"{name.replace(' ', '_')}-{seed}"
    settings = [
        *SETTINGS,
        *changes,
        f"schedule.epochs={options.epochs}",
        f"schedule.eval_every={options.epochs}",
        "data.workers=0",
        "runtime.threads=1",
        f"runtime.seed={seed}",
    ]
    words = [sys.executable, "-m", "gfocal", "train", "demo", "--data", str(data), "--out", str(out)]
    words += [word for setting in settings for word in ("--set", setting)]
    lines = metrics(out)
    if not any(line["kind"] == "val" for line in lines):
        words += ["--resume"] if (out / "state.pt").is_file() else []
        print("+", shlex.join(words[2:]), flush=True)
        begin = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        print(f"{time.perf_counter() - begin:.0f} s", flush=True)
        lines = metrics(out)
    val = [line for line in lines if line["kind"] == "val"][-1]
    epoch = [line for line in lines if line["kind"] == "epoch"][-1]
    kept = {key: val[key] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    return {"set": settings, **kept, "truncated_share": epoch["truncated_share"]}


def metrics(out: Path) -> list[dict[str, Any]]:
    file = out / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def report(rows: dict[str, list[dict[str, Any]]]) -> None:
    print("\n| | edges out of reach | AP | AP50 | AP75 | AP medium | AP large |\n|---|---|---|---|---|---|---|")
    for name, runs in rows.items():
        cells = [" / ".join(f"{one['truncated_share']:.2%}" for one in runs)]
        cells += [" / ".join(f"{one[key]:.3f}" for one in runs) for key in ("AP", "AP50", "AP75", "APm", "APl")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
