"""Tiles of an image, and one list of detections from all of them."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gfocal.boxes import aligned_iou
from gfocal.errors import UsageError
from gfocal.images.io import Resize
from gfocal.images.tiling import Tiling, cut_out
from gfocal.models import tiled_prediction as tiles
from gfocal.models.tiled_prediction import find_in_tiles, merge, together
from gfocal.recipe import load_recipe
from gfocal.structures import Detections
from gfocal.zoo import build_detector

# --- the grid -------------------------------------------------------------------------------------------------------


def spans(length: int, side: int, overlap: float) -> list[tuple[int, int]]:
    """Tiles along the width of an image."""
    windows = Tiling(side, overlap, whole=False).windows(side, length)
    return [(int(x1), int(x2)) for x1, _, x2, _ in windows]


@pytest.mark.parametrize(
    ("length", "side", "overlap", "expected"),
    [
        (100, 100, 0.2, [(0, 100)]),
        (101, 100, 0.2, [(0, 100), (1, 101)]),
        (180, 100, 0.2, [(0, 100), (80, 180)]),
        (181, 100, 0.2, [(0, 100), (80, 180), (81, 181)]),
        (300, 100, 0.0, [(0, 100), (100, 200), (200, 300)]),
        (250, 100, 0.5, [(0, 100), (50, 150), (100, 200), (150, 250)]),
        (130, 100, 0.9, [(0, 100), (10, 110), (20, 120), (30, 130)]),
        (40, 100, 0.2, [(0, 40)]),
    ],
)
def test_tiles_of_a_row(length: int, side: int, overlap: float, expected: list[tuple[int, int]]) -> None:
    assert spans(length, side, overlap) == expected


def test_tiles_of_a_image() -> None:
    windows = Tiling(64, 0.25).windows(height=100, width=70).tolist()
    tiles = [[0, 0, 64, 64], [6, 0, 70, 64], [0, 36, 64, 100], [6, 36, 70, 100]]
    assert windows == [[0, 0, 70, 100], *tiles]
    assert Tiling(64, 0.25, whole=False).windows(100, 70).tolist() == tiles
    assert Tiling(64).windows(30, 64).tolist() == [[0, 0, 64, 30]], "a small picture is looked at once"


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    side=st.integers(32, 200),
    overlap=st.floats(0, 0.9),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_an_object_as_large_as_the_overlap_is_whole_in_a_tile(
    height: int, width: int, side: int, overlap: float, place: tuple[float, float]
) -> None:
    tiling = Tiling(side, overlap, whole=False)
    windows = tiling.windows(height, width)
    size = min(tiling.shared, height, width)
    assert tiling.shared >= side * overlap - 1e-6
    y, x = place[0] * (height - size), place[1] * (width - size)
    inside = (windows[:, :2] <= (x, y)).all(1) & (windows[:, 2:] >= (x + size, y + size)).all(1)
    assert inside.any()
    sizes = windows[:, 2:] - windows[:, :2]
    assert (sizes == (min(side, width), min(side, height))).all()
    assert windows.min() == 0
    assert windows.max(0)[2:].tolist() == [width, height]


@pytest.mark.parametrize(("side", "overlap"), [(31, 0.2), (0, 0.2), (64, -0.1), (64, 0.91), (64, float("nan"))])
def test_what_is_no_grid(side: int, overlap: float) -> None:
    with pytest.raises(UsageError, match="tile"):
        Tiling(side, overlap)


def test_a_tile_is_a_copy() -> None:
    image = torch.arange(3 * 6 * 8, dtype=torch.uint8).reshape(3, 6, 8)
    part = cut_out(image, (2, 1, 5, 6))
    assert torch.equal(part, image[:, 1:6, 2:5])
    assert part.untyped_storage().nbytes() == 45
    assert part.stride(0) == 1, "channels last"
    assert cut_out(image, (0, 0, 8, 6)) is image


# --- merging, by hand: tiles of 100 that share 20, of an image 180 x 180 -------------------------------------------

TILING = Tiling(100, 0.2)
WINDOWS = TILING.windows(180, 180)
WHOLE, TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT = range(5)


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """From (x1, y1, x2, y2, score, label) each; edge_std is ten times the score."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(
        table[:, :4], table[:, 4], table[:, 5].long(), ("a", "b"), edge_std=table[:, 4:5].expand(-1, 4) * 10
    )


