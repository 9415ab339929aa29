"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gfocal.report.numbers import NONE, line
from gfocal.studies.comparison.content import StudyResults
from gfocal.studies.report import method, schedule, view
from gfocal.studies.report.plot import DESCRIBED
from gfocal.studies.report.schedule_plot import COURSES, DIFFERENCES
from gfocal.studies.report.speed import speed_tables, speed_words
from gfocal.studies.report.view import Claim, Line
from gfocal.utils.text import listed

_SPECIAL = re.compile(r"([\\`*_\[\]<>|&])")


def render_markdown(results: StudyResults, plot: str = "plot.png") -> str:
    """One table of the paper beside what was measured.

    Args:
        results: of the table.
        plot: the file that shows its plot, as a link from where the text will stand.
    """
    return _joined([f"# {plain(results.title)}", *_table(results, plot, "##"), *_reading("##")])


def overview_markdown(found: Sequence[StudyResults], plots: Sequence[str]) -> str:
    """Several tables, every claim and its verdict first; ``plots`` are the files of their plots."""
    blocks = ["# Tables of the paper, measured here", method.OVERVIEW, "## All claims"]
    rows = [
        (f"[{plain(_short(results))}](#t{number})", plain(method.place(results)), plain(c.statement), _verdict(c), c.by)
        for number, results in enumerate(found, 1)
        for c in view.claims(results)
    ]
    blocks.append(_grid(("Table", "Measured on", "Claim of the paper", "Verdict", "Interval over"), rows, "lllll"))
    for number, (results, plot) in enumerate(zip(found, plots, strict=True), 1):
        heading = f'<a id="t{number}"></a>\n\n## {plain(results.title)}'
        blocks += [heading, f"On {plain(method.place(results))}.", *_table(results, plot, "###")]
    return _joined([*blocks, *_reading("##")])


def _short(results: StudyResults) -> str:
    return line(results.title).partition(":")[0]


