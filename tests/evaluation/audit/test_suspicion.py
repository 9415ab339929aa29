"""Suspicions of every kind, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gfocal.evaluation.audit.candidates import Scale, candidates, outside
from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.audit.planting import KINDS
from gfocal.evaluation.audit.suspects import Suspect, list_suspects
from gfocal.evaluation.audit.suspicion import suspicion
from helpers.made_audit import Box, made_evidence, made_labels

A: Box = (20, 20, 60, 60)
B: Box = (120, 20, 160, 60)
EQUAL = Scale(dict.fromkeys(range(len(KINDS)), (1.0, 0.0)))


def suspects(images, found, *, half: float | None = 2.0, kept=None, least: float = 0.1, **more) -> list[Suspect]:
    index = made_labels(images, **more)
    evidence = made_evidence(Labels.of(index), found, half=half, kept=kept)
    own = suspicion(evidence)
    return list_suspects(index, evidence, own, candidates(evidence, own), EQUAL, least)


def test_nothing_is_said_of_labels_that_are_found() -> None:
    assert suspects([[(A, 0), (B, 1)]], {0: [(A, 0, 0.9), (B, 1, 0.9)]}) == []


def test_an_edge_outside_of_its_interval() -> None:
    (one,) = suspects([[((4, 20, 60, 60), 0)]], {0: [(A, 0, 0.9)]})
    assert (one.kind, one.annotation_id, one.image, one.rank) == ("edge", 101, "0.png", 1)
    assert one.reason == "left edge 14 px outside its 90 % interval (±2.0 px)"
    assert (one.label_box, one.model_box) == ((4, 20, 60, 60), A)


def test_edges_are_named_worst_first() -> None:
    (one,) = suspects([[((20, 15, 72, 60), 0)]], {0: [(A, 0, 0.9)]})
    assert one.reason.startswith("right edge 10 px outside")
    assert one.reason.endswith("top edge 3.0 px outside its 90 % interval (±2.0 px)")


@pytest.mark.parametrize("half", [11.0, None, np.inf])
def test_a_blurred_edge_is_none(half: float | None) -> None:
    """An interval of a quarter of the side to either side, or none at all, contradicts nothing."""
    assert [one.kind for one in suspects([[((4, 20, 60, 60), 0)]], {0: [(A, 0, 0.9)]}, half=half)] in ([], ["spurious"])
    index = made_labels([[((4, 20, 60, 60), 0)]])
    evidence = made_evidence(Labels.of(index), {0: [(A, 0, 0.9)]}, half=half)
    assert not outside(evidence, suspicion(evidence)).any()


def test_how_likely_a_shift_is() -> None:
    """With every shift as likely as another, the ratio is a mean of Student's densities: one edge by hand."""
    index = made_labels([[((4, 20, 60, 60), 0)]])
    evidence = made_evidence(Labels.of(index), {0: [(A, 0, 0.8)]})
    scale = 2.0 / 2.353

    def density(x):
        return (1 + (x / scale) ** 2 / 3) ** -2

    steps = np.array([sign * far * 40 for far in np.linspace(0.1, 0.6, 11) for sign in (-1, 1)])
    one = np.mean(density(-16 - steps)) / density(-16.0)
    others = np.mean(density(0 - steps)) / density(0.0)
    assert suspicion(evidence).edge[0] == pytest.approx(0.8 * (one + 3 * others) / 4 + 0.2)


def test_a_missing_label() -> None:
    (one,) = suspects([[(A, 0)]], {0: [(A, 0, 0.9), (B, 1, 0.8)]})
    assert (one.kind, one.annotation_id, one.class_name, one.model_class) == ("missing", None, None, "dog")
    assert one.reason == "the model finds dog (0.80), and no label covers it"
    assert one.score == pytest.approx(0.8)


def test_an_object_found_twice_is_missing_once() -> None:
    found = {0: [(B, 1, 0.8), ((121, 20, 161, 60), 0, 0.7)]}
    assert [one.kind for one in suspects([[]], found)] == ["missing"]


def test_a_wrong_class() -> None:
    (one,) = suspects([[(A, 0)]], {0: [(A, 1, 0.9)]})
    assert (one.kind, one.class_name, one.model_class) == ("class", "cat", "dog")
    assert one.reason == "labelled cat; the model finds dog (0.90) there, and nothing else of it"
    assert one.score == pytest.approx((0.9 + 0.05) / 1.05, abs=1e-4)


def test_a_detection_of_another_object_is_no_wrong_class() -> None:
    """A rider on a horse: both are labelled, both are found."""
    near: Box = (20, 20, 60, 50)
    assert suspects([[(A, 0), (near, 1)]], {0: [(A, 0, 0.9), (near, 1, 0.9)]}) == []


