"""The recipe: typed sections, what each detector fills in, and how it is read."""

from gfocal.recipe.network import AssignerRecipe, BoxesRecipe, ModelRecipe, PointsRecipe, QualityRecipe
from gfocal.recipe.reading import build_recipe, load_recipe, recipe_names
from gfocal.recipe.rows import AXES, DETECTORS
from gfocal.recipe.sections import Recipe
from gfocal.recipe.training import DataRecipe, OptimRecipe, ScheduleRecipe

__all__ = [
    "AXES",
    "DETECTORS",
    "AssignerRecipe",
    "BoxesRecipe",
    "DataRecipe",
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
