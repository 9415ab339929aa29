"""How large a study is: as published, or shrunk to what a machine does in minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gfocal.errors import UsageError
from gfocal.recipe import Recipe, build_recipe


@dataclass(frozen=True)
class Budget:
    """What is shrunk; None leaves a recipe's own.

    Attributes:
        name: as typed, with a "*" where single settings differ from what the name stands for.
        pyramid: "full" (the published recipes) or "nano" (ShuffleNetV2 and a light PAN, strides 8, 16, 32).
        iterations: optimizer steps of a run.
        size: side of the square images, pixels.
        lr: learning rate.
        scenes: generated images to train and to measure on, where the data are generated.
        timed: (height, width) of the image that the speed is measured with.
        seeds: runs of each row, unless the person says otherwise.
        measured_at: shares of the iterations after which a run is measured too, beside its end: each in (0, 1).
    """

    name: str
    pyramid: str = "full"
    iterations: int | None = None
    size: int | None = None
    lr: float | None = None
    scenes: tuple[int, int] = (20_000, 1000)
    timed: tuple[int, int] = (800, 1333)
    seeds: int = 1
    measured_at: tuple[float, ...] = ()


BUDGETS: dict[str, Budget] = {
    "full": Budget("full"),
    "small": Budget("small", "nano", 200, 256, 5e-3, (3200, 1000), (256, 256), 2),
    "long": Budget(
        "long", "nano", 5000, 192, 5e-3, (8000, 1000), (192, 192), 2, measured_at=(0.05, 0.1, 0.2, 0.4, 0.7)
    ),
    "tiny": Budget("tiny", "nano", 300, 160, 5e-3, (2400, 500), (160, 160), 2),
}
LEAST_ITERATIONS = 10


def study_budget(
    name: str, *, pyramid: str | None = None, iterations: int | None = None, size: int | None = None
) -> Budget:
    """A budget by name, with single settings of one's own.

    Raises:
        UsageError: an unknown name or a value out of range.
    """
    if name not in BUDGETS:
        raise UsageError(f"--budget is one of {', '.join(BUDGETS)}, not {name!r}")
    budget = BUDGETS[name]
    if pyramid is not None and pyramid not in ("full", "nano"):
        raise UsageError(f"--pyramid is full or nano, not {pyramid!r}")
    if iterations is not None and iterations < LEAST_ITERATIONS:
        raise UsageError(f"--iterations must be at least {LEAST_ITERATIONS}, got {iterations}")
    if size is not None and (size < 64 or size % 32):
        raise UsageError(f"--size must be a multiple of 32 and at least 64, got {size}")
    own = replace(budget, pyramid=pyramid or budget.pyramid, iterations=iterations or budget.iterations)
    if size is not None and size != budget.size:
        own = replace(own, size=size, timed=(size, size))
    if own.pyramid == "nano" and own.lr is None:
        own = replace(own, lr=BUDGETS["small"].lr)
    return own if own == budget else replace(own, name=f"{name}*")


def shrunk(recipe: Recipe, budget: Budget, images: int) -> Recipe:
    """A row's recipe as a budget has it; the same recipe where the budget leaves everything.

    Args:
        recipe: of a row.
        budget: what to shrink.
        images: of the training data: an epoch of more than the budget's shows each run the same part of them.
    """
    changes = []
    if budget.size is not None:
        changes += ["data.resize.kind=square", f"data.resize.size={budget.size}"]
    if budget.pyramid == "nano":
        # Minutes of training: the flip is all that the detectors have the time to profit from.
        changes += ["data.photometric=0", "data.scale=null", "schedule.ema=0.99", "data.workers=0"]
    if budget.lr is not None:
        changes.append(f"optim.lr={budget.lr}")
    if budget.iterations is not None:
        changes += _iterations(recipe, budget.iterations, images)
        steps = sorted({round(share * budget.iterations) for share in budget.measured_at} - {0})
        changes += [f"schedule.keep_steps={steps}"] if steps else []
    return build_recipe(recipe.to_dict(), changes) if changes else recipe


def _iterations(recipe: Recipe, iterations: int, images: int) -> list[str]:
    """A schedule of so many optimizer steps: whole epochs of equal length, up to one step an epoch more."""
    schedule = recipe.schedule
    step = min(schedule.batch_size, images) * schedule.accumulate
    most = max(images // step, 1)
    most = min(most, schedule.epoch_steps or most)  # which a person may have set, and more epochs make up for
    epochs = -(-iterations // most)
    steps = -(-iterations // epochs)
    changes = [f"schedule.epochs={epochs}", "schedule.kind=cosine"]
    if steps < most:
        # Rounded up a little, so that the last batch is whole.
        changes.append(f"data.mix=[{math.ceil(steps * step * 1e6 / images) / 1e6}]")
    return [*changes, f"schedule.warmup_steps={min(schedule.warmup_steps, iterations // 4)}"]
