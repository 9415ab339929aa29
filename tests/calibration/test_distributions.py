"""For other detectors: distributions over bins, as logits or probabilities, in any units of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gfocal.calibration import calibrate_distributions
from gfocal.errors import UsageError

BINS = 8.0 * np.arange(16)


def made(count: int = 400, seed: int = 0) -> dict[str, Any]:
    """Distributions of two widths; errors follow them."""
    random = np.random.default_rng(seed)
    wide = random.choice([0.8, 3.0], (count, 4))
    logits = -0.5 * ((np.arange(16) - 7.5) / wide[..., None]) ** 2
    return {
        "distributions": logits,
        "positions": BINS,
        "errors": 0.25 * 8 * wide * random.normal(size=(count, 4)),
        "images": np.arange(count) // 3,
    }


def test_intervals_follow_the_distributions() -> None:
    found = calibrate_distributions(**made())
    assert found.edges.scale.kind in ("edge_std", "quantiles")
    new = made(3000, seed=3)
    for level in (0.5, 0.9):
        half = found.half_widths(new["distributions"], BINS, level)
        inside = np.abs(new["errors"]) <= half
        assert abs(inside.mean() - level) < 0.05
        whole = found.half_widths(new["distributions"], BINS, level, whole_box=True)
        assert abs((np.abs(new["errors"]) <= whole).all(1).mean() - level) < 0.08
    assert half.max() > 2 * half.min()


def test_probabilities_and_positions_of_each_box_say_the_same() -> None:
    given = made()
    expected = calibrate_distributions(**given).half_widths(given["distributions"], BINS, 0.9)
    probs = np.exp(given["distributions"])
    probs /= probs.sum(-1, keepdims=True)
    each = np.tile(BINS, (400, 1)) + 3  # where they begin is no matter
    options = {**given, "distributions": probs, "positions": each, "logits": False}
    assert np.allclose(calibrate_distributions(**options).half_widths(probs, each, 0.9), expected)
    # Strides that differ: a box of twice the bin width has twice the interval.
    twice = calibrate_distributions(**given).half_widths(given["distributions"], 2 * each, 0.9)
    assert np.allclose(twice, 2 * expected)


def test_lists_will_do() -> None:
    given = made(60)
    lists = {name: value.tolist() for name, value in given.items()}
    assert calibrate_distributions(**lists).edges == calibrate_distributions(**given).edges


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("distributions", np.zeros((400, 16)), "shape"),
        ("distributions", np.zeros((400, 4, 1)), "two bins"),
        ("distributions", np.full((400, 4, 16), np.nan), "finite"),
        ("positions", np.arange(15), "positions must have shape"),
        ("positions", np.arange(16) ** 2, "equal steps"),
        ("positions", -np.arange(16), "equal steps"),
        ("positions", np.full(16, np.inf), "finite"),
        ("errors", np.zeros((400, 2)), "shape"),
        ("errors", np.full((400, 4), np.nan), "errors has numbers"),
        ("images", np.zeros(400, int), "too few"),
        ("images", np.zeros(3, int), "shape"),
        ("logits", False, "add up to 1"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        calibrate_distributions(**{**made(), name: value})


def test_a_detector_without_boxes_is_refused() -> None:
    with pytest.raises(UsageError, match="0 found objects"):
        calibrate_distributions(np.zeros((0, 4, 16)), BINS, np.zeros((0, 4)), images=np.zeros(0, int))