def merged(found: dict[int, Sequence[tuple[float, float, float, float, float, int]]]) -> list[list[float]]:
    """What is left, as [x1, y1, x2, y2, score, label] each."""
    parts = [detections(*found.get(i, [])) for i in range(5)]
    left = merge(parts, WINDOWS, TILING, size=(180, 180), nms_iou=0.6)
    assert torch.equal(left.edge_std[:, 0], left.scores * 10)
    return [
        [*box, round(score, 3), label]
        for box, score, label in zip(left.boxes.tolist(), left.scores.tolist(), left.labels.tolist(), strict=True)
    ]


def test_what_two_tiles_find_counts_once() -> None:
    found = {TOP_LEFT: [(82, 10, 97, 30, 0.6, 0)], TOP_RIGHT: [(82, 11, 97, 30, 0.7, 0)]}
    assert merged(found) == [[82, 11, 97, 30, 0.7, 0]]


def test_a_cut_box_goes_where_a_whole_one_holds_it() -> None:
    # The cut one has the better score: suppression by IoU alone (14 / 19 of overlap or less) would keep it.
    found = {TOP_LEFT: [(86, 10, 100, 30, 0.9, 0)], TOP_RIGHT: [(86, 10, 105, 30, 0.8, 0)]}
    assert merged(found) == [[86, 10, 105, 30, 0.8, 0]]


def test_a_cut_box_stays_where_nothing_better_is_known() -> None:
    cut = (90, 10, 100, 30, 0.9, 0)
    assert merged({TOP_LEFT: [cut]}) == [[90, 10, 100, 30, 0.9, 0]]
    # Another class, half its score, or less than half of its area are nothing better.
    assert len(merged({TOP_LEFT: [cut], TOP_RIGHT: [(86, 10, 115, 30, 0.9, 1)]})) == 2
    assert len(merged({TOP_LEFT: [cut], TOP_RIGHT: [(86, 10, 115, 30, 0.44, 0)]})) == 2
    assert len(merged({TOP_LEFT: [cut], TOP_RIGHT: [(95.5, 10, 115, 30, 0.9, 0)]})) == 2
    assert len(merged({TOP_LEFT: [cut], TOP_RIGHT: [(94.5, 10, 115, 30, 0.9, 0)]})) == 1


@pytest.mark.parametrize(("end", "left"), [(98.9, 2), (99.1, 1), (100, 1)])
def test_a_cut_box_need_not_end_just_at_the_border(end: float, left: int) -> None:
    holder = (82, 10, 130, 60, 0.9, 0)
    assert len(merged({TOP_LEFT: [(85, 15, end, 30, 0.9, 0)], TOP_RIGHT: [holder]})) == left
    assert len(merged({TOP_LEFT: [(15, 85, 30, end, 0.9, 0)], BOTTOM_LEFT: [(10, 82, 60, 130, 0.9, 0)]})) == left


def test_a_box_at_the_border_of_the_image_is_whole() -> None:
    # Each would be held by the other; neither ends where a tile cuts.
    found = {TOP_LEFT: [(0, 0, 30, 30, 0.9, 0), (0, 0, 60, 60, 0.8, 0)]}
    assert len(merged(found)) == 2


def test_two_cut_boxes_do_not_drop_each_other() -> None:
    # 120 pixels wide and not found on the whole image: both halves stay, and they say that tiles are too small.
    found = {TOP_LEFT: [(30, 10, 100, 30, 0.9, 0)], TOP_RIGHT: [(80, 10, 150, 30, 0.8, 0)]}
    assert len(merged(found)) == 2


def test_a_large_object_across_four_tiles_is_found_once() -> None:
    parts = {
        i: [(*np.clip((40, 40, 140, 140), (*w[:2], *w[:2]), (*w[2:], *w[2:])), 0.9, 0)] for i, w in enumerate(WINDOWS)
    }
    assert len(parts) == 5
    assert merged({**parts, WHOLE: [(40, 40, 140, 140, 0.5, 0)]}) == [[40, 40, 140, 140, 0.5, 0]]


