"""Tiny training runs, and how two of them are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.index.data_index import DataIndex
from gfocal.recipe import Recipe, load_recipe
from gfocal.training import trainer as trainer_module
from gfocal.training.fitting.choices import Choices
from gfocal.training.train import train

TINY = ("model.backbone=test_resnet", "model.pretrained=false", "model.channels=16", "model.head_depth=1")
"""A network of a third as many tensors as gfl_nano's: most of a tiny run is what each tensor costs."""
SHORT = (
    "data.resize.size=64",
    "data.workers=0",
    "schedule.epochs=2",
    "schedule.batch_size=4",
    "schedule.warmup_steps=2",
    "schedule.save_every=100",
    "runtime.threads=1",
)
SMALL = (*TINY, *SHORT)
EVERY_STEP = "schedule.save_every=1"
"""For runs that are cut off within an epoch; saving takes longer than such a step."""


# Batch norm over few pixels is chaotic: in five steps an error of 1e-7 grows to 1e-2. Here it learns no statistics, so
# results are the same on any machine and for any split of a step into batches.
NO_BATCH_STATISTICS = (
    "model.backbone=test_resnet",
    "model.pretrained=false",
    "model.frozen_stages=0",
    "model.norm_eval=true",
    "model.channels=32",
    "model.head_depth=1",
    "model.strides=[8,16,32]",
    "model.points.scale=5",
    "data.resize.kind=square",
    "schedule.epochs=1",
    "schedule.warmup_steps=0",
    "optim.reference_batch=null",
    "optim.lr=0.1",
)


def small_recipe(detector: str) -> str:
    """The recipe of a row that is made for CPUs."""
    small = {"nanodet_plus": "nanodet_plus_m", "picodet": "picodet_s", "picodet_lcnet": "picodet_s_lcnet"}
    return small.get(detector, f"{detector}_nano")


TASK_ALIGNED = "model.assigner.kind=task_aligned"
ASSISTED = ("model.assigner.kind=dsla", "model.assistant.kind=agm")


@dataclass(frozen=True)
class Split:
    """What a step is divided by, and what else it takes from all of its batches."""

    quality: str
    box_weight: str
    norm: str
    dtype: torch.dtype
    more: tuple[str, ...] = ()
    slow: bool = False

    @property
    def name(self) -> str:
        of = [self.quality, self.box_weight, self.norm, str(self.dtype), *(key.rpartition(".")[2] for key in self.more)]
        return "-".join(of).replace("torch.", "")

    @property
    def overrides(self) -> list[str]:
        own = [f"model.quality.kind={self.quality}", f"model.box_weight={self.box_weight}", f"model.norm={self.norm}"]
        return [*own, *self.more]


# Sums that need the outputs, sums that do not, counts of three kinds; assignments that need the outputs. The last ones
# in float64 alone: where two points fit an object equally well, rounding chooses between them.
SPLITS = [
    Split("joint", "score", "step", torch.float64),
    Split("joint", "score", "step", torch.float32),
    Split("joint", "target", "step", torch.float64, (TASK_ALIGNED,)),
    Split("joint", "none", "step", torch.float64),
    Split("iou_guided", "centerness", "step", torch.float64),
    Split("iou_guided", "score", "step", torch.float32),
    Split("centerness", "centerness", "picture", torch.float64),
    Split("none", "none", "plus_pictures", torch.float64),
    Split("joint", "score", "picture", torch.float64, (TASK_ALIGNED, "model.assigner.within_reach=true"), slow=True),
    Split("joint", "none", "step", torch.float64, (TASK_ALIGNED,)),
    Split("iou_guided", "centerness", "step", torch.float64, (TASK_ALIGNED,), slow=True),
    Split("joint", "target", "step", torch.float64, (TASK_ALIGNED, "model.assigner.static_epochs=1")),
    Split("varifocal_aligned", "target", "weights", torch.float64, (TASK_ALIGNED,)),
    Split("joint", "none", "weights", torch.float64, slow=True),
    Split("joint", "score", "step", torch.float64, ASSISTED),
    Split("iou_guided", "target", "step", torch.float64, (*ASSISTED, "model.assistant.detach_after=0"), slow=True),
]


def small(*overrides: str, name: str | None = None) -> Recipe:
    """A recipe of seconds, with the network of a recipe that is named, else a tiny one; later overrides win."""
    return load_recipe(name or "gfl_nano", [*(SHORT if name else SMALL), *overrides])


def state_of(out: Path) -> dict[str, Any]:
    """The saved state of a run folder."""
    return torch.load(out / "state.pt", map_location="cpu", weights_only=True)


def assert_identical(one: Any, other: Any, where: str = "state") -> None:
    """Equal bit for bit, tensors inside dicts and lists too."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_identical(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_identical(a, b, f"{where}[{i}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_same_weights(one: Path, other: Path) -> None:
    """Two run folders ended alike: weights, averaged weights, optimizer, counts."""
    a, b = state_of(one), state_of(other)
    for key in ("step", "model", "assistant", "optimizer", "average", "counts", "best_ap", "generators"):
        assert_identical(a[key], b[key], key)


def metrics_of(out: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what is measured by a clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("pictures_per_second", None)
        line.pop("speed", None)
    return [line for line in lines if kind is None or line["kind"] == kind]


def rewritten(index: DataIndex, folder: Path, change: Callable[[dict[str, Any]], None]) -> DataIndex:
    """The same images with another annotation file."""
    content = json.loads(index.annotations.read_text())
    change(content)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return read_coco(path, index.images_dir)


def cut_run(
    recipe: Recipe | Choices,
    index: DataIndex,
    out: Path,
    steps: int,
    val: DataIndex | None = None,
    init: Path | None = None,
    resume: bool = False,
) -> None:
    """Train, and die in the step after ``steps`` steps."""
    real, done = trainer_module.optimizer_step, []

    def die(*args: Any, **options: Any) -> Any:
        if len(done) == steps:
            raise RuntimeError("power cut")
        done.append(1)
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "optimizer_step", die)
        with pytest.raises(RuntimeError, match="power cut"):
            train(recipe, index, val, out, init=init, resume=resume, progress=False)
