"""What readers get: the numbers of the results, safe, whole, in every form."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gfocal.errors import UsageError
from gfocal.studies.comparison.findings import Difference
from gfocal.studies.report import describe_results, render_html, render_markdown, write_overview, write_study_report
from gfocal.studies.report.plot import _limits, write_plot
from helpers import report_samples as samples
from helpers.paths import ROOT

FILES = sorted([*ROOT.glob("docs/studies/*/*/results.json"), *ROOT.glob("tests/fixtures/*/study/*/results.json")])
LONG = [samples.long1a, samples.long3, samples.long_unfinished]
ALL = [samples.table1a, samples.table2b, samples.table3, samples.unfinished, samples.hostile, *LONG]
# What opens and needs no end.
VOID = {"meta", "br"}


@functools.cache
def page_of(sample: Callable[[], dict[str, Any]]) -> str:
    return render_html(samples.read(sample()))


class Page(HTMLParser):
    """Tags, attributes and the words of cells; tags that are not closed in order are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def cells(page: Page, first: str, *more: str) -> list[str]:
    """The row that starts with these words."""
    clean = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    return next(row for row in clean if row[: 1 + len(more)] == [first, *more])


def grids(markdown: str) -> list[list[list[str]]]:
    """The tables of a Markdown text: cells of each line, split at bars that are not escaped."""
    found: list[list[list[str]]] = []
    inside = False
    for text in markdown.splitlines():
        if text.startswith("|"):
            found += [] if inside else [[]]
            assert text.endswith("|")
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", text)[1:-1]])
        inside = text.startswith("|")
    return found


def test_the_numbers_of_the_page_are_those_of_the_results() -> None:
    page = Page(page_of(samples.table3))
    # 0.345 +- 0.004 of AP; AP50 is 1.4 times, AP75 1.08 times as much; 0.016 [0.007, 0.026]; correlation 0.565.
    assert cells(page, "with QFL", "here")[2:] == [
        *["34.5 ± 0.4", "48.3 ± 0.4", "37.3 ± 0.4", "+1.6", "+0.7 to +2.6", "0.565 ± 0.010"],
    ]
    assert page.rows[[row[:1] for row in page.rows].index(["with QFL"]) + 1][:5] == [
        *["paper", "39.9", "58.5", "43.0", "+0.7"],
    ]
    assert cells(page, "DFL above ATSS (AP)")[1:] == ["+0.3", "−0.6 to +1.3", "+0.3", "? cannot tell"]
    assert cells(page, "GFL at most 3.5 % slower than ATSS (time)")[1:4] == ["+1.4 %", "+0.6 to +2.2 %", "–"]
    assert cells(page, "with DFL", "21.7") == [
        *["with DFL", "21.7", "20.9 to 24.1", "23.9", "23.0 to 26.8", "41.8", "19.4"],
    ]
    assert cells(page, "with DFL", "1.24 G")[2:] == [
        "0.93 M",
        "1.008",
        "1.019 (1.009 to 1.028)",
        "1.017 (1.005 to 1.033)",
    ]
    made = cells(page, "with QFL", "atss_nano")
    assert made[2:4] == ["model.quality.kind=joint", "centerness"]
    assert made[4].split(" (")[0] == "34.2"
    assert "200 steps of training, 16 pictures a step (1 epoch)" in page.words
    assert "every row is trained twice" in page.words
    assert "1,234 candidates of each go into post-processing" in page.words
    assert "Overrides" not in page.words


def test_the_schedule_and_agreement_of_the_page() -> None:
    page = Page(page_of(samples.long3))
    # Of QFL at 250 steps: 1.6 - 3 * (1 - log(5) / log(100)) * 1.25 = -0.84 points, at 5,000 what the table says.
    first = cells(page, "with QFL", "−0.8 (−2.0 to +0.4)")
    assert (len(first), first[-2:]) == (8, ["+1.6 (+0.7 to +2.6)", "+0.7"])
    assert cells(page, "QFL and DFL add up", "? cannot tell")[-1] == "? cannot tell"
    assert cells(page, "No overhead", "? cannot tell")[-1] == "✓ holds"
    assert cells(page, "Correlation, positives: with QFL")[1:] == ["0.620 ± 0.010", "+0.020", "+0.010 to +0.030"]
    assert cells(page, "Mean IoU of positives: ATSS")[1:] == ["0.800 ± 0.010", "", ""]
    assert "All rows find 4,311/4,402 objects (by seed)." in page.words
    assert "Over the schedule" not in page_of(samples.table3)
    missing = Page(page_of(samples.long_unfinished))
    assert cells(missing, "with DFL", "–")[1:7] == ["–"] * 6
    assert cells(missing, "with QFL and DFL (GFL)", "–")[2].startswith("−0.4 (")
    assert cells(missing, "Correlation, positives: with DFL")[1:] == ["–"] * 3


