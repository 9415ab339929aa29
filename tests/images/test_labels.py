"""Labels near their boxes, over no other label, over as little of other boxes as can be."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from gfocal.images.labels import Rectangle, place_labels

IMAGE = (1000, 800)
SIZE = (80.0, 20.0)


def area(a: Rectangle, b: Rectangle) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def place(boxes: list[Rectangle], size: tuple[float, float] = SIZE) -> list[Rectangle]:
    labels = [(number, size) for number in range(len(boxes))]
    return [found.place for found in place_labels(boxes, labels, IMAGE, line=2)]


def test_alone_it_stands_above_the_left_corner() -> None:
    assert place([(100, 100, 300, 300)]) == [(99, 79, 179, 99)]


def test_where_there_is_no_room_above_it_goes_below_or_inside() -> None:
    assert place([(100, 0, 300, 300)]) == [(99, 301, 179, 321)]
    ((x1, y1, x2, y2),) = place([(0, 0, *IMAGE)])
    assert (x1, y1) == (0, 0) or (x2, y2) == IMAGE


def test_a_small_box_of_another_object_stays_visible() -> None:
    # Above the large box, where its label usually goes, is a small one: the label goes elsewhere.
    large, small = (100.0, 100.0, 400.0, 400.0), (110.0, 82.0, 140.0, 97.0)
    mine, _ = place([large, small])
    assert area(mine, small) == 0
    # A box that is everywhere says nothing: the usual place is kept.
    assert place([large, (0.0, 0.0, 1000.0, 800.0)])[0] == (99, 79, 179, 99)


@pytest.mark.parametrize("seed", range(3))
def test_in_a_crowd_labels_cover_fewer_boxes_and_labels_than_at_the_usual_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 700, (60, 2))
    boxes = [tuple(row) for row in np.concatenate([corner, corner + rng.uniform(20, 90, (60, 2))], 1).tolist()]
    usual = [(b[0], max(b[1] - 20, 0), b[0] + 50, max(b[1] - 20, 0) + 20) for b in boxes]

    def shares(places: list[Rectangle]) -> tuple[float, float]:
        labels = sum(area(a, b) for n, a in enumerate(places) for b in places[:n]) / 1000
        pairs = [(a, b) for n, a in enumerate(places) for m, b in enumerate(boxes) if m != n]
        others = sum(area(a, b) / ((b[2] - b[0]) * (b[3] - b[1])) for a, b in pairs)
        return labels, others

    mine, theirs = shares(place(boxes, (50.0, 20.0))), shares(usual)
    assert mine[0] < 0.2 * theirs[0]
    assert mine[1] < theirs[1]


@pytest.mark.parametrize("box", [(0, 0, 1000, 800), (-50, -50, 20, 20), (990, 790, 1000, 800), (300, 300, 300, 300)])
@pytest.mark.parametrize("size", [SIZE, (2000.0, 20.0)])
def test_labels_stay_inside_the_image(box: Rectangle, size: tuple[float, float]) -> None:
    ((x1, y1, x2, y2),) = place([box], size)
    assert x1 >= 0
    assert 0 <= y1 < y2 <= IMAGE[1]
    assert x2 <= IMAGE[0] or (x1 == 0 and size[0] > IMAGE[0])


def test_nothing_to_place() -> None:
    assert place([]) == []
    assert place_labels([(0, 0, 9, 9)], [], IMAGE, line=2) == []


def test_how_much_of_a_label_another_one_covers() -> None:
    # An image of one label's size has one place: the second covers the first, a third of another size half of itself.
    full, half = (100.0, 20.0), (50.0, 40.0)
    found = place_labels([(0, 0, 100, 40)], [(0, full), (0, full), (0, half)], (100, 20), line=2)
    assert [one.shared for one in found] == [0, 1, 0.5]


def test_boxes_without_labels_are_not_covered_either() -> None:
    large, small = (100.0, 100.0, 400.0, 400.0), (110.0, 82.0, 140.0, 97.0)
    (alone,) = place_labels([large], [(0, SIZE)], IMAGE, line=2)
    (beside,) = place_labels([small, large], [(1, SIZE)], IMAGE, line=2)
    assert area(alone.place, small) > 0
    assert area(beside.place, small) == 0


def test_thousands_of_boxes_take_little_memory() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 900, (3000, 2))
    boxes = np.concatenate([corner, corner + 30], 1).tolist()
    tracemalloc.start()
    place_labels(boxes, [(number, SIZE) for number in range(300)], IMAGE, line=2)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
