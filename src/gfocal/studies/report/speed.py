"""The speed of rows, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gfocal.report.numbers import NONE, large, line, milliseconds
from gfocal.studies.report.numbers import printed
from gfocal.studies.report.view import Results
from gfocal.utils.text import counted

_TIMES = (
    "Row",
    "Network, ms",
    "p10 to p90",
    "With post-processing, ms",
    "p10 to p90",
    "Pictures a second",
    "Paper's FPS",
)
_COSTS = ("Row", "FLOPs", "Parameters", "FLOPs ratio", "Network time ratio", "With post-processing ratio")
SpeedTable = tuple[tuple[str, ...], list[list[str]]]


def speed_words(results: Results) -> str:
    """How it was timed."""
    speed = results["speed"]
    height, width = speed["picture"]
    count = speed.get("candidates")
    candidates = "" if count is None else f" {counted(count, 'candidate')} of each go into post-processing."
    return (
        f"Medians of {counted(speed['repeats'], 'repeat')}, one picture of {height} x {width} pixels at a time, "
        f"{line(speed['device'])}, {counted(speed['threads'], 'thread')}; rows are timed in turn, so that a slow "
        f"moment meets all of them.{candidates} p10 to p90: the middle 80 % of the repeats. Ratios are to the first "
        "row, brackets their 95 % interval. FLOPs are those of the network, two for each multiply-add."
    )


def speed_tables(results: Results) -> list[SpeedTable]:
    """Times, and costs beside the first row's: column heads, and one list of words a row."""
    rows = {row["key"]: row for row in results["rows"]}
    found = [(entry, rows.get(entry["key"]) or {"title": entry["key"]}) for entry in results["speed"]["rows"]]
    return [(_TIMES, [_speeds(*pair) for pair in found]), (_COSTS, [_costs(*pair) for pair in found])]


def _speeds(entry: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    paper = (row.get("published") or {}).get("fps")
    times = [*_times(entry.get("network")), *_times(entry.get("whole"))]
    return [line(row["title"]), *times, printed(entry.get("fps")), printed(paper)]


def _costs(entry: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    ratios = (ratio(entry.get("ratio_flops")), ratio(entry.get("ratio_network")), ratio(entry.get("ratio_whole")))
    return [line(row["title"]), large(entry.get("flops")), large(entry.get("parameters")), *ratios]


def _times(found: Mapping[str, float] | None) -> tuple[str, str]:
    if found is None:
        return NONE, NONE
    spread = f"{milliseconds(found.get('p10_ms'))} to {milliseconds(found.get('p90_ms'))}"
    return milliseconds(found.get("median_ms")), spread


def ratio(value: float | Mapping[str, float] | None) -> str:
    """1.015, or with its interval: 1.015 (0.990 to 1.030)."""
    if value is None:
        return NONE
    if not isinstance(value, Mapping):
        return f"{value:.3f}"
    words = f"{value['median']:.3f}"
    low, high = value.get("low"), value.get("high")
    return words if low is None or high is None else f"{words} ({low:.3f} to {high:.3f})"
