"""Lines of metrics.jsonl: what is written, and what a kill has undone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from gfocal.runs.metrics_log import METRICS, MetricsLog


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    """Two epochs of two steps; the run stopped early."""
    log = MetricsLog(tmp_path / METRICS)
    for epoch in (1, 2):
        for step in (2 * epoch - 1, 2 * epoch):
            log.write("train", step, {"loss": 1 / step})
        log.write("epoch", 2 * epoch, {"epoch": epoch})
        log.write("val", 2 * epoch, {"AP": 0.1 * epoch})
    log.write("stop", 4, {"patience": 1})
    return log


def lines(log: MetricsLog) -> list[tuple[str, int]]:
    found = [json.loads(line) for line in log.file.read_text().splitlines()]
    return [(line["kind"], line["step"]) for line in found]


FIRST = [("train", 1), ("train", 2), ("epoch", 2), ("val", 2)]
SECOND = [("train", 3), ("train", 4), ("epoch", 4), ("val", 4)]


@pytest.mark.parametrize(
    ("step", "measured", "left"),
    [
        (4, True, [*FIRST, *SECOND]),
        (4, False, [*FIRST, *SECOND[:-1]]),
        (3, True, [*FIRST, *SECOND[:1]]),
        (3, False, [*FIRST, *SECOND[:1]]),
        (2, True, FIRST),
        (2, False, FIRST[:-1]),
        (0, True, []),
    ],
)
def test_a_resumed_run_writes_what_was_undone_again(
    step: int, measured: bool, left: list[tuple[str, int]], log: MetricsLog
) -> None:
    kept = log.file.read_text().splitlines()
    log.rewind(step, measured=measured)
    assert lines(log) == left
    assert set(log.file.read_text().splitlines()) <= set(kept), "as they were written"


@pytest.mark.parametrize(
    "line", ['{"kind": "train", "st', "", "[1]", "5", '{"step": 1}', '{"kind": "train"}', '{"kind": "a", "step": "x"}']
)
def test_a_line_that_was_cut_off_goes(line: str, log: MetricsLog) -> None:
    with log.file.open("a") as file:
        file.write(line)
    log.rewind(4, measured=True)
    assert lines(log) == [*FIRST, *SECOND]
    log.write("train", 5, {})
    assert lines(log)[-1] == ("train", 5)


def test_nothing_to_rewind(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / METRICS)
    log.rewind(3, measured=False)
    assert not log.file.exists()


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / METRICS)
    log.write("train", 1, {"loss": math.nan, "grad_norm": math.inf, "lr": 0.5, "epoch": 2, "note": None})
    assert log.file.read_text() == (
        '{"kind": "train", "step": 1, "loss": null, "grad_norm": null, "lr": 0.5, "epoch": 2, "note": null}\n'
    )
    log.close()
