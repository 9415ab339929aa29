"""What a person reads of the uncertainty of edges."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gfocal import TrainResult
from gfocal.cli.tables.results import print_metrics, print_training
from gfocal.evaluation import STATS, BestF1, EvalResult
from gfocal.evaluation.evaluator import Evaluation
from gfocal.evaluation.thresholds.best_f1 import ClassF1
from gfocal.evaluation.thresholds.curve import Point
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


def judged(*classes: tuple[str, Point, Point], micro: Point, macro: Point) -> Evaluation:
    per_class = {name: ClassF1(best, 5, at_micro) for name, best, at_micro in classes}
    found = metrics(None)
    return replace(found, result=replace(found.result, best_f1=BestF1(0.5, micro, macro, per_class)))


def test_the_best_threshold_in_the_words_of_predict(capsys: pytest.CaptureFixture[str]) -> None:
    at = Point(0.41, 0.8, 0.75, 0.774)
    rare = ("rare", Point(0.2, 0.5, 0.5, 0.5), Point(0.41, None, 0.0, 0.0))
    absent = ("absent", Point(None, None, None, None), Point(0.41, 0.0, None, None))
    found = judged(absent, rare, ("usual", at, at), micro=at, macro=Point(0.2, 0.6, 0.7, 0.65))
    print_metrics(found)
    printed = capsys.readouterr().out
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]
    first = lines.index("usual 0.41 0.800 0.750 0.774 0.800 0.750 0.774")
    assert lines[first + 1 : first + 3] == ["rare 0.2 0.500 0.500 0.500 - 0.000 0.000", "absent - - - - 0.000 - -"]
    assert "all (micro) 0.41 0.800 0.750 0.774 0.800 0.750 0.774" in lines
    assert "mean (macro) 0.2 0.600 0.700 0.650" in lines
    line = "best F1 0.774 with predict --score 0.41: 80 % of the boxes are right, 75 % of the objects are found"
    assert line in lines
    assert max(map(len, printed.splitlines())) <= 100
    print_training(TrainResult(Path("run"), metrics=found.to_dict(), drawings=[Path("run/curves.png")]))
    printed = capsys.readouterr().out
    assert printed.endswith("  run/curves.png\nnext: gfocal predict run PICTURES --score 0.41\n")


def test_one_class_needs_no_comparison_and_nothing_right_no_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    at = Point(0.41, 0.8, 0.75, 0.774)
    print_metrics(judged(("only", at, at), micro=at, macro=at))
    printed = capsys.readouterr().out
    assert "micro" not in printed
    assert "last three columns" not in printed
    none = Point(None, None, 0.0, 0.0)
    print_metrics(judged(("a", none, none), ("b", none, none), micro=none, macro=none))
    assert "no detection is right at IoU 0.5: there is no best score threshold" in capsys.readouterr().out