def _joined(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def plain(text: object) -> str:
    """Words that Markdown must not take for anything else, on one line."""
    return _SPECIAL.sub(r"\\\1", line(text))


def code(text: object) -> str:
    """As typed, on one line; fit for the cell of a table."""
    words = line(text)
    if not words:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    padding = " " if words[0] == "`" or words[-1] == "`" else ""
    return f"{fence}{padding}{words}{padding}{fence}".replace("|", r"\|")


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    marks = {"l": "---", "r": "--:"}
    lines = [head, [marks[side] for side in align], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _verdict(item: Claim) -> str:
    return f"{item.mark} **{item.verdict}**"


def _table(results: StudyResults, plot: str, level: str) -> list[str]:
    """Everything of one table but its title."""
    claims, problems = view.claims(results), view.problems(results)
    problem_list = "\n".join(f"- {plain(problem)}" for problem in problems)
    unfinished = "" if results.finished else f"**{method.UNFINISHED}**"
    verdicts = [(plain(c.statement), plain(c.published), _verdict(c), c.by) for c in claims]
    grid = _grid(("Claim of the paper", "Its figures", "Verdict", "Interval over"), verdicts, "llll")
    return [
        f"Figures of the paper: {plain(results.source)}.",
        plain(results.note),
        unfinished,
        problem_list,
        f"{level} Do the claims hold?",
        view.tally(claims),
        grid if claims else "",
        f"![{DESCRIBED}]({plot})",
        DESCRIBED,
        f"{level} Measured here, and the paper",
        _measured(results),
        _spread_words(results),
        *_parts(results, level),
        *_schedule(results, plot, level),
        *_agreement(results, level),
        *_speed(results, level),
        f"{level} What was run",
        "\n".join(f"- {heading}: {plain(words)}" for heading, words in method.settings(results)),
        code(method.command(results)),
        _runs(results),
    ]


def _spread_words(results: StudyResults) -> str:
    found = view.spreads(results)
    return f"Differences are to the group's baseline; intervals (95 %) are over {listed(found)}." if found else ""


def _measured(results: StudyResults) -> str:
    truncated = view.shows_truncated(results)
    head = ["Row", "", *results.columns, "Difference", "95 % interval", "Correlation", *["Out of reach"] * truncated]
    rows: list[list[str]] = []
    for group, lines in view.groups(results):
        for item in lines:
            rows += _pair(item, group, len(results.columns), truncated)
    return _grid(head, rows, "ll" + "r" * (len(head) - 2))


def _pair(item: Line, group: str, columns: int, truncated: bool) -> list[list[str]]:
    """What was measured, and below it what the paper prints."""
    name = plain(item.title if not group or item.title.startswith(group) else f"{group}, {item.title}")
    here = item.here or ("not measured", *[NONE] * (columns - 1))
    paper = item.paper or ("not in the paper", *[NONE] * (columns - 1))
    return [
        [name, "here", *here, item.difference, item.interval, item.correlation, *[item.truncated] * truncated],
        ["", "paper", *paper, item.paper_difference, "", "", *[""] * truncated],
    ]


def _parts(results: StudyResults, level: str) -> list[str]:
    claims = [claim for claim in view.claims(results) if claim.parts]
    if not claims:
        return []
    rows = [
        (plain(part.text), part.measure, part.difference, part.interval, part.published, f"{part.mark} {part.verdict}")
        for claim in claims
        for part in claim.parts
    ]
    head = ("Part of a claim", "Measure", "Difference", "95 % interval", "Paper", "Verdict")
    return [f"{level} What the verdicts rest on", _grid(head, rows, "llrrrl"), method.VERDICT, method.SPREAD]


def schedule_plots(plot: str) -> tuple[str, str]:
    """The files of the plots over the schedule, beside that of the table's own plot."""
    stem, dot, ending = plot.rpartition(".")
    return f"{stem}-schedule{dot}{ending}", f"{stem}-agreement{dot}{ending}"


def _schedule(results: StudyResults, plot: str, level: str) -> list[str]:
    if not results.schedule:
        return []
    differences, courses = schedule_plots(plot)
    return [
        f"{level} Over the schedule",
        schedule.SCHEDULE,
        f"![{DIFFERENCES}]({differences})",
        DIFFERENCES,
        _numbers(schedule.difference_grid(results)),
        _numbers(schedule.verdict_grid(results)),
        f"![{COURSES}]({courses})",
        COURSES,
    ]


def _agreement(results: StudyResults, level: str) -> list[str]:
    if results.agreement is None or not schedule.has_agreement(results):
        return []
    words, grid = schedule.agreement_words(results.agreement), _numbers(schedule.agreement_grid(results))
    return [f"{level} Do scores agree with IoUs?", words, grid]


def _numbers(grid: schedule.Grid) -> str:
    head, rows = grid
    return _grid(head, [[plain(row[0]), *row[1:]] for row in rows], "l" + "r" * (len(head) - 1))


def _speed(results: StudyResults, level: str) -> list[str]:
    if results.speed is None:
        return []
    grids = [
        _grid(head, [[plain(row[0]), *row[1:]] for row in rows], "l" + "r" * (len(head) - 1))
        for head, rows in speed_tables(results.speed, results)
    ]
    return [f"{level} Speed", plain(speed_words(results.speed)), *grids]


def _runs(results: StudyResults) -> str:
    rows = [
        (
            plain(item.title if not group or item.title.startswith(group) else f"{group}, {item.title}"),
            code(item.recipe),
            " ".join(map(code, item.changes)) or "as it is",
            item.box_weight,
            ", ".join(item.seeds) or NONE,
            item.time,
            item.loss,
        )
        for group, lines in view.groups(results)
        for item in lines
    ]
    head = ("Row", "Recipe", "With", "Box loss weighted by", "AP of each seed", "Time", "Loss, first to last")
    return _grid(head, rows, "lllllrr")


def _reading(level: str) -> list[str]:
    return [f"{level} How to read it", "\n".join(f"- **{word}**: {meaning}" for word, meaning in method.READ)]
