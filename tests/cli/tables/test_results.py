"""What a person reads of the uncertainty of edges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gfocal.cli.tables.results import print_metrics
from gfocal.evaluation import STATS, EvalResult
from gfocal.evaluation.evaluator import Evaluation
from gfocal.evaluation.uncertainty import EdgeCorrelation, LevelCorrelation, SizeCorrelation, UncertaintyResult


def metrics(uncertainty: UncertaintyResult | None, **absent: float) -> Evaluation:
    stats = dict.fromkeys(STATS, 0.5) | absent
    return Evaluation(EvalResult(stats, {"a": 0.5}, None, 3, 7), 1.25, 0.5, edge_uncertainty=uncertainty)


def entry(correlation: float | None, edges: int) -> EdgeCorrelation:
    return EdgeCorrelation(correlation, edges, 0.65, correlation, edges // 4)


def test_the_table_of_edge_std(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = (
        SizeCorrelation("small", 8.2, 21.7, entry(0.41, 1200)),
        SizeCorrelation("medium", 21.8, 40.0, entry(0.52, 1200)),
        SizeCorrelation("large", None, None, entry(None, 8)),
    )
    uncertainty = UncertaintyResult(0.47, None, entry(0.63, 2408), sizes, (LevelCorrelation(1, entry(0.3, 2408)),))
    print_metrics(metrics(uncertainty))
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "small objects, 8-22 pixels 1,200 0.410 0.650 300 0.410" in lines
    assert "large objects 8 - 0.650 2 -" in lines
    assert "mean of these three 0.470 -" in lines
    assert "level 1 2,408 0.300 0.650 602 0.300" in lines
    assert "all objects 2,408 0.630 0.650 602 0.630" in lines
    print_metrics(metrics(replace(uncertainty, levels=None)))
    assert "level" not in capsys.readouterr().out


def test_no_table_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(metrics(None))
    assert "edge_std" not in capsys.readouterr().out


def test_a_number_that_is_missing_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(metrics(None))
    assert "no object of that size" not in capsys.readouterr().out
    print_metrics(metrics(None, APs=math.nan, ARs=math.nan))
    printed = capsys.readouterr().out
    assert "-: the data have no object of that size" in printed
    assert "-1" not in printed
