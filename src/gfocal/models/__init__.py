"""Networks: backbones, necks, heads, and what turns their outputs into detections."""

from gfocal.models.attention_head import AttentionHead
from gfocal.models.backbones.shufflenet import ShuffleNetBackbone
from gfocal.models.backbones.timm import TimmBackbone
from gfocal.models.backbones.vgg import VggBackbone
from gfocal.models.heads import ConvHead, DepthwiseHead, PlainHead
from gfocal.models.necks.fpn import FeaturePyramid
from gfocal.models.necks.light_pan import LightPan
from gfocal.models.necks.ssd import SsdNeck
from gfocal.models.pixels import PixelNorm
from gfocal.models.postprocess import PostProcess
from gfocal.models.protocols import Assistant, Head, HeadShape, Neck, OutputLayer

__all__ = [
    "Assistant",
    "AttentionHead",
    "ConvHead",
    "DepthwiseHead",
    "FeaturePyramid",
    "Head",
    "HeadShape",
    "LightPan",
    "Neck",
    "OutputLayer",
    "PixelNorm",
    "PlainHead",
    "PostProcess",
    "ShuffleNetBackbone",
    "SsdNeck",
    "TimmBackbone",
    "VggBackbone",
]
