"""The public face: which names there are, that each is there and explained, and that pages teach nothing else."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gfocal

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "gfocal"
RECORD = Path(__file__).with_name("public_names.txt")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


# --- which names ----------------------------------------------------------------------------------------------------


def public_names() -> dict[str, Any]:
    """Dotted name and value of everything public: what the facade lists, and what the packages in it list."""
    found = {f"gfocal.{name}": getattr(gfocal, name) for name in gfocal.__all__}
    for package in [value for value in found.values() if isinstance(value, ModuleType)]:
        found |= {f"{package.__name__}.{name}": getattr(package, name) for name in package.__all__}
    return found


NAMES = public_names()


def kind(value: Any) -> str:
    if isinstance(value, ModuleType):
        return "module"
    if inspect.isclass(value):
        return "class"
    return "function" if inspect.isfunction(value) else "data"


def test_the_names_are_those_on_record(request: pytest.FixtureRequest) -> None:
    now = "".join(sorted(f"{name} {kind(value)}\n" for name, value in NAMES.items()))
    if request.config.getoption("--regenerate-public-names"):
        RECORD.write_text(now, encoding="utf-8")
    changes = difflib.ndiff(RECORD.read_text(encoding="utf-8").splitlines(), now.splitlines())
    changed = [line for line in changes if line[:2] in ("+ ", "- ")]
    assert changed == [], "if it is meant: pytest tests/test_public.py --regenerate-public-names, and a changelog line"


def defined_at(module: str, name: str) -> tuple[str, ast.stmt | None]:
    """The module of a definition and the statement behind it, through the imports of packages."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and node.module and any(a.name == name for a in node.names):
            return defined_at(node.module, name)
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name) and target.id == name:
            return module, after
    raise AssertionError(f"{name} is not defined in {module}")


def explained(name: str, value: Any) -> bool:
    """Whether there is a docstring; that of data is the text below it."""
    if kind(value) != "data":
        return bool(inspect.getdoc(value)) and inspect.getdoc(value) != inspect.getdoc(dict)
    module, _, last = name.rpartition(".")
    if module == "gfocal":
        place, _, defined = gfocal._PLACES[last].partition(":")
        module, last = place, defined or last
    _, after = defined_at(module, last)
    return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gfocal.__version__"])
def test_each_name_is_explained(name: str) -> None:
    assert explained(name, NAMES[name])


def test_no_name_is_that_of_a_module() -> None:
    """Importing ``gfocal.train``, a module, would put it in the place of the function."""
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules.isdisjoint(gfocal._PLACES)
    assert set(gfocal._PACKAGES) <= modules


# --- the facade -----------------------------------------------------------------------------------------------------


