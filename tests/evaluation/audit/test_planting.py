"""Planted faults, and how well lists of suspects show them."""

from __future__ import annotations

import numpy as np
import pytest

from gfocal.errors import UsageError
from gfocal.evaluation.audit.candidates import Candidates, Scale, candidates, ranked
from gfocal.evaluation.audit.evidence import weigh
from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.audit.measure import auroc, precision_at
from gfocal.evaluation.audit.planting import KINDS, NONE, plant
from gfocal.evaluation.audit.suspicion import suspicion
from gfocal.evaluation.audit.trial import attempt, learn
from gfocal.evaluation.overlaps import box_ious
from helpers.made_audit import made_labels, random_case


def test_auroc_by_hand() -> None:
    scores, faulty = np.array([0.9, 0.8, 0.4, 0.4, 0.1]), np.array([True, False, True, False, False])
    # Of the six pairs: 0.9 beats all three; 0.4 loses to 0.8, ties with 0.4, beats 0.1.
    assert auroc(scores, faulty) == pytest.approx((3 + 0 + 0.5 + 1) / 6)
    assert auroc(scores, np.zeros(5, bool)) is None
    assert auroc(scores, np.ones(5, bool)) is None
    assert auroc(np.zeros(0), np.zeros(0, bool)) is None


def test_precision_by_hand() -> None:
    scores, faulty = np.array([0.9, 0.8, 0.4, 0.4, 0.1]), np.array([True, False, True, False, False])
    assert precision_at(scores, faulty, 1) == 1
    assert precision_at(scores, faulty, 2) == 0.5
    assert precision_at(scores, faulty, 3) == pytest.approx((1 + 0.5) / 3)  # one of two that tie
    assert precision_at(scores, faulty, 50) == pytest.approx(2 / 5)
    assert precision_at(np.zeros(0), np.zeros(0, bool)) is None


def test_faults_follow_the_seed() -> None:
    labels = Labels.of(random_case(0)[0])
    one, same, other = plant(labels, 0.2, 3), plant(labels, 0.2, 3), plant(labels, 0.2, 4)
    for name in ("boxes", "labels", "rows"):
        assert np.array_equal(getattr(one.labels, name), getattr(same.labels, name))
    assert one.labels.boxes.shape != other.labels.boxes.shape or not np.array_equal(
        one.labels.boxes, other.labels.boxes
    )


def test_every_fault_is_what_it_says() -> None:
    index, _ = random_case(1, images=150)
    labels = Labels.of(index)
    before = {name: value.copy() for name, value in vars(labels).items() if isinstance(value, np.ndarray)}
    planted = plant(labels, 0.2, 0)
    assert all(np.array_equal(before[name], getattr(labels, name)) for name in before)  # a copy
    copy = planted.labels
    assert (np.diff(copy.rows) >= 0).all()
    counts = np.bincount(planted.kind[planted.kind != NONE], minlength=len(KINDS))
    counts[KINDS.index("missing")] = len(planted.removed)
    assert counts.sum() == pytest.approx(0.2 * len(labels), abs=3)
    assert counts.max() - counts.min() <= 3
    for n, (kind, source) in enumerate(zip(planted.kind.tolist(), planted.source.tolist(), strict=True)):
        name = KINDS[kind] if kind != NONE else "none"
        if source != NONE:
            same = np.isclose(copy.boxes[n], labels.clipped[source])
            assert same.all() == (name != "edge")
            assert (copy.labels[n] == labels.labels[source]) == (name != "class")
            if name == "edge":
                (edge,) = np.flatnonzero(~same)
                side = labels.clipped[source][edge % 2 + 2] - labels.clipped[source][edge % 2]
                assert 0.2 <= abs(copy.boxes[n] - labels.clipped[source])[edge] / side <= 0.5
        else:
            assert name in ("duplicate", "spurious")
            here = labels.rows == copy.rows[n]
            best = box_ious(copy.boxes[n][None], labels.clipped[here]).max(initial=0)
            assert best > 0.75 if name == "duplicate" else best < 0.3
        assert (copy.boxes[n] >= -1e-9).all()
        assert (copy.boxes[n] <= copy.limits[copy.rows[n]] + 1e-9).all()
    kept = set(planted.source.tolist())
    assert not kept & set(planted.removed.tolist())
    assert len(kept - {NONE}) + len(planted.removed) == len(labels)


def test_one_class_is_never_wrong() -> None:
    planted = plant(Labels.of(random_case(2, classes=1)[0]), 0.3, 0)
    assert KINDS.index("class") not in planted.kind
    assert {KINDS.index("edge"), KINDS.index("duplicate")} <= set(planted.kind.tolist())


