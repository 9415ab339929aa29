"""What a person gets on data of their own in a given time: each small detector, fine-tuned on five small real sets.

    python benchmarks/own_data.py --shared path/to/shared --weights path/to/imported --plan      # on an idle machine
    python benchmarks/own_data.py --shared path/to/shared --weights path/to/imported --jobs 2

Five sets, in the manner of RF100-VL (Robicheaux and others, 2025): few images, classes of their own, the mean of AP
over all sets. ``bccd`` and ``coco_mini`` are below SHARED/data; ``animals``, ``vehicles`` and ``kitchen`` are made here
of ``coco_mini``'s images, with classes that no weights know by name ("farm animal" for horse, sheep and cow). A fifth
of the training images chooses the epoch; AP is of the set's val split, which nothing chooses on. ``--weights`` holds
the folders of `gfocal import`, named as in ROWS; ``auto`` takes what GFOCAL_HOME has.

So that a measurement takes days beside other work, and not a machine for itself, the time is turned into epochs first:
``--plan`` measures the pace of each row by `gfocal train`, asks ``auto`` for its recipes, and writes how many epochs
--minutes of this machine are, at most MOST. Runs then take as long as they take, ``--jobs`` beside each other with a
thread each. A row that benchmarks/results/own_data.json has is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.recipe import build_recipe, load_recipe

RESULTS = Path(__file__).parent / "results" / "own_data.json"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        recipe: that is trained; "auto": what `gfocal train auto` chooses for each set.
        weights: folder below --weights that it starts from; None: auto says it.
        settings: recipe keys that differ.
    """

    recipe: str
    weights: str | None
    settings: tuple[str, ...] = ()


_ATSS = "model.assigner={kind: atss, top_k: 9}"
ROWS = {
    "gfl_nano": Row("gfl_nano", "nanodet_m"),
    "nanodet_plus_m": Row("nanodet_plus_m", "nanodet_plus_m_416"),
    "picodet_s": Row("picodet_s", "picodet_s_320"),
    "nanodet_plus_m, ATSS": Row("nanodet_plus_m", "nanodet_plus_m_416", (_ATSS,)),
    "nanodet_plus_m, ATSS, 416": Row("nanodet_plus_m", "nanodet_plus_m_416", (_ATSS, "data.resize.size=416")),
    "auto": Row("auto", None),
}
MOST = 60
"""Epochs at most, as many as the recipes have: more only repeats so few images."""
SHARE = 0.85  # of the time in which steps are taken; validation, reading and saving take the rest

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
    done = subprocess.run([sys.executable, "-m", "gfocal", *words], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"gfocal {words[0]} ended with {done.returncode}")
    return done.stdout


def settings_of(row: Row) -> list[str]:
    return [word for setting in row.settings for word in ("--set", setting)]


def init_of(row: Row, weights: Path) -> list[str]:
    return [] if row.weights is None else [f"--init={weights / row.weights}"]


def pace_of(recipe: str, data: Path, out: Path, size: int | None = None) -> float:
    """Images a second of `gfocal train`: three epochs without an evaluation."""
    words = [] if size is None else ["--size", str(size)]
    words += ["--set", "schedule.epochs=3", "--set", "schedule.eval_every=100", "--no-plots", "--json"]
    found = json.loads(gfocal("train", recipe, "--data", str(data), "--out", str(out), *words))
    return float(found["pictures_per_second"])


def choice_of_auto(data: Path, file: Path, minutes: float) -> tuple[str, list[str]]:
    """The recipe that auto begins with, and the words of its first weights; ``file`` gets the recipe of its choice."""
    text = gfocal("train", "auto", "--data", str(data), "--minutes", f"{minutes:g}", "--dry-run")
    file.write_text(text)
    return text.split()[1], [own.replace(" ", "=") for own in re.findall(r"--init \S+", text)[-1:]]


def plan(sets: dict[str, Path], options: argparse.Namespace) -> None:
    """Recipes of auto and epochs of all rows, into OUT/plan.json."""
    paces = {name: float(number) for name, number in (own.split("=") for own in options.pace)}
    planned: dict[str, dict[str, dict[str, Any]]] = {title: {} for title in options.rows}
    for title, (name, data) in itertools.product(options.rows, sets.items()):
        row = ROWS[title]
        base, recipe, init = row.recipe, row.recipe, init_of(row, options.weights)
        if base == "auto":
            recipe = str(options.out / f"auto-{name}.yaml")
            base, init = choice_of_auto(data, Path(recipe), options.minutes)
        if base not in paces:
            with tempfile.TemporaryDirectory() as folder:
                paces[base] = pace_of(base, sets["bccd"], Path(folder, base))
        size = build_recipe(load_recipe(recipe).to_dict(), row.settings).data.resize.size
        pace = paces[base] * (load_recipe(base).data.resize.size / size) ** 2
        images = round(0.8 * len(json.loads((data / "annotations" / "train.json").read_text())["images"]))
        epochs = min(MOST, int(60 * SHARE * options.minutes * pace / images))
        planned[title][name] = {"recipe": recipe, "init": init, "epochs": epochs, "size": size}
        print(title, name, planned[title][name], flush=True)
    (options.out / "plan.json").write_text(json.dumps({"pace": paces, "rows": planned}, indent=1) + "\n")


