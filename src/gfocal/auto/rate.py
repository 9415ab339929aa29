"""The learning rate: lower where the weights know all classes already."""

from __future__ import annotations

from gfocal.auto.known import Known, Values
from gfocal.data.index.rename import empty_classes
from gfocal.recipe import Recipe
from gfocal.runs.class_mapping import match_classes

SHARE_OF_RATE = 0.1
"""Of the recipe's learning rate. 957 images of COCO's classes, ``nanodet_plus_m`` from COCO at 320 pixels: with the
recipe's rate AP falls from 0.26 to 0.19 in five epochs, with a tenth of it it stays (docs/train-your-data.md)."""
FEW = 10_000
"""Images. More teach something new, and the recipe's rate is for them."""


def choose_rate(recipe: Recipe, known: Known) -> Values:
    """A tenth of the learning rate for few images of classes that the weights have outputs for."""
    if known.is_given("optim.lr") or not known.taught or len(known.index) > FEW:
        return {}, []
    empty = set(empty_classes(known.index))
    shown = [name for label, name in enumerate(known.index.names) if label not in empty]
    if match_classes(shown, known.taught).new:
        return {}, []
    rate = float(f"{recipe.optim.lr * SHARE_OF_RATE:.6g}")
    return {"optim.lr": rate}, [
        f"learning rate {rate:g} instead of {recipe.optim.lr:g}: the weights know all classes, and would forget more "
        "than few pictures teach"
    ]
