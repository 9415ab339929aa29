"""What a proof measures and what it lets pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gfocal.detections import Detections
from gfocal.export.parity import BARS, Difference, Parity, beyond, compare, undecided
from gfocal.exported.contract import Precision
from helpers.calibrated import Reach

BOXES = [[0.0, 0, 10, 10], [20, 20, 60, 60], [100, 0, 140, 40]]


def found(boxes: list[list[float]] = BOXES, scores: tuple[float, ...] = (0.9, 0.6, 0.3), **more: object) -> Detections:
    count = len(boxes)
    arrays = (np.array(boxes, np.float32).reshape(-1, 4), np.array(scores[:count], np.float32))
    given = {"edge_std": np.full((count, 4), 2.0, np.float32), **more}
    return Detections(*arrays, np.zeros(count, np.int64), ("a", "b"), **given)  # type: ignore[arg-type]


def compared(one: Detections, other: Detections, limit: int = 100) -> Parity:
    return compare([one], [other], threshold=0.05, limit=limit, rounding=1e-4)


def test_differences_by_hand() -> None:
    other = found(scores=(0.9, 0.6, 0.301))
    other.boxes[1, 2] += 0.5
    other = replace(other, edge_std=other.edge_std + 0.25)  # type: ignore[operator]
    parity = compared(found(), other)
    assert (parity.images, parity.detections, parity.unmatched, parity.borderline) == (1, 3, 0, 0)
    assert parity.score.largest == pytest.approx(0.001, abs=1e-6)
    assert parity.box.largest == pytest.approx(0.5)
    assert parity.edge_std == Difference(0.25, 0.25)


def test_another_order_is_no_difference() -> None:
    swapped = found()[[1, 0, 2]]
    assert compared(found(), swapped).box.largest == 0


def test_of_two_boxes_in_one_place_the_score_says_which_is_which() -> None:
    boxes = [BOXES[0], BOXES[0]]
    parity = compared(found(boxes, (0.9, 0.85)), found(boxes, (0.9, 0.85))[[1, 0]])
    assert (parity.unmatched, parity.score.largest) == (0, 0)


@pytest.mark.parametrize("change", ["missing", "class", "far", "score"])
def test_what_one_of_them_has_alone(change: str) -> None:
    other = found()
    if change == "missing":
        other = other[1:]
    elif change == "class":
        other.labels[0] = 1
    elif change == "far":
        other.boxes[0] += 5
    else:
        other.scores[0] = 0.5
    assert compared(found(), other).unmatched == (1 if change == "missing" else 2)


def test_at_the_threshold_rounding_decides() -> None:
    one = found(scores=(0.9, 0.6, 0.05005))
    assert (compared(one, one[:2]).unmatched, compared(one, one[:2]).borderline) == (0, 1)


def test_so_it_does_at_the_last_place() -> None:
    """Of three of equal score two are kept, one way or the other."""
    every = found(scores=(0.5, 0.5, 0.5))
    parity = compared(every[[0, 1]], every[[0, 2]], limit=2)
    assert (parity.unmatched, parity.borderline) == (0, 2)
    assert compared(every[[0, 1]], every[[0, 2]], limit=3).unmatched == 2


def test_boxes_without_edges() -> None:
    assert compared(found(edge_std=None), found(edge_std=None)).edge_std is None


def test_intervals_of_a_calibration() -> None:
    other = found()
    other.boxes[1, 2] += 0.5
    parity = compared(replace(found(), calibration=Reach(4)), replace(other, calibration=Reach(4.25)))
    assert parity.edge_interval is not None
    assert parity.edge_interval.largest == pytest.approx(0.75)  # the upper end of the edge that moved
    for without in (None, Reach(4, unfit="tiles")):
        one = replace(found(), calibration=without)
        assert compared(one, replace(found(), calibration=Reach(4))).edge_interval is None


def test_intervals_without_an_end() -> None:
    endless = replace(found(), calibration=Reach(np.inf))
    assert compared(endless, endless).edge_interval == Difference(0.0, 0.0)


def test_nothing_found_proves_nothing() -> None:
    parity = compared(found([], ()), found([], ()))
    assert parity.score == Difference(0.0, 0.0)
    assert "nothing is proved" in beyond(parity, BARS["fp32"], None)[0]


GOOD = Parity(2, 2000, 1999, 2, 5, Difference(9e-5, 1e-5), Difference(0.019, 0.01), Difference(0.019, 0.01), clear=2000)


def test_what_is_within_the_bar_passes() -> None:
    assert beyond(GOOD, BARS["fp32"], (0.5, 0.50004)) == []
    assert beyond(replace(GOOD, edge_std=None), BARS["fp32"], None) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": Difference(2e-4, 0)}, "score: the largest difference is 0.0002, allowed 0.0001"),
        ({"box": Difference(0.03, 0)}, "box: the largest difference is 0.03 px, allowed 0.02 px"),
        ({"edge_std": Difference(float("nan"), 0)}, "edge_std: the largest difference is nan px"),
        ({"edge_interval": Difference(0.03, 0)}, "edge_interval: the largest difference is 0.03 px, allowed 0.02 px"),
        ({"unmatched": 3}, "3 detections have no counterpart, of 2,000, allowed 2"),
    ],
)
def test_what_is_beyond_is_said(change: dict[str, object], said: str) -> None:
    (line,) = beyond(replace(GOOD, **change), BARS["fp32"], None)  # type: ignore[arg-type]
    assert line.startswith(said)


def test_ap_may_not_differ_in_fp32_and_may_lose_a_tenth_of_a_point_in_fp16() -> None:
    assert len(beyond(GOOD, BARS["fp32"], (0.5, 0.4999))) == 1
    assert len(beyond(GOOD, BARS["fp32"], (0.5, 0.5001))) == 1
    assert beyond(GOOD, BARS["fp16"], (0.5, 0.4991)) == []
    assert beyond(GOOD, BARS["fp16"], (0.5, 0.51)) == []
    assert "AP is 0.4980" in beyond(GOOD, BARS["fp16"], (0.5, 0.498))[0]


def test_eight_bits_are_measured_by_ap_or_by_what_stays() -> None:
    rough = replace(GOOD, unmatched=600, score=Difference(0.1, 0.08), box=Difference(40.0, 12.0))
    assert beyond(rough, BARS["int8"], (0.5, 0.4901), 100) == []
    assert (
        "AP is 0.4890, that of the detector 0.5000, allowed 0.01 less"
        in beyond(rough, BARS["int8"], (0.5, 0.489), 100)[0]
    )
    assert "600 detections have no counterpart" in beyond(rough, BARS["int8"], None)[0]
    assert beyond(replace(rough, unmatched=500), BARS["int8"], None) == []


@pytest.mark.parametrize("precision", ["int8", "bf16"])
@pytest.mark.parametrize(
    ("ap", "objects", "why"),
    [
        ((0.0, 0.0), 500, "that of the detector is 0.0000 on these images, and 0.05 is needed"),
        ((0.004, 0.0021), 500, "that of the detector is 0.0040 on these images"),
        ((0.5, 0.5), 99, "the images have 99 labelled objects, and 100 are needed"),
    ],
)
def test_labels_that_say_nothing_do_not_decide(
    precision: Precision, ap: tuple[float, float], objects: int, why: str
) -> None:
    other = replace(GOOD, detections=9000, found=9000, clear=1000, unmatched=1900)
    (line,) = beyond(other, BARS[precision], ap, objects)
    assert line.startswith("1,900 detections have no counterpart, of 1,000")
    assert f"; AP alone does not decide: {why}" in line
    assert beyond(replace(other, unmatched=20), BARS[precision], ap, objects) == []
    assert beyond(other, BARS[precision], (0.05, 0.05), 100) == []


@pytest.mark.parametrize(("clear", "proved"), [(1, False), (49, False), (50, True)])
def test_few_detections_prove_nothing_about_rough_precisions(clear: int, proved: bool) -> None:
    other = replace(GOOD, detections=clear, found=clear, clear=clear, unmatched=0)
    for precision in ("int8", "bf16"):
        lines = beyond(other, BARS[precision], None)  # type: ignore[index]
        assert lines == [] if proved else "50 are needed: give --data with more images, or with labels" in lines[0]
        assert beyond(other, BARS[precision], (0.5, 0.5), 100) == [], "labels say enough"  # type: ignore[index]
    assert beyond(other, BARS["fp32"], None) == []


def test_it_is_told_whether_labels_decide() -> None:
    assert undecided(BARS["fp32"], None, 0) is undecided(BARS["int8"], (0.5, 0.5), 100) is None
    assert undecided(BARS["int8"], None, 0) == "the images have no labels"
    assert undecided(BARS["int8"], (0.5, 0.5), 99) == "the images have 99 labelled objects, and 100 are needed"


def test_no_precision_may_lose_half_of_a_small_ap() -> None:
    (line,) = beyond(GOOD, BARS["int8"], (0.008, 0.003))
    assert "allowed 0.004 less" in line
    assert beyond(GOOD, BARS["int8"], (0.0, 0.0)) == []


def test_a_detector_beside_itself_is_counted_once() -> None:
    assert compared(own := found(), own).clear == 3


def test_what_rounding_decides_counts_on_neither_side() -> None:
    """A thousand boxes near the threshold do not hide that half of the clear ones are gone."""
    clear, near = [[0, 0, 9, 9 + i] for i in range(20)], [[50, 50, 99, 60 + i] for i in range(1000)]
    detector = found([*clear, *near], [0.6] * 20 + [0.1] * 1000)
    parity = compare([detector], [detector[np.arange(10, 1020)]], threshold=0.05, limit=10**4, rounding=0.1)
    assert (parity.detections, parity.clear, parity.unmatched) == (1020, 20, 10)
    assert beyond(parity, BARS["int8"], None) == ["10 detections have no counterpart, of 20, allowed 5"]


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_where_rounding_decides_everything_nothing_is_proved(precision: Precision) -> None:
    other = replace(GOOD, clear=0, unmatched=0)
    (line,) = beyond(other, BARS[precision], None)
    assert "nothing is proved: give --data" in line
    assert beyond(other, BARS[precision], (0.5, 0.5), 100) == [], "labels say enough"


def test_a_file_that_finds_nothing_is_not_proved() -> None:
    for precision in BARS:
        lines = beyond(replace(GOOD, found=0, unmatched=0), BARS[precision], (0.0, 0.0))
        assert lines == ["the file finds nothing, where the detector finds 2,000 objects"], precision
