"""From names to builders: explicit tables, one line a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from gfocal.assigners import Assigner, AtssAssigner
from gfocal.detector import DenseDetector, PixelNorm
from gfocal.models import (
    ConvHead,
    DepthwiseHead,
    FeaturePyramid,
    LightPan,
    PostProcess,
    ShuffleNetBackbone,
    TimmBackbone,
)
from gfocal.pictures import Resize
from gfocal.recipe import AssignerRecipe, BoxesRecipe, ModelRecipe, QualityRecipe, Recipe
from gfocal.representation import BoxRepresentation, DiracBoxes, GeneralBoxes, JointQuality, NoQuality, Quality

ASSIGNERS: dict[str, Callable[[AssignerRecipe], Assigner]] = {
    "atss": lambda r: AtssAssigner(r.top_k),
}
QUALITIES: dict[str, Callable[[QualityRecipe, BoxRepresentation], Quality]] = {
    "joint": lambda r, boxes: JointQuality(r.beta),
    "none": lambda r, boxes: NoQuality(r.alpha, r.gamma),
}
BOXES: dict[str, Callable[[BoxesRecipe], BoxRepresentation]] = {
    "dirac": lambda r: DiracBoxes(r.code),
    "general": lambda r: GeneralBoxes(r.reg_max, r.delta, dfl=False),
    "general_dfl": lambda r: GeneralBoxes(r.reg_max, r.delta, dfl=True),
}


def build_detector(recipe: Recipe, names: Sequence[str], *, pretrained: bool = True) -> DenseDetector:
    """A detector with random values, or the backbone weights that the recipe asks for.

    Args:
        recipe: the whole recipe.
        names: class names.
        pretrained: False leaves the backbone random whatever the recipe says (weights come from a checkpoint).
    """
    model = recipe.model
    boxes = BOXES[model.boxes.kind](model.boxes)
    quality = QUALITIES[model.quality.kind](model.quality, boxes)
    backbone = _backbone(model, pretrained=pretrained)
    neck = _neck(model, backbone)
    return DenseDetector(
        pixels=PixelNorm(model.pixels.mean, model.pixels.std, model.pixels.order),
        backbone=backbone,
        neck=neck,
        head=_head(model, boxes, quality, len(names)),
        strides=model.strides,
        anchor_scale=model.anchor_scale,
        point_offset=model.point_offset,
        assigner=ASSIGNERS[model.assigner.kind](model.assigner),
        boxes=boxes,
        quality=quality,
        names=names,
        resize=Resize(**recipe.data.resize.model_dump()),
        postprocess=PostProcess(**recipe.predict.model_dump()),
        box_weight=model.box_weight,
        loss_weights=model.loss_weights.model_dump(),
    )


def _backbone(model: ModelRecipe, *, pretrained: bool) -> ShuffleNetBackbone | TimmBackbone:
    weights = model.pretrained if pretrained else False
    if model.backbone == "shufflenet_v2_x1_0":
        return ShuffleNetBackbone(pretrained=weights, norm_eval=model.norm_eval)
    return TimmBackbone(
        model.backbone,
        [stride for stride in model.strides if stride <= 32],
        pretrained=weights,
        frozen_stages=model.frozen_stages,
        norm_eval=model.norm_eval,
    )


def _neck(model: ModelRecipe, backbone: ShuffleNetBackbone | TimmBackbone) -> nn.Module:
    if model.neck == "light_pan":
        return LightPan(backbone.channels, model.channels)
    return FeaturePyramid(backbone.channels, model.channels, extra_levels=len(model.strides) - len(backbone.channels))


def _head(model: ModelRecipe, boxes: BoxRepresentation, quality: Quality, num_classes: int) -> nn.Module:
    outputs: dict[str, Any] = {
        "class_outputs": quality.num_logits(num_classes),
        "box_outputs": boxes.channels,
        "quality_outputs": quality.quality_channels,
    }
    levels = len(model.strides)
    if model.head == "depthwise":
        return DepthwiseHead(model.channels, levels, channels=model.channels, num_blocks=model.head_depth, **outputs)
    return ConvHead(model.channels, levels, channels=model.channels, num_convs=model.head_depth, **outputs)
