"""Lines of metrics.jsonl: what is written, and what a kill has undone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from gfocal.runs.metrics_log import METRICS, MetricsLog
from gfocal.utils.files import CannotWrite


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


@pytest.mark.parametrize("line", ["", "{", '{"kin', '{"kind": "train", "st', '{"kind": "train", "step": 5, "loss": 0.'])
def test_a_line_that_was_cut_off_goes(line: str, log: MetricsLog) -> None:
    with log.file.open("a") as file:
        file.write(line)
    assert log.rewind(4, measured=True) == []
    assert lines(log) == [*FIRST, *SECOND]
    assert [file.name for file in log.file.parent.iterdir()] == [METRICS]
    log.write("train", 5, {})
    assert lines(log)[-1] == ("train", 5)


DAMAGED = [
    *(b"[1]", b"5", b'{"step": 1}', b'{"kind": "train"}', b'{"kind": "a", "step": "x"}', b'{"kind": "a", "step": NaN}'),
    *(b"\0" * 512, b"\x89PNG\r\n\x1a", bytes(range(128, 256)), b"[" * 100_000, b'{"kind": "train", "st'),
]


@pytest.mark.parametrize("where", [0, 3, 8])
@pytest.mark.parametrize("line", DAMAGED, ids=[repr(line[:12]) for line in DAMAGED])
def test_damaged_lines_do_not_keep_a_run_from_going_on(line: bytes, where: int, log: MetricsLog) -> None:
    log.rewind(4, measured=True)
    whole = log.file.read_bytes().splitlines()
    damaged = b"\n".join([*whole[:where], line, *whole[where:]]) + b"\n"
    log.file.write_bytes(damaged)
    bad = 1 if b"\n" not in line else 2
    aside = log.file.with_name("metrics-damaged.jsonl")
    if where == 8 and line.startswith(b'{"kind": "train", "st'):
        assert log.rewind(4, measured=True) == [], "as a kill leaves it"
    else:
        assert log.rewind(4, measured=True) == [
            f"warning: {log.file} is damaged: {bad} line{'s' * (bad - 1)} left out, 8 lines kept; the file as it "
            f"was is now {aside}"
        ]
        assert aside.read_bytes() == damaged
    assert log.file.read_bytes().splitlines() == whole


def test_a_second_damage_is_kept_beside_the_first(log: MetricsLog) -> None:
    for name in ("metrics-damaged.jsonl", "metrics-damaged-2.jsonl"):
        log.file.write_bytes(b"\xff" + log.file.read_bytes())
        assert name in log.rewind(4, measured=True)[0]
    assert lines(log) == [*FIRST[2:], *SECOND]


def test_nothing_to_rewind(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / METRICS)
    assert log.rewind(0, measured=False) == []
    assert log.rewind(3, measured=False) == [f"{log.file} is missing: it begins again after step 3"]
    assert not log.file.exists()


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / METRICS).mkdir()
    with pytest.raises(CannotWrite, match=r"metrics\.jsonl: Is a directory; it is a folder"):
        MetricsLog(tmp_path / METRICS).rewind(3, measured=False)


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / METRICS)
    log.write("train", 1, {"loss": math.nan, "grad_norm": math.inf, "lr": 0.5, "epoch": 2, "note": None})
    assert log.file.read_text() == (
        '{"kind": "train", "step": 1, "loss": null, "grad_norm": null, "lr": 0.5, "epoch": 2, "note": null}\n'
    )
    log.close()
