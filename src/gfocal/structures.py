"""What flows between the parts: frozen, validated dataclasses of tensors.

Boxes are float xyxy in input pixels, width = x2 - x1. Labels are 0..C-1; there is no background
index: "no object" is :data:`NEGATIVE` or :data:`IGNORED` in an assignment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfocal.detections import CocoResult, Detections

__all__ = ["IGNORED", "NEGATIVE", "Assignment", "Batch", "CocoResult", "Detections", "HeadOutput", "Targets"]

NEGATIVE = -1
"""In :attr:`Assignment.gt_index`: the point learns that nothing is there."""
IGNORED = -2
"""In :attr:`Assignment.gt_index`: the point learns nothing."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Targets:
    """Ground truth of one image.

    Attributes:
        boxes: (G, 4) float xyxy in input pixels.
        labels: (G,) int64 in 0..C-1.
    """

    boxes: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _require(
            self.boxes.ndim == 2 and self.boxes.shape[1] == 4,
            f"boxes must have shape (G, 4), got {tuple(self.boxes.shape)}",
        )
        _require(self.boxes.is_floating_point(), f"boxes must be float, got {self.boxes.dtype}")
        _require(
            self.labels.shape == self.boxes.shape[:1],
            f"labels must have shape ({len(self.boxes)},), got {tuple(self.labels.shape)}",
        )
        _require(self.labels.dtype == torch.int64, f"labels must be int64, got {self.labels.dtype}")

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Targets:
        return Targets(self.boxes.to(device), self.labels.to(device))

    @staticmethod
    def from_arrays(boxes: np.ndarray, labels: np.ndarray) -> Targets:
        """The same from numpy's arrays, whose memory it shares."""
        return Targets(torch.from_numpy(boxes), torch.from_numpy(labels))

    @staticmethod
    def empty() -> Targets:
        """A background image."""
        return Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True)
class Batch:
    """Images of one step, padded to one size at the right and the bottom.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        targets: one :class:`Targets` an image, in pixels of ``images``.
        image_ids: (B,) int64, the data set's own ids.
        original_sizes: (B, 2) int64 (height, width) of the image files.
        scales: (B, 2) float (x, y): input pixels per original pixel, for images that were only resized.
        sizes: (B, 2) int64 (height, width) of each image inside the padded batch.
        skipped: one line for each broken image that another one stands in for.
    """

    images: Tensor
    targets: tuple[Targets, ...]
    image_ids: Tensor
    original_sizes: Tensor
    scales: Tensor
    sizes: Tensor
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class HeadOutput:
    """Raw outputs for all points of all levels, never activated.

    Attributes:
        class_logits: (..., P, L); L is what the quality asks for (C, or C + 1 for softmax).
        box: (..., P, K) box code in the representation's own units.
        quality_logits: (..., P, Q) of a separate quality branch, or None.
        assistant: what a head that is there in training alone says of the same points (see
            :class:`gfocal.models.Assistant`), or None.
    """

    class_logits: Tensor
    box: Tensor
    quality_logits: Tensor | None = None
    assistant: HeadOutput | None = None

    def __post_init__(self) -> None:
        others = {
            "box": self.box,
            "quality_logits": self.quality_logits,
            "assistant": None if self.assistant is None else self.assistant.class_logits,
        }
        for name, value in others.items():
            _require(
                value is None or value.shape[:-1] == self.class_logits.shape[:-1],
                f"{name} must have the points of class_logits {tuple(self.class_logits.shape[:-1])}",
            )

    def __getitem__(self, index: int | slice | Tensor | tuple[int | slice | Tensor, ...]) -> HeadOutput:
        return self.map(lambda tensor: tensor[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> HeadOutput:
        """The same change to every tensor."""
        quality = None if self.quality_logits is None else function(self.quality_logits)
        assistant = None if self.assistant is None else self.assistant.map(function)
        return HeadOutput(function(self.class_logits), function(self.box), quality, assistant)

    @property
    def heads(self) -> list[HeadOutput]:
        """The head's outputs, and the assistant's if there is one."""
        return [self] if self.assistant is None else [self, self.assistant]

    @property
    def judge(self) -> HeadOutput:
        """The outputs by which assigners that look at predictions decide: the assistant's, if there is one."""
        return self if self.assistant is None else self.assistant


@dataclass(frozen=True)
class Assignment:
    """Which ground truth each point learns.

    Attributes:
        gt_index: (P,) int64: index into the image's boxes, :data:`NEGATIVE` or :data:`IGNORED`.
        alignment: (P,) float >= 0, how well the prediction of each positive fits its object, by the measure of an
            assigner that looks at predictions (of other points it means nothing); None: there is no such measure.
    """

    gt_index: Tensor
    alignment: Tensor | None = None

    def __post_init__(self) -> None:
        _require(self.gt_index.ndim == 1, "gt_index must have shape (P,)")
        _require(self.gt_index.dtype == torch.int64, f"gt_index must be int64, got {self.gt_index.dtype}")
        if self.alignment is not None:
            _require(self.alignment.shape == self.gt_index.shape, "alignment must have shape (P,), as gt_index has")
            _require(self.alignment.is_floating_point(), f"alignment must be float, got {self.alignment.dtype}")

    @property
    def positive(self) -> Tensor:
        """(P,) bool: the points that learn a ground truth."""
        return self.gt_index >= 0


@dataclass(frozen=True)
class BatchAssignment:
    """What every point of a batch learns; of a static assigner it is known before the forward pass.

    Attributes:
        positive: (N,) indices of the positives into the B * P points.
        labels: (B * P,) class of each point, -1 where there is none.
        target_boxes: (N, 4) ground truth of each positive.
        gt_index: (N,) int64, which of all objects of the batch each positive learns.
        alignment: (N,) how well the prediction of each positive fits its object, where the assigner measures that.
        ignored: (B * P,) points that learn nothing, or None if there is none.
        counts: (B,) number of positives of each image, on the device that they were found on.
        objects, missed: number of ground truths, and of those that got no point at all.
        edges, truncated: number of edges of the positives, and of those that no code can reach.
    """

    positive: Tensor
    labels: Tensor
    target_boxes: Tensor
    gt_index: Tensor
    alignment: Tensor | None
    ignored: Tensor | None
    counts: Tensor
    objects: int
    missed: int
    edges: int
    truncated: int

    def to(self, device: torch.device) -> BatchAssignment:
        """The same on another device, but for :attr:`counts`, which are numbers for the host.

        Does not wait for what that device is still busy with.
        """
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor) and field.name != "counts"
        }
        return replace(self, **moved)