def test_a_schedule_is_drawn_beside_the_table(tmp_path: Path) -> None:
    results = samples.read(samples.long3())
    files = write_study_report(results, tmp_path / "one")
    shorter = samples.read(samples.table3())
    text = files["markdown"].read_text()
    for name in ("schedule", "agreement"):
        with Image.open(files[name]) as drawn:
            assert drawn.size[0] > 800
        assert f"]({files[name].name})" in text
    assert set(write_study_report(shorter, tmp_path / "two")) == {"markdown", "html", "plot", "results"}
    write_overview([shorter, results], tmp_path / "all")
    links = re.findall(r"\]\(([^)#]+\.png)\)", (tmp_path / "all" / "overview.md").read_text())
    assert sorted(links) == sorted(file.name for file in (tmp_path / "all").glob("*.png"))
    assert len(links) == 4


def test_markdown_and_page_say_the_same() -> None:
    for sample in (samples.table1a, samples.table3):
        results = samples.read(sample())
        rows = {tuple(" ".join(cell.split()) for cell in row) for row in Page(page_of(sample)).rows}
        claims, measured, parts = grids(render_markdown(results))[:3]
        numbers = [row for row in measured[2:] if row[1] == "here"]
        assert len(numbers) == len(results.rows)
        for row in numbers:
            assert any(cells[1:] == tuple(row[1:]) for cells in rows), row
        for row in parts[2:]:
            assert (f"{row[0]} ({row[1]})", *row[2:]) in rows
        assert [row[0].replace("\\", "") for row in claims[2:]] == [claim.statement for claim in results.claims]


@pytest.mark.parametrize("sample", ALL)
def test_every_result_is_rendered_well(sample: Any) -> None:
    results = samples.read(sample())
    text = page_of(sample)
    page = Page(text)
    assert page.tags.isdisjoint({"script", "link", "iframe", "img", "image"})
    fetched = {"src", "srcset", "href", "xlink:href", "data", "action", "poster"}
    assert all(value.startswith("#") for name, value in page.attributes if name in fetched)
    assert not re.search(r"url\((?!#)|@import", text)
    for grid in grids(render_markdown(results)):
        assert {len(row) for row in grid} == {len(grid[0])}
        assert all(re.fullmatch("---|--:", cell) for cell in grid[1])
    lines = describe_results(results)
    assert max(map(len, lines)) <= 100
    assert all(text.isascii() for text in lines)
    for row in results.rows:
        assert any(row.title[:20] in line for line in lines)


def test_nothing_hostile_is_let_through() -> None:
    results = samples.read(samples.hostile())
    page = page_of(samples.hostile)
    assert Page(page).tags.isdisjoint({"script", "img", "b"})
    assert "&lt;img src=x onerror=alert(1)&gt; | none second" in page
    markdown = render_markdown(results)
    assert "\\<script\\>" in markdown
    assert not re.search(r"(?<!\\)<(script|img|b)\b", markdown)
    assert "``gfocal study table3 --data 'a`b\\|c'``" in markdown


def test_what_is_missing_is_named() -> None:
    results = samples.read(samples.unfinished())
    page = Page(page_of(samples.unfinished))
    for text in (page.words, render_markdown(results), "\n".join(describe_results(results))):
        assert "Unfinished" in text
        assert text.count("with QFL: seed 0 failed: the loss is not finite at step 17") == 1
        assert "with DFL: seed 0 has not been run" in text
        assert "cannot tell at this budget" in text
    # The runner's own list has it too.
    assert "\n".join(describe_results(results)).count("the loss is not finite at step 17") == 1
    assert cells(page, "ATSS", "here")[2:] == ["32.9", "46.1", "–", "baseline", "", "0.549"]
    assert "nothing measured yet" in page.words
    assert "every row is trained once" in page.words


def test_what_failed_and_is_no_row_is_told_too() -> None:
    results = samples.table3() | {"failures": ["timing: the machine was asleep"], "finished": False}
    assert "  timing: the machine was asleep" in describe_results(samples.read(results))


