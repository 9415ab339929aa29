"""What a person reads of the uncertainty of edges."""

from __future__ import annotations

from typing import Any

import pytest

from gfocal.cli.tables.results import print_metrics
from gfocal.evaluation import STATS


def metrics(uncertainty: dict[str, Any] | None) -> dict[str, Any]:
    numbers = dict.fromkeys(STATS, 0.5)
    counts = {"per_class": {"a": 0.5}, "score_iou_correlation": None, "num_images": 3, "num_detections": 7}
    return {**numbers, **counts, "edge_uncertainty": uncertainty}


def entry(correlation: float | None, edges: int) -> dict[str, Any]:
    uncertain = {"uncertain_correlation": correlation, "uncertain_edges": edges // 4}
    return {"correlation": correlation, "edges": edges, "ceiling": 0.65, **uncertain}


def test_the_table_of_edge_std(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [
        {"size": "small", "from": 8.2, "to": 21.7, **entry(0.41, 1200)},
        {"size": "medium", "from": 21.8, "to": 40.0, **entry(0.52, 1200)},
        {"size": "large", "from": None, "to": None, **entry(None, 8)},
    ]
    uncertainty = {
        "mean_over_sizes": 0.47,
        "uncertain_mean_over_sizes": None,
        "overall": entry(0.63, 2408),
        "sizes": sizes,
        "levels": [{"level": 1, **entry(0.3, 2408)}],
    }
    print_metrics(metrics(uncertainty))
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "small objects, 8-22 pixels 1,200 0.410 0.650 300 0.410" in lines
    assert "large objects 8 - 0.650 2 -" in lines
    assert "mean of these three 0.470 -" in lines
    assert "level 1 2,408 0.300 0.650 602 0.300" in lines
    assert "all objects 2,408 0.630 0.650 602 0.630" in lines
    print_metrics(metrics({**uncertainty, "levels": None}))
    assert "level" not in capsys.readouterr().out


def test_no_table_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(metrics(None))
    assert "edge_std" not in capsys.readouterr().out


def test_a_number_that_is_missing_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(metrics(None))
    assert "no object of that size" not in capsys.readouterr().out
    print_metrics({**metrics(None), "APs": None, "ARs": None})
    printed = capsys.readouterr().out
    assert "-: the data have no object of that size" in printed
    assert "-1" not in printed
