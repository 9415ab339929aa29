"""Parts that keep their values: which, with their batch norm, and that the rest learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gfocal.errors import UsageError
from gfocal.models import ShuffleNetBackbone, VggBackbone
from gfocal.runs.checkpoint import save_detector
from gfocal.runs.initial_weights import check_start
from gfocal.structures import Targets
from gfocal.training.optimizer import make_optimizer
from gfocal.zoo import build_detector
from helpers.small_runs import small


@pytest.mark.parametrize(
    ("stages", "parts"),
    [(0, set()), (1, {"conv1"}), (2, {"conv1", "stage2"}), (4, {"conv1", "stage2", "stage3", "stage4"})],
)
def test_stages_of_the_small_backbone(stages: int, parts: set[str]) -> None:
    backbone = ShuffleNetBackbone(frozen_stages=stages)
    assert {name.partition(".")[0] for name, p in backbone.named_parameters() if not p.requires_grad} == parts
    free = {name.partition(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert free == {"conv1", "stage2", "stage3", "stage4"} - parts


@pytest.mark.parametrize(("stages", "convolutions"), [(0, 0), (1, 7), (2, 10), (3, 15)])
def test_stages_of_vgg(stages: int, convolutions: int) -> None:
    # conv1_1 1_2, 2_1 2_2, 3_1 3_2 3_3: seven up to stride 4; three more up to stride 8; conv5_*, conv6, conv7.
    frozen = [
        not m.weight.requires_grad for m in VggBackbone(frozen_stages=stages).modules() if isinstance(m, nn.Conv2d)
    ]
    assert frozen == [True] * convolutions + [False] * (15 - convolutions)


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (["model.frozen_stages=2"], ("backbone.conv1.", "backbone.stage2.")),
        (["model.frozen=[backbone]"], ("backbone.",)),
        (["model.frozen=[backbone, neck]"], ("backbone.", "neck.")),
        ([], ()),
    ],
)
def test_a_step_changes_all_but_the_frozen(overrides: list[str], kept: tuple[str, ...]) -> None:
    recipe = small(*overrides, "optim.lr=0.1", "optim.weight_decay=0.1", name="gfl_nano")
    torch.manual_seed(0)
    detector = build_detector(recipe, ("a", "b")).train()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    optimizer = make_optimizer(detector, recipe.optim)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    targets = [Targets(torch.tensor([[4.0, 4, 40, 50]]), torch.tensor([1]))] * 2
    losses = detector.losses(detector(images), detector.assign_batch(images, targets), (64, 64))
    sum(losses.values()).backward()
    optimizer.step()
    changed = {name for name, tensor in detector.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in changed if kept and name.startswith(kept)], "weights and running statistics"
    learnt = {name for name, p in detector.named_parameters() if not (kept and name.startswith(kept))}
    assert len(learnt & changed) > 0.9 * len(learnt)
    statistics = {name for name in before if name.endswith("running_mean") and not (kept and name.startswith(kept))}
    assert statistics <= changed


def test_what_would_keep_random_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.frozen=\['backbone'\].*--set model\.frozen=\[\]"):
        check_start(small("model.frozen=[backbone]").model)
    with pytest.raises(UsageError, match=r"model\.frozen has the neck, which starts from random values"):
        check_start(small("model.frozen=[neck]", "model.pretrained=true").model)
    check_start(small().model)
    # A checkpoint keeps the keys, and is loaded as any other.
    recipe = small("model.frozen=[backbone, neck]")
    save_detector(tmp_path / "x.safetensors", build_detector(recipe, ("a",)).state_dict(), recipe, ("a",))