def test_a_small_box_of_the_whole_image_gives_way_to_a_tile_s() -> None:
    # 16 pixels are whole in a tile: of two boxes with an IoU of 0.4 the tile's is the finer one.
    coarse, fine = (30, 30, 46, 46, 0.9, 0), (34, 34, 48, 48, 0.6, 0)
    assert merged({WHOLE: [coarse], TOP_LEFT: [fine]}) == [[34, 34, 48, 48, 0.6, 0]]
    assert merged({WHOLE: [coarse]}) == [[30, 30, 46, 46, 0.9, 0]], "found nowhere else"
    for large in ((30, 30, 54, 54, 0.9, 0), (30, 30, 40, 54, 0.9, 0)):  # 24 pixels need not be whole in a tile
        assert len(merged({WHOLE: [large], TOP_LEFT: [(31, 36, 60, 60, 0.6, 0)]})) == 2


def test_everything_that_detections_have_is_merged() -> None:
    one = Detections(torch.rand(2, 4), torch.rand(2), torch.tensor([0, 1]), ("a", "b"), torch.rand(2, 4),
                     torch.rand(2, 4, 8), torch.tensor([0, 2]))  # fmt: skip
    both = together([one, one[:1]])
    for field in dataclasses.fields(Detections):
        if field.name not in ("names", "image_size", "calibration"):
            value = getattr(one, field.name)
            assert torch.equal(getattr(both, field.name), torch.cat([value, value[:1]]))
    assert both.names == ("a", "b")
    plain = dataclasses.replace(one, edge_std=None, edge_probs=None, levels=None)
    assert together([plain, plain]).edge_std is None


def test_many_boxes_are_compared_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = []
    for x1, y1, x2, y2 in WINDOWS.tolist():
        corner = torch.rand(300, 2, generator=generator) * 60 + torch.tensor([x1, y1])
        size = torch.rand(300, 2, generator=generator) * 40 + 1
        boxes = torch.cat([corner, (corner + size).minimum(torch.tensor([x2, y2]))], 1)
        parts.append(Detections(boxes, torch.rand(300, generator=generator), torch.arange(300) % 3))
    left = merge(parts, WINDOWS, TILING, size=(180, 180), nms_iou=1.0)
    assert 700 < len(left) < 1450, "only doubtful ones go"
    monkeypatch.setattr(tiles, "_PAIRS", 2000)
    again = merge(parts, WINDOWS, TILING, size=(180, 180), nms_iou=1.0)
    assert torch.equal(left.boxes, again.boxes)
    strict = merge(parts, WINDOWS, TILING, size=(180, 180), nms_iou=0.5)
    iou = aligned_iou(strict.boxes[:, None], strict.boxes) * (strict.labels[:, None] == strict.labels)
    assert iou.fill_diagonal_(0).max() <= 0.5


def test_classes_that_exclude_each_other_are_one_class_in_merging() -> None:
    # A box of b that the border of its tile cuts, held by a sound one of a; and one of b on the very box of a.
    cut, sound, twin = (80, 20, 100, 60, 0.5, 1), (82, 20, 140, 60, 0.8, 0), (20, 110, 60, 150, 0.9, 0)
    parts = [detections() for _ in WINDOWS]
    parts[TOP_LEFT], parts[TOP_RIGHT] = detections(cut), detections(sound)
    parts[BOTTOM_LEFT] = detections(twin, (20, 110, 60, 151, 0.7, 1))
    how = {"size": (180, 180), "nms_iou": 0.6}
    assert merge(parts, WINDOWS, TILING, **how).labels.tolist() == [0, 0, 1, 1]
    left = merge(parts, WINDOWS, TILING, **how, class_agnostic=True)
    assert left.boxes.tolist() == [list(twin[:4]), list(sound[:4])]
    assert left.labels.tolist() == [0, 0]


# --- looking, with a detector that knows the answers ----------------------------------------------------------------


