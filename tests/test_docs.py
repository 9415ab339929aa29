"""The examples that people copy: docstrings, and the Python blocks of README.md and docs/.

A block opened by ```` ```python ```` is run; one opened by ```` ```python skip ```` is only compiled (it needs a
file or a training run of the reader's own). The blocks of one page run in order and share their names.
"""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import gfocal
from gfocal import losses
from helpers.paths import ROOT

MODULES = sorted(info.name for info in pkgutil.walk_packages(gfocal.__path__, "gfocal.") if "__main__" not in info.name)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python[ \t]*(?P<info>[^\n]*)\n(?P<code>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[int, bool, str]]:
    """(line number, whether to run it, code) of each Python block."""
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["info"].split() != ["skip"], match["code"])
        for match in BLOCK.finditer(text)
    ]


@pytest.mark.parametrize("name", ["gfocal", *MODULES])
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()


def test_the_public_losses_have_an_example_each() -> None:
    finder = doctest.DocTestFinder()
    for name in [name for name in losses.__all__ if name.endswith("_loss")]:
        examples = [e for t in finder.find(getattr(losses, name), name) for e in t.examples]
        assert any(example.want for example in examples), name


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_examples_of_the_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for line, run, code in blocks(page.read_text()):
        compiled = compile("\n" * (line - 1) + code, str(page), "exec")  # tracebacks show the page's line
        if run:
            exec(compiled, names)


def test_blocks_are_found_in_a_page() -> None:
    text = "# T\n```python\na = 1\nb = 2\n```\ntext\n```bash\nls\n```\n```python skip\nload()\n```\n"
    assert blocks(text) == [(3, True, "a = 1\nb = 2\n"), (11, False, "load()\n")]


LINK = re.compile(r"\[[^\]\n]*\]\((?!https?:|mailto:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = [link for link in LINK.findall(prose) if not (page.parent / link).exists()]
    assert broken == []


def test_a_link_is_found() -> None:
    text = "[a](other.md#part) and [b](https://x.org) and [c](#here) and ![d](picture.png)"
    assert LINK.findall(text) == ["other.md", "picture.png"]


NAMED = re.compile(r"\b(?:docs|benchmarks)/[\w./-]*\w\.(?:md|py)\b")


def test_pages_and_scripts_that_the_code_names_are_there() -> None:
    sources = sorted(path for folder in ("src", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
    named = {(path, name) for path in sources for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert sorted(f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).is_file()) == []
