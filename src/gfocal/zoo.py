"""From names to builders: explicit tables, one line a form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, cast

from torch import nn

from gfocal.assigners import Assigner, DynamicAssigner, DynamicWithinReach, WithinReach
from gfocal.detector import DenseDetector, MakePoints
from gfocal.errors import UsageError, require_texts
from gfocal.images.from_recipe import resize_of, tiling_of
from gfocal.images.resizing import Resize
from gfocal.models import HeadShape, PixelNorm, PostProcess
from gfocal.models.freezing import freeze
from gfocal.points import Shapes, make_anchors, octave_shapes, ssd_shapes
from gfocal.recipe import ModelRecipe, Recipe
from gfocal.recipe.forms import (
    ASSIGNERS,
    ASSISTANTS,
    BOX_WEIGHTS,
    BOXES,
    HEADS,
    NECKS,
    QUALITIES,
    Form,
    backbone_form,
)
from gfocal.representation import BoxRepresentation, Quality


def _square(recipe: Recipe) -> Shapes:
    return [[(stride * recipe.model.points.scale,) * 2] for stride in recipe.model.strides]


def _octave(recipe: Recipe) -> Shapes:
    points = recipe.model.points
    return octave_shapes(
        recipe.model.strides, scale=points.scale, scales_per_octave=points.scales_per_octave, ratios=points.ratios
    )


def _ssd(recipe: Recipe) -> Shapes:
    # Whole pixels, as published: .10 of 512 is 51.
    sizes = [math.floor(share * recipe.data.resize.size + 1e-6) for share in recipe.model.points.sizes]
    return ssd_shapes(sizes, recipe.model.points.aspects)


SHAPES: dict[str, Callable[[Recipe], Shapes]] = {"square": _square, "octave": _octave, "ssd": _ssd}


def make_form(form: Form, section: object, **more: Any) -> Any:
    """A part of a detector from its line in the table and its section of a recipe; ``more``: what the recipe lacks."""
    if form.place is None:
        return None
    module, _, name = form.place.partition(":")
    kind = getattr(import_module(f"gfocal.{module}"), name)
    return kind(**form.fixed, **{key: getattr(section, key) for key in form.keys}, **more)


@dataclass(frozen=True)
class Matching:
    """The parts of a detector that decide what each point learns; none of them has parameters.

    Attributes:
        make_points: places and anchors of a pyramid.
        assigner: which point learns which ground truth.
        static_assigner: what assigns in the first epochs where ``assigner`` looks at predictions; None: it does so
            from the start.
        box_coder: box representation: which edges it can reach.
        resize: how an image is brought to the input size.
    """

    make_points: MakePoints
    assigner: Assigner | DynamicAssigner
    static_assigner: Assigner | None
    box_coder: BoxRepresentation
    resize: Resize


def build_matching(recipe: Recipe) -> Matching:
    """What :func:`build_detector` gives a detector of this recipe, without its network."""
    model = recipe.model
    make = partial(make_anchors, strides=model.strides, shapes=anchor_shapes(recipe), offset=model.points.offset)
    box_coder: BoxRepresentation = make_form(BOXES[model.boxes.kind], model.boxes)
    return Matching(
        make_points=cast(MakePoints, make),
        assigner=_assigner(model, model.assigner.kind, box_coder),
        static_assigner=_static_assigner(model, box_coder),
        box_coder=box_coder,
        resize=resize_of(recipe),
    )


def _assigner(model: ModelRecipe, kind: str, box_coder: BoxRepresentation) -> Any:
    assigner = make_form(ASSIGNERS[kind], model.assigner)
    if not model.assigner.within_reach:
        return assigner
    return (DynamicWithinReach if ASSIGNERS[kind].dynamic else WithinReach)(assigner, box_coder.truncated)


def _static_assigner(model: ModelRecipe, box_coder: BoxRepresentation) -> Assigner | None:
    if not (ASSIGNERS[model.assigner.kind].dynamic and model.assigner.static_epochs):
        return None
    return _assigner(model, "atss" if model.points.kind == "square" else "max_iou", box_coder)


def anchor_shapes(recipe: Recipe) -> Shapes:
    """(width, height) in pixels of the anchors of every level."""
    return SHAPES[recipe.model.points.kind](recipe)


def build_detector(recipe: Recipe, names: Sequence[str], *, pretrained: bool = True) -> DenseDetector:
    """A detector with random values, or the backbone weights that the recipe asks for.

    Args:
        recipe: the whole recipe.
        names: class names.
        pretrained: False leaves the backbone random whatever the recipe says (weights come from a checkpoint).
    """
    require_texts("names", names)
    model, matching = recipe.model, build_matching(recipe)
    box_coder = matching.box_coder
    quality = _quality(model, box_coder)
    backbone = _backbone(model, pretrained=pretrained)
    neck = _neck(model, backbone.channels)
    freeze(part for name, part in (("backbone", backbone), ("neck", neck)) if name in model.frozen)
    anchors = [len(level) for level in anchor_shapes(recipe)]
    return DenseDetector(
        pixels=PixelNorm(model.pixels.mean, model.pixels.std, model.pixels.order),
        backbone=backbone,
        neck=neck,
        head=_head(model, box_coder, quality, len(names), neck.channels, anchors),
        strides=model.strides,
        make_points=matching.make_points,
        assigner=matching.assigner,
        box_coder=box_coder,
        quality=quality,
        names=names,
        resize=matching.resize,
        postprocess=PostProcess(**recipe.predict.model_dump()),
        box_weight=make_form(BOX_WEIGHTS[model.box_weight], model),
        loss_weights=model.loss_weights.model_dump(),
        count_rule=model.norm,
        tiling=tiling_of(recipe),
        value_range=recipe.data.range,
        static_assigner=matching.static_assigner,
        assign_in_padding=model.assigner.in_padding,
        static_epochs=model.assigner.static_epochs,
    )


def add_assistant(detector: DenseDetector, recipe: Recipe) -> None:
    """Give a detector the assistant that its recipe asks for, before it trains and after it has its first weights.

    It has new values, but for what it copies of the detector's own. ``recipe.model.assistant.kind`` none: nothing.
    """
    model, channels = recipe.model, cast(Any, detector.neck).channels
    anchors = [len(level) for level in anchor_shapes(recipe)]
    shape = _head_shape(model, detector.box_coder, detector.quality, len(detector.names), channels, anchors)
    made = make_form(ASSISTANTS[model.assistant.kind], model.assistant, neck=detector.neck, shape=shape)
    detector.assistant = None if made is None else made.to(next(detector.parameters()))


def build_head(recipe: Recipe, num_classes: int, *, in_channels: int | Sequence[int] | None = None) -> nn.Module:
    """The head of a recipe's detector alone, with new values: no backbone and no neck is made.

    What it takes are maps (B, in_channels, H, W) of the levels of ``recipe.model.strides``, what it gives is a
    :class:`~gfocal.structures.HeadOutput` of all points: the class logits that the recipe's quality asks for, the code
    of its boxes, and the quality branch if it has one.

    Args:
        recipe: the whole recipe.
        num_classes: C, >= 1.
        in_channels: of the maps; by default what the recipe's own neck gives. A number for each level is for a head
            that takes levels of different widths (``plain``).

    Raises:
        UsageError: no classes, or channels that this head cannot take.
    """
    model = recipe.model
    if num_classes < 1:
        raise UsageError(f"num_classes must be at least 1, got {num_classes}")
    own = NECKS[model.neck].widths or model.channels
    channels = own if in_channels is None else in_channels
    if not isinstance(channels, int):
        if not HEADS[model.head].mixed_widths:
            raise UsageError(f"head {model.head} takes levels of one width: in_channels must be a number")
        if len(channels) != len(model.strides):
            raise UsageError(
                f"in_channels must be a number or {len(model.strides)}, one per level, got {len(channels)}"
            )
    box_coder: BoxRepresentation = make_form(BOXES[model.boxes.kind], model.boxes)
    anchors = [len(level) for level in anchor_shapes(recipe)]
    return _head(model, box_coder, _quality(model, box_coder), num_classes, channels, anchors)


def _quality(model: ModelRecipe, box_coder: BoxRepresentation) -> Quality:
    form = QUALITIES[model.quality.kind]
    return make_form(form, model.quality, **({"num_bins": box_coder.channels // 4} if form.bins else {}))


def _backbone(model: ModelRecipe, *, pretrained: bool) -> Any:
    form = backbone_form(model.backbone)
    asked = {"name": model.backbone, "strides": [stride for stride in model.strides if stride <= 32]}
    return make_form(form, model, pretrained=pretrained and model.pretrained, **({} if form.strides else asked))


def _neck(model: ModelRecipe, channels: Sequence[int]) -> Any:
    return make_form(NECKS[model.neck], model, in_channels=channels, levels=len(model.strides))


def _head(
    model: ModelRecipe,
    box_coder: BoxRepresentation,
    quality: Quality,
    num_classes: int,
    channels: int | Sequence[int],
    anchors: Sequence[int],
) -> Any:
    shape = _head_shape(model, box_coder, quality, num_classes, channels, anchors)
    return make_form(HEADS[model.head], model, shape=shape)


def _head_shape(
    model: ModelRecipe,
    box_coder: BoxRepresentation,
    quality: Quality,
    num_classes: int,
    channels: int | Sequence[int],
    anchors: Sequence[int],
) -> HeadShape:
    return HeadShape(
        in_channels=channels,
        levels=len(model.strides),
        class_outputs=quality.num_logits(num_classes),
        box_outputs=box_coder.channels,
        quality_outputs=quality.quality_channels,
        box_bias=box_coder.initial_code,
        anchors=anchors,
    )