def for_type_checkers(source: str) -> dict[str, str]:
    """What is imported under ``if TYPE_CHECKING``: name -> its place, in the form of the table."""
    (block,) = [n for n in ast.parse(source).body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            place = f"{node.module}:{alias.name}" if alias.asname else str(node.module)
            assert (alias.asname or alias.name) not in found
            found[alias.asname or alias.name] = place
    return found


def test_type_checkers_see_what_the_table_gives() -> None:
    typed = for_type_checkers((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert typed == gfocal._PLACES | dict.fromkeys(gfocal._PACKAGES, "gfocal")
    assert len(set(gfocal.__all__)) == len(gfocal.__all__)
    assert {*typed, "__version__"} == set(gfocal.__all__) <= set(dir(gfocal))


def test_the_imports_for_type_checkers_are_read() -> None:
    source = "if TYPE_CHECKING:\n    from gfocal import a, b\n    from gfocal.c import d as e\n"
    assert for_type_checkers(source) == {"a": "gfocal", "b": "gfocal", "e": "gfocal.c:d"}


def test_a_name_is_the_definition_itself() -> None:
    from gfocal.prediction import open, predict

    assert gfocal.predict is predict.predict
    assert gfocal.load is open.load


@pytest.mark.parametrize(
    ("typo", "message"),
    [("evaluat_e", "no attribute 'evaluat_e'; the nearest is 'evaluate'$"), ("xyzzy", "no attribute 'xyzzy'$")],
)
def test_a_typo_is_told_the_nearest_name(typo: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        getattr(gfocal, typo)
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from gfocal import {typo}")


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are there after the code."""
    run = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"]
    return set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"accelerate", "hotcoco", "jinja2", "matplotlib", "msgspec", "pydantic", "rich", "safetensors", "timm", "typer"}


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import gfocal; gfocal.__version__; dir(gfocal)", {"torch", "numpy", *HEAVY}),
        (  # in one process, since each would import torch
            "import gfocal; gfocal.suppress; gfocal.models\n"
            "from gfocal.losses import quality_focal_loss\n"
            "from gfocal import assigners, representation, points, boxes",
            {"torchvision", "PIL", *HEAVY},
        ),
        ("import gfocal; gfocal.StudyResults, gfocal.write_study_report", {"torch", "numpy", "matplotlib", "pydantic"}),
    ],
)
def test_a_name_brings_only_what_it_needs(code: str, without: set[str]) -> None:
    loaded = loaded_by(code)
    assert "gfocal" in loaded
    assert not loaded & without


# --- the pages ------------------------------------------------------------------------------------------------------

PYTHON = re.compile(r"^```python[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
# A block that a page calls a file of the package is one: modules import each other, not the facade.
FILE = re.compile(r"whole\s+file, `src/gfocal/[\w/]+\.py`:\n\n```python\n.*?^```$", re.MULTILINE | re.DOTALL)
DIFF = re.compile(r"^```diff\n.*?^```$", re.MULTILINE | re.DOTALL)  # of such files
IMPORT = re.compile(r"from (gfocal[\w.]*) import ((?:\w+(?: as \w+)?(?:, )?)+)")
DOTTED = re.compile(r"\bgfocal(?:\.[A-Za-z_]\w*)+")
FILE_NAMES = {"gfocal.json"}


def in_code(code: str) -> Iterator[str]:
    """Dotted names of gfocal that Python code imports or reaches from ``gfocal``."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("gfocal."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gfocal":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield from DOTTED.findall(ast.unparse(node))


def taught(page: str) -> set[str]:
    """Dotted names of gfocal that a page teaches: in its Python blocks, its commands and its prose."""
    page = DIFF.sub("", FILE.sub("", page))
    found = {name for code in PYTHON.findall(page) for name in in_code(code)}
    prose = PYTHON.sub("", page)
    for module, names in IMPORT.findall(prose):
        found |= {f"{module}.{name.split(' as ')[0]}" for name in names.rstrip(", ").split(", ")}
    found |= set(DOTTED.findall(IMPORT.sub("", prose)))
    return {name for name in found - FILE_NAMES if not name.endswith("__")}  # __all__, __version__


def is_public(dotted: str) -> bool:
    """A public name, or what a public class or value has."""
    if dotted in NAMES:
        return True
    owner, _, attribute = dotted.rpartition(".")
    if owner not in NAMES or isinstance(NAMES[owner], ModuleType):
        return False
    return hasattr(NAMES[owner], attribute) or attribute in getattr(NAMES[owner], "__annotations__", {})


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_pages_teach_public_names_only(page: Path) -> None:
    internal = sorted(name for name in taught(page.read_text(encoding="utf-8")) if not is_public(name))
    assert internal == []


def test_what_a_page_teaches_is_found() -> None:
    page = (
        "`gfocal.load`, gfocal.__all__ and gfocal.json\n\n"
        "```python\nimport gfocal.zoo\nfrom gfocal.losses import (\n    focal_loss,\n"
        "    x as y,\n)\ngfocal.draw(1).save(2)\n```\n\n    python -c 'from gfocal.engine import a, b as c; a()'\n\n"
        "This is the\nwhole file, `src/gfocal/losses/mine.py`:\n\n```python\nfrom gfocal.inside import z\n```\n"
        "Another:\n\n```python\nfrom gfocal.outside import z\n```\n"
        "And lines of it:\n\n```diff\n-from gfocal.inside import y\n```\n"
    )
    expected = {"load", "zoo", "losses.focal_loss", "losses.x", "draw", "engine.a", "engine.b", "outside.z"}
    assert taught(page) == {f"gfocal.{name}" for name in expected}
    assert [is_public(f"gfocal.{name}") for name in ("load", "Targets.empty", "Targets.boxes")] == [True] * 3
    assert [is_public(f"gfocal.{name}") for name in ("zoo", "Targets.none", "losses.x", "models.zoo")] == [False] * 4


def test_a_type_checker_knows_the_names() -> None:
    """A module's ``__getattr__`` would make any name right for it."""
    tree = ast.parse(Path(gfocal.__file__).read_text(encoding="utf-8"))
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
    assert hasattr(gfocal, "load")
    assert set(dir(gfocal)) - set(gfocal.__all__) == {name for name in dir(gfocal) if name.startswith("__")} - {
        "__version__"
    }
