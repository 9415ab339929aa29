"""One optimizer step: the same on any machine, for any split into batches, and after resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError
from gfocal.runs.checkpoint import load_state, save_state
from gfocal.runtime.batch_norm import batch_norm_untouched
from gfocal.structures import Batch, Targets
from gfocal.training import train as train_module
from gfocal.training.optimizer import lr_factor, make_optimizer
from gfocal.training.step import make_accelerator, optimizer_step
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import (
    NO_BATCH_STATISTICS,
    SPLITS,
    TASK_ALIGNED,
    Split,
    metrics_of,
    rewritten,
    small,
    state_of,
)


def fixed_batches(count: int) -> list[Batch]:
    """Batches of four noisy 64 x 64 images with five boxes each, none of them from a file."""
    generator = torch.Generator().manual_seed(11)
    batches = []
    for step in range(count):
        images = torch.randint(0, 256, (4, 3, 64, 64), generator=generator, dtype=torch.uint8)
        targets = []
        for _ in range(4):
            corner = torch.randint(0, 30, (5, 2), generator=generator).float()
            side = torch.randint(8, 34, (5, 2), generator=generator).float()
            labels = torch.randint(0, 3, (5,), generator=generator)
            targets.append(Targets(torch.cat([corner, corner + side], 1), labels))
        sizes = torch.full((4, 2), 64)
        ids = torch.arange(4) + 10 * step
        batches.append(Batch(images, tuple(targets), ids, sizes, torch.ones(4, 2), sizes))
    return batches


RECORDED = [2.6317868, 2.6334648, 2.5937810, 2.4684552, 2.1284743]
LR = 0.1


class Loop:
    """Five steps of two batches, and a state that another one can go on from."""

    def __init__(self) -> None:
        self.recipe = small(*NO_BATCH_STATISTICS, "schedule.warmup_steps=3", name="gfl_r18")
        torch.manual_seed(4)
        self.detector = build_detector(self.recipe, ("a", "b", "c")).double()
        self.accelerator = make_accelerator("fp32")
        made = make_optimizer(self.detector, self.recipe.optim)
        self.model, self.optimizer = self.accelerator.prepare(self.detector, made)

    def curve(self, first: int, last: int) -> list[float]:
        batches = fixed_batches(10)
        losses = []
        for step in range(first, last):
            done = optimizer_step(
                self.detector,
                self.model,
                self.optimizer,
                self.accelerator,
                batches[2 * step : 2 * step + 2],
                lr=LR * lr_factor(self.recipe.schedule, step, 5),
                clip_norm=10.0,
            )
            losses.append(sum(done.losses.values()))
        return losses


def test_the_recorded_loss_curve_also_after_resuming(tmp_path: Path) -> None:
    loop = Loop()
    losses = loop.curve(0, 2)
    state = {"format": 1, "model": loop.detector.state_dict(), "optimizer": loop.optimizer.optimizer.state_dict()}
    save_state(tmp_path / "state.pt", state)
    losses += loop.curve(2, 5)
    assert losses == pytest.approx(RECORDED, rel=1e-4)

    torch.manual_seed(123)
    other = Loop()
    state = load_state(tmp_path / "state.pt")
    nn.init.zeros_(other.detector.head.class_out.weight)
    other.detector.load_state_dict(state["model"])
    other.optimizer.optimizer.load_state_dict(state["optimizer"])
    assert other.curve(2, 5) == losses[2:]


def eight(content: dict[str, Any]) -> None:
    """Of the first eight images, 0 and 6 (the last in the order of seed 0) show background only."""
    content["images"] = content["images"][:8]
    kept = {image["id"] for i, image in enumerate(content["images"]) if i not in (0, 6)}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]


@pytest.mark.parametrize("split", [pytest.param(s, id=s.name, marks=[pytest.mark.slow] * s.slow) for s in SPLITS])
def test_a_step_does_not_depend_on_its_split(
    split: Split,
    tmp_path: Path,
    train_index: DataIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, dtype = rewritten(train_index, tmp_path, eight), split.dtype
    real = build_detector
    monkeypatch.setattr(train_module, "build_detector", lambda *a, **options: real(*a, **options).to(dtype))
    monkeypatch.setattr(train_module, "check_start", lambda model: None)  # batch norm must not learn here
    results = []
    for batch, accumulate in ((8, 1), (4, 2), (2, 4)):
        recipe = small(
            *NO_BATCH_STATISTICS,
            f"schedule.batch_size={batch}",
            f"schedule.accumulate={accumulate}",
            *split.overrides,
            name="gfl_r18",
        )
        out = tmp_path / str(batch)
        assert train(recipe, index, None, out, progress=False).steps == 1
        results.append((metrics_of(out, "train")[0], state_of(out)))
    (expected, state), *others = results
    counts = state["counts"]
    for losses, other in others:
        for name in ("cls", "box", "dfl", "loss", "grad_norm", *(["quality"] if split.quality == "centerness" else [])):
            assert losses[name] == pytest.approx(expected[name], rel=1e-10 if dtype == torch.float64 else 1e-5), name
        assert other["counts"] == counts
        # After one step SGD's momentum is the gradient (and its weight decay).
        for key, slot in state["optimizer"]["state"].items():
            gradient, same = slot["momentum_buffer"], other["optimizer"]["state"][key]["momentum_buffer"]
            assert gradient.dtype == dtype
            tolerance = 1e-10 if dtype == torch.float64 else 1e-4
            assert (same - gradient).norm() <= tolerance * gradient.norm(), key
        for name, tensor in state["model"].items():
            torch.testing.assert_close(other["model"][name], tensor, rtol=1e-5, atol=1e-6)


def test_batch_norm_is_left_alone() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=0.4), nn.BatchNorm1d(3, momentum=None))
    frozen = nn.BatchNorm1d(3).eval()
    module.append(frozen)
    x = torch.randn(8, 3)
    module(x)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with batch_norm_untouched(module):
        inside = module(x + 5)
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in expected.items())
    assert torch.equal(inside, module(x + 5)), "it normalises by the batch all the same"
    assert not torch.equal(module[1].running_mean, before["1.running_mean"]), "and learns again afterwards"
    assert [norm.momentum for norm in module] == [0.1, 0.4, None, 0.1]
    with pytest.raises(RuntimeError, match="out of"), batch_norm_untouched(module):
        raise RuntimeError("out of memory")
    assert [norm.momentum for norm in module] == [0.1, 0.4, None, 0.1]


def test_the_pass_for_the_normaliser_leaves_no_trace(tmp_path: Path, train_index: DataIndex) -> None:
    out = tmp_path / "run"
    train(small("schedule.accumulate=3", "schedule.epochs=1"), train_index, None, out, progress=False)
    counts = {tensor.item() for name, tensor in state_of(out)["model"].items() if name.endswith("batches_tracked")}
    assert counts == {3}, "three batches, each seen once"


def test_a_gradient_that_is_not_finite_stops_the_run(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build_detector

    def spoilt(*args: Any, **options: Any) -> Any:
        detector = real(*args, **options)
        next(detector.parameters()).register_hook(lambda gradient: gradient * float("inf"))
        return detector

    monkeypatch.setattr(train_module, "build_detector", spoilt)
    with pytest.raises(GfocalError, match=r"step 1 stopped the run: the gradient \(norm (nan|inf)\) is not finite"):
        train(small(), train_index, None, tmp_path / "run", progress=False)
    state = state_of(tmp_path / "run")
    assert state["step"] == 0
    assert not state["optimizer"]["state"]


@pytest.mark.parametrize(
    ("quality", "box_weight", "more", "passes"),
    [
        ("joint", "score", (), 4),
        ("iou_guided", "none", (), 4),
        ("joint", "centerness", (), 2),
        ("joint", "none", (), 2),
        ("joint", "target", (), 4),
        ("joint", "none", (TASK_ALIGNED,), 4),
        ("joint", "none", (TASK_ALIGNED, "model.assigner.static_epochs=1"), 2),
    ],
)
def test_a_pass_for_the_sums_runs_only_where_they_need_it(
    quality: str, box_weight: str, more: tuple[str, ...], passes: int
) -> None:
    changes = (f"model.quality.kind={quality}", f"model.box_weight={box_weight}", *more)
    detector = build_detector(small(*NO_BATCH_STATISTICS, *changes, name="gfl_r18"), ("a", "b", "c"))
    accelerator = make_accelerator("fp32")
    recipe = small(*NO_BATCH_STATISTICS, name="gfl_r18")
    model, optimizer = accelerator.prepare(detector, make_optimizer(detector, recipe.optim))
    seen: list[int] = []
    detector.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    optimizer_step(detector, model, optimizer, accelerator, fixed_batches(2), lr=0.01, clip_norm=None)
    assert seen == [4] * passes
    seen.clear()
    optimizer_step(detector, model, optimizer, accelerator, fixed_batches(1), lr=0.01, clip_norm=None)
    assert seen == [4], "one batch is assigned and added up by the outputs that it learns from"
