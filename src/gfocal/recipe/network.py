"""The sections of a recipe that say what the detector is."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from gfocal.recipe.base import Bins, Channels, Few, Fraction, Layers, Natural, NotNegative, PositiveInt, Section, Share
from gfocal.recipe.forms import (
    ASSIGNERS,
    ASSISTANTS,
    BOX_WEIGHTS,
    BOXES,
    HEADS,
    NECKS,
    QUALITIES,
    BackboneForm,
    NeckForm,
    backbone_form,
    fitting,
)
from gfocal.recipe.rows import DETECTORS, check_axes

_LAST_STRIDE = 32  # of a backbone's maps


class QualityRecipe(Section):
    """How quality enters the score."""

    kind: Literal[*QUALITIES] = "joint"  # type: ignore[valid-type]
    beta: NotNegative = Field(2.0, description="exponent of Quality Focal Loss (joint, joint_v2)")
    alpha: Fraction | None = Field(0.25, description="focal loss's weight of the positives (all but joint*, softmax)")
    gamma: NotNegative = Field(2.0, description="focal loss's exponent (all but joint*, softmax)")
    eta: NotNegative = Field(1.5, description="exponent of the quality that re-weights positives (*_guided)")
    negatives: PositiveInt = Field(3, description="hard negatives for each positive (softmax_mined)")


class BoxesRecipe(Section):
    """How a box is represented."""

    kind: Literal[*BOXES] = "general_dfl"  # type: ignore[valid-type]
    reg_max: Bins = Field(16, description="n, the largest bin index (general*)")
    delta: PositiveFloat = Field(1.0, description="distance of two bins in strides (general*)")
    code: Literal["distances", "deltas", "log_deltas"] = Field("distances", description="what the numbers mean (dirac)")
    stds: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (0.1, 0.1, 0.2, 0.2), description="divisors of dx, dy, dw, dh (dirac, deltas)"
    )
    loss: Literal["giou", "l1", "smooth_l1"] = Field("giou", description="on the box, or on the code (dirac)")
    smooth_beta: PositiveFloat = Field(1.0, description="where smooth_l1 turns from square to straight (dirac)")


class PixelsRecipe(Section):
    """Preprocessing inside the model; mean and std in the given order of channels, on the scale 0..255."""

    order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (58.395, 57.12, 57.375)


class PointsRecipe(Section):
    """Places and anchors."""

    kind: Literal["square", "octave", "ssd"] = Field(
        "square", description="one square anchor a location, RetinaNet's nine, or SSD's"
    )
    scale: PositiveFloat = Field(8.0, description="side of the (smallest) square anchor in strides (square, octave)")
    offset: Fraction = Field(0.0, description="where the first point lies, in cells: 0 corner, 0.5 centre")
    scales_per_octave: Few = Field(3, description="sizes from one level to the next (octave)")
    ratios: tuple[PositiveFloat, ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, max_length=64, description="height over width (octave)"
    )
    sizes: tuple[PositiveFloat, ...] = Field(
        (0.04, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1.06),
        description="of each level as a share of the picture's side, and one more (ssd)",
    )
    aspects: tuple[tuple[PositiveFloat, ...], ...] = Field(
        ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)), description="wide and tall anchors of each level (ssd)"
    )


class AssignerRecipe(Section):
    """Which points learn which object."""

    kind: Literal[*ASSIGNERS] = "atss"  # type: ignore[valid-type]
    top_k: Bins = Field(9, description="candidates of each level (atss)")
    radius: NotNegative = Field(1.5, description="of centre sampling in strides; 0: the whole box (fcos)")
    sigma: Share = Field(0.4, description="share of the box that is positive (fovea)")
    positive_iou: Share = Field(0.5, description="least IoU of a positive (max_iou)")
    negative_iou: Fraction = Field(0.4, description="anchors below it are negative, those between ignored (max_iou)")
    low_quality: Literal["all", "first", "none"] = Field(
        "all", description="an object's best anchors are positive at any IoU: all that tie, the first, none (max_iou)"
    )
    alpha: NotNegative = Field(1.0, description="exponent of a point's class score (task_aligned)")
    beta: NotNegative = Field(6.0, description="exponent of the IoU of a point's box (task_aligned)")
    positives: PositiveInt = Field(13, description="best points of each object (task_aligned)")
    static_epochs: Natural = Field(
        0,
        description="first epochs in which atss (max_iou for several anchors a location) assigns (dynamic ones)",
    )
    in_padding: bool = Field(
        False, description="points in the padding that a batch gives an image are assigned and learn too"
    )
    within_reach: bool = Field(
        False, description="no positives whose boxes lie beyond reg_max, where others reach them"
    )

    @model_validator(mode="after")
    def _fits(self) -> AssignerRecipe:
        if self.negative_iou > self.positive_iou:
            raise ValueError(
                f"negative_iou must not be over positive_iou, got {self.negative_iou} and {self.positive_iou}"
            )
        return self


class AssistantRecipe(Section):
    """A second head in training, by whose outputs objects are assigned."""

    kind: Literal[*ASSISTANTS] = Field("none", description="agm: NanoDet-Plus's; none")  # type: ignore[valid-type]
    detach_after: Natural = Field(
        10, description="epochs after which it teaches backbone and neck nothing any more (agm)"
    )


class LossWeights(Section):
    """Factor of each loss term."""

    cls: NotNegative = 1.0
    quality: NotNegative = Field(1.0, description="of a separate branch (centerness, iou)")
    box: NotNegative = 2.0
    dfl: NotNegative = Field(0.25, description="Distribution Focal Loss (general_dfl)")
    nll: NotNegative = Field(0.25, description="Gaussian likelihood (gaussian)")


class ModelRecipe(Section):
    """The detector."""

    detector: Literal[*DETECTORS] = Field(  # type: ignore[valid-type]
        "gfl", description="the row that fills in what a recipe does not say"
    )
    backbone: str = Field(
        "resnet50.tv_in1k", description="a timm name, or one of gfocal's own: shufflenet_*, esnet_*, lcnet_*, vgg16"
    )
    style: Literal["pytorch", "caffe"] = Field("pytorch", description="stride of a bottleneck on its 3x3, or first 1x1")
    deformable: tuple[Literal[2, 3, 4, 5], ...] = Field(
        (), description="stages of a ResNet whose 3x3 convolutions are deformable: 3 is that of stride 8"
    )
    modulated: bool = Field(True, description="deformable convolutions of the backbone weigh their samples (DCNv2)")
    pretrained: bool | str = Field(False, description="backbone weights: true downloads, or the path of a file")
    frozen_stages: Annotated[int, Field(ge=0, le=4, strict=True)] = 0
    frozen: tuple[Literal["backbone", "neck"], ...] = Field((), description="parts that keep their values as a whole")
    norm_eval: bool = Field(False, description="batch norm of the backbone keeps its running statistics")
    neck: Literal[*NECKS] = "fpn"  # type: ignore[valid-type]
    extra_from: Literal["output", "input"] = Field("output", description="extra levels start at P5 or at C5 (fpn)")
    relu_before_extra: bool = Field(False, description="before each extra level but the first (fpn)")
    head: Literal[*HEADS] = Field(  # type: ignore[valid-type]
        "conv", description="towers shared by the levels, light ones of each level, or none"
    )
    head_norm: Literal["group", "none"] = Field("group", description="normalisation of the towers (conv)")
    tower_bias: bool = Field(False, description="biases beside the normalisation (conv)")
    deformable_tower: bool = Field(False, description="the last convolution of each tower is deformable (conv)")
    level_scales: bool = Field(True, description="a learnt factor of each level on the box code (conv)")
    quality_on: Literal["box", "class"] = Field("box", description="the tower that a quality branch stands on (conv)")
    channels: Channels = Field(256, description="of neck and head (not ssd, plain)")
    head_depth: Layers = Field(4, description="convolutions of a tower (conv), or blocks (depthwise)")
    strides: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    points: PointsRecipe = PointsRecipe()
    assigner: AssignerRecipe = AssignerRecipe()
    assistant: AssistantRecipe = AssistantRecipe()
    quality: QualityRecipe = QualityRecipe()
    boxes: BoxesRecipe = BoxesRecipe()
    box_weight: Literal[*BOX_WEIGHTS] = Field(  # type: ignore[valid-type]
        "score", description="weight of a positive's box terms"
    )
    norm: Literal["step", "picture", "plus_pictures", "weights"] = Field(
        "step",
        description="losses are divided by the positives: at least 1 per step, 1 per picture, or one more per picture; "
        "or by the sum of their box_weight, at least 1 per step",
    )
    loss_weights: LossWeights = LossWeights()
    pixels: PixelsRecipe = PixelsRecipe()

    @model_validator(mode="after")
    def _fits(self) -> ModelRecipe:
        self._pyramid_fits()
        chosen = {
            "assigner.kind": self.assigner.kind,
            "assistant.kind": self.assistant.kind,
            "quality.kind": self.quality.kind,
            "boxes.kind": self.boxes.kind,
            "boxes.code": self.boxes.code,
            "box_weight": self.box_weight,
        }
        check_axes(self.detector, self.points.kind, chosen)
        levels = len(self.strides)
        if self.points.kind == "ssd" and not levels == len(self.points.aspects) == len(self.points.sizes) - 1:
            raise ValueError(
                f"points.kind ssd needs aspects for each of the {levels} levels and one size more, got "
                f"{len(self.points.aspects)} and {len(self.points.sizes)}; start from ssd512_vgg16 or ssd_nano"
            )
        if self.points.kind not in HEADS[self.head].points:
            lightest_first = " or ".join(fitting(HEADS, self.points.kind)[::-1])
            raise ValueError(
                f"head {self.head} is shared by all levels, which have other anchors here; use {lightest_first}"
            )
        return self

    def _pyramid_fits(self) -> None:
        strides = list(self.strides)
        if not strides or strides[0] not in (4, 8, 16, 32):
            raise ValueError(f"strides must start at one that backbones have (4, 8, 16, 32), got {strides}")
        if any(b != 2 * a for a, b in pairwise(strides)):
            raise ValueError(f"each stride must be twice the one before, got {strides}")
        backbone, neck, head = backbone_form(self.backbone), NECKS[self.neck], HEADS[self.head]
        self._neck_takes(backbone, neck, strides)
        if neck.widths and not head.mixed_widths:
            fit = " or ".join(name for name, form in HEADS.items() if form.mixed_widths)
            raise ValueError(f"neck {self.neck} has levels of different width: use head {fit}")
        if self.channels % neck.multiple:
            raise ValueError(
                f"channels must be a multiple of {neck.multiple} for neck {self.neck}, got {self.channels}"
            )
        self._assistant_fits(neck)
        if self.frozen_stages > backbone.stages:
            raise ValueError(f"{self.backbone} has {backbone.stages} stages to freeze, not {self.frozen_stages}")
        if self.style not in backbone.styles:
            raise ValueError(f"style {self.style} is a ResNet's; {self.backbone} has none")
        if self.deformable and "deformable" not in backbone.keys:
            raise ValueError(
                f"deformable convolutions are a ResNet's; {self.backbone} has none: leave model.deformable out"
            )
        if self.head_norm == "group" and self.channels % head.groups:
            raise ValueError(
                f"channels must be a multiple of {head.groups} (GroupNorm's groups) for head {self.head}, "
                f"got {self.channels}"
            )

    def _assistant_fits(self, neck: NeckForm) -> None:
        """Refuse levels that an assistant's head does not take."""
        form = ASSISTANTS[self.assistant.kind]
        if form.place is not None and neck.widths:
            raise ValueError(f"assistant.kind {self.assistant.kind} takes levels of one width, not neck {self.neck}'s")
        if self.channels % form.multiple:
            raise ValueError(
                f"channels must be a multiple of {form.multiple} for assistant.kind {self.assistant.kind} (GroupNorm's "
                f"groups over twice as many), got {self.channels}"
            )

    def _neck_takes(self, backbone: BackboneForm, neck: NeckForm, strides: list[int]) -> None:
        """Refuse maps that the neck does not take, and levels that it does not make."""
        own = [name for name, form in NECKS.items() if self.backbone in form.backbones]
        if self.backbone not in neck.backbones if neck.backbones else own:
            pair = f"backbone {self.backbone} and neck {' or '.join(own)}" if own else None
            pair = pair or f"neck {self.neck} and backbone {' or '.join(neck.backbones)}"
            raise ValueError(f"{pair} go with each other alone")
        if backbone.strides and not own and strides[: len(backbone.strides)] != list(backbone.strides):
            raise ValueError(f"backbone {self.backbone} gives strides {list(backbone.strides)}, not {strides}")
        free = " or ".join(name for name, form in NECKS.items() if not form.strides and form.extra is None)
        added = [stride for stride in strides if stride > _LAST_STRIDE]
        if neck.extra is not None and len(added) > neck.extra:
            raise ValueError(
                f"neck {self.neck} adds {neck.extra} level to those of the backbone, not those of strides {added}; "
                f"neck {free} adds any number"
            )
        if neck.strides and strides != list(neck.strides):
            raise ValueError(
                f"neck {self.neck} makes the strides {list(neck.strides)}, not {strides}; neck {free} makes any"
            )
