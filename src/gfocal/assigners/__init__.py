"""Which point learns which object: by points and boxes alone, or by what the network says of them; no gradients."""

from gfocal.assigners.atss import AtssAssigner
from gfocal.assigners.dsla import DynamicSoftLabelAssigner
from gfocal.assigners.fcos import FcosAssigner
from gfocal.assigners.fovea import FoveaAssigner
from gfocal.assigners.max_iou import MaxIouAssigner
from gfocal.assigners.protocols import Assigner, DynamicAssigner
from gfocal.assigners.reach import DynamicWithinReach, WithinReach
from gfocal.assigners.sim_ota import SimOtaAssigner
from gfocal.assigners.task_aligned import TaskAlignedAssigner

__all__ = [
    "Assigner",
    "AtssAssigner",
    "DynamicAssigner",
    "DynamicSoftLabelAssigner",
    "DynamicWithinReach",
    "FcosAssigner",
    "FoveaAssigner",
    "MaxIouAssigner",
    "SimOtaAssigner",
    "TaskAlignedAssigner",
    "WithinReach",
]
