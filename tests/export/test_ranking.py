"""The best of many numbers, of equal ones the first."""

from __future__ import annotations

import pytest
import torch

from gfocal.export.ranking import stable_best


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize(("rows", "numbers", "count"), [(1, 1, 1), (3, 50, 20), (2, 400, 399), (2, 64, 64)])
def test_it_is_what_a_stable_sort_begins_with(rows: int, numbers: int, count: int, levels: int) -> None:
    for seed in range(5):
        values = torch.randint(0, levels, (rows, numbers), generator=torch.Generator().manual_seed(seed)).float() - 1
        best, places = stable_best(values, count)
        wanted = values.sort(dim=-1, descending=True, stable=True)
        assert torch.equal(best, wanted.values[:, :count])
        assert torch.equal(places, wanted.indices[:, :count])


def test_what_fills_up_stands_behind() -> None:
    values = torch.tensor([[-torch.inf, 0.5, -torch.inf, 0.5, 2.0, -torch.inf]])
    best, places = stable_best(values, 5)
    assert best.tolist() == [[2.0, 0.5, 0.5, -torch.inf, -torch.inf]]
    assert places[0, :3].tolist() == [4, 1, 3]
    assert len(set(places[0].tolist())) == 5
