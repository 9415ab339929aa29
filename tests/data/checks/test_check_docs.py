"""The page about checking shows the table of the code."""

from __future__ import annotations

import ast
import re

from gfocal.data.kinds import KINDS, SEVERITIES
from helpers.paths import PACKAGE, ROOT


def test_the_page_has_the_table_of_the_code() -> None:
    page = (ROOT / "docs" / "data-check.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert rows == [(name, kind.severity, kind.meaning, kind.remedy) for name, kind in KINDS.items()]
    assert {kind.severity for kind in KINDS.values()} == set(SEVERITIES)


KIND = re.compile(r"(record|image|annotation|annotations|picture|box|class|size|exif|leak)-[a-z0-9-]+")


def test_every_kind_that_the_code_names_is_in_the_table() -> None:
    named: set[str] = set()
    for file in (PACKAGE / "data").rglob("*.py"):
        texts = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
        named |= {text for text in texts if isinstance(text, str) and KIND.fullmatch(text)}
    assert {"picture-missing", "box-outside", "annotation-id-twice"} <= named
    assert named - set(KINDS) == set()
