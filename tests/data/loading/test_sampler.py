"""The order of a run: rare classes more often, one size a step, and shares of several processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.repeat_factors import repeat_factors
from gfocal.data.loading.sampler import PositionSampler, RunBatches, epoch_length, epoch_order
from gfocal.errors import UsageError


def index_of(labels: list[list[int]], crowd: list[bool] | None = None) -> DataIndex:
    """A data set without files: the labels of each image."""
    count, boxes = len(labels), sum(map(len, labels))
    return DataIndex.build(
        images_dir=Path("none"),
        annotations=Path("none.json"),
        image_ids=np.arange(count),
        file_names=[f"{i}.jpg" for i in range(count)],
        widths=np.full(count, 10),
        heights=np.full(count, 10),
        box_start=np.cumsum([0, *map(len, labels)]),
        boxes=np.tile([1.0, 1, 5, 5], (boxes, 1)),
        labels=np.array([label for own in labels for label in own], np.int64),
        crowd=None if crowd is None else np.array(crowd),
        names=("a", "b", "c", "unseen"),
    )


def test_factors_by_hand() -> None:
    # a is in 4 of 8 images, b in 2, c in 1 (twice there).
    labels = [[0], [0, 0], [0, 1], [0], [1], [2, 2], [], []]
    factors = repeat_factors(index_of(labels), 0.5)
    root = np.sqrt(2)
    assert np.allclose(factors, [1, 1, root, 1, root, 2, 1, 1])
    assert (repeat_factors(index_of(labels), 0.125) == 1).all()
    # An image has the largest factor of its classes.
    assert np.allclose(repeat_factors(index_of([[0], [0], [0], [0, 2]]), 1.0), [1, 1, 1, 2])


def test_what_is_not_learnt_does_not_count() -> None:
    assert (repeat_factors(index_of([[0], [0], [0], [2]], [False, False, False, True]), 1.0)[3]) == 1
    assert repeat_factors(index_of([[], []]), 1.0).tolist() == [1, 1]


def test_a_rare_class_comes_as_often_as_its_factor_says() -> None:
    labels = [[0]] * 60 + [[1]] * 3 + [[]]
    repeats = repeat_factors(index_of(labels), 0.3)
    expected = np.sqrt(0.3 / (3 / 64))
    assert repeats[60] == pytest.approx(expected)  # 2.53
    orders = [epoch_order(64, 7, epoch, repeats) for epoch in range(400)]
    assert {len(order) for order in orders} == {int(61 + 3 * expected)} == {epoch_length(64, repeats)}
    counts = Counter(np.concatenate(orders).tolist())
    # One place of 68.6 is left out, so each comes 0.991 times as often; a share of .53 over 400 draws varies by .025.
    for rare in (60, 61, 62):
        assert counts[rare] / 400 == pytest.approx(expected * 68 / (61 + 3 * expected), abs=0.1)
    assert all(0.96 <= counts[i] / 400 <= 1 for i in [*range(60), 63])
    for order in orders[:50]:
        assert {Counter(order.tolist())[rare] for rare in (60, 61, 62)} <= {1, 2, 3}
    # Three images are not rounded alike, and copies do not stand side by side.
    assert len({tuple(Counter(order.tolist())[rare] for rare in (60, 61, 62)) for order in orders}) >= 7
    assert np.mean([(order[1:] == order[:-1]).sum() for order in orders]) < 0.5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1, 5), min_size=1, max_size=80), st.integers(0, 2**40), st.integers(0, 1000))
def test_every_image_comes_as_often_as_its_repeats_rounded_up_or_down(
    repeats: list[float], seed: int, epoch: int
) -> None:
    counts = np.bincount(epoch_order(len(repeats), seed, epoch, np.array(repeats)), minlength=len(repeats))
    assert (counts <= np.ceil(repeats)).all()
    # What is left out of the epoch is one place at most.
    assert np.maximum(np.floor(repeats) - counts, 0).sum() <= 1
    assert counts.sum() == int(sum(repeats) + 1e-6)


def test_repeats_of_one_are_an_epoch() -> None:
    assert sorted(epoch_order(50, 3, 4, np.ones(50)).tolist()) == list(range(50))
    whole = list(PositionSampler(9, seed=1, epoch=2, repeats=np.full(9, 1.5)))
    assert [key[2] for key in whole] == list(range(13))
    assert list(PositionSampler(9, seed=1, epoch=2, start=4, repeats=np.full(9, 1.5))) == whole[4:]


OPTIONS = {"seed": 3, "batch_size": 2, "batches": 4, "epochs": 3}


@pytest.mark.parametrize("more", [{}, {"repeats": np.linspace(1, 2, 17)}, {"sides": (64, 96, 128), "accumulate": 2}])
def test_processes_share_the_batches_of_one(more: dict) -> None:
    whole = list(RunBatches(17, **{**OPTIONS, "batch_size": 4}, **more))
    shares = [list(RunBatches(17, **OPTIONS, **more, rank=rank, processes=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    assert {len(batch) for share in shares for batch in share} == {2}
    for epoch, batch in ((0, 3), (2, 1), (3, 0)):
        rest = RunBatches(17, **OPTIONS, **more, rank=1, processes=2, epoch=epoch, batch=batch)
        assert list(rest) == shares[1][4 * epoch + batch :]
        assert len(rest) == 12 - 4 * epoch - batch


def test_a_data_set_smaller_than_a_batch_of_the_run_is_shared() -> None:
    shares = [
        next(iter(RunBatches(5, seed=0, batch_size=4, batches=1, epochs=1, rank=rank, processes=3)))
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [1, 2, 2]
    assert sorted(key[0] for share in shares for key in share) == list(range(5))
    with pytest.raises(UsageError, match="an epoch of 2 pictures is too short for 3 processes"):
        RunBatches(2, seed=0, batch_size=4, batches=1, epochs=1, rank=0, processes=3)


def test_a_step_has_one_size_and_steps_have_all_sizes() -> None:
    run = list(RunBatches(64, seed=5, batch_size=4, batches=16, epochs=20, sides=(64, 96, 128), accumulate=4))
    steps = [{key[3] for batch in run[i : i + 4] for key in batch} for i in range(0, len(run), 4)]
    assert len(steps) == 80
    assert all(len(step) == 1 for step in steps)
    counts = Counter(step.pop() for step in steps)
    # Each about 27 times; the standard deviation is 4.2.
    assert set(counts) == {64, 96, 128}
    assert min(counts.values()) > 12
    assert {len(key) for key in next(iter(RunBatches(9, **OPTIONS)))} == {3}
