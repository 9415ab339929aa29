"""Quality Focal Loss for many logits: equal to the formula, in chunks, keeping and computing no more than it must.

Everything that is true of the loss itself is tested with either form in test_quality.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.losses import _quality_fused, quality, quality_focal_loss
from helpers.loss_cases import gradient, random_case

NEVER, ALWAYS = 1 << 40, 1  # logits from which on the fused form is taken


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_MANY", ALWAYS)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("points", [700, 60_000])  # of 3 classes: one chunk, and two
def test_the_fused_form_is_the_formula(points: int, beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels, score, dense = random_case(18, rows=points, classes=3)
    logits.requires_grad_()
    # Where sigma nearly is y, the slope of a power below 1 has a pole, and no two computations agree on its height.
    far = (dense - logits.detach().sigmoid()).abs() > (1e-2 if beta < 1 else -1)
    for target in (dense, (labels, score)):
        found = []
        for many in (NEVER, ALWAYS):
            monkeypatch.setattr(quality, "_MANY", many)
            each = quality_focal_loss(logits, target, beta=beta)
            total = quality_focal_loss(logits, target, beta=beta, reduction="sum", norm=7.0)
            found.append((each, total, gradient(each, logits)[far], 7 * gradient(total, logits)[far]))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-4, atol=1e-6)


def test_the_number_of_logits_chooses_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_MANY", 12)
    taken = []
    monkeypatch.setattr(quality, "fused", lambda x, *a, **k: taken.append((x.numel(), x.device.type)) or x.sum())
    for rows in (3, 4):  # of 3 classes
        quality_focal_loss(torch.zeros(rows, 3), torch.zeros(rows, 3), reduction="sum")
        quality_focal_loss(torch.zeros(rows, 3, device="meta"), torch.zeros(rows, 3, device="meta"), reduction="sum")
    assert taken == [(12, "cpu"), (12, "meta")]


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels, score, dense = random_case(8)  # 280 values: chunks of 280, then of 16 with a rest of 8
    logits.requires_grad_()
    found = []
    for chunk in (280, 16):
        monkeypatch.setattr(_quality_fused, "_CHUNK", chunk)
        for target in (dense, (labels, score)):
            loss = quality_focal_loss(logits, target)
            total = quality_focal_loss(logits, target, reduction="sum")
            torch.testing.assert_close(total, loss.sum())
            torch.testing.assert_close(gradient(total, logits), gradient(loss, logits))
            found.append((loss, gradient(loss, logits)))
    for loss, slope in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(slope, found[0][1])


def test_without_gradients_none_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for name in ("_background", "_soft"):
        real = getattr(_quality_fused, name)
        monkeypatch.setattr(
            _quality_fused, name, lambda *a, name=name, real=real: asked.append((name, a[-1] is not None)) or real(*a)
        )
    logits, labels, score, _ = random_case(12)
    with torch.no_grad():
        quality_focal_loss(logits.requires_grad_(), (labels, score), reduction="sum")
    # the pass over all, the positives, and what they replace
    assert asked == [("_background", False), ("_soft", False), ("_background", False)]
    quality_focal_loss(logits, (labels, score))
    assert asked[3:] == [("_background", True), ("_soft", True)]


def test_the_gradient_is_all_that_is_kept_besides_what_the_caller_gave() -> None:
    logits, labels, score, _ = random_case(12)
    logits.requires_grad_()
    positives = int(((labels >= 0) & (labels < logits.shape[1])).sum())
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        quality_focal_loss(logits, (labels, score), reduction="sum")
    assert [t.numel() for t in kept] == [logits.numel(), logits.numel(), positives, positives]
    assert kept[1].data_ptr() == logits.data_ptr()  # no copy
