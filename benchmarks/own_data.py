"""What a person gets on data of their own in a given time: each small detector, fine-tuned on five small real sets.

    python benchmarks/own_data.py --shared path/to/shared --weights path/to/imported --out runs/own --minutes 15

Five sets, in the manner of RF100-VL (Robicheaux and others, 2025): few images, classes of their own, the mean of AP
over all sets. ``bccd`` and ``coco_mini`` are below SHARED/data; ``animals``, ``vehicles`` and ``kitchen`` are made here
of ``coco_mini``'s images, with classes that no weights know by name ("farm animal" for horse, sheep and cow). A fifth
of the training images chooses the epoch; AP is of the set's val split, which nothing chooses on. ``--weights`` holds
the folders of `gfocal import`, named as in ROWS; ``auto`` takes what GFOCAL_HOME has. Runs that are finished are not
done again. Writes benchmarks/results/own_data.json and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "own_data.json"

ROWS: dict[str, tuple[str, str | None, list[str]]] = {
    "gfl_nano": ("gfl_nano", "nanodet_m", []),
    "nanodet_plus_m": ("nanodet_plus_m", "nanodet_plus_m_416", []),
    "picodet_s": ("picodet_s", "picodet_s_320", []),
    "auto": ("auto", None, []),
}
"""Title -> (recipe, folder of its first weights, other options of `gfocal train`)."""

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "animals": {
        "flying animal": ("bird",),
        "pet": ("cat", "dog"),
        "farm animal": ("horse", "sheep", "cow"),
        "wild animal": ("elephant", "bear", "zebra", "giraffe"),
    },
    "vehicles": {
        "two-wheeler": ("bicycle", "motorcycle"),
        "passenger car": ("car",),
        "large vehicle": ("bus", "train", "truck"),
        "craft": ("boat", "airplane"),
    },
    "kitchen": {
        "vessel": ("bottle", "wine glass", "cup", "bowl"),
        "cutlery": ("fork", "knife", "spoon"),
        "food": ("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),
        "appliance": ("microwave", "oven", "toaster", "sink", "refrigerator"),
    },
}
SETS = ("bccd", "coco_mini", *GROUPS)


def subset(source: Path, groups: dict[str, tuple[str, ...]], out: Path) -> Path:
    """Those images that show a class of a group, with the groups as classes."""
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((source / "images").resolve())
    for split in ("train", "val"):
        content = json.loads((source / "annotations" / f"{split}.json").read_text())
        group = {old: number for number, olds in enumerate(groups.values(), 1) for old in olds}
        number_of = {own["id"]: group[own["name"]] for own in content["categories"] if own["name"] in group}
        kept = [
            {**own, "category_id": number_of[own["category_id"]]}
            for own in content["annotations"]
            if own["category_id"] in number_of
        ]
        shown = {own["image_id"] for own in kept}
        result = {
            "images": [own for own in content["images"] if own["id"] in shown],
            "annotations": kept,
            "categories": [{"id": number, "name": name} for number, name in enumerate(groups, 1)],
        }
        (out / "annotations" / f"{split}.json").write_text(json.dumps(result))
    return out


def gfocal(*words: str) -> str:
    """Standard output of a verb."""
    print("+ gfocal", *words, flush=True)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([sys.executable, "-m", "gfocal", *words], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"gfocal {words[0]} ended with {done.returncode}")
    return done.stdout


def measured(row: str, data: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """AP of a row on a set's val split, trained unless that is done."""
    out = options.out / f"{data.name}-{row}-{options.minutes:g}min-seed{seed}"
    file = out / "own_data.json"
    if not file.exists():
        recipe, weights, more = ROWS[row]
        init = [] if weights is None else ["--init", str(options.weights / weights)]
        words = ["--data", str(data), "--val", "0.2", "--seed", str(seed), "--out", str(out)]
        if (out / "state.pt").exists():
            words.append("--resume")
        gfocal("train", recipe, *words, "--minutes", f"{options.minutes:g}", "--no-plots", *init, *more)
        found = json.loads(gfocal("eval", str(out), "--data", str(data), "--split", "val", "--json"))
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        trained = [line for line in lines if line["kind"] == "val"]
        numbers = {key: found[key] for key in ("AP", "AP50", "AP75")}
        file.write_text(json.dumps({**numbers, "AP_of_choosing": max(line["AP"] for line in trained)}, indent=1))
    return json.loads(file.read_text())


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Rows by sets, means over seeds; "-" where something is not measured."""
    lines = [f"| row | {' | '.join(SETS)} | mean |", "|---" * (2 + len(SETS)) + "|"]
    for row, sets in results.items():
        means = [mean([run["AP"] for run in sets[name]]) if name in sets else None for name in SETS]
        whole = mean([value for value in means if value is not None]) if None not in means else None
        cells = ["-" if value is None else f"{value:.3f}" for value in (*means, whole)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="has data/bccd and data/coco_mini")
    parser.add_argument("--weights", type=Path, required=True, help="has the imported weights")
    parser.add_argument("--out", type=Path, default=Path("runs/own"))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    results: dict[str, dict[str, list[dict[str, Any]]]] = {row: {} for row in options.rows}
    for name in options.sets:
        data = options.shared / "data" / name
        if name in GROUPS:
            data = subset(options.shared / "data" / "coco_mini", GROUPS[name], options.out / "sets" / name)
        for row in options.rows:
            results[row][name] = [measured(row, data, seed, options) for seed in range(options.seeds)]
            print(table(results), flush=True)
    if (options.rows, options.sets) == (list(ROWS), list(SETS)):
        RESULTS.write_text(json.dumps({"minutes": options.minutes, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
