"""What a quality takes from its protocol where it says nothing of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import LearningRows, Quality
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows

POINT = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)


class Least(Quality):
    """The least that is a quality."""

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        return {"cls": rows.out.class_logits.sum() / rows.norm}


def test_what_a_form_need_not_say() -> None:
    quality, out = Least(), HeadOutput(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 4))
    assert (quality.num_logits(7), quality.quality_channels, quality.sums) == (7, 0, None)
    assert quality.target(positive_rows(POINT, torch.zeros(1, 4), torch.ones(1, 4))) is None
    assert quality.class_logits(out) is out.class_logits
    scores = torch.tensor([0.3])
    assert quality.scores(scores, out) is scores


def test_the_losses_are_ones_own() -> None:
    class Nothing(Quality):
        """No losses."""

    with pytest.raises(TypeError, match="losses"):
        Nothing()  # type: ignore[abstract]


def test_rows_of_one_batch_alone() -> None:
    rows = LearningRows(HeadOutput(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 4)), torch.tensor([0]), torch.tensor([0]))
    assert (rows.norm, rows.image, rows.sums) == (1.0, None, None)
    assert Least().losses(rows)["cls"].item() == 4
    with pytest.raises(ValueError, match="needs the target of every positive"):
        _ = rows.known_target
