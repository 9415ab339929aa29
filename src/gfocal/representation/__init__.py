"""The two axes of the paper: how a box is represented, and how its quality enters the score.

Both are small protocols with final classes behind them; so is the weighting of the positives' box terms. A new form is
one file and one line in the recipe's table of names.
"""

from gfocal.representation.box_weights import CenternessWeight, ScoreWeight, TargetWeight
from gfocal.representation.branch import BranchQuality
from gfocal.representation.dirac import DiracBoxes
from gfocal.representation.gaussian import GaussianBoxes
from gfocal.representation.general import GeneralBoxes
from gfocal.representation.guided import GuidedQuality
from gfocal.representation.joint import JointQuality, soft_target
from gfocal.representation.joint_v2 import JointV2, product_logits
from gfocal.representation.mined import MinedSoftmax
from gfocal.representation.none import NoQuality
from gfocal.representation.protocols import BoxRepresentation, BoxWeight, LearningRows, PositiveRows, Quality

__all__ = [
    "BoxRepresentation",
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
    "product_logits",
    "soft_target",
]
