"""The same bits each time, and mixed precision beside float32."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError
from gfocal.runtime.determinism import deterministic, no_deterministic_form
from gfocal.structures import Batch
from gfocal.training import trainer as trainer_module
from gfocal.training.precision_check import precision_notes
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import assert_same_weights, metrics_of, small

# --- deterministic --------------------------------------------------------------------------------------------------


def flags() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def test_the_key_is_in_force_while_training_and_no_longer(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    real, seen = trainer_module.optimizer_step, []

    def look(*args: object, **options: object) -> object:
        seen.append((*flags(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        return real(*args, **options)

    monkeypatch.setattr(trainer_module, "optimizer_step", look)
    before = flags()
    options = ("schedule.epochs=1", "data.scale=[0.6, 1.4]", "schedule.ema=0.9")
    for name in ("one", "two"):
        train(small(*options, "runtime.deterministic=true"), train_index, None, tmp_path / name, progress=False)
    assert set(seen) == {(True, True, False, ":4096:8")}
    assert flags() == before
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    train(small(*options), train_index, None, tmp_path / "plain", progress=False)
    assert seen[-1][0] is False
    assert_same_weights(tmp_path / "one", tmp_path / "plain")  # on a CPU it is so without the key


def test_an_operation_without_such_a_form_stops_the_run(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer_module.optimizer_step

    def scatter(*args: object, **options: object) -> object:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))  # which of the two wins is left open
        return real(*args, **options)

    monkeypatch.setattr(trainer_module, "optimizer_step", scatter)
    train(small("schedule.epochs=1"), train_index, None, tmp_path / "free", progress=False)
    with pytest.raises(GfocalError, match=r"cannot give the same bits .*put_.*Set runtime\.deterministic=false"):
        train(small("runtime.deterministic=true"), train_index, None, tmp_path / "run", progress=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_flags_come_back_after_an_error() -> None:
    before = flags()
    with pytest.raises(KeyError), deterministic(True):
        raise KeyError
    assert flags() == before
    assert no_deterministic_form(RuntimeError("size mismatch")) is None


# --- mixed precision ------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(train_index: DataIndex) -> Batch:
    from gfocal.data.augment.transforms import EvalTransform
    from gfocal.data.loading.loader import DetectionDataset, make_loader

    detector = build_detector(small(), train_index.names)
    return next(iter(make_loader(DetectionDataset(train_index, EvalTransform(detector.resize), seed=0), batch_size=4)))


class Off:
    """Changes one loss term under autocast."""

    def __init__(self, detector: DenseDetector, name: str, factor: float) -> None:
        self.real, self.name, self.factor = detector.losses, name, factor

    def __call__(self, *args: object, **options: object) -> dict[str, torch.Tensor]:
        found = self.real(*args, **options)
        if torch.is_autocast_enabled("cpu"):
            found[self.name] = found[self.name] * self.factor
        return found


def test_bf16_is_near_float32(train_index: DataIndex, batch: Batch) -> None:
    torch.manual_seed(0)
    detector = build_detector(small(), train_index.names)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    assert precision_notes(detector, batch, "bf16") == []
    assert precision_notes(detector, batch, "fp32") == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_a_term_that_is_off_is_told(factor: float, train_index: DataIndex, batch: Batch) -> None:
    detector = build_detector(small(), train_index.names)
    detector.losses = Off(detector, "box", factor)
    (line,) = precision_notes(detector, batch, "bf16")
    assert "runtime.precision=bf16: on the first batch the loss term box is" in line
    del detector.losses
    assert precision_notes(detector, batch, "bf16") == []


def test_a_term_that_is_not_finite_is_refused(tmp_path: Path, train_index: DataIndex, batch: Batch) -> None:
    detector = build_detector(small(), train_index.names)
    detector.losses = Off(detector, "cls", float("inf"))
    with pytest.raises(GfocalError, match=r"precision=bf16: .* loss terms cls are not finite, in fp32 they are"):
        precision_notes(detector, batch, "bf16")


def test_training_looks_before_the_first_step(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked = []
    monkeypatch.setattr(trainer_module, "precision_notes", lambda *args: looked.append(args[2]) or ["warning: off"])
    recipe = small("runtime.precision=bf16", "schedule.epochs=1")
    train(recipe, train_index, None, tmp_path / "run")
    assert looked == ["bf16"]
    assert "warning: off" in capsys.readouterr().err
    assert len(metrics_of(tmp_path / "run", "train")) == 3
