"""docs/models.md lists what the data file has."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from gfocal.catalogue.entries import Published, published
from helpers.paths import ROOT

PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "--regenerate-models-page -->\n", "<!-- end of the list -->\n"


def figure(entry: Published) -> str:
    words = [] if entry.ap is None else [f"{entry.ap:.1f}"]
    if entry.ap is not None and entry.data == "VOC":
        words = [f"{entry.ap:.1f} ({entry.measure.replace('VOC 2007 test, ', 'VOC ')})"]
    words += [] if entry.test_dev is None else [f"{entry.test_dev:.1f} test-dev"]
    return ", ".join(words)


def line(entry: Published) -> str:
    first, *others = entry.addresses
    more = "".join(f", [also]({address})" for address in others) + (f" (code {entry.code})" if entry.code else "")
    what = ", ".join(part for part in (entry.detector, entry.backbone, entry.about) if part)
    size = f"{entry.megabytes:g} MB" if entry.megabytes else ""
    state = f"**{entry.state}** {entry.reason}"
    cells = [f"[`{entry.name}`]({first}){more}", what, entry.input, figure(entry), size, state]
    return f"| {' | '.join(cells)} |\n"


def the_list() -> str:
    text = ""
    for source, entries in groupby(published(), key=lambda entry: entry.source):
        closed = "**NC: forbids commercial use.** " if source.noncommercial else ""
        link = f"[{source.page.removeprefix('https://')}]({source.page})"
        text += f"\n### {source.title}\n\n{link}. {closed}{source.licence}.\n"
        text += "\n| name | what | input | AP | size | state |\n|---|---|---|---|---|---|\n"
        text += "".join(map(line, entries))
    return text + "\n"


def test_the_page_has_the_list(request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}{the_list()}{END}{after}"
    if request.config.getoption("--regenerate-models-page"):
        PAGE.write_text(wanted, encoding="utf-8")
        page = wanted
    assert after, "the page has lost its mark"
    assert page == wanted, "if it is meant: pytest tests/catalogue/test_page.py --regenerate-models-page"


def test_names_in_the_pages_are_names_of_the_list() -> None:
    names = {entry.name for entry in published()}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"(?:gfocal (?:predict|eval|models) |--init )([a-z][a-z0-9_.]+_(?:coco|voc))\b", text):
            assert name in names, page.name