def test_regions_get_no_fault() -> None:
    labels = Labels.of(made_labels([[((10, 10, 50, 50), 0), ((60, 10, 90, 50), 1)]] * 20, crowd=range(0, 40, 2)))
    planted = plant(labels, 0.5, 0)
    crowd = planted.labels.crowd
    assert crowd.sum() == 20
    assert (planted.kind[crowd] == NONE).all()


@pytest.mark.parametrize("images", [[], [[]], [[((5, 5, 5, 5), 0)]]])
def test_where_no_label_can_be_wrong(images) -> None:
    planted = plant(Labels.of(made_labels(images)), 0.1, 0)
    assert (planted.kind == NONE).all()
    assert learn(Labels.of(made_labels(images)), {}, 0.1, 0)[1] is None


@pytest.mark.parametrize("share", [0, -0.1, 0.6, np.nan])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(UsageError, match="planted"):
        plant(Labels.of(made_labels([])), share, 0)


@pytest.mark.parametrize("std", [True, False], ids=["general", "dirac"])
def test_planted_faults_come_first(std: bool) -> None:
    index, found = random_case(5, images=120, std=std)
    trial = attempt(Labels.of(index), found, 0.1, 0)
    assert ("constant" in trial.evidence.intervals) != std
    own, kind = trial.suspicion, trial.planted.kind
    for name, values in (("edge", own.edge), ("class", own.wrong_class), ("spurious", own.spurious)):
        use = (kind == NONE) | (kind == KINDS.index(name))
        assert (auroc(values[use], kind[use] == KINDS.index(name)) or 0) > 0.8, name
    assert (kind[own.weaker & (own.duplicate > 0.5)] == KINDS.index("duplicate")).mean() > 0.4


def test_what_is_expected_is_found() -> None:
    """The expectation, and the same of other seeds; without signal it is no better than chance."""
    index, found = random_case(7, images=150)
    labels = Labels.of(index)
    scale, expected = learn(labels, found, 0.1, 0)
    assert expected is not None
    trial = attempt(labels, found, 0.1, 99)
    order = ranked(trial.candidates, scale.scores(trial.candidates))[:50]
    assert trial.right[order].sum() == pytest.approx(expected.right, abs=10)
    assert expected == learn(labels, found, 0.1, 0)[1]
    assert 0 < expected.right <= expected.first <= 50
    blind = {image: found[1 + (image * 7) % 150] for image in found}  # of other images
    _, none = learn(labels, blind, 0.1, 0)
    assert none is not None
    assert none.right / max(none.first, 1) < expected.right / expected.first - 0.2


def test_scores_rise_with_strength_and_compare_kinds() -> None:
    strength = np.linspace(0.05, 0.95, 40)
    kind = np.repeat([0, 3], 20)
    right = np.where(kind == 3, strength > 0.6, strength > 0.4)
    given = Candidates(kind, np.arange(40), np.full(40, NONE), strength)
    scale = Scale.of([(given, right)])
    scores = scale.scores(given)
    for number in (0, 3):
        assert (np.diff(scores[kind == number]) > 0).all()
    unknown = Candidates(np.array([1]), np.array([0]), np.array([NONE]), np.array([0.9]))
    assert scale.scores(unknown)[0] == 0  # of a kind that nothing is known of


def test_weighing_holds_out_the_image_itself() -> None:
    """Intervals and chances of an image do not change with its own labels."""
    index, found = random_case(3, images=40)
    labels = Labels.of(index)
    row = int(np.flatnonzero(np.diff(index.box_start) > 1)[0])
    moved = np.asarray(index.boxes).copy()
    moved[labels.rows == row] += [0, 0, 9, 9]
    one, other = weigh(labels, found), weigh(Labels.of(index.replace(boxes=moved)), found)
    mine = one.rows == row
    assert mine.any()
    assert one.half_widths is not None
    assert other.half_widths is not None
    assert np.array_equal(one.half_widths[mine], other.half_widths[mine])
    assert np.array_equal(one.chances[mine], other.chances[mine])
    assert not np.array_equal(one.half_widths[~mine], other.half_widths[~mine])


def test_too_little_to_fit_on() -> None:
    index, found = random_case(3, images=2)
    evidence = weigh(Labels.of(index), found)
    assert evidence.half_widths is None
    assert "too few" in evidence.intervals
    candidates(evidence, suspicion(evidence))
    empty = {image: one[:0] for image, one in found.items()}
    assert len(weigh(Labels.of(index), empty).rows) == 0
    assert not weigh(Labels.of(index), {}).kept.any()
