"""Small objects on large images: whole images against tiles, in training and in prediction.

    python benchmarks/tiles.py --init path/to/nanodet --out runs/tiles

Images of 1024 pixels show a generated scene with objects of 65 to 490 pixels; scenes of 96 pixels, with objects of 8
to 46, are pasted where none of these lies; all shapes are one class. ``gfl_nano`` at 320 pixels learns from both in as
many steps: from whole images, and from tiles of 320. ``--init`` is what `gfocal import nanodet_m.ckpt` wrote. What is
finished is not done again. Writes benchmarks/results/tiles.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gfocal.commands.evaluate import evaluate_files
from gfocal.data.formats.open import open_dataset
from gfocal.data.pipeline import images_per_epoch, in_tiles
from gfocal.data.scenes.generate import draw_indexed
from gfocal.models import tiled_prediction as tiles
from gfocal.recipe import load_recipe
from gfocal.utils.records import to_json

RESULTS = Path(__file__).parent / "results" / "tiles.json"
SIDE, PATCH, PATCHES = 1024, 96, 8
SPLITS = {"train": 75, "val": 30}
TILE = ["--set", "data.tile=320"]
RUNS = {"plain": [], "tiled": TILE}
LOOKS = {
    "whole pictures": ["data.tile=null"],
    "tiles": ["data.tile=320"],
    "tiles, suppression alone": ["data.tile=320"],
    "tiles without the whole picture": ["data.tile=320", "data.tile_whole=false"],
}
# Of a tiled run an epoch is longer: as many steps, and a cosine over all of them.
STEPS, BATCH = 160, 16


def place(taken: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Where a patch covers none of the boxes (N, 4), 8 pixels apart; None if it is not found."""
    for x, y in rng.integers(0, SIDE - PATCH, (200, 2)).tolist():
        patch = np.array([x - 8, y - 8, x + PATCH + 8, y + PATCH + 8])
        if not ((taken[:, :2] < patch[2:]) & (taken[:, 2:] > patch[:2])).all(1).any():
            return x, y
    return None


def draw(split: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(1024, 1024, 3) image and (N, 4) xyxy of its objects."""
    rng = np.random.default_rng([7, split, number])
    scene = draw_indexed(SIDE, 0, split, number)
    image, boxes, taken = scene.image.copy(), [scene.boxes], [*scene.boxes]
    for patch in range(PATCHES):
        small = draw_indexed(PATCH, 1 + patch, split, number)
        if (corner := place(np.array(taken).reshape(-1, 4), rng)) is None:
            continue
        x, y = corner
        image[y : y + PATCH, x : x + PATCH] = small.image
        boxes.append(small.boxes + np.array([x, y, x, y]))
        taken.append(np.array([x, y, x + PATCH, y + PATCH], float))
    return image, np.concatenate(boxes)


def make_data(out: Path) -> None:
    if (out / "annotations" / "val.json").exists():
        return
    for folder in ("images", "annotations"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for split, (name, count) in enumerate(SPLITS.items()):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            image, objects = draw(split, number)
            file = f"{name}_{number:03d}.jpg"
            Image.fromarray(image).save(out / "images" / file, quality=92)
            images.append({"id": number, "file_name": file, "width": SIDE, "height": SIDE})
            for x1, y1, x2, y2 in objects.tolist():
                box = [x1, y1, x2 - x1, y2 - y1]
                own = {"bbox": box, "area": box[2] * box[3], "category_id": 1, "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, "image_id": number, **own})
        categories = [{"id": 1, "name": "shape"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (out / "annotations" / f"{name}.json").write_text(json.dumps(content))


def gfocal(*words: str) -> None:
    print("+ gfocal", *words, flush=True)
    subprocess.run([sys.executable, "-m", "gfocal", *words], check=True)


def epochs(images: int) -> int:
    """So many as give about STEPS steps."""
    return max(1, round(STEPS / (images // BATCH)))


def train(options: argparse.Namespace, data: Path, name: str, changes: list[str]) -> Path:
    out = options.out / name
    if (out / "last.safetensors").exists():
        return out
    recipe = load_recipe("gfl_nano", [word for word in changes if word != "--set"])
    count = epochs(images_per_epoch(recipe, in_tiles(recipe, open_dataset(data, "train"))))
    words = ["--set", f"schedule.epochs={count}", "--set", f"schedule.eval_every={count}", "--set", "schedule.ema=0.98"]
    words += ["--set", f"runtime.threads={options.threads}", "--set", "data.workers=1"]
    init = ["--init", str(options.init)] if options.init else []
    gfocal("train", "gfl_nano", "--data", str(data), "--out", str(out), *init, *words, *changes)
    return out


@contextmanager
def suppression_alone() -> Iterator[None]:
    """What tiles find is put together without the rule for doubtful boxes."""
    rule = tiles._held
    tiles._held = lambda found, doubtful: torch.zeros_like(doubtful)
    try:
        yield
    finally:
        tiles._held = rule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = options.out / "data"
    make_data(data)
    rows = []
    for trained, changes in RUNS.items():
        model = train(options, data, trained, changes)
        for looked, words in LOOKS.items():
            file = options.out / f"{trained}-{looked.replace(' ', '-')}.json"
            if not file.exists():
                with suppression_alone() if "suppression" in looked else nullcontext():
                    found = evaluate_files(str(model / "last.safetensors"), data, overrides=words)
                file.write_text(json.dumps(to_json(found)))
            found = json.loads(file.read_text())
            numbers = {key: found[key] for key in ("AP", "AP50", "APs", "APm", "APl", "ARs", "num_detections")}
            rows.append({"trained": trained, "looked": looked, **numbers, "speed": found["speed"]})
    settings = {"side": SIDE, "patch": PATCH, "patches": PATCHES, "pictures": SPLITS, "steps": STEPS, "batch": BATCH}
    RESULTS.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(*(f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items() if k != "speed"), sep=" | ")


if __name__ == "__main__":
    main()
