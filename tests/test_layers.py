"""Modules import only from lower layers; read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "gfocal"

# A module or package may import its own package, those beside it on its line, and everything further up. Lines of
# one layer that are apart do not know each other. `__init__` is the facade: whoever needs it needs everything.
TABLE: list[tuple[int, set[str]]] = [
    (0, {"errors", "structures", "boxes", "pictures", "decoding", "disk"}),
    (1, {"losses"}),
    (1, {"points"}),
    (2, {"assigners"}),
    (2, {"representation"}),
    (3, {"models"}),
    (4, {"criterion", "detector", "tiles"}),
    (5, {"recipe", "zoo"}),
    (6, {"data"}),
    (6, {"evaluation"}),
    (7, {"engine"}),
    (7, {"interop"}),
    (8, {"studies"}),
    (8, {"report"}),
    (9, {"cli", "cli_data", "cli_options", "cli_studies", "cli_training", "terminal", "__main__", "__init__"}),
]
LINE_OF = {name: line for line, (_, names) in enumerate(TABLE) for name in names}
# The one exception, in one direction: what is imported from elsewhere is saved as the engine's checkpoint.
BESIDE = {("interop", "engine")}
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


def part_or_facade(name: str) -> str:
    return name if name in LINE_OF or name in FACTS else "__init__"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    parts = module.split(".")
    own = parts[1] if len(parts) > 1 else "__init__"
    if own not in LINE_OF:
        return [f"{module} is in no layer: add {own!r} to the table in {Path(__file__).name}"]
    found = []
    for other, line in imported_parts(source, module, is_package):
        if other in FACTS or (own, other) in BESIDE:
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
        ("gfocal.points", "from gfocal.losses import focal_loss"),  # the same layer, another package
        ("gfocal.losses.focal", "def f():\n    from ..engine import train"),
        ("gfocal.recipe", "from gfocal import load"),  # the facade
        ("gfocal.training.trainer", "import gfocal\ngfocal.load"),
        ("gfocal.training.trainer", "from gfocal.interop import nanodet"),
        ("gfocal.data.formats.coco.reader", "from gfocal.brand_new import thing"),
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
        ("gfocal.cli.app", "from gfocal.engine import train\nfrom gfocal import load"),
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


# What a class may have as its base: that of a library or Python's own, kinds of errors, and the recipe's checked
# sections. numpy's gives a column the operators of an array.
LIBRARIES = {"nn.Module", "Protocol", "torch.autograd.Function", "BaseModel", "msgspec.Struct", "Sampler", "Dataset"}
LIBRARIES |= {"NDArrayOperatorsMixin"}
BASES = LIBRARIES | {"Exception", "ValueError", "GfocalError", "UsageError", "Section"}


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
