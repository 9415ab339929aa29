"""Whether a file is what the catalogue says: published names of files say little, and most have no published sum."""

from __future__ import annotations

import re

from gfocal.catalogue.entries import Published
from gfocal.interop.report import ImportReport
from gfocal.recipe import Recipe, load_recipe
from gfocal.utils.text import listed

_CLASSES = {"COCO": 80, "VOC": 20}
_WIDTH = re.compile(r"_x(\d+)_(\d+)$")


def contradictions(entry: Published, report: ImportReport) -> list[str]:
    """In what a converted file is another network than the one of the entry, as "gfl_nano, not nanodet_plus_m"."""
    recipe, found = load_recipe(report.recipe, report.changed), []
    if report.recipe != entry.row:
        found.append(f"{report.recipe}, not {entry.row}")
    elif not _same_backbone(entry, recipe):
        found.append(f"the backbone {recipe.model.backbone}, not {entry.backbone}")
    elif _is_deformable(recipe) != ("DCN" in entry.backbone):
        found.append(f"a backbone {'with' if _is_deformable(recipe) else 'without'} deformable convolutions")
    elif (recipe.model.quality.kind == "joint_v2") != entry.detector.endswith(" v2"):
        found.append(f"the quality {recipe.model.quality.kind}, which is not that of {entry.detector}")
    if report.classes != _CLASSES[entry.data]:
        found.append(f"{report.classes} classes, not the {_CLASSES[entry.data]} of {entry.data}")
    return found


def size_note(entry: Published, report: ImportReport) -> str | None:
    """That a file asks for another input than that of the published figure; the network is the same at any."""
    resize = load_recipe(report.recipe, report.changed).data.resize
    sides = (resize.size, resize.size) if resize.kind == "square" else (resize.short_side, resize.long_side)
    if not entry.input or [int(side) for side in re.findall(r"\d+", entry.input)] == list(sides):
        return None
    return f"the file asks for {listed(sides)} pixels, and {entry.name} was measured at {entry.input}"


def _same_backbone(entry: Published, recipe: Recipe) -> bool:
    """Whether a recipe's backbone ("shufflenet_v2_x1_0") is the one in words ("ShuffleNetV2-1.0x", "LCNet")."""
    words = entry.backbone.removesuffix(" caffe").removesuffix(" DCNv2")
    if words.isalpha():  # without a width, which the row tells
        return recipe.model.backbone == load_recipe(entry.row).model.backbone
    name = _WIDTH.sub(r"\1.\2x", recipe.model.backbone).split(".tv_")[0].split(".gluon_")[0]
    wanted, found = (re.sub(r"[^a-z0-9]", "", each.casefold()) for each in (words, name))
    return found == wanted


def _is_deformable(recipe: Recipe) -> bool:
    return bool(recipe.model.deformable) or recipe.model.deformable_tower