class Knows:
    """Finds the objects that are in a tile at least by a third, cut off at its borders; sees none below a size.

    Where a tile lies is written in the colours of its first pixel, how much is shown by its shape.
    """

    def __init__(self, height: int, width: int, objects: Sequence[tuple[float, float, float, float]], least: float):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        self.image = torch.stack([x % 256, y % 256, (x // 256) * 16 + y // 256]).to(torch.uint8)
        self.objects, self.least = torch.tensor(objects), least
        self.batches: list[int] = []

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        self.batches.append(len(images))
        return [self.look(image) for image in images]

    def look(self, part: Tensor) -> Detections:
        red, green, blue = part[:, 0, 0].tolist()
        x, y = red + 256 * (blue // 16), green + 256 * (blue % 16)
        height, width = part.shape[-2:]
        boxes = self.objects - torch.tensor([x, y, x, y])
        clipped = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        sides = (clipped[:, 2:] - clipped[:, :2]).clamp(min=0)
        share = sides.prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
        # As a detector that makes all images equally large.
        found = clipped[(share > 0.3) & (sides.amax(1) / max(height, width) >= self.least)]
        return Detections(found, torch.full((len(found),), 0.8), torch.zeros(len(found), dtype=torch.int64))


def random_objects(count: int, sizes: tuple[float, float], length: int) -> list[tuple[float, float, float, float]]:
    """Far enough from each other that none is taken for another one."""
    rng = np.random.default_rng(5)
    cell = length / round(count**0.5)
    boxes = []
    for i in range(round(count**0.5) ** 2):
        size = rng.uniform(*sizes, 2)
        y, x = np.array(divmod(i, round(count**0.5))) * cell + rng.uniform(0, cell - size[::-1])
        boxes.append((float(x), float(y), float(x + size[0]), float(y + size[1])))
    return boxes


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_every_object_is_found_once_wherever_it_lies(batch_size: int) -> None:
    small = random_objects(400, (8, 32), 1000)  # the tiles share 32
    knows = Knows(1000, 1000, small, least=0.04)
    found = find_in_tiles(knows.image, Tiling(160, 0.2), knows, nms_iou=0.6, batch_size=batch_size)
    assert len(found) == 400
    expected = sorted(small)
    assert np.allclose(sorted(map(tuple, found.boxes.tolist())), expected, atol=1e-3)
    assert sum(knows.batches) == 64 + 1
    assert max(knows.batches) <= batch_size
    assert len(find_in_tiles(knows.image, Tiling(2000), knows, nms_iou=0.6)) == 0, "too small on the whole picture"


def test_large_objects_are_found_on_the_whole_image() -> None:
    large = [(100.0, 100.0, 900.0, 700.0), (300.0, 720.0, 520.0, 980.0)]
    knows = Knows(1000, 1000, large, least=0.1)
    tiling = Tiling(320, 0.2)
    found = find_in_tiles(knows.image, tiling, knows, nms_iou=0.6)
    assert sorted(found.boxes.tolist()) == sorted(map(list, large))
    alone = find_in_tiles(knows.image, dataclasses.replace(tiling, whole=False), knows, nms_iou=0.6)
    assert large[0] not in map(tuple, alone.boxes.tolist())


def test_one_tile_is_the_image() -> None:
    knows = Knows(50, 60, [(3.0, 4.0, 20.0, 30.0)], least=0.0)
    assert find_in_tiles(knows.image, Tiling(64), knows, nms_iou=0.6).boxes.tolist() == [[3, 4, 20, 30]]
    assert knows.batches == [1]


def test_memory_is_that_of_a_batch_of_tiles() -> None:
    image = torch.zeros(1, dtype=torch.uint8).expand(3, 10_000, 10_000)  # 300 MB if it were real
    shapes: list[tuple[int, ...]] = []

    def find(parts: Sequence[Tensor]) -> list[Detections]:
        shapes.extend(tuple(part.shape) for part in parts)
        assert sum(part.untyped_storage().nbytes() for part in parts) <= 4 * 3 * 640 * 640
        none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        return [none] * len(parts)

    tracemalloc.start()
    assert len(find_in_tiles(image, Tiling(640), find, nms_iou=0.6, batch_size=4)) == 0
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert shapes.count((3, 640, 640)) == 20 * 20
    assert shapes[0] == (3, 10_000, 10_000)


# --- DenseDetector.predict ------------------------------------------------------------------------------------------


def test_predict_in_tiles() -> None:
    torch.manual_seed(0)
    overrides = ["data.resize.size=64", "data.tile=96", "model.pretrained=false"]
    detector = build_detector(load_recipe("gfl_nano", overrides), ["a", "b"])
    assert detector.tiling == Tiling(96, 0.2)
    image = torch.randint(0, 256, (3, 150, 200), dtype=torch.uint8)
    seen: list[tuple[int, ...]] = []
    detector.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    found = detector.predict(image, score_threshold=0.001)
    assert seen == [(1, 3, 64, 64), (6, 3, 64, 64)]
    assert detector.training, "left as it was"
    assert found.edge_std is not None
    assert found.edge_probs is not None
    assert (found.scores.diff() <= 0).all()
    assert found.boxes[:, 2].max() > 96, "in pixels of the picture"
    # The same by hand.
    plain = build_detector(load_recipe("gfl_nano", overrides[:1]), ["a", "b"], pretrained=False)
    plain.load_state_dict(detector.state_dict())
    windows = Tiling(96).windows(150, 200)
    parts = []
    for x1, y1, x2, y2 in windows.tolist():
        part = plain.predict(image[:, y1:y2, x1:x2].contiguous(), score_threshold=0.001)
        parts.append(dataclasses.replace(part, boxes=part.boxes + torch.tensor([x1, y1, x1, y1])))
    expected = merge(parts, windows, Tiling(96), size=(150, 200), nms_iou=0.6)
    assert len(found) == len(expected) > 30
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    seen.clear()
    [wider] = plain.predict([image], score_threshold=0.001, tile=96, overlap=0.6, batch_size=4)
    again = detector.predict(image, score_threshold=0.001, overlap=0.6, batch_size=2)
    assert torch.allclose(wider.scores, again.scores, atol=1e-5)
    detector.predict(image, tile=0)
    assert [shape[0] for shape in seen] == [1, *[2] * 6, 1]
    detector.tiling = Tiling(96, 0.6, whole=False)
    seen.clear()
    detector.predict(image, tile=64)  # the rest as the detector has it: 7 x 5 tiles that share 39 pixels
    assert sum(shape[0] for shape in seen) == 35


def test_scales_that_differ_by_axis_reach_edge_std() -> None:
    """A tile 96 x 48 that enters as a square: the deviation of left and right is stretched twice as much."""
    torch.manual_seed(0)
    detector = build_detector(
        load_recipe("gfl_nano", ["data.resize.size=64", "model.pretrained=false"]), ["a"], pretrained=False
    ).eval()
    image = torch.randint(0, 256, (3, 48, 150), dtype=torch.uint8)
    found = detector.predict(image, score_threshold=0.001, tile=96)
    alone = detector.predict(image[:, :, :96].contiguous(), score_threshold=0.001)
    assert detector.resize == Resize("square", 64)
    pairs = (found.boxes[:, None] == alone.boxes).all(2).nonzero()
    assert len(pairs) > 2
    assert torch.equal(found.edge_std[pairs[:, 0]], alone.edge_std[pairs[:, 1]])  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 16}, "at least 32 pixels, got 16"),
        ({"tile": 64, "overlap": 1.0}, r"must lie in \[0, 0.9\], got 1.0"),
        ({"overlap": 0.3}, "give tile too"),
        ({"tile": 0, "overlap": 0.3}, "give tile too"),
        ({"tile": 64, "batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_what_predict_refuses(options: dict[str, float], message: str) -> None:
    detector = build_detector(load_recipe("gfl_nano", ["model.pretrained=false"]), ["a"])
    with pytest.raises(UsageError, match=message):
        detector.predict(torch.zeros(3, 64, 64, dtype=torch.uint8), **options)
