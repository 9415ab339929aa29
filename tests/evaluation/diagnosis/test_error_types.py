"""One error of each kind, made by hand."""

from __future__ import annotations

import pytest

from gfocal.evaluation.diagnosis.error_types import KINDS, error_types
from helpers.made_findings import Box, by_hand


def box(x: float, width: float = 10) -> Box:
    return (x, 0.0, x + width, 10.0)


OBJECTS = [(box(0), 0), (box(50), 0), (box(100), 1), (box(150), 0), (box(200), 0)]
FOUND = [
    (box(0), 0, 0.9),
    (box(0, 9), 0, 0.8),  # the same object once more
    (box(55), 0, 0.7),  # IoU 1/3
    (box(100), 0, 0.6),  # is of class 1
    (box(154), 1, 0.5),  # IoU 0.43, of class 0
    (box(300), 0, 0.4),  # nothing is there
]


def test_each_kind_is_told_from_the_others() -> None:
    found = error_types(by_hand(["a", "b"], [(OBJECTS, FOUND)]), 0.0)
    assert found is not None
    counts = {one.kind: one.above for one in found.types}
    # Missed: the one at 200, and the one at 150, whose box has the wrong class and place.
    assert counts == {"localisation": 1, "class": 1, "both": 1, "duplicate": 1, "background": 1, "missed": 2}
    assert [one.gain for one in found.types] == sorted((one.gain for one in found.types), reverse=True)
    assert next(one for one in found.types if one.kind == "class").gain > 0.4, "all of class b"


def test_the_counts_are_of_what_scores_higher() -> None:
    found = error_types(by_hand(["a", "b"], [(OBJECTS, FOUND)]), 0.6)
    assert found is not None
    counts = {one.kind: one.above for one in found.types}
    assert counts == {"localisation": 1, "class": 0, "both": 0, "duplicate": 1, "background": 0, "missed": 3}


def test_a_perfect_detector_makes_none() -> None:
    found = error_types(by_hand(["a", "b"], [(OBJECTS, [(own, label, 0.9) for own, label in OBJECTS])]), 0.5)
    assert found is not None
    assert found.ap50 == pytest.approx(1.0)
    assert {one.kind for one in found.types} == set(KINDS)
    assert all(one.above == 0 and one.gain == pytest.approx(0) for one in found.types)


def test_nothing_found_and_nothing_there() -> None:
    missed = error_types(by_hand(["a", "b"], [(OBJECTS, [])]), 0.5)
    assert missed is not None
    assert {one.kind: one.above for one in missed.types}["missed"] == 5
    assert error_types(by_hand(["a"], [([], [(box(0), 0, 0.9)])]), 0.5) is None
    assert error_types(by_hand(["a"], [([(box(0), 0)], [])], crowd=[0]), 0.5) is None
