"""How fast detectors train on this machine, measured in a process: ``python -m gfocal.studies.execution.pace``.

What a step takes of a GPU's memory would stay with the process, beside the runs that are about to start.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import torch

from gfocal.recipe import Recipe, build_recipe
from gfocal.training.fitting.step_time import seconds_per_image


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


def main() -> None:
    asked = json.load(sys.stdin)
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    recipes = {name: build_recipe(content, (), name) for name, content in asked["recipes"].items()}
    print(json.dumps({name: seconds_per_image(recipe, asked["classes"]) for name, recipe in recipes.items()}))


if __name__ == "__main__":
    main()
