"""The losses of Generalized Focal Loss: pure functions on logits, usable without the rest of gfocal.

>>> import torch
>>> from gfocal.losses import quality_focal_loss
>>> logits = torch.zeros(2, 3)
>>> labels, quality = torch.tensor([1, -1]), torch.tensor([0.8, 0.0])
>>> round(float(quality_focal_loss(logits, (labels, quality), reduction="sum")), 4)
0.9288
"""

from gfocal.losses.centerness import centerness_loss
from gfocal.losses.distribution import distribution_focal_loss, outside_bins
from gfocal.losses.focal import focal_loss
from gfocal.losses.gaussian import gaussian_nll_loss
from gfocal.losses.generalized import generalized_focal_loss
from gfocal.losses.quality import quality_focal_loss
from gfocal.losses.reduction import at_least_float32, reduce_loss
from gfocal.losses.smooth_l1 import smooth_l1_loss
from gfocal.losses.varifocal import varifocal_loss

__all__ = [
    "at_least_float32",
    "centerness_loss",
    "distribution_focal_loss",
    "focal_loss",
    "gaussian_nll_loss",
    "generalized_focal_loss",
    "outside_bins",
    "quality_focal_loss",
    "reduce_loss",
    "smooth_l1_loss",
    "varifocal_loss",
]
