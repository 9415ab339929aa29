"""Learning rates, parameter groups and averaged weights, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gfocal.recipe import OptimRecipe, ScheduleRecipe
from gfocal.training.optimizer import AveragedWeights, idle_settings, lr_factor, make_optimizer, scaled_lr, set_lr
from gfocal.zoo import build_detector
from helpers.small_runs import small


def schedule(**values: object) -> ScheduleRecipe:
    return ScheduleRecipe(**{"epochs": 4, "warmup_steps": 0, **values})  # type: ignore[arg-type]


def test_multistep_falls_after_each_milestone() -> None:
    steps = schedule(kind="multistep", milestones=(2, 3), gamma=0.1)
    # Ten steps an epoch: epochs 0 and 1 at 1, epoch 2 at 0.1, epoch 3 at 0.01.
    for step, expected in ((0, 1), (19, 1), (20, 0.1), (29, 0.1), (30, 0.01), (39, 0.01)):
        assert lr_factor(steps, step, 10) == pytest.approx(expected, rel=1e-12)


def test_warm_up_is_linear_and_multiplies() -> None:
    steps = schedule(kind="multistep", milestones=(1,), gamma=0.5, warmup_steps=8, warmup_start=0.2)
    # Step 2: 0.2 + 0.8 * 2 / 8 = 0.4. Step 5, behind the milestone at step 4: 0.5 * (0.2 + 0.8 * 5 / 8) = 0.35.
    for step, expected in ((0, 0.2), (2, 0.4), (5, 0.35), (8, 0.5), (9, 0.5)):
        assert lr_factor(steps, step, 4) == pytest.approx(expected, rel=1e-12)


def test_cosine_from_one_to_the_end() -> None:
    steps = schedule(kind="cosine", final_lr=0.02)
    # 4 epochs of 4 steps: 16 steps, so step 5 stands at a third of the way: (1 + cos 60 deg) / 2 = 3 / 4.
    assert lr_factor(steps, 0, 4) == pytest.approx(1, rel=1e-12)
    assert lr_factor(steps, 5, 4) == pytest.approx(0.02 + 0.98 * 0.75, rel=1e-12)
    assert lr_factor(steps, 10, 4) == pytest.approx(0.02 + 0.98 * 0.25, rel=1e-12)
    assert lr_factor(steps, 15, 4) == pytest.approx(0.02, rel=1e-12)
    assert lr_factor(schedule(kind="cosine", epochs=1), 0, 1) == 1, "a run of one step"


def test_settings_that_do_nothing_are_named() -> None:
    assert idle_settings(schedule(milestones=(2, 3), warmup_steps=20), 40) == []
    assert idle_settings(schedule(kind="cosine", milestones=(9,)), 40) == []
    late, slow = idle_settings(schedule(milestones=(2, 4, 11), warmup_steps=21), 40)
    assert late.startswith("schedule.milestones [4, 11] lie beyond the end of the run (schedule.epochs=4)")
    assert slow == (
        "schedule.warmup_steps=21, but the run has 40 steps: the learning rate rises for more than half of it; "
        "give it more epochs, or --set schedule.warmup_steps=10"
    )
    (beyond,) = idle_settings(schedule(milestones=(), keep_steps=(3, 40, 41)), 40)
    assert beyond == "schedule.keep_steps: [41] lie beyond the run, which has 40 steps"
    (never,) = idle_settings(schedule(milestones=(), warmup_steps=40), 40)
    assert "the learning rate never reaches optim.lr; give it more epochs" in never


def test_lr_scales_with_the_images_of_a_step() -> None:
    assert scaled_lr(OptimRecipe(lr=0.01, reference_batch=16), 4) == pytest.approx(0.0025)
    assert scaled_lr(OptimRecipe(lr=0.01, reference_batch=None), 4) == 0.01


class Toy(nn.Module):
    """Two weights in a "backbone", two outside, one of each frozen kind."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_groups_carry_decay_and_factor(kind: str) -> None:
    toy = Toy()
    optimizer = make_optimizer(
        toy,
        OptimRecipe(kind=kind, weight_decay=0.3, decay_norm_and_bias=False, backbone_lr=0.1),  # type: ignore[arg-type]
    )
    found = {
        name: (group["weight_decay"], group["factor"])
        for group in optimizer.param_groups
        for p in group["params"]
        for name, q in toy.named_parameters()
        if q is p
    }
    assert found == {
        "backbone.0.weight": (0.3, 0.1),
        "backbone.0.bias": (0.0, 0.1),
        "backbone.1.weight": (0.0, 0.1),
        "backbone.1.bias": (0.0, 0.1),
        "head.weight": (0.3, 1.0),
        "head.bias": (0.0, 1.0),
    }
    set_lr(optimizer, 0.5)
    assert {group["factor"]: group["lr"] for group in optimizer.param_groups} == {0.1: 0.05, 1.0: 0.5}
    everywhere = make_optimizer(toy, OptimRecipe(weight_decay=0.3))
    assert {group["weight_decay"] for group in everywhere.param_groups} == {0.3}


