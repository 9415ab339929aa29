"""What a precision stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gfocal.data.index.data_index import DataIndex
from gfocal.runtime.precision import real_precision
from gfocal.structures import Batch, HeadOutput, Targets
from gfocal.training.precision_check import precision_notes
from gfocal.training.step import make_accelerator
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import TASK_ALIGNED, small, state_of


@pytest.mark.parametrize(
    ("cuda", "native", "expected"), [(False, False, "fp32"), (True, False, "fp32"), (True, True, "bf16")]
)
def test_auto(cuda: bool, native: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert real_precision("auto") == expected
    assert [real_precision(name) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_runs_say_what_they_were_computed_in(train_index: DataIndex, tmp_path: Path) -> None:
    train(small("schedule.epochs=1"), train_index, None, tmp_path / "auto", progress=False)
    state = state_of(tmp_path / "auto")
    assert state["recipe"]["runtime"]["precision"] == "auto"
    assert state["environment"]["precision"] == real_precision("auto")


def test_float32_stays_float32_under_accelerate() -> None:
    """accelerate wraps the forward pass in its own autocast: what is compared with must not go through it."""
    torch.manual_seed(0)
    detector = build_detector(small(), ("a", "b", "c"))
    plain = precision_notes(detector, batch(), "bf16")
    accelerator = make_accelerator("bf16")
    accelerator.prepare(detector)
    spoil(detector, 3.0)
    (line,) = [line for line in precision_notes(detector, batch(), "bf16") if "term cls" in line]
    assert plain == []
    assert "bf16: on the first batch the loss term cls is" in line


def test_the_first_batch_is_that_of_the_first_epoch() -> None:
    torch.manual_seed(0)
    detector = build_detector(small(TASK_ALIGNED, "model.assigner.static_epochs=1"), ("a", "b", "c"))
    detector.assigner = None  # whoever asks for it fails
    assert precision_notes(detector, batch(), "bf16") == []


def test_other_choices_of_an_assigner_are_no_matter_of_precision() -> None:
    # In bf16 other points fit the object best, and the class loss by them is 10 % larger for these random values.
    torch.manual_seed(0)
    detector = build_detector(small(TASK_ALIGNED), ("a", "b", "c"))
    assert precision_notes(detector, batch(), "bf16") == []
    spoil(detector, 3.0)
    assert any("term cls" in line for line in precision_notes(detector, batch(), "bf16"))


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    targets = (Targets(torch.tensor([[8.0, 8, 40, 44]]), torch.tensor([1])), Targets.empty())
    sizes = torch.full((2, 2), 64)
    return Batch(images, targets, torch.arange(2), sizes, torch.ones(2, 2), sizes)


def spoil(detector: nn.Module, factor: float) -> None:
    """Under autocast the class logits are so many times as large."""

    def change(module: nn.Module, inputs: Any, out: HeadOutput) -> HeadOutput:
        many = factor if torch.is_autocast_enabled("cpu") else 1.0
        return HeadOutput(out.class_logits * many, out.box, out.quality_logits)

    detector.get_submodule("head").register_forward_hook(change)
