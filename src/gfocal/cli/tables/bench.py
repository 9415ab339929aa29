"""Measured models for people: time, then what they are and take, then what to know about it."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from gfocal.cli.console import PlainConsole
from gfocal.commands.bench.records import BenchReport
from gfocal.utils.text import counted


def print_bench(report: BenchReport) -> None:
    """Tables with a row a model: time, what it is and takes, AP where it was measured; and what the numbers mean."""
    console, many = PlainConsole(), len(report.rows) > 1
    console.print(
        f"{report.shown}, {counted(report.batch, 'image')} at a time, {counted(report.threads, 'thread')}, "
        f"{counted(report.rounds, 'round')} in turns; {report.processor}",
        soft_wrap=True,
    )
    console.print()
    tables = [_times(report, many), _facts(report)]
    if any(row.accuracy is not None for row in report.rows):
        tables.append(_accuracy(report))
    for table in tables:
        console.print(table, "")
    console.print(
        "ms: for an image, from decoded pixels to detections in them. network: of it in backbone, neck and head; in an "
        "exported file (*) all of its graph, with decoding and what suppression it has.",
        soft_wrap=True,
    )
    if many:
        console.print(f"times {report.rows[0].model}: within each round, median and its 95 % interval", soft_wrap=True)
    console.print(
        "peak: most memory that the model's own process had, with Python and libraries; FLOPs are for one image, two "
        "for each multiply-add; boxes: found on an image",
        soft_wrap=True,
    )
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _table(*columns: str) -> Table:
    """Columns of numbers, behind the model and what runs it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        words = column in ("model", "runs on")
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=column != "model")
    return table


def _times(report: BenchReport, many: bool) -> Table:
    columns = ["model", "p50 ms", "p90 ms", "p99 ms", "images/s", "network ms"]
    table = _table(*columns, *(["times the first"] if many else []))
    for row in report.rows:
        latency = row.latency
        graph = " " if row.opened.runtime == "torch" else "*"
        cells = [
            *(_ms(latency.p50_ms), _ms(latency.p90_ms), _ms(latency.p99_ms), f"{row.images_per_second:.1f}"),
            f"{_ms(row.network.p50_ms)}{graph}",
        ]
        if many:
            ratio = row.ratio
            cells.append(f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})")
        table.add_row(Text(row.model), *cells)
    return table


def _facts(report: BenchReport) -> Table:
    gpu = any(row.memory is not None and row.memory.device is not None for row in report.rows)
    columns = ["model", "runs on", "input", "GFLOPs", "M param.", "file MB", "peak MB"]
    table = _table(*columns, *(["GPU MB"] if gpu else []), "boxes")
    for row in report.rows:
        opened, memory, cost = row.opened, row.memory, row.cost
        cells = [
            *(f"{opened.runtime} {opened.device} {opened.precision}", f"{row.size[0]}x{row.size[1]}"),
            "-" if cost is None or cost.flops is None else f"{cost.flops / 1e9:.2f}",
            "-" if cost is None or cost.parameters is None else f"{cost.parameters / 1e6:.2f}",
            _mb(opened.bytes, 1),
            _mb(None if memory is None else memory.process),
            *([_mb(None if memory is None else memory.device)] if gpu else []),
            f"{row.detections:.1f}",
        ]
        table.add_row(Text(row.model), *cells)
    return table


def _accuracy(report: BenchReport) -> Table:
    table = _table("model", "AP", "AP50", "images")
    for row in report.rows:
        found = row.accuracy
        numbers = ("-", "-", "-") if found is None else (_ap(found.ap), _ap(found.ap50), f"{found.images:,}")
        table.add_row(Text(row.model), *numbers)
    return table


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _mb(count: int | None, digits: int = 0) -> str:
    return "-" if count is None else f"{count / 2**20:,.{digits}f}"


def _ap(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