def test_a_baseline_that_is_not_measured_is_the_reason() -> None:
    results = samples.table3()
    results["rows"][0] |= {"measured": None, "correlation": None}
    results["rows"][1]["difference"] = None
    assert "  with QFL: its baseline is not measured" in describe_results(samples.read(results))


def test_truncated_edges_where_they_matter() -> None:
    page = Page(page_of(samples.table2b))
    assert cells(page, "n = 7", "here")[-1] == "1.1 %"
    assert cells(page, "n = 12", "here")[-1] == "0.004 %"
    assert "not in the paper" in page.words
    assert "Edges out" not in Page(page_of(samples.table3)).words


def test_intervals_of_several_kinds_each_say_theirs() -> None:
    results = samples.table3()
    results["rows"][1]["difference"]["by"] = "pictures"
    page = Page(render_html(samples.read(results)))
    assert cells(page, "with QFL", "here")[6] == "+0.7 to +2.6 (over pictures)"
    assert cells(page, "with DFL", "here")[6] == "−0.6 to +1.3 (over pictures and seeds)"


def test_the_plot_shows_rows_and_both_marks(tmp_path: Path) -> None:
    page = page_of(samples.table1a)
    assert page.count("<svg") == 2 + 12  # FCOS and ATSS, and a curve for each row
    assert page.count(">joint with QFL</text>") == 2
    assert "clip-path" in page
    write_plot(samples.read(samples.table1a()), file := tmp_path / "plot.png")
    assert [mark(file, colour) > 500 for colour in ((31, 95, 169), (176, 72, 14))] == [True, True]
    nothing = tmp_path / "nothing.png"
    write_plot(samples.read(samples.unfinished()), nothing)
    assert mark(nothing, (31, 95, 169)) < mark(file, (31, 95, 169)) / 10


def test_an_interval_that_is_far_wider_than_the_others_is_cut_off(tmp_path: Path) -> None:
    """Otherwise all others are dots on the zero line."""
    results = samples.table1a()
    before = _limits(samples.read(results).rows)
    row = next(row for row in results["rows"] if row["key"] == "atss-joint")
    row["difference"] = {"value": -0.181, "low": -0.811, "high": 0.449, "by": "pictures and seeds"}
    low, high = _limits(samples.read(results).rows)
    assert before[0] <= low < high <= before[1]
    page = render_html(samples.read(results))
    assert ">−18.1 (−81.1 to +44.9)</text>" in page
    assert ">−18.1 (−81.1 to +44.9)</text>" not in page_of(samples.table1a)
    # Of two intervals none is unlike the other.
    wide = [Difference(0, -low, low, "pictures") for low in (0.01, 0.4)]
    assert _limits([replace(samples.read(results).rows[0], difference=found) for found in wide])[1] > 40


