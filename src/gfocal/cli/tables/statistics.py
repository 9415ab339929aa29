"""The statistics of a data set as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gfocal.utils.text import counted, percent


def print_statistics(content: Mapping[str, Any], *, console: Console | None = None) -> None:
    """Tables by level, size and shape, and what is proposed."""
    console = console or Console(highlight=False, markup=False, emoji=False)
    console.print(_headline(content), soft_wrap=True)
    if not content["objects"]:
        console.print("these pictures have no object to learn: there is nothing more to show")
        return
    reach = content["reach_strides"]
    console.print(_levels(content["levels"], reach))
    console.print(_groups("size", "side in pixels", content["sizes"], _size))
    console.print(_groups("shape", "width:height", content["aspects"], _shape))
    for line in _lines(content):
        console.print(line, soft_wrap=True)
    if "proposal" in content:
        _print_proposal(content["proposal"], console)


def _headline(content: Mapping[str, Any]) -> str:
    what = "tile" if content.get("tile") else "picture"
    of = (
        ""
        if content["pictures"] == content["pictures_in_all"]
        else f" (of {content['pictures_in_all']:,}, chosen at random)"
    )
    return (
        f"{content['data']}, {content['split']}, as {content['recipe']} trains at {content['size']}"
        f"{', augmented' if content['augmented'] else ''}: "
        f"{counted(content['pictures'], what)}{of}, {counted(content['objects'], 'object')}, "
        f"{counted(content['positives'], 'positive point')}"
    )


def _levels(rows: Sequence[Mapping[str, Any]], reach: float | None) -> Table:
    bounded = [] if reach is None else [f"beyond {reach:g}"]
    limit = "unlimited" if reach is None else f"{reach:g} strides"
    table = Table(title="edges by level", caption=f"distances from point to edge in strides; reach: {limit}")
    for name in ("stride", "objects", "positives", "median", "99 %", "99.9 %", "largest", *bounded):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        counts = f"{row['stride']}", f"{row['objects']:,}", f"{row['positives']:,}"
        if not row["edges"]:
            table.add_row(*counts, *["-"] * (4 + len(bounded)))
            continue
        percentiles = row["percentiles"]
        distances = percentiles["50"], percentiles["99"], percentiles["99.9"], row["largest"]
        share = [percent(row["truncated_share"])] if bounded else []
        table.add_row(*counts, *(f"{value:.2f}" for value in distances), *share)
    return table


def _groups(what: str, first: str, rows: Sequence[Mapping[str, Any]], name: Callable[..., str]) -> Table:
    table = Table(title=f"objects by {what}", caption="out of reach: share of the edges")
    anchors = any(row.get("unlike_anchors") is not None for row in rows)
    table.add_column(first, no_wrap=True)
    for column in ("objects", "without point", "out of reach", *["no anchor"] * anchors):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        if not row["objects"]:
            table.add_row(name(row), f"none of this {what}", *["-"] * (2 + anchors))
            continue
        cells = [f"{row['objects']:,}", _counted_share(row["missed"], row["missed_share"])]
        cells.append(percent(row["truncated_share"]))
        if anchors:
            cells.append(f"{row['unlike_anchors']:,}")
        table.add_row(name(row), *cells)
    return table


def _counted_share(count: int, share: float) -> str:
    return f"{count:,} ({percent(share)})" if count else "0"


def _size(row: Mapping[str, Any]) -> str:
    if row["to"] is None:
        return f"{row['from']:g} and more"
    return f"below {row['to']:g}" if row["from"] == 0 else f"{row['from']:g} to {row['to']:g}"


def _shape(row: Mapping[str, Any]) -> str:
    if row["to"] is None:
        return f"{_ratio(row['from'])} and up"
    return f"below {_ratio(row['to'])}" if row["from"] == 0 else f"{_ratio(row['from'])} to {_ratio(row['to'])}"


def _ratio(value: float) -> str:
    return f"{value:g}:1" if value >= 1 else f"1:{1 / value:g}"


def _lines(content: Mapping[str, Any]) -> list[str]:
    tiny = content["tiny"]
    lines = [
        f"in all: {percent(content['truncated_share'])} of the edges lie beyond what the boxes can reach, "
        f"{percent(content['missed_share'])} of the objects get no point"
    ]
    if tiny["below_a_pixel"] or tiny["below_a_stride"]:
        lines.append(
            f"tiny as they enter: {counted(tiny['below_a_pixel'], 'object')} with a side below a pixel, "
            f"{counted(tiny['below_a_stride'], 'object')} smaller than a cell of the finest level"
        )
    if unlike := sum(row["unlike_anchors"] or 0 for row in content["aspects"]):
        lines.append(
            f"{counted(unlike, 'object')} ({percent(unlike / content['objects'])}) unlike any anchor: even one in the "
            "best position stays below positive_iou, so they learn from low-quality matches only"
        )
    if least := content["smallest_reg_max"]:
        by_delta = ", ".join(f"{n} with delta {delta}" for delta, n in least.items())
        lines.append(f"smallest reg_max that leaves at most 0.1 % of each level's edges out: {by_delta}")
    return lines


def _print_proposal(proposal: Mapping[str, Any], console: Console) -> None:
    console.print()
    if not proposal["reasons"]:
        console.print("nothing needs to change: the boxes reach the edges, and objects get their points")
    for reason in proposal["reasons"]:
        console.print(f"! {reason}", soft_wrap=True)
    if proposal["reasons"] and not proposal["options"]:
        console.print("nothing that this recipe accepts fixes it", soft_wrap=True)
    for number, option in enumerate(proposal["options"]):
        console.print(f"{_LEAD[option['kind']] if number == 0 else 'or ' + _LEAD[option['kind']]}:", soft_wrap=True)
        console.print(f"    {option['set']}", soft_wrap=True)
        leaves = f"at most {percent(option['truncated_share'])} of a level's edges out of reach"
        console.print(f"    {leaves}, {percent(option['missed_share'])} of the objects without a point", soft_wrap=True)
        console.print(f"    cost: {option['cost_line']}", soft_wrap=True)
    for note in proposal["notes"]:
        console.print(f"note: {note}", soft_wrap=True)


_LEAD = {
    "reach": "more bins",
    "coarser": "a coarser level",
    "larger": "larger pictures",
    "finer": "a finer level",
    "anchors": "other anchors",
    "smaller": "smaller pictures, for speed (measure AP)",
}
