"""How fast detectors train on this machine, measured in a process: ``python -m gfocal.studies.execution.pace``.

What a step takes of a GPU's memory would stay with the process, beside the runs that are about to start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping

import torch

from gfocal.recipe import Recipe, build_recipe
from gfocal.runtime.memory import largest_size, synthetic_loss
from gfocal.runtime.precision import autocast, real_precision
from gfocal.zoo import add_assistant, build_detector

_STEPS = 3


def paces(recipes: Mapping[str, Recipe], classes: int, threads: int) -> dict[str, float]:
    """Seconds an image of a training step, the quickest of a few, reading not included.

    Args:
        recipes: by name.
        classes: how many the detectors tell apart.
        threads: of torch; 0 for its own choice.

    Returns:
        By name; nothing where it could not be measured, such as for want of memory.
    """
    if not recipes:
        return {}
    asked = {"recipes": {name: recipe.to_dict() for name, recipe in recipes.items()}}
    done = subprocess.run(
        [sys.executable, "-m", "gfocal.studies.execution.pace"],
        input=json.dumps({**asked, "classes": classes, "threads": threads}),
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def seconds_per_image(recipe: Recipe, classes: int) -> float:
    """Of a training step on the device that training takes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = [f"class {number}" for number in range(classes)]
    detector = build_detector(recipe, names, pretrained=False)
    add_assistant(detector, recipe)
    detector.to(device).train()
    # On a CPU a large image is as quick alone; a batch would only take long.
    square = recipe.data.resize.kind == "square"
    batch = min(recipe.schedule.batch_size, 16) if device.type == "cuda" or square else 1
    taken = []
    for _ in range(_STEPS):
        begin = time.perf_counter()
        with autocast(device, real_precision(recipe.runtime.precision)):
            loss = synthetic_loss(detector, largest_size(recipe.data), batch)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - begin) / batch)
    return min(taken)


def main() -> None:
    asked = json.load(sys.stdin)
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    recipes = {name: build_recipe(content, (), name) for name, content in asked["recipes"].items()}
    print(json.dumps({name: seconds_per_image(recipe, asked["classes"]) for name, recipe in recipes.items()}))


if __name__ == "__main__":
    main()
