"""docs/extending/: the files and lines of each page, put into a copy of the package, make a part that trains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT

INDEX, *PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"), key=lambda page: (page.stem != "index", page.stem))
FILE = re.compile(r"whole\s+file, `([\w/]+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_THE_COPY = re.compile(r"^```python skip\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REST = "…"
"""In a line of a diff: whatever stands there."""

# The package's own tests that look at every form, key or row of a page.
OWN_TESTS = (
    ["tests/test_recipe.py"],
    ["tests/test_recipe_docs.py"],
    # Two forms at once are one too many for a folder.
    ["tests/test_layers.py", "--deselect", "tests/test_layers.py::test_no_folder_is_an_attic"],
    ["tests/assigners/test_lattice.py", "tests/models/test_anchored_heads.py"],
    ["tests/test_docs.py", "-k", "docstring and (matchability or laplace or rep_points or one_to_one or shared_depth)"],
    ["tests/training/test_matrix.py", "-k", "matchability or laplace"],
)


def hunks(page: str) -> Iterator[tuple[str, str, str]]:
    """(file, lines before, lines after) of each place."""
    for diff in DIFF.findall(page):
        for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
            file, _, rest = part.partition("\n")
            for hunk in re.split(r"^@@\n", rest, flags=re.MULTILINE)[1:]:
                lines = hunk.splitlines(keepends=True)
                yield file, *("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))


def changed(text: str, before: str, after: str, where: str) -> str:
    """The text with the lines ``before`` as ``after``; the rests of lines stay, in their order.

    The assertion says that a place of a page is not there, or there twice: write the page again.
    """
    places = list(re.finditer("^" + re.escape(before).replace(re.escape(REST), "(.*)"), text, re.MULTILINE))
    assert len(places) == 1, f"{where}: {before}"
    start, *rest = after.split(REST)
    new = start + "".join(a + b for a, b in zip(places[0].groups(), rest, strict=True))
    return text[: places[0].start()] + new + text[places[0].end() :]


def changed_files(*pages: str) -> dict[str, str]:
    """New text of every file that the pages change or add, one page after the other."""
    files: dict[str, str] = {}
    for page in pages:
        for file, text in FILE.findall(page):
            assert not (ROOT / file).exists(), f"{file} is in the package: choose another example"
            files[file] = text
        for file, before, after in hunks(page):
            text = files.get(file) or (ROOT / file).read_text(encoding="utf-8")
            files[file] = changed(text, before, after, file)
    return files


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_places_of_a_page_are_there(page: Path) -> None:
    files = changed_files(read(page))
    new = [file for file in files if not (ROOT / file).exists()]
    assert len(new) == 1
    assert {"src/gfocal/recipe/forms.py", "docs/recipes.md"} < files.keys()
    for file, text in files.items():
        if file.endswith(".py"):
            compile(text, file, "exec")


def test_each_page_is_in_the_index_and_only_once_in_the_table() -> None:
    linked = re.findall(r"^\| \[[\w ]+\]\(([\w-]+\.md)\) \|", read(INDEX), re.MULTILINE)
    assert sorted(linked) == [page.name for page in PAGES]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with all pages applied."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("src", "tests", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
        shutil.copy(file, root)
    for name, text in changed_files(*map(read, PAGES)).items():
        (root / name).write_text(text, encoding="utf-8")
    return root


def run_in(copy: Path, where: Path, *arguments: str) -> str:
    """What Python prints with the package of the copy; stops where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_part_of_a_page_trains_by_name(page: Path, copy: Path, tmp_path: Path) -> None:
    blocks = IN_THE_COPY.findall(read(page))
    assert any("tried(" in block for block in blocks)
    code = "\n".join([*IN_THE_COPY.findall(read(INDEX)), *blocks, "print(gfocal.__file__)"])
    assert run_in(copy, tmp_path, "-c", code).splitlines()[-1] == str(copy / "src" / "gfocal" / "__init__.py")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", OWN_TESTS, ids=lambda arguments: Path(arguments[0]).stem)
def test_the_package_s_own_tests_pass_with_the_parts(arguments: list[str], copy: Path) -> None:
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-m", ""]
    if "matrix" in arguments[0]:
        options[-1] = "not slow"
    said = run_in(copy, copy, "-m", "pytest", *options, *arguments)
    assert re.search(r"\b[1-9]\d* passed", said), said


def test_a_place_that_is_gone_or_there_twice_is_noticed() -> None:
    text = "a = 1  # one\nb = 2  # two\nb = 2  # two\n"
    assert changed(text, "a = …\n", "a = …\nc = 3\n", "f.py") == text.replace("one\n", "one\nc = 3\n")
    assert changed("x y, z\n", "… y…\n", "… y, w…\n", "f.py") == "x y, w, z\n"
    for before in ("b = 2…\n", "= 1  # one\n", "a = 1\n"):
        with pytest.raises(AssertionError, match=r"^f.py: "):
            changed(text, before, "", "f.py")


def test_hunks_by_hand() -> None:
    page = "```diff\n--- f.py\n@@\n a\n-b\n+c\n@@\n+d\n--- g.md\n@@\n-e\n```\ntext\n```diff\n--- f.py\n@@\n f\n```\n"
    assert list(hunks(page)) == [
        ("f.py", "a\nb\n", "a\nc\n"),
        ("f.py", "", "d\n"),
        ("g.md", "e\n", ""),
        ("f.py", "f\n", "f\n"),
    ]