def measured(title: str, data: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """AP of a row on a set's val split, trained unless that is done."""
    planned = json.loads((options.out / "plan.json").read_text())["rows"][title][data.name]
    out = options.out / f"{data.name}-{re.sub(r'[^a-z0-9_]+', '-', title.lower())}-seed{seed}"
    file = out / "own_data.json"
    if not file.exists():
        words = ["--data", str(data), "--val", "0.2", "--seed", str(seed), "--out", str(out), "--no-plots"]
        words += [*planned["init"], *settings_of(ROWS[title]), "--set", "schedule.minutes=null"]
        words += ["--set", f"schedule.epochs={planned['epochs']}"]
        if options.jobs > 1:
            words += ["--set", "runtime.threads=1", "--set", "data.workers=1"]
        if (out / "state.pt").exists():
            words.append("--resume")
        gfocal("train", planned["recipe"], *words)
        # Its file: "--split val" is what the run set apart to choose on.
        held_out = data / "annotations" / "val.json"
        found, last = (
            json.loads(gfocal("eval", str(out / name), "--data", str(held_out), "--json"))
            for name in ("best.safetensors", "last.safetensors")
        )
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        trained = [line for line in lines if line["kind"] == "val"]
        numbers = {key: round(found[key], 4) for key in ("AP", "AP50", "AP75")}
        best = max(trained, key=lambda line: line["AP"])
        chosen = {"epoch": best["epoch"], "of": planned["epochs"], "AP_of_choosing": round(best["AP"], 4)}
        content = {**numbers, "AP_of_last": round(last["AP"], 4), **chosen, "seed": seed}
        file.write_text(json.dumps(content, indent=1))
    return dict(json.loads(file.read_text()))


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Rows by sets, means over seeds; "-" where something is not measured."""
    lines = [f"| row | {' | '.join(SETS)} | mean |", "|---" * (2 + len(SETS)) + "|"]
    for row, sets in results.items():
        means = [mean([run["AP"] for run in sets[name]]) if sets.get(name) else None for name in SETS]
        whole = mean([value for value in means if value is not None]) if None not in means else None
        cells = ["-" if value is None else f"{value:.3f}" for value in (*means, whole)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(sets: dict[str, Path], options: argparse.Namespace) -> None:
    """All that is wanted and not measured yet, into RESULTS as it ends."""
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"minutes": options.minutes, "rows": {}}
    if content["minutes"] != options.minutes:
        sys.exit(f"{RESULTS} is of {content['minutes']:g} minutes: keep it elsewhere first")
    rows = content["rows"]
    lock = threading.Lock()

    def run(seed: int, name: str, title: str) -> None:
        with lock:
            known = rows.setdefault(title, {}).setdefault(name, [])
            if any(own["seed"] == seed for own in known):
                return
        found = measured(title, sets[name], seed, options)
        with lock:
            known.append(found)
            RESULTS.write_text(json.dumps(content, indent=1) + "\n")
            print(table(rows), flush=True)

    wanted = [(seed, name, title) for seed in range(options.seeds) for name in options.sets for title in options.rows]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(run, *own) for own in wanted]:
            done.result()


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="has data/bccd and data/coco_mini")
    parser.add_argument("--weights", type=Path, required=True, help="has the imported weights")
    parser.add_argument("--out", type=Path, default=Path("runs/own"))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--plan", action="store_true", help="measure the pace and write the plan, no more")
    parser.add_argument("--pace", nargs="*", default=[], help="RECIPE=pictures a second, known instead of measured")
    parser.add_argument("--jobs", type=int, default=1, help="runs beside each other")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sets = {name: options.shared / "data" / name for name in options.sets}
    for name in sets.keys() & GROUPS.keys():
        sets[name] = subset(options.shared / "data" / "coco_mini", GROUPS[name], options.out / "sets" / name)
    if options.plan:
        plan(sets, options)
    else:
        measure(sets, options)


if __name__ == "__main__":
    main()
