"""The page about checking shows the table of the code."""

from __future__ import annotations

import re

from gfocal.data.kinds import SEVERITIES, Kind
from helpers.paths import PACKAGE, ROOT


def test_the_page_has_the_table_of_the_code() -> None:
    page = (ROOT / "docs" / "data-check.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert rows == [(kind.value, kind.severity, kind.meaning, kind.remedy) for kind in Kind]
    assert {kind.severity for kind in Kind} == set(SEVERITIES)


def test_every_kind_is_one_that_the_code_finds() -> None:
    files = [file.read_text() for file in (PACKAGE / "data").rglob("*.py") if file.name != "kinds.py"]
    named = {match[1] for text in files for match in re.finditer(r"\bKind\.([A-Z0-9_]+)", text)}
    assert named == set(Kind.__members__)
