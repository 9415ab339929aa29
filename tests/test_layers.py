"""Modules import only from lower layers, and nothing imports in a circle; read from the source, lazy imports too."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.paths import PACKAGE, ROOT

# A module or package may import its own package, those beside it on its line, and everything further up. Lines of
# one layer that are apart do not know each other. `__init__` is the facade: whoever needs it needs everything.
# The tables in docs/design.md and CONTRIBUTING.md are compared with this one.
TABLE: list[tuple[int, set[str]]] = [
    (0, {"errors", "detections", "structures", "boxes"}),
    (1, {"points"}),
    (1, {"utils"}),
    (2, {"calibration"}),
    (1, {"losses"}),
    (1, {"recipe"}),
    (1, {"report"}),
    (2, {"assigners"}),
    (2, {"images"}),
    (2, {"representation"}),
    (2, {"serialization"}),
    (3, {"data"}),
    (3, {"models"}),
    (3, {"criterion"}),
    (4, {"detector"}),
    (4, {"exported"}),
    (5, {"zoo"}),
    (5, {"runtime"}),
    (6, {"analysis"}),
    (6, {"evaluation"}),
    (6, {"runs"}),
    (7, {"interop"}),
    (7, {"hub"}),
    (7, {"run_report"}),
    (7, {"explanation"}),
    (8, {"catalogue"}),
    (9, {"training"}),
    (9, {"prediction"}),
    (9, {"export"}),
    (10, {"commands"}),
    (10, {"auto"}),
    (11, {"studies"}),
    (12, {"cli"}),
    (13, {"__main__", "__init__"}),
]
LINE_OF = {name: line for line, (_, names) in enumerate(TABLE) for name in names}
# Facts about the package that any module may read from the facade.
FACTS = {"__version__"}


def imported_parts(source: str, module: str, is_package: bool = False) -> Iterator[tuple[str, int]]:
    """(part of gfocal, line number) of every import in ``source``; ``module`` is its dotted name."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                parts = name.name.split(".")
                if parts[0] == "gfocal" and len(parts) > 1:
                    yield parts[1], node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = package[: len(package) - node.level + 1] + base
            if base[:1] == ["gfocal"]:
                for name in node.names:
                    yield base[1] if len(base) > 1 else part_or_facade(name.name), node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gfocal":
            yield part_or_facade(node.attr), node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            for arg in node.args:
                if isinstance(arg, ast.Constant) and str(arg.value).startswith("gfocal."):
                    yield arg.value.split(".")[1], node.lineno


