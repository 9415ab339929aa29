"""Optimizer, learning rate and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Tensor, nn

from gfocal.recipe import OptimRecipe, ScheduleRecipe
from gfocal.utils.text import counted


def make_optimizer(detector: nn.Module, recipe: OptimRecipe) -> torch.optim.Optimizer:
    """SGD or AdamW over parameter groups that carry their own factor of the learning rate ("factor")."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            in_backbone = name.startswith("backbone.")
            decays = recipe.decay_norm_and_bias or parameter.ndim > 1
            groups.setdefault((in_backbone, decays), []).append(parameter)
    described = [
        {
            "params": parameters,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "factor": recipe.backbone_lr if in_backbone else 1.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
    if recipe.kind == "sgd":
        return torch.optim.SGD(described, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(described, lr=recipe.lr, betas=recipe.betas)


def scaled_lr(recipe: OptimRecipe, images_per_step: int) -> float:
    """The learning rate for the real number of images per step (linear rule, arXiv 1706.02677)."""
    return recipe.lr * (images_per_step / recipe.reference_batch if recipe.reference_batch else 1.0)


def lr_line(recipe: OptimRecipe, images_per_step: int) -> str:
    """What is said about the learning rate of a run."""
    origin = f" (optim.lr={recipe.lr:g} is for {recipe.reference_batch})" if recipe.reference_batch else ""
    rate = f"learning rate {scaled_lr(recipe, images_per_step):.3g}{origin}"
    return f"{counted(images_per_step, 'picture')} per step, {rate}"


def lr_factor(schedule: ScheduleRecipe, step: int, steps_an_epoch: int) -> float:
    """Share of the learning rate at optimizer step 0, 1, ...: a pure function, so none of it is saved.

    Linear warm-up multiplies what the schedule gives.
    """
    total = schedule.epochs * steps_an_epoch
    if schedule.kind == "cosine":
        along = min(step / max(total - 1, 1), 1.0)
        factor = schedule.final_lr + (1 - schedule.final_lr) * (1 + math.cos(math.pi * along)) / 2
    else:
        factor = schedule.gamma ** sum(step >= milestone * steps_an_epoch for milestone in schedule.milestones)
    if step < schedule.warmup_steps:
        factor *= schedule.warmup_start + (1 - schedule.warmup_start) * step / schedule.warmup_steps
    return factor


def idle_settings(schedule: ScheduleRecipe, steps: int) -> list[str]:
    """Lines about settings that will not do what they are for in a run of this many optimizer steps."""
    lines = []
    late = [milestone for milestone in schedule.milestones if milestone >= schedule.epochs]
    if schedule.kind == "multistep" and late:
        lines.append(
            f"schedule.milestones {late} lie beyond the end of the run (schedule.epochs={schedule.epochs}): "
            "the learning rate does not fall there"
        )
    beyond = [step for step in schedule.keep_steps if step > steps]
    if beyond:
        lines.append(f"schedule.keep_steps: {beyond} lie beyond the run, which has {steps} steps")
    if schedule.warmup_steps > steps / 2:
        lines.append(
            f"schedule.warmup_steps={schedule.warmup_steps}, but the run has {steps} steps: the learning rate "
            f"{'never reaches optim.lr' if schedule.warmup_steps >= steps else 'rises for more than half of it'}; "
            f"give it more epochs, or --set schedule.warmup_steps={steps // 4}"
        )
    return lines


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


class AverageState(TypedDict):
    """What :class:`AveragedWeights` saves: the values by name, and how many updates they saw."""

    state: dict[str, Tensor]
    updates: int


class AveragedWeights:
    """Exponential moving average of a module's state, batch-norm statistics included.

    The decay of update n = 1, 2, ... is (1 + n) / (10 + n), at most ``decay``, so that a short run is not held back
    by its random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged, current = [], []
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(self.weights[name])
                current.append(tensor)
            else:
                self.weights[name].copy_(tensor)
        torch._foreach_lerp_(averaged, current, 1 - decay)

    @contextmanager
    def inside(self, module: nn.Module) -> Iterator[None]:
        """Put the averaged values into ``module`` for a while."""
        own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(self.weights)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def state_dict(self) -> AverageState:
        return {"state": self.weights, "updates": self.updates}

    def load_state_dict(self, state: AverageState) -> None:
        self.updates = state["updates"]
        for name, tensor in state["state"].items():
            self.weights[name].copy_(tensor)
