"""How often each class is in each split, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from gfocal.data.checks.classes import ClassCount, by_class
from gfocal.utils.text import visible

_FIRST, _LAST = 20, 10
"""Rows that are shown of more classes than both together: the commonest and the rarest."""


def class_table(splits: Mapping[str, Sequence[ClassCount]], *, every: bool, rest: str) -> Table:
    """Boxes and images of each class by split, the commonest class first; "-" where a split does not name it.

    Args:
        splits: counts by name of the split; the first one decides the order.
        every: a row for each class, however many there are.
        rest: where those are that are not shown, as "--all shows them".
    """
    rows = by_class(splits)
    left = 0 if every else max(len(rows) - _FIRST - _LAST, 0)
    table = Table(title="boxes (pictures) of each class")
    table.add_column("class", overflow="fold", min_width=8)
    for split in splits:
        table.add_column(split, justify="right", no_wrap=True)
    for number, (name, counts) in enumerate(rows):
        if left and _FIRST <= number < _FIRST + left:
            if number == _FIRST:
                table.add_row(f"... {left:,} more: {rest}", *["..."] * len(splits))
            continue
        table.add_row(Text(visible(name)), *(_cell(counts.get(split)) for split in splits))
    return table


def _cell(count: ClassCount | None) -> str:
    if count is None:
        return "-"
    return f"{count.boxes:,} ({count.images:,})" if count.boxes else "0"
