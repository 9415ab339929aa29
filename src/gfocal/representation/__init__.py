"""The two axes of the paper: how a box is represented, and how its quality enters the score.

Both are small protocols with final classes behind them; so is the weighting of the positives' box terms. A new form is
one file and one line in the recipe's table of names.
"""

from gfocal.representation.box_weights import CenternessWeight, ScoreWeight, TargetWeight
from gfocal.representation.boxes.dirac import DiracBoxes
from gfocal.representation.boxes.gaussian import GaussianBoxes
from gfocal.representation.boxes.general import GeneralBoxes
from gfocal.representation.protocols import BoxRepresentation, BoxRows, BoxWeight, LearningRows, PositiveRows, Quality
from gfocal.representation.quality.branch import BranchQuality
from gfocal.representation.quality.guided import GuidedQuality
from gfocal.representation.quality.joint import JointQuality, soft_target
from gfocal.representation.quality.joint_v2 import JointV2, product_logits
from gfocal.representation.quality.mined import MinedSoftmax
from gfocal.representation.quality.none import NoQuality
from gfocal.representation.quality.varifocal import VarifocalQuality
from gfocal.representation.quality.varifocal_aligned import VarifocalAligned

__all__ = [
    "BoxRepresentation",
    "BoxRows",
    "BoxWeight",
    "BranchQuality",
    "CenternessWeight",
    "DiracBoxes",
    "GaussianBoxes",
    "GeneralBoxes",
    "GuidedQuality",
    "JointQuality",
    "JointV2",
    "LearningRows",
    "MinedSoftmax",
    "NoQuality",
    "PositiveRows",
    "Quality",
    "ScoreWeight",
    "TargetWeight",
    "VarifocalAligned",
    "VarifocalQuality",
    "product_logits",
    "soft_target",
]
