"""Verdicts from numbers made by hand, and claims whose rows are those of the paper's tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gfocal.studies.comparison.compare import RunMeasure, Runs, SeedNoise
from gfocal.studies.comparison.findings import ClaimVerdict
from gfocal.studies.comparison.verdicts import judge
from gfocal.studies.paper.claims import CLAIMS
from gfocal.studies.speed.records import RowSpeed, SpeedResult
from gfocal.utils.records import from_json, to_json
from gfocal.utils.timing import Percentiles, Ratio

SETS = 10_000


def row(value: float, phase: int, *, width: float = 1.0, seeds: int = 1) -> Runs:
    """The 95 % interval of the difference of two rows of different phases reaches ``width`` points to each side.

    Their bootstrap spreads are independent: they change sign every set, every second set, every fourth set and so on.
    """
    signs = np.where(np.arange(SETS) // 2**phase % 2, 1, -1)
    resampled = value + signs * width * 0.01 / 1.96 / math.sqrt(2)
    return {seed: RunMeasure(value, resampled) for seed in range(seeds)}


def measures(values: Mapping[str, float], *, width: float = 1.0, seeds: int = 1) -> dict[str, dict[str, Runs]]:
    return {"AP": {key: row(value, i, width=width, seeds=seeds) for i, (key, value) in enumerate(values.items())}}


def first(table: str, statement: str, *args: Any, **more: Any) -> ClaimVerdict:
    (claim,) = (claim for claim in judge(table, *args, **more) if statement in claim.statement)
    assert from_json(ClaimVerdict, json.loads(json.dumps(to_json(claim), allow_nan=False))) == claim
    return claim


def verdicts(claim: ClaimVerdict) -> list[str]:
    return [part.verdict for part in claim.parts]


def speed_of(**ratios: tuple[float, float, float]) -> SpeedResult:
    """How much longer than the first each row takes: median, low, high."""
    times = Percentiles(20.0, 19.0, 21.0)
    rows = (
        RowSpeed(key, 10**9, 10**6, times, times, Ratio(1, 1, 1), Ratio(*ratio), 1.0, 50.0)
        for key, ratio in ratios.items()
    )
    return SpeedResult((256, 256), 2, "cpu", 30, 1000, tuple(rows))


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.0105, "holds"), (0.0095, "cannot tell"), (-0.0095, "cannot tell"), (-0.0105, "does not")]
)
def test_above(gain: float, verdict: str) -> None:
    found = first("table1b", "SSD", measures({"ssd": 0.3, "ssd-joint": 0.3 + gain}))
    part = found.parts[0]
    assert (found.verdict, part.verdict, found.by) == (verdict, verdict, "pictures")
    assert part.difference == pytest.approx(gain)
    assert (part.low, part.high) == pytest.approx((gain - 0.01, gain + 0.01), abs=1e-5)
    assert part.measure == "AP"
    assert part.text == "with QFL above without"


def test_a_claim_needs_all_of_its_parts() -> None:
    values = {"beta-0": 0.3, "beta-1": 0.35, "beta-2": 0.4, "beta-2.5": 0.36, "beta-4": 0.31}
    assert first("table1c", "", measures(values)).verdict == "holds"
    found = first("table1c", "", measures(values | {"beta-2.5": 0.401}))
    assert (found.verdict, verdicts(found)) == ("cannot tell", ["holds", "holds", "cannot tell", "holds"])
    found = first("table1c", "", measures(values | {"beta-2.5": 0.44}))
    assert (found.verdict, verdicts(found)) == ("does not", ["holds", "holds", "does not", "holds"])


def test_many_parts_do_not_refute_by_chance() -> None:
    # 1.1 points below: outside the 95 % interval of 1 point, inside that of 1 - 5 % / 3 (2.39 / 1.96 = 1.22 points).
    values = {"atss-joint": 0.389, "atss-iou": 0.4, "atss-centerness": 0.35, "atss-none": 0.3}
    found = first("table1a", "ATSS: joint >", measures(values))
    assert found.parts[0].high < 0
    assert (found.verdict, verdicts(found)) == ("cannot tell", ["cannot tell", "holds", "holds"])
    found = first("table1a", "ATSS: joint >", measures(values | {"atss-joint": 0.3875}))
    assert (found.verdict, verdicts(found)) == ("does not", ["does not", "holds", "holds"])
    assert found.published == "39.9 > 39.6 > 39.2 > 38.0"


@pytest.mark.parametrize(
    ("with_dfl", "verdict"), [(0.4055, "holds"), (0.4045, "cannot tell"), (0.395, "cannot tell"), (0.38, "does not")]
)
def test_at_least(with_dfl: float, verdict: str) -> None:
    values = {"atss-general_dfl": with_dfl, "atss-general": 0.4, "atss-gaussian": 0.3, "atss-dirac": 0.3}
    assert verdicts(first("table2a", "ATSS", measures(values)))[0] == verdict


@pytest.mark.parametrize(
    ("shift", "width", "verdict"),
    [
        (0.002, 0.25, "holds"),
        (-0.002, 0.25, "holds"),
        (0.003, 0.25, "cannot tell"),
        (-0.003, 0.25, "cannot tell"),
        (0.0, 1.0, "cannot tell"),
        (0.0085, 0.25, "does not"),
        (-0.0085, 0.25, "does not"),
        (0.0075, 0.25, "cannot tell"),  # refuted at 95 %, not so of three parts
    ],
)
def test_about(shift: float, width: float, verdict: str) -> None:
    values = {"n-16": 0.4, "n-12": 0.4 + shift, "n-14": 0.4, "n-18": 0.4}
    found = first("table2b", "n", measures(values, width=width))
    assert verdicts(found)[0] == verdict
    assert found.verdict == (verdict if width < 1 else "cannot tell")


def test_detectors_that_learnt_nothing_are_not_equally_good() -> None:
    for ap, verdict in ((0.0, "cannot tell"), (0.04, "cannot tell"), (0.06, "holds")):
        rows = measures(dict.fromkeys(("delta-0.5", "delta-1", "delta-2", "delta-4"), ap), width=0.1 if ap else 0.0)
        found = first("table2c", "Δ = 1", rows)
        assert (found.verdict, verdicts(found)) == (verdict, [verdict] * 3)
        assert found.by == "pictures"


def test_qfl_and_dfl_add_up() -> None:
    values = {"atss": 0.40, "atss-qfl": 0.42, "atss-dfl": 0.42, "gfl": 0.44}
    figures = {"atss": {"AP": 39.2}, "atss-qfl": {"AP": 39.9}, "atss-dfl": {"AP": 39.5}, "gfl": {"AP": 40.2}}
    found = first("table3", "add up", measures(values, width=0.2), published=figures)
    assert (found.verdict, verdicts(found)) == ("holds", ["holds"] * 3)
    assert [part.published for part in found.parts] == [0.3, 0.7, 0.0]
    third = found.parts[2]
    assert (third.low, third.difference, third.high) == pytest.approx(
        (-0.002 * math.sqrt(2), 0.0, 0.002 * math.sqrt(2)), abs=1e-5
    )
    found = first("table3", "add up", measures(values | {"gfl": 0.46}, width=0.2))
    assert (found.verdict, verdicts(found)) == ("does not", ["holds", "holds", "does not"])
    assert found.parts[2].difference == pytest.approx(0.02)
    assert found.parts[2].published is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.99, 1.03, "holds"), (1.0, 1.04, "cannot tell"), (1.034, 1.2, "cannot tell"), (1.04, 1.2, "does not")],
)
def test_no_overhead(low: float, high: float, verdict: str) -> None:
    speed = speed_of(atss=(1.0, 1.0, 1.0), gfl=(1.02, low, high))
    figures = {"atss": {"AP": 39.2, "fps": 19.4}, "gfl": {"AP": 40.2, "fps": 19.4}}
    found = first("table3", "overhead", {}, speed, published=figures)
    assert (found.verdict, found.by) == (verdict, "timing")
    part = found.parts[0]
    assert (part.difference, part.low, part.high) == pytest.approx((0.02, low - 1, high - 1))
    assert (part.published, part.measure) == (0.0, "time")


@pytest.mark.parametrize(
    "speed",
    [
        None,
        speed_of(),
        speed_of(atss=(1, 1, 1)),
        speed_of(gfl=(1, 1, 1)),
        speed_of(atss=(1, 1, 1), gfl=(1, math.nan, 1)),
    ],
)
def test_time_that_was_not_measured(speed: SpeedResult | None) -> None:
    found = first("table3", "overhead", measures({"atss": 0.4, "gfl": 0.5}), speed)
    assert (found.verdict, found.by) == ("cannot tell", "nothing")
    assert found.parts[0].difference is None


def test_correlation_has_its_own_numbers_and_no_figures() -> None:
    rest = ("iou", "centerness", "none", "iou_guided", "centerness_guided")
    ap = measures({"fcos-joint": 0.1} | {f"fcos-{name}": 0.4 for name in rest})["AP"]
    agreement = measures({"fcos-joint": 0.6} | {f"fcos-{name}": 0.5 for name in rest})["AP"]
    both = {"AP": ap, "correlation": agreement}
    figures = {key: {"AP": 38.0} for key in ap}
    found = first("table1a", "FCOS: joint scores agree", both, published=figures)
    assert (found.verdict, verdicts(found)) == ("holds", ["holds"] * 5)
    assert {(part.measure, part.published) for part in found.parts} == {("correlation", None)}
    assert first("table1a", "FCOS: the guided", both).verdict == "does not"
    undefined = {0: RunMeasure(None, np.full(10000, np.nan))}
    found = first("table1a", "FCOS: joint scores agree", {"correlation": agreement | {"fcos-none": undefined}})
    assert (found.verdict, verdicts(found)[2], found.by) == ("cannot tell", "cannot tell", "nothing")


def test_by_what() -> None:
    values = {"beta-2": 0.4, "beta-1": 0.2, "beta-0": 0.2, "beta-2.5": 0.2, "beta-4": 0.2}
    known = measures(values, seeds=2)["AP"]
    found = first("table1c", "", {"AP": known})
    assert (found.verdict, found.by) == ("holds", "pictures and seeds")
    # One row is missing: nothing is known of a part, and so of the whole, unless another part refutes it.
    found = first("table1c", "", {"AP": {key: runs for key, runs in known.items() if key != "beta-4"}})
    assert (found.verdict, found.by, verdicts(found)[3]) == ("cannot tell", "nothing", "cannot tell")
    assert found.parts[3].low is None
    worse = known | {"beta-4": {}, "beta-1": row(0.6, 1, seeds=2)}
    found = first("table1c", "", {"AP": worse})
    assert (found.verdict, found.by) == ("does not", "pictures and seeds")


def test_noise_of_seeds_is_that_of_the_table_or_given() -> None:
    # Two seeds that disagree on the gain by 8 points: pooled over the table's rows there is nothing to tell.
    a, b = row(0.30, 0, seeds=2), row(0.36, 1, seeds=2)
    b = {0: RunMeasure(0.32, b[0].resampled), 1: RunMeasure(0.40, b[1].resampled)}
    rows = {"AP": {"ssd": a, "ssd-joint": b}}
    assert first("table1b", "SSD", rows).verdict == "cannot tell"
    assert first("table1b", "SSD", rows).by == "pictures and seeds"
    told = first("table1b", "SSD", rows, noise={"AP": SeedNoise(2.5e-4, 20)})
    assert (told.verdict, told.by) == ("holds", "pictures and seeds")
    told = first("table1b", "SSD", rows, noise={})
    assert (told.verdict, told.by) == ("holds", "pictures")


@pytest.mark.parametrize("table", CLAIMS)
def test_an_empty_study(table: str) -> None:
    for nothing in ({}, {"AP": {}, "correlation": {}}, {"AP": {"atss": {}}}):
        found = judge(table, nothing)
        assert len(found) == len(CLAIMS[table])
        for claim in found:
            assert (claim.verdict, claim.by) == ("cannot tell", "nothing")
            for part in claim.parts:
                assert (part.difference, part.low, part.high, part.verdict) == (None, None, None, "cannot tell")


def test_a_table_without_claims() -> None:
    assert judge("table9", {}) == []


def test_every_claim_is_there() -> None:
    assert {table: len(claims) for table, claims in CLAIMS.items()} == {
        "table1a": 6, "table1b": 3, "table1c": 1, "table2a": 2, "table2b": 1, "table2c": 1, "table3": 4,
    }  # fmt: skip
    for claims in CLAIMS.values():
        for part in (part for claim in claims for part in claim.parts):
            assert sum(weight for _, weight in part.weights) == 0
            assert len(dict(part.weights)) == len(part.weights)
