"""What a study found, for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from gfocal.report.numbers import NONE, line
from gfocal.studies.comparison.content import StudyResults
from gfocal.studies.report import method, view
from gfocal.studies.report.speed import describe_ratio
from gfocal.studies.report.view import Line

_WIDTH = 100
_NAME = 27


def describe_results(results: StudyResults, files: Mapping[str, Path] | None = None) -> list[str]:
    """Lines: the table, the verdicts, where the files are.

    Args:
        results: of a table.
        files: what :func:`gfocal.studies.report.write_study_report` returned.
    """
    lines = [
        *_wrapped(line(results.title)),
        *_wrapped(f"on {method.place(results)}", "  "),
        "",
        *_table(results),
        "",
    ]
    problems = view.problems(results)
    if not results.finished:
        lines += _wrapped(method.UNFINISHED)
    for problem in problems:
        lines += _wrapped(problem, "  ")
    lines += _verdicts(results)
    lines += _speed(results)
    return [_ascii(text) for text in [*lines, *(f"{name}: {file}" for name, file in (files or {}).items())]]


def _ascii(text: str) -> str:
    """Marks that every terminal has."""
    for mark, plain in {"−": "-", "±": "+-", "–": "-", "✓ ": "", "✗ ": ""}.items():
        text = text.replace(mark, plain)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ") or [""]


def _table(results: StudyResults) -> list[str]:
    found = view.groups(results)
    rows: list[tuple[str, ...]] = [("", "AP here", "paper", "to baseline", "95 % interval", "paper", "correlation")]
    for group, lines in found:
        rows += [(group, "", "", "", "", "", "")] if group and len(found) > 1 else []
        rows += [_cells(item, "  " if group and len(found) > 1 else "") for item in lines]
    return [_aligned(row, [max(len(cells[i]) for cells in rows) for i in range(len(rows[0]))]) for row in rows]


def _cells(item: Line, indent: str) -> tuple[str, ...]:
    here = item.here[0] if item.here else "not measured"
    paper = item.paper[0] if item.paper else NONE
    name = textwrap.shorten(item.title, _NAME - len(indent), placeholder="...")
    return indent + name, here, paper, item.difference, item.limits, item.paper_difference, item.correlation


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    numbers = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
    return "  ".join([f"{first:<{widths[0]}}", *numbers]).rstrip()


def _verdicts(results: StudyResults) -> list[str]:
    found = view.claims(results)
    if not found:
        return [view.tally(found)]
    lines = [view.tally(found)]
    for claim in found:
        lines += _wrapped(f"{claim.verdict}: {claim.statement} ({claim.basis})", "  ")
    return lines


def _speed(results: StudyResults) -> list[str]:
    if results.speed is None:
        return []
    titles = {row.key: row.title for row in results.rows}
    lines = ["time against the first row, network with post-processing (95 % interval), and FLOPs:"]
    for row in results.speed.rows[1:]:
        name = titles.get(row.key, row.key)
        lines.append(f"  {name}: {describe_ratio(row.ratio_whole)}, FLOPs {row.ratio_flops:.3f}")
    return lines
