"""The speed of rows, in words."""

from __future__ import annotations

from gfocal.report.numbers import large, line, milliseconds
from gfocal.studies.comparison.content import RowResult, StudyResults
from gfocal.studies.report.numbers import printed
from gfocal.studies.speed.records import RowSpeed, SpeedResult
from gfocal.utils.text import counted
from gfocal.utils.timing import Percentiles, Ratio

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


def speed_words(speed: SpeedResult) -> str:
    """How it was timed."""
    height, width = speed.image
    return (
        f"Medians of {counted(speed.repeats, 'repeat')}, one picture of {height} x {width} pixels at a time, "
        f"{line(speed.device)}, {counted(speed.threads, 'thread')}; rows are timed in turn, so that a slow "
        f"moment meets all of them. {counted(speed.candidates, 'candidate')} of each go into post-processing. "
        "p10 to p90: the middle 80 % of the repeats. Ratios are to the first row, brackets their 95 % interval. FLOPs "
        "are those of the network, two for each multiply-add."
    )


def speed_tables(speed: SpeedResult, results: StudyResults) -> list[SpeedTable]:
    """Times, and costs beside the first row's: column heads, and one list of words a row."""
    rows = {row.key: row for row in results.rows}
    found = [(one, rows.get(one.key)) for one in speed.rows]
    return [(_TIMES, [_speeds(*pair) for pair in found]), (_COSTS, [_costs(*pair) for pair in found])]


def _speeds(speed: RowSpeed, row: RowResult | None) -> list[str]:
    paper = None if row is None or row.published is None else row.published.get("fps")
    return [_title(speed, row), *_times(speed.network), *_times(speed.whole), printed(speed.fps), printed(paper)]


def _costs(speed: RowSpeed, row: RowResult | None) -> list[str]:
    ratios = f"{speed.ratio_flops:.3f}", describe_ratio(speed.ratio_network), describe_ratio(speed.ratio_whole)
    return [_title(speed, row), large(speed.flops), large(speed.parameters), *ratios]


def _title(speed: RowSpeed, row: RowResult | None) -> str:
    return line(speed.key if row is None else row.title)


def _times(found: Percentiles) -> tuple[str, str]:
    return milliseconds(found.median_ms), f"{milliseconds(found.p10_ms)} to {milliseconds(found.p90_ms)}"


def describe_ratio(ratio: Ratio) -> str:
    """With its interval: 1.015 (0.990 to 1.030)."""
    return f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
