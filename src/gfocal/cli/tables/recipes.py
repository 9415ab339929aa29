"""The detectors that recipes can name, and what each axis accepts."""

from __future__ import annotations

from typing import TypedDict

from rich.table import Table
from rich.text import Text

from gfocal.cli.console import PlainConsole
from gfocal.recipe import AXES, DETECTORS, ModelRecipe, Recipe

_AXES = {
    "assigner.kind": "assigner",
    "assistant.kind": "assistant",
    "quality.kind": "quality",
    "boxes.kind": "boxes",
    "boxes.code": "dirac code",
    "box_weight": "box_weight",
}


class Row(TypedDict):
    """What a detector is made of by default; ``accepts``: what goes in place of it, by key of the recipe."""

    points: str
    assigner: str
    quality: str
    boxes: str
    code: str | None
    box_weight: str
    accepts: dict[str, list[str]]


def rows() -> dict[str, Row]:
    """Of each detector."""
    content: dict[str, Row] = {}
    for name in DETECTORS:
        model = _defaults(name)
        content[name] = {
            "points": model.points.kind,
            "assigner": model.assigner.kind,
            "quality": model.quality.kind,
            "boxes": model.boxes.kind,
            "code": model.boxes.code if model.boxes.kind == "dirac" else None,
            "box_weight": model.box_weight,
            "accepts": {f"model.{key}": list(values) for key, values in AXES[model.points.kind].items()},
        }
    return content


def _defaults(name: str) -> ModelRecipe:
    # The row alone, and what SSD's anchors ask of the rest.
    ssd = {"strides": [8 * 2**i for i in range(7)], "head": "plain"} if name == "ssd" else {}
    resize = {"kind": "square", "size": 512}
    return Recipe.model_validate({"model": {"detector": name, **ssd}, "data": {"resize": resize}}).model


def print_rows() -> None:
    """Two tables: the detectors' defaults, and what goes with which points."""
    console = PlainConsole()
    table = Table(title="detectors and their defaults")
    for column in ("detector", "points", "assigner", "quality", "boxes", "box_weight"):
        table.add_column(column)
    for name, row in rows().items():
        boxes = f"{row['boxes']}, {row['code']}" if row["code"] else row["boxes"]
        table.add_row(name, row["points"], row["assigner"], row["quality"], boxes, row["box_weight"])
    console.print(table)
    table = Table(title="what each axis accepts, by points")
    table.add_column("model.points.kind")
    for points in AXES:
        table.add_column(points)
    for key in next(iter(AXES.values())):
        table.add_row(f"model.{key}", *(Text("\n".join(axis[key])) for axis in AXES.values()), end_section=True)
    console.print(table)
    console.print("for example: --set model.quality.kind=joint --set model.boxes.kind=general_dfl")
    console.print("joint_v2 needs boxes general or general_dfl; only dirac reads model.boxes.code.")
    console.print("gfocal refuses a pair that makes no sense and lists those that do.")