def test_one_detection_speaks_of_one_class() -> None:
    found = suspects([[(A, 0), ((22, 20, 62, 60), 0)]], {0: [(A, 1, 0.9)]}, least=0.2)
    assert [one.annotation_id for one in found if one.kind == "class"] == [101]


def test_a_duplicate_names_the_worse_of_the_two() -> None:
    (one,) = suspects([[((22, 20, 62, 60), 0), (A, 0)]], {0: [(A, 0, 0.9)]}, least=0.5)
    assert (one.kind, one.annotation_id, one.twin_id) == ("duplicate", 101, 102)
    assert one.reason == "overlaps label 102 of its class with an IoU of 0.90; the model finds one object"


def test_equal_duplicates_name_the_later() -> None:
    (one,) = suspects([[(A, 0), (A, 0)]], {0: [(A, 0, 0.9)]}, least=0.5)
    assert (one.annotation_id, one.twin_id) == (102, 101)


def test_two_objects_that_are_found_are_no_duplicate() -> None:
    near: Box = (30, 20, 70, 60)
    assert suspects([[(A, 0), (near, 0)]], {0: [(A, 0, 0.9), (near, 0, 0.9)]}) == []


def test_a_label_of_nothing() -> None:
    images = [[(A, 0)] for _ in range(20)]
    (one,) = suspects(images, {i: [(A, 0, 0.9)] for i in range(19)}, least=0.3)
    assert (one.kind, one.annotation_id, one.model_box) == ("spurious", 120, None)
    assert "finds most objects of that size and class" in one.reason


def test_where_nothing_is_found_no_label_is_of_nothing() -> None:
    assert suspects([[(A, 0)] for _ in range(20)], {}) == []


@pytest.mark.parametrize("mark", ["crowd", "ignore"])
def test_regions_are_no_suspects(mark: str) -> None:
    """Neither they, nor what is found inside."""
    inside: Box = (30, 30, 45, 45)
    found = {0: [(inside, 0, 0.9), (inside, 1, 0.8)], **{i: [(A, 0, 0.9)] for i in range(1, 10)}}
    assert suspects([[((10, 10, 90, 90), 0)], *[[(A, 0)]] * 9], found, **{mark: [0]}) == []


def test_images_that_were_not_looked_at_have_none() -> None:
    assert suspects([[(A, 0)], [(A, 0), (A, 0)]], {0: [(A, 0, 0.9)]}, kept=[True, False]) == []


def test_a_label_beyond_the_image_is_cut_off_first() -> None:
    """Detections end at the border; a label that goes on is no other edge."""
    assert suspects([[((-30, 20, 60, 60), 0)]], {0: [((0, 20, 60, 60), 0, 0.9)]}) == []
    outside_: Box = (300, 20, 340, 60)
    assert suspects([[(outside_, 0)]], {0: [(A, 0, 0.05)]}, least=0.2) == []


@pytest.mark.parametrize(("images", "found"), [([], {}), ([[]], {}), ([[]], {0: [(A, 0, 0.9)]}), ([[(A, 0)]], {})])
def test_empties(images, found) -> None:
    assert [one.kind for one in suspects(images, found)] == ["missing"] * len(found)


def test_a_farther_edge_is_more_suspect() -> None:
    """And a surer detection, and a narrower interval."""

    def of(shift: float, chance: float, half: float) -> float:
        labels = Labels.of(made_labels([[((20 - shift, 20, 60, 60), 0)]]))
        return float(suspicion(made_evidence(labels, {0: [(A, 0, chance)]}, half=half)).edge[0])

    assert of(4, 0.9, 2) < of(8, 0.9, 2) < of(12, 0.9, 2)
    assert of(12, 0.3, 2) < of(12, 0.6, 2) < of(12, 0.9, 2)
    assert of(12, 0.9, 6) < of(12, 0.9, 3) < of(12, 0.9, 1)


def test_each_label_is_listed_once() -> None:
    found = suspects([[((4, 20, 60, 60), 0), ((5, 20, 60, 60), 0)]], {0: [(A, 1, 0.9)]}, least=0.0)
    ids = [one.annotation_id for one in found if one.annotation_id is not None]
    assert len(ids) == len(set(ids))
    assert [one.rank for one in found] == list(range(1, len(found) + 1))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_detections_of_no_area() -> None:
    point: Box = (30, 30, 30, 30)
    evidence = made_evidence(Labels.of(made_labels([[(A, 0), (point, 1)]])), {0: [(point, 0, 0.9)]}, half=0.0)
    for values in vars(suspicion(replace(evidence))).values():
        assert np.isfinite(values.astype(float)).all()
