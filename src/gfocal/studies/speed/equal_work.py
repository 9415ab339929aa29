"""Detectors that have never been trained, with the same work for everything that follows the network.

What post-processing costs depends on how many candidates pass the threshold and on how their boxes overlap. Of a new
detector none passes, and its boxes are those of its representation's start: its post-processing would cost nothing. So
every detector here is given the same work, through its biases alone, and then runs its ordinary code:

- weights that have the same name and shape as those of the first detector are the same, and those of the class
  outputs. Two detectors that differ in their boxes or their branch have the same candidates at the same places.
- the class biases of each are raised by the one number with which :data:`CANDIDATES` pairs of point and class pass its
  threshold.
- the box biases are such that every point's box is about its anchor. The boxes of all forms overlap alike, and General
  boxes are a softmax and an expectation of random distributions, as after training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gfocal.data.scenes.drawing import example_scene
from gfocal.detector import DenseDetector
from gfocal.recipe import Recipe
from gfocal.runtime.layout import in_layout
from gfocal.structures import HeadOutput
from gfocal.zoo import build_detector

CANDIDATES = 1000
"""Pairs of point and class that pass the threshold; at most a tenth of all, where an image is small."""
_LEAST_LOGIT = -10.0  # of a bin that the anchor's edge is not next to: exp of it is no denormal number, which are slow


def example_image(height: int, width: int) -> Tensor:
    """(3, height, width) uint8 RGB: always the same generated scene."""
    return torch.from_numpy(example_scene(height, width)).permute(2, 0, 1)


def build_alike(recipes: Mapping[str, Recipe], num_classes: int, shown: Tensor) -> dict[str, DenseDetector]:
    """Detectors that differ in nothing but their recipes, with the same work after the network. Without gradients.

    Args:
        recipes: at least one; the weights of the others are those of the first, where they fit.
        num_classes: C >= 1.
        shown: (1, 3, H, W) uint8 RGB, the image on which as many candidates pass; the detectors go to its device.
    """
    names = [f"class {i}" for i in range(num_classes)]
    detectors: dict[str, DenseDetector] = {}
    first: DenseDetector | None = None
    for key, recipe in recipes.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            detector = build_detector(recipe, names, pretrained=False).eval()
        first = first or detector
        share_weights(first, detector)
        detector = in_layout(detector, recipe.runtime.channels_last)
        detectors[key] = detector.to(shown.device)
        boxes_on_anchors(detectors[key])
        let_pass(detectors[key], shown)
    return detectors


def share_weights(first: DenseDetector, other: DenseDetector) -> None:
    """Give a detector the values of another one where they have the same name and shape, and its class outputs."""
    own = other.state_dict()
    shared = {name: value for name, value in first.state_dict().items() if name in own}
    other.load_state_dict({n: v for n, v in shared.items() if v.shape == own[n].shape}, strict=False)
    # A depthwise head has one convolution for all outputs of a level, whose shape is another one then.
    theirs, mine = first.head.output_layers("class"), other.head.output_layers("class")
    if len(theirs) != len(mine):
        return  # one of them shares its outputs among the levels
    for source, target in zip(theirs, mine, strict=True):
        for value, own_value in ((source.weight, target.weight), (source.bias, target.bias)):
            if value.shape == own_value.shape:
                own_value.copy_(value)


def boxes_on_anchors(detector: DenseDetector) -> None:
    """Give the box outputs the biases with which every point's box is about its anchor."""
    points = detector.points(64, 64)
    per_location = points.per_location or (1,) * len(points.grids)
    starts = [0, *np.cumsum(points.level_counts).tolist()[:-1]]
    codes = []
    for start, anchors in zip(starts, per_location, strict=True):
        one = points[start : start + anchors]
        codes.append(detector.box_coder.encode(one, one.anchors).clamp(min=_LEAST_LOGIT))
    layers = detector.head.output_layers("box")
    if len(layers) == 1:  # that all levels share: the code of an anchor is the same on each
        codes = codes[:1]
    for code, layer in zip(codes, layers, strict=True):
        layer.bias.copy_(code)


def let_pass(detector: DenseDetector, shown: Tensor) -> None:
    """Raise the class biases until :data:`CANDIDATES` pairs pass on this image, or a tenth where it is small."""
    out = detector.raw(shown)[0]
    softmax = out.class_logits.shape[-1] > len(detector.names)  # the last logit is that of no object
    wanted, threshold = candidates_of(detector, shown), detector.postprocess.score_threshold
    if threshold <= 0:
        return  # all pass
    least = math.log(threshold / (1 - threshold))
    low, high = -40.0, 40.0
    for _ in range(40):
        middle = (low + high) / 2
        raised = replace(out, class_logits=out.class_logits + _shift(middle, out, softmax))
        passing = int((detector.quality.class_logits(raised) > least).sum())
        low, high = (middle, high) if passing < wanted else (low, middle)
    for layer in detector.head.output_layers("class"):
        layer.bias.add_(_shift(high, out, softmax))


def _shift(value: float, out: HeadOutput, softmax: bool) -> Tensor:
    """(C,) or (C + 1,) what is added to the logits of a place."""
    shift = out.class_logits.new_full(out.class_logits.shape[-1:], value)
    if softmax:
        shift[-1] = 0
    return shift


def candidates_of(detector: DenseDetector, shown: Tensor) -> int:
    """How many pairs :func:`let_pass` lets pass on a padded image of this size."""
    pairs = len(detector.points(*shown.shape[-2:])) * len(detector.names)
    return min(CANDIDATES, max(1, pairs // 10))
