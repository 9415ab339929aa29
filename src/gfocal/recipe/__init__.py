"""The recipe: typed sections, what each detector fills in, and how it is read."""

from gfocal.recipe.reading import build_recipe, load_recipe, recipe_names
from gfocal.recipe.rows import AXES, DETECTORS
from gfocal.recipe.sections import (
    AssignerRecipe,
    BoxesRecipe,
    ModelRecipe,
    OptimRecipe,
    PointsRecipe,
    QualityRecipe,
    Recipe,
    ScheduleRecipe,
)

__all__ = [
    "AXES",
    "DETECTORS",
    "AssignerRecipe",
    "BoxesRecipe",
    "ModelRecipe",
    "OptimRecipe",
    "PointsRecipe",
    "QualityRecipe",
    "Recipe",
    "ScheduleRecipe",
    "build_recipe",
    "load_recipe",
    "recipe_names",
]