def part_or_facade(name: str) -> str:
    return name if name in LINE_OF or name in FACTS else "__init__"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    parts = module.split(".")
    own = parts[1] if len(parts) > 1 else "__init__"
    if own not in LINE_OF:
        return [f"{module} is in no layer: add {own!r} to the table in {Path(__file__).name}"]
    found = []
    for other, line in imported_parts(source, module, is_package):
        if other in FACTS:
            continue
        if other not in LINE_OF:
            found.append(f"{module}:{line} imports gfocal.{other}, which is in no layer")
        elif LINE_OF[other] != LINE_OF[own] and TABLE[LINE_OF[other]][0] >= TABLE[LINE_OF[own]][0]:
            layers = TABLE[LINE_OF[own]][0], TABLE[LINE_OF[other]][0]
            found.append(f"{module}:{line} (layer {layers[0]}) imports gfocal.{other} (layer {layers[1]})")
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("gfocal", *path.relative_to(PACKAGE).with_suffix("").parts)
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_go_down(module: str, path: Path) -> None:
    assert violations(path.read_text(), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gfocal.losses.focal", "from gfocal.models import heads"),
        ("gfocal.boxes", "import gfocal.losses"),
        ("gfocal.boxes", "from gfocal import losses"),
        ("gfocal.points", "from gfocal.losses import focal_loss"),  # the same layer, another line
        ("gfocal.losses.focal", "def f():\n    from ..training import trainer"),
        ("gfocal.recipe", "from gfocal import load"),  # the facade
        ("gfocal.training.trainer", "import gfocal\ngfocal.load"),
        ("gfocal.training.trainer", "from gfocal.prediction import load"),  # the same layer, another line
        ("gfocal.data.formats.open", "from gfocal.models import heads"),  # data knows no model
        ("gfocal.commands.demo", "from gfocal.cli import terminal"),  # commands return, the command line prints
        ("gfocal.data.coco", "from gfocal.brand_new import thing"),
        ("gfocal.losses.focal", "import importlib\nimportlib.import_module('gfocal.training.trainer')"),
        ("gfocal.brand_new", "import math"),
    ],
)
def test_a_violation_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gfocal.losses.focal", "from gfocal.losses.reduction import x\nfrom .quality import y\nfrom ..boxes import z"),
        ("gfocal.boxes", "from gfocal.structures import Targets"),
        ("gfocal.zoo", "from gfocal.recipe import Recipe\nimport gfocal.models.heads"),
        ("gfocal.runs.checkpoint", "import gfocal\nfrom gfocal import __version__\ngfocal.__version__"),
        ("gfocal.runs.checkpoint", "import gfocalizer\nimport torch.nn as nn"),
        ("gfocal.__main__", "from gfocal.cli import app\nfrom gfocal import load"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_a_package_s_own_relative_imports_resolve() -> None:
    assert violations("from .focal import focal_loss\nfrom ..models import heads", "gfocal.losses", True) == [
        "gfocal.losses:2 (layer 1) imports gfocal.models (layer 3)"
    ]


def test_every_module_is_looked_at() -> None:
    names = {name for name, _ in modules()}
    assert {"gfocal", "gfocal.boxes", "gfocal.losses", "gfocal.losses.quality"} <= names


def imported_modules(source: str, known: Iterable[str], module: str = "", is_package: bool = False) -> set[str]:
    """Dotted names of the modules among ``known`` that ``source`` imports, or takes something from.

    All forms count: absolute and relative ones, ``gfocal.a.b`` by attributes, and ``import_module("gfocal.a.b")``.
    """
    names, found = set(known), set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = package[: len(package) - node.level + 1] + base
            inner = {".".join([*base, name.name]) for name in node.names}
            found |= inner & names or {".".join(base)}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found & names


def cycle_at(graph: Mapping[str, set[str]], depth: int) -> list[str]:
    """A circle of imports between the folders ``depth`` levels deep (and the modules above them); [] if there is none.

    The module of a package itself (`__init__`) re-exports what is inside and may be imported from inside.
    """
    merged: dict[str, set[str]] = {}
    for module, others in graph.items():
        own = ".".join(module.split(".")[:depth])
        targets = {".".join(other.split(".")[:depth]) for other in others}
        merged.setdefault(own, set()).update(t for t in targets if t != own and not own.startswith(f"{t}."))
    try:
        TopologicalSorter(merged).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@functools.cache
def import_graph() -> dict[str, set[str]]:
    known = [name for name, _ in modules()]
    found = {}
    for name, path in modules():
        others = imported_modules(path.read_text(encoding="utf-8"), known, name, path.name == "__init__.py")
        found[name] = others - {name, "gfocal"}
    return found


@pytest.mark.parametrize("depth", [2, 3, 4, 5], ids=["packages", "sub-packages", "their folders", "modules"])
def test_nothing_imports_in_a_circle(depth: int) -> None:
    assert cycle_at(import_graph(), depth) == []


def test_a_circle_is_found_at_its_grain() -> None:
    graph = {"gfocal.data.index.a": {"gfocal.data.formats.b"}, "gfocal.data.formats.c": {"gfocal.data.index.d"}}
    assert cycle_at(graph, 2) == []
    assert set(cycle_at(graph, 3)) == {"gfocal.data.index", "gfocal.data.formats"}
    assert cycle_at(graph, 4) == []
    known = ["gfocal.data", "gfocal.data.index", "gfocal.data.formats", "gfocal.data.formats.open"]
    for form in (
        "from ..formats import open",
        "from ..formats.open import open_dataset",
        "import gfocal\ngfocal.data.formats.open.open_dataset",
        "import_module('gfocal.data.formats.open')",
    ):
        assert "gfocal.data.formats.open" in imported_modules(form, known, "gfocal.data.index.packing"), form
    assert imported_modules("from . import index", known, "gfocal.data", is_package=True) == {"gfocal.data.index"}
    lazy = imported_modules("def f():\n    from gfocal.data import index", ["gfocal.data", "gfocal.data.index"])
    assert lazy == {"gfocal.data.index"}


def lines_without_docstring(function: ast.FunctionDef) -> int:
    own = function.body[0] if ast.get_docstring(function) else None
    words = 0 if own is None else (own.end_lineno or 0) - own.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - words


def test_no_folder_is_an_attic() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    crowded = {folder: sum(p.name != "__init__.py" for p in folder.glob("*.py")) for folder in folders}
    assert {folder.name: count for folder, count in crowded.items() if count > 12} == {}
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert {path.name: n for path, text in sources.items() if (n := len(text.splitlines())) > 350} == {}
    functions = [n for text in sources.values() for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert {f.name: n for f in functions if (n := lines_without_docstring(f)) > 60} == {}


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_the_pages_show_this_table(page: str) -> None:
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+` ?)+)\|", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    shown = {int(layer): set(re.findall(r"`(\w+)`", names)) for layer, names in rows}
    wanted: dict[int, set[str]] = {}
    for layer, names in TABLE:
        wanted.setdefault(layer, set()).update(names - {"__init__", "__main__"})
    assert shown == {layer: names for layer, names in wanted.items() if names}
    assert all(int(low) < int(high) for (low, _), (high, _) in pairwise(rows)), "one row per layer, in order"


# What a class may have as its base: that of a library or Python's own, kinds of errors, the recipe's checked sections,
# and the two protocols that have defaults. numpy's gives a column the operators of an array.
LIBRARIES = {"nn.Module", "Protocol", "torch.autograd.Function", "BaseModel", "msgspec.Struct", "Sampler", "Dataset"}
LIBRARIES |= {"nn.Conv2d"}  # a layer that counters, importers and first values are to take for what it is
LIBRARIES |= {"NDArrayOperatorsMixin", "TorchFunctionMode", "NamedTuple", "StrEnum", "Console", "TyperGroup"}
BASES = LIBRARIES | {
    "Exception",
    "KeyboardInterrupt",
    "ValueError",
    "GfocalError",
    "UsageError",
    "Section",
    "TypedDict",
}
BASES |= {"BoxRepresentation", "Quality"}
BASES |= {"Form"}  # a line in a table of names: a record, without behaviour


def bases(source: str) -> Iterator[tuple[str, str]]:
    """(class, base) of every class in ``source``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                yield node.name, ast.unparse(base.value if isinstance(base, ast.Subscript) else base)


def test_no_class_inherits_from_a_form() -> None:
    found = {
        (path.name, name, base)
        for path in PACKAGE.rglob("*.py")
        for name, base in bases(path.read_text(encoding="utf-8"))
        if base not in BASES
    }
    assert not found, "compose instead: final classes behind small protocols"
