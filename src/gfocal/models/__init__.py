"""Networks: backbones, necks, heads, and what turns their outputs into detections."""

from gfocal.models.backbones import ShuffleNetBackbone, TimmBackbone
from gfocal.models.heads import ConvHead, DepthwiseHead, PlainHead
from gfocal.models.necks import FeaturePyramid, LightPan, SsdNeck
from gfocal.models.postprocess import PostProcess
from gfocal.models.protocols import Head, HeadShape, Neck, OutputLayer
from gfocal.models.vgg import VggBackbone

__all__ = [
    "ConvHead",
    "DepthwiseHead",
    "FeaturePyramid",
    "Head",
    "HeadShape",
    "LightPan",
    "Neck",
    "OutputLayer",
    "PlainHead",
    "PostProcess",
    "ShuffleNetBackbone",
    "SsdNeck",
    "TimmBackbone",
    "VggBackbone",
]
