"""The tables of names: every part of a detector that a recipe can ask for by name, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SQUARE, SSD, ANY = ("square",), ("ssd",), ("square", "octave", "ssd")
"""``model.points.kind``: one square anchor per location; SSD's; any, that is RetinaNet's nine (octave) too."""


@dataclass(frozen=True)
class Form:
    """Where a form is and what it takes. Named, not imported: recipes are read without torch.

    Attributes:
        place: "module:class" below ``gfocal``; None: nothing is built, the detector does without.
        keys: of its section of the recipe, which its constructor takes under the same names.
        fixed: what else its constructor takes.
        points: kinds of points that it fits. A head that all levels share fits no points whose levels differ.
        bins: of boxes, that an edge is a distribution over bins; of a quality, that it reads them: it goes with such
            boxes alone, and its constructor takes their number as ``num_bins``.
        dynamic: of an assigner, that it looks at predictions.
        anchors: of an assigner, that it looks at the anchors' sizes.
        target: of a quality, that the positives learn one; of a box weight, that it is made of it.
    """

    place: str | None
    keys: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[str, ...] = ANY
    bins: bool = False
    dynamic: bool = False
    anchors: bool = False
    target: bool = False


@dataclass(frozen=True)
class BackboneForm(Form):
    """A backbone.

    Attributes:
        strides: the only ones that it gives; (): it is asked for those that it shall give, and its constructor takes
            its ``name`` too.
        stages: that can be frozen.
        styles: of ``model.style``.
        pools: it weighs channels by their mean over all places (squeeze and excitation), padding included: what it
            says of an image of another size than its batch would depend on the others.
    """

    strides: tuple[int, ...] = ()
    stages: int = 4
    styles: tuple[str, ...] = ("pytorch",)
    pools: bool = False


@dataclass(frozen=True)
class NeckForm(Form):
    """A neck.

    Attributes:
        backbones: whose maps alone it takes, and who go with it alone; (): those that go with any neck.
        strides: the only ones that it makes; (): any.
        extra: levels that it adds to the backbone's at most; None: any number.
        multiple: of which ``channels`` must be one.
        widths: channels of its levels where they are not ``model.channels``.
        image_size: of the images that it makes its levels of, in pixels; 0: any.
    """

    backbones: tuple[str, ...] = ()
    strides: tuple[int, ...] = ()
    extra: int | None = None
    multiple: int = 1
    widths: tuple[int, ...] = ()
    image_size: int = 0


@dataclass(frozen=True)
class HeadForm(Form):
    """A head.

    Attributes:
        mixed_widths: it takes levels of different widths.
        groups: of its norms with ``head_norm`` group, of which ``channels`` must be a multiple.
        pools: as of a backbone.
    """

    mixed_widths: bool = False
    groups: int = 1
    pools: bool = False


@dataclass(frozen=True)
class AssistantForm(Form):
    """An assistant.

    Attributes:
        multiple: of which ``channels`` must be one.
    """

    multiple: int = 1


_SHUFFLENET, _ESNET = "models.backbones.shufflenet:ShuffleNetBackbone", "models.backbones.esnet:es_net"
_LCNET = "models.backbones.lcnet:lc_net"
_WITH_NORMS = ("frozen_stages", "norm_eval")
BACKBONES: dict[str, BackboneForm] = {
    **{
        name: BackboneForm(place, _WITH_NORMS, {"name": name}, strides=(8, 16, 32), pools=place is not _SHUFFLENET)
        for place, names in {
            _SHUFFLENET: ("shufflenet_v2_x1_0", "shufflenet_v2_x1_5"),
            _ESNET: ("esnet_x0_75", "esnet_x1_0", "esnet_x1_25"),
            _LCNET: ("lcnet_x0_35", "lcnet_x0_75", "lcnet_x1_0", "lcnet_x1_5", "lcnet_x2_0", "lcnet_x2_5"),
        }.items()
        for name in names
    },
    "vgg16": BackboneForm("models.backbones.vgg:VggBackbone", ("frozen_stages",), strides=(8, 16), stages=3),
}
TIMM = BackboneForm(
    "models.backbones.timm:TimmBackbone",
    ("style", "frozen_stages", "norm_eval", "deformable", "modulated"),
    styles=("pytorch", "caffe"),
)
"""Every other name."""

NECKS: dict[str, NeckForm] = {
    "fpn": NeckForm("models.necks.fpn:FeaturePyramid", ("channels", "extra_from", "relu_before_extra")),
    "light_pan": NeckForm("models.necks.light_pan:LightPan", ("channels",), strides=(8, 16, 32)),
    "ghost_pan": NeckForm("models.necks.ghost_pan:ghost_pan", ("channels",), extra=1, multiple=2),
    "csp_pan": NeckForm("models.necks.csp_pan:csp_pan", ("channels",), extra=1, multiple=2),
    "lc_pan": NeckForm("models.necks.lc_pan:lc_pan", ("channels",), extra=1),
    "ssd": NeckForm(
        "models.necks.ssd:SsdNeck",
        backbones=("vgg16",),
        strides=(8, 16, 32, 64, 128, 256, 512),
        widths=(512, 1024, 512, 256, 256, 256, 256),
        image_size=512,
    ),
}
_TOWERS = ("channels", "head_depth", "head_norm", "tower_bias", "deformable_tower", "level_scales", "quality_on")
HEADS: dict[str, HeadForm] = {
    "conv": HeadForm("models.heads:ConvHead", _TOWERS, points=("square", "octave"), groups=32),
    "depthwise": HeadForm("models.heads:DepthwiseHead", ("channels", "head_depth")),
    "depthwise_5x5": HeadForm("models.heads:DepthwiseHead", ("channels", "head_depth"), {"kernel": 5}),
    "pico": HeadForm(
        "models.heads:DepthwiseHead", ("channels", "head_depth"), {"kernel": 5, "activation": "hard_swish"}
    ),
    "pico_se": HeadForm("models.attention_head:AttentionHead", ("channels", "head_depth"), pools=True),
    "plain": HeadForm("models.heads:PlainHead", mixed_widths=True),
}
ASSIGNERS: dict[str, Form] = {
    "atss": Form("assigners.atss:AtssAssigner", ("top_k",), points=SQUARE, anchors=True),
    "fcos": Form("assigners.fcos:FcosAssigner", ("radius",), points=SQUARE),
    "fovea": Form("assigners.fovea:FoveaAssigner", ("sigma",), points=SQUARE),
    "max_iou": Form("assigners.max_iou:MaxIouAssigner", ("positive_iou", "negative_iou", "low_quality"), anchors=True),
    "task_aligned": Form("assigners.task_aligned:TaskAlignedAssigner", ("alpha", "beta", "positives"), dynamic=True),
    "dsla": Form("assigners.dsla:DynamicSoftLabelAssigner", dynamic=True),
    "sim_ota": Form("assigners.sim_ota:SimOtaAssigner", dynamic=True),
}
ASSISTANTS: dict[str, AssistantForm] = {
    "none": AssistantForm(None),
    "agm": AssistantForm(
        "models.assistant:AssignGuidance", ("detach_after",), points=("square", "octave"), multiple=16
    ),
}
_GENERAL = "representation.boxes.general:GeneralBoxes"
BOXES: dict[str, Form] = {
    "dirac": Form("representation.boxes.dirac:DiracBoxes", ("code", "stds", "loss", "smooth_beta")),
    "gaussian": Form("representation.boxes.gaussian:GaussianBoxes", points=SQUARE),
    "general": Form(
        "representation.boxes.general:GeneralBoxes", ("reg_max", "delta"), {"dfl": False}, SQUARE, bins=True
    ),
    "general_dfl": Form(
        "representation.boxes.general:GeneralBoxes", ("reg_max", "delta"), {"dfl": True}, SQUARE, bins=True
    ),
}
_BRANCH, _GUIDED = "representation.quality.branch:BranchQuality", "representation.quality.guided:GuidedQuality"
QUALITIES: dict[str, Form] = {
    "none": Form("representation.quality.none:NoQuality", ("alpha", "gamma")),
    "centerness": Form(_BRANCH, ("alpha", "gamma"), {"kind": "centerness"}, SQUARE, target=True),
    "iou": Form(_BRANCH, ("alpha", "gamma"), {"kind": "iou"}, target=True),
    "centerness_guided": Form(_GUIDED, ("eta", "alpha", "gamma"), {"kind": "centerness"}, SQUARE, target=True),
    "iou_guided": Form(_GUIDED, ("eta", "alpha", "gamma"), {"kind": "iou"}, target=True),
    "joint": Form("representation.quality.joint:JointQuality", ("beta",), target=True),
    "joint_v2": Form("representation.quality.joint_v2:JointV2", ("beta",), points=SQUARE, bins=True, target=True),
    "varifocal": Form(
        "representation.quality.varifocal:VarifocalQuality", fixed={"alpha": 0.75, "gamma": 2.0}, target=True
    ),
    "varifocal_aligned": Form(
        "representation.quality.varifocal_aligned:VarifocalAligned", fixed={"alpha": 0.75, "gamma": 2.0}, target=True
    ),
    "softmax_mined": Form("representation.quality.mined:MinedSoftmax", ("negatives",), points=SSD),
}
BOX_WEIGHTS: dict[str, Form] = {
    "score": Form("representation.box_weights:ScoreWeight"),
    "centerness": Form("representation.box_weights:CenternessWeight", points=SQUARE),
    "target": Form("representation.box_weights:TargetWeight", target=True),
    "none": Form(None),
}


def backbone_form(name: str) -> BackboneForm:
    """The line of a backbone's name."""
    return BACKBONES.get(name, TIMM)


def fitting(forms: Mapping[str, Form], points: str) -> tuple[str, ...]:
    """Names of the forms that fit a kind of points."""
    return tuple(name for name, form in forms.items() if points in form.points)
