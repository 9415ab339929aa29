"""How long a training step takes on this machine, on synthetic images."""

from __future__ import annotations

import time

import torch

from gfocal.recipe import Recipe
from gfocal.runtime.layout import in_layout
from gfocal.runtime.memory import largest_size, synthetic_loss
from gfocal.runtime.precision import autocast, real_precision
from gfocal.utils.allocation import kept_memory
from gfocal.zoo import add_assistant, build_detector

_STEPS = 3


def seconds_per_image(recipe: Recipe, classes: int) -> float:
    """Of a training step on the device that training takes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = [f"class {number}" for number in range(classes)]
    detector = build_detector(recipe, names, pretrained=False)
    add_assistant(detector, recipe)
    detector = in_layout(detector.to(device), recipe.runtime.channels_last).train()
    # On a CPU a large image is as quick alone; a batch would only take long.
    square = recipe.data.resize.kind == "square"
    batch = min(recipe.schedule.batch_size, 16) if device.type == "cuda" or square else 1
    size = largest_size(recipe.data)
    batch = max(batch, 2) if max(size) <= max(detector.strides) else batch  # batch norm cannot learn from a single cell
    taken = []
    with kept_memory(device.type == "cpu"):  # as in training
        for _ in range(_STEPS):
            begin = time.perf_counter()
            with autocast(device, real_precision(recipe.runtime.precision)):
                loss = synthetic_loss(detector, size, batch)
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append((time.perf_counter() - begin) / batch)
    return min(taken)