def mark(file: Path, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour."""
    with Image.open(file) as image:
        return sum(count for count, found in image.convert("RGB").getcolors(1 << 24) or [] if found == colour)


def holds(content: Any, kept: Any) -> bool:
    """Whether all of some JSON is in other JSON; keys that came later do not matter."""
    if isinstance(kept, dict):
        return all(key in content and holds(content[key], value) for key, value in kept.items())
    if isinstance(kept, list):
        return len(content) == len(kept) and all(map(holds, content, kept))
    return bool(content == kept)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_results_of_earlier_versions_are_read_and_lose_nothing(file: Path) -> None:
    """Those of the documentation and of the fixtures."""
    content = json.loads(file.read_text())
    assert holds(json.loads(json.dumps(samples.read(content).to_dict())), content)


def test_runs_that_did_not_say_their_host() -> None:
    content = samples.table3()
    assert "Machine" in Page(page_of(samples.table3)).words
    del content["settings"]["host"]
    assert "Machine" not in Page(render_html(samples.read(content))).words


def test_the_keys_of_results(tmp_path: Path) -> None:
    """Scripts read them: they stay as they are, and in their order."""
    content = json.loads(write_study_report(samples.read(samples.long3()), tmp_path)["results"].read_text())
    assert list(content) == [
        "table", "title", "source", "note", "settings", "columns", "rows", "claims", "agreement", "schedule", "speed",
        "failures", "finished",
    ]  # fmt: skip
    assert list(content["settings"]) == [
        "data", "train_pictures", "val_pictures", "classes", "pyramid", "picture", "iterations", "epochs",
        "pictures_a_step", "unlike_the_others", "seeds", "init", "pretrained", "budget", "overrides", "versions",
        "host", "data_fingerprint", "command",
    ]  # fmt: skip
    assert list(content["rows"][0]) == [
        "key", "title", "group", "baseline", "recipe", "changes", "box_weight", "published", "published_difference",
        "measured", "difference", "correlation", "agreement", "per_class", "truncated_share", "runs", "curve",
    ]  # fmt: skip
    assert list(content["rows"][0]["measured"]["AP"]) == ["mean", "spread", "runs"]
    assert list(content["rows"][1]["difference"]) == ["value", "low", "high", "by"]
    assert list(content["rows"][0]["runs"][0]) == ["seed", "state", "error", "folder", "seconds"]
    assert list(content["rows"][0]["curve"]) == ["step", "loss"]
    assert list(content["claims"][0]) == ["statement", "verdict", "by", "published", "parts"]
    assert list(content["claims"][0]["parts"][0]) == [
        "text", "measure", "difference", "low", "high", "published", "verdict",
    ]  # fmt: skip
    assert list(content["agreement"]) == ["judged_by", "objects"]
    assert list(content["schedule"][0]) == ["step", "rows", "claims"]
    assert list(content["schedule"][0]["rows"]["atss"]) == ["AP", "difference", "agreement", "per_class"]
    assert list(content["speed"]) == ["picture", "threads", "device", "repeats", "candidates", "rows"]
    assert list(content["speed"]["rows"][0]) == [
        "key", "flops", "parameters", "network", "whole", "ratio_network", "ratio_whole", "ratio_flops", "fps",
    ]  # fmt: skip


def test_files_are_whole_and_the_same_again(tmp_path: Path) -> None:
    results = samples.read(samples.table2b())
    files = write_study_report(results, tmp_path / "new" / "folder")
    assert {path.name for path in files.values()} == {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert holds(json.loads(files["results"].read_text()), samples.table2b())
    assert "](plot.png)" in files["markdown"].read_text()
    before = {name: path.read_bytes() for name, path in files.items()}
    again = write_study_report(samples.read(json.loads(files["results"].read_text())), tmp_path / "new" / "folder")
    assert {name: path.read_bytes() for name, path in again.items()} == before
    assert f"html: {files['html']}" in describe_results(results, files)


def test_the_overview_starts_with_all_claims(tmp_path: Path) -> None:
    found = [samples.read(sample()) for sample in (samples.table2b, samples.table3, samples.unfinished)]
    files = write_overview(found, tmp_path)
    page, markdown = Page(files["html"].read_text()), files["markdown"].read_text()
    claims = [claim.statement for results in found for claim in results.claims]
    index = grids(markdown)[0][2:]
    assert [row[2].replace("\\", "") for row in index] == claims
    assert [row[0] for row in index] == ["[Table 2b](#t1)"] + ["[Table 3](#t2)"] * 2 + ["[Table 3](#t3)"]
    assert "from random weights" in index[-1][1]
    first = [" ".join(row[0].split()) for row in page.rows]
    assert [text for text in first if text in claims] == claims
    ids = [value for name, value in page.attributes if name == "id" and value in ("t1", "t2", "t3")]
    assert ids == ["t1", "t2", "t3"]
    assert len({path for name, path in files.items() if name.startswith("plot")}) == 3
    assert all(f"]({path.name})" in markdown for name, path in files.items() if name.startswith("plot"))


def test_what_is_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"claims": ...}, "claims is missing"),
        ({"rows": {}}, r"rows is \{\}, not a list"),
        ({"finished": "yes"}, "finished is 'yes', not true or false"),
        ({"claims": [{"statement": "all is well"}]}, r"claims\[0\].verdict is missing"),
        ({"settings": samples.settings(seeds=[0, "one"])}, r"settings.seeds\[1\] is 'one', not a whole number"),
    ):
        content = {key: value for key, value in (samples.table3() | change).items() if value is not ...}
        with pytest.raises(UsageError, match=f"no results of a study .{message}.: give the content of a results.json"):
            samples.read(content)
    with pytest.raises(UsageError, match=r"the content is \[\], not an object"):
        samples.read([])
    with pytest.raises(UsageError, match="run a study first"):
        write_overview([], tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="it is a file"):
        write_study_report(samples.read(samples.table3()), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
