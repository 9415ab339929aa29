"""The typed recipe: everything that makes a run what it is."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from gfocal.recipe.base import Section
from gfocal.recipe.forms import HEADS, NECKS, backbone_form
from gfocal.recipe.network import ModelRecipe
from gfocal.recipe.rows import with_row_defaults
from gfocal.recipe.training import DataRecipe, OptimRecipe, PredictRecipe, RuntimeRecipe, ScheduleRecipe


class Recipe(Section):
    """A whole run."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    optim: OptimRecipe = OptimRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    predict: PredictRecipe = PredictRecipe()
    runtime: RuntimeRecipe = RuntimeRecipe()

    @model_validator(mode="before")
    @classmethod
    def _row(cls, content: Any) -> Any:
        return with_row_defaults(content)

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        resize, neck = self.data.resize, NECKS[self.model.neck]
        if self.model.points.kind == "ssd" and resize.kind != "square":
            raise ValueError("points.kind ssd has anchors in shares of a square picture: set data.resize.kind=square")
        if self.data.multi_scale and (self.model.points.kind == "ssd" or neck.image_size):
            raise ValueError(
                f"data.multi_scale changes the size of pictures, but the anchors of points.kind ssd are made for "
                f"{resize.size} pixels: leave it out, or use data.scale, which changes the size of what is on them"
            )
        if self.model.points.kind == "ssd" and min(self.model.points.sizes) * resize.size < 1:
            raise ValueError(
                f"model.points.sizes are shares of the picture's {resize.size} pixels: {min(self.model.points.sizes)} "
                "is less than one pixel"
            )
        if neck.image_size and (resize.kind, resize.size) != ("square", neck.image_size):
            raise ValueError(
                f"neck {self.model.neck} makes its {len(neck.strides)} levels of {neck.image_size} pixels, "
                f"not {resize.size}: data.resize.size={neck.image_size}"
            )
        self._padding_fits()
        if self.predict.voting is not None and self.model.boxes.kind == "dirac":
            raise ValueError(
                "predict.voting moves edges by how sure they are, which boxes.kind dirac does not say: "
                "set predict.voting=null"
            )
        return self

    def _padding_fits(self) -> None:
        """Refuse images of several sizes where what is said of one would depend on its padding."""
        backbone, head = backbone_form(self.model.backbone), HEADS[self.model.head]
        pooling = [f"backbone {self.model.backbone}"] if backbone.pools else []
        pooling += [f"head {self.model.head}"] if head.pools else []
        if pooling and self.data.resize.kind != "square":
            raise ValueError(
                f"{' and '.join(pooling)} {'weigh' if len(pooling) > 1 else 'weighs'} channels by their mean over the "
                "whole picture, padding included, so that a picture would be seen otherwise beside other ones: "
                "set data.resize.kind=square"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``Recipe.model_validate`` reads it back."""
        return self.model_dump(mode="json")