def test_every_parameter_of_a_detector_is_in_one_group() -> None:
    detector = build_detector(small(), ("a",))
    groups = make_optimizer(detector, small().optim).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in detector.parameters()}


def one_parameter(value: float, gradient: float) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(torch.full((1, 1), value, dtype=torch.float64))
    module.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
    return module


def test_sgd_by_hand() -> None:
    module = one_parameter(2.0, 0.5)
    optimizer = make_optimizer(module, OptimRecipe(kind="sgd", lr=1.0, momentum=0.9, weight_decay=0.1))
    set_lr(optimizer, 0.1)
    # Gradient + decay: 0.5 + 0.1 * 2 = 0.7; 2 - 0.1 * 0.7 = 1.93.
    optimizer.step()
    assert module.weight.item() == pytest.approx(1.93, rel=1e-12)
    # 0.5 + 0.193 = 0.693, with momentum 0.9 * 0.7 + 0.693 = 1.323; 1.93 - 0.1323 = 1.7977.
    optimizer.step()
    assert module.weight.item() == pytest.approx(1.7977, rel=1e-12)


def test_adamw_by_hand() -> None:
    module = one_parameter(2.0, -0.5)
    optimizer = make_optimizer(module, OptimRecipe(kind="adamw", lr=1.0, betas=(0.5, 0.75), weight_decay=0.1))
    set_lr(optimizer, 0.1)
    # Decay first: 2 * (1 - 0.1 * 0.1) = 1.98. The first step is lr against the gradient's sign: 1.98 + 0.1 = 2.08.
    optimizer.step()
    assert module.weight.item() == pytest.approx(2.08, rel=1e-6)


def test_averaged_weights_by_hand() -> None:
    module = nn.Sequential(nn.BatchNorm1d(1))
    norm = module[0]
    average = AveragedWeights(module, 0.2)
    with torch.no_grad():
        norm.weight.fill_(12.0)
        norm.running_mean.fill_(1.1)
        norm.num_batches_tracked.fill_(7)
    average.update(module)
    # Update 1: decay 2 / 11 (below 0.2); weight 1 * 2/11 + 12 * 9/11 = 10, mean 0 * 2/11 + 1.1 * 9/11 = 0.9.
    assert average.weights["0.weight"].item() == pytest.approx(10, rel=1e-6)
    assert average.weights["0.running_mean"].item() == pytest.approx(0.9, rel=1e-6)
    assert average.weights["0.num_batches_tracked"].item() == 7
    average.update(module)
    # Update 2: 3 / 12 = 0.25 is above 0.2, so 0.2: 10 * 0.2 + 12 * 0.8 = 11.6.
    assert average.weights["0.weight"].item() == pytest.approx(11.6, rel=1e-6)
    assert norm.weight.item() == 12, "the module itself is left alone"


def test_averaged_weights_go_in_and_out_again() -> None:
    module = nn.Linear(1, 1)
    average = AveragedWeights(module, 0.5)
    old = module.weight.item()
    with torch.no_grad():
        module.weight.add_(3)
    with average.inside(module):
        assert module.weight.item() == old
    assert module.weight.item() == pytest.approx(old + 3)
    with pytest.raises(RuntimeError, match="half-way"), average.inside(module):
        raise RuntimeError("half-way")
    assert module.weight.item() == pytest.approx(old + 3)


def test_averaged_weights_go_on_where_they_were() -> None:
    module = nn.Linear(2, 2)
    average, other = AveragedWeights(module, 0.9), AveragedWeights(nn.Linear(2, 2), 0.9)
    for _ in range(3):
        nn.init.normal_(module.weight)
        average.update(module)
    other.load_state_dict(average.state_dict())
    nn.init.normal_(module.weight)
    average.update(module)
    other.update(module)
    assert other.updates == average.updates == 4
    assert torch.equal(other.weights["weight"], average.weights["weight"])
    assert not math.isclose(other.weights["weight"][0, 0].item(), module.weight[0, 0].item())
