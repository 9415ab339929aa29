"""Networks: backbones, necks, heads, and what turns their outputs into detections."""

from gfocal.models.backbones import ShuffleNetBackbone, TimmBackbone
from gfocal.models.heads import ConvHead, DepthwiseHead
from gfocal.models.necks import FeaturePyramid, LightPan
from gfocal.models.postprocess import PostProcess

__all__ = [
    "ConvHead",
    "DepthwiseHead",
    "FeaturePyramid",
    "LightPan",
    "PostProcess",
    "ShuffleNetBackbone",
    "TimmBackbone",
]
