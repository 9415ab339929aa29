"""The curves of a run, from its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gfocal.runs.curves import CURVES, curves_figure, draw_curves, read_history


def write(folder: Path, lines: list[dict[str, object]], tail: str = "") -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)


def train(step: int, loss: float | None = 1.0) -> dict[str, object]:
    terms = {"cls": loss, "box": 0.5, "loss": loss}
    return {"kind": "train", "step": step, **terms, "lr": 0.01, "grad_norm": None, "pictures_per_second": 9}


def test_losses_against_epochs_and_accuracy(tmp_path: Path) -> None:
    lines = [train(step, 4 - step) for step in (1, 2)] + [{"kind": "epoch", "step": 2, "epoch": 1}]
    lines += [{"kind": "val", "step": 2, "epoch": 1, "AP": 0.25, "AP50": 0.5, "AP75": None}, train(3), train(4)]
    lines += [{"kind": "epoch", "step": 4, "epoch": 2}, {"kind": "val", "step": 4, "AP": 0.2, "AP50": 0.4}]
    write(tmp_path, lines, tail='{"kind": "train", "st')
    figure = curves_figure(read_history(tmp_path), "a run")
    losses, accuracy, rate = figure.axes
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in losses.lines}
    assert drawn["loss"] == [(0.5, 3), (1.0, 2), (1.5, 1), (2.0, 1)]
    assert drawn.keys() == {"loss", "cls", "box"}
    assert [list(line.get_ydata()) for line in accuracy.lines if line.get_label() == "AP50"] == [[0.5, 0.4]]
    assert [text.get_text() for text in accuracy.texts] == ["best 0.250"]
    assert rate.get_xlabel() == "epoch"
    assert draw_curves(tmp_path) == tmp_path / CURVES
    with Image.open(tmp_path / CURVES) as image:
        assert image.width > 1000


def test_a_run_that_stopped_in_its_first_epoch_or_lost_its_loss(tmp_path: Path) -> None:
    write(tmp_path, [train(1), train(2, None)])
    figure = curves_figure(read_history(tmp_path), "a run")
    assert figure.axes[2].get_xlabel() == "step"
    assert [text.get_text() for text in figure.axes[1].texts] == ["not measured yet"]
    assert draw_curves(tmp_path) is not None
    write(tmp_path, [train(1, None)])
    assert draw_curves(tmp_path) is not None


@pytest.mark.parametrize("content", [None, "", "no json\n[1]\n", '{"kind": "run", "step": 0}\n'])
def test_without_steps_nothing_is_drawn(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert draw_curves(tmp_path) is None
    assert not (tmp_path / CURVES).exists()


def test_a_long_run_is_drawn_by_means(tmp_path: Path) -> None:
    write(tmp_path, [train(step, step % 2) for step in range(1, 4001)])
    losses = curves_figure(read_history(tmp_path), "a run").axes[0]
    assert list(losses.lines[0].get_ydata()) == [0.5] * 400
