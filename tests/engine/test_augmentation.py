"""What a recipe says about pictures is what training gets."""

from __future__ import annotations

import torch

from gfocal.data.index import DataIndex
from gfocal.engine.start import batches_from, mosaic_of
from gfocal.pictures import Resize
from gfocal.structures import Batch
from small_runs import small

SQUARE = Resize("square", size=64)


def all_batches(index: DataIndex, *overrides: str, step: int = 0) -> list[Batch]:
    """Of two epochs of three steps."""
    return list(batches_from(small(*overrides), index, SQUARE, step, 3, False))


def objects(batches: list[Batch]) -> list[int]:
    return [sum(map(len, batch.targets)) for batch in batches]


def test_mosaic_keys(train_index: DataIndex) -> None:
    plain, mixed = all_batches(train_index), all_batches(train_index, "data.mosaic=1", "data.mosaic_until=0.5")
    # Four pictures' objects, some of which lie outside, in the first epoch; then what there is without.
    assert all(more > 1.5 * few for more, few in zip(objects(mixed)[:3], objects(plain), strict=False))
    for one, other in zip(mixed[3:], plain[3:], strict=True):
        assert torch.equal(one.pictures, other.pictures)
    both = all_batches(train_index, "data.mosaic=1", "data.mosaic_until=1", "data.mosaic_scale=[0.1,0.1]")
    sides = [t.boxes[:, 2:] - t.boxes[:, :2] for batch in both for t in batch.targets]
    assert max(float(side.max()) for side in sides if len(side)) <= 6.4
    assert len(both) == 6


def test_mosaics_end_with_a_share_of_the_epochs() -> None:
    for epochs, until, expected in ((1, 0.9, 1), (3, 0.9, 3), (10, 0.9, 9), (20, 0.8, 16), (4, 1.0, 4)):
        mosaic = mosaic_of(small("data.mosaic=0.5", f"data.mosaic_until={until}", f"schedule.epochs={epochs}"))
        assert mosaic is not None
        assert (mosaic.share, mosaic.epochs) == (0.5, expected)
    assert mosaic_of(small("data.mosaic=0.5", "data.mosaic_until=0")) is None
    assert mosaic_of(small()) is None
