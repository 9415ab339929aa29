"""What a box representation, a quality and a weighting of boxes must offer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gfocal.points import Points
from gfocal.structures import HeadOutput


class BoxRepresentation(Protocol):
    """How a head's numbers mean a box: channels, scaling, clamping, loss and uncertainty.

    Everywhere N is any number of places: ``points`` has N rows, ``code`` is (N, channels), boxes are (N, 4)
    xyxy in input pixels. All of it runs in float32 at least.
    """

    channels: int
    """Numbers a place."""
    initial_code: tuple[float, ...]
    """What the outputs of a new head start at: ``channels`` numbers for the bias of its last layer."""

    def encode(self, points: Points, boxes: Tensor) -> Tensor:
        """The code that :meth:`decode` turns into ``boxes``, where a code can represent them."""
        ...

    def decode(self, points: Points, code: Tensor) -> Tensor:
        """(N, 4) boxes."""
        ...

    def losses(
        self,
        points: Points,
        code: Tensor,
        boxes: Tensor,
        target_boxes: Tensor,
        *,
        weight: Tensor | None,
        norm: Tensor | float,
    ) -> dict[str, Tensor]:
        """Named scalars over the positives, without loss weights.

        Args:
            points: of the N positives.
            code: (N, channels) their raw outputs.
            boxes: (N, 4) what ``decode`` made of the code (given, so that nobody decodes twice).
            target_boxes: (N, 4).
            weight: (N,) weight of each positive, or None.
            norm: divisor of the sums.
        """
        ...

    def edge_std(self, points: Points, code: Tensor) -> Tensor | None:
        """(N, 4) standard deviation of left, top, right, bottom in input pixels; None if there is none."""
        ...

    def edge_probs(self, code: Tensor) -> Tensor | None:
        """(N, 4, n + 1) probability of each bin of each edge; None if there are no bins."""
        ...

    def truncated(self, points: Points, target_boxes: Tensor) -> Tensor:
        """(N, 4) bool: edges that lie where no code can reach."""
        ...


class Quality(Protocol):
    """How good the box is, and how that enters training and score."""

    quality_channels: int
    """Outputs of a separate quality branch, a place: 0 or 1."""

    summed: bool
    """Whether :meth:`losses` needs :meth:`sums` over the whole optimizer step."""

    def num_logits(self, num_classes: int) -> int:
        """Class logits a place: ``num_classes``, or one more for a softmax."""
        ...

    def target(self, points: Points, boxes: Tensor, target_boxes: Tensor) -> Tensor | None:
        """(N,) quality of the positives; None if this form has none.

        Args:
            points: of the N positives.
            boxes: (N, 4) their decoded, detached boxes.
            target_boxes: (N, 4).
        """
        ...

    def losses(
        self,
        out: HeadOutput,
        labels: Tensor,
        positive: Tensor,
        quality: Tensor | None,
        *,
        image: Tensor,
        norm: Tensor | float,
        sums: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Named scalars over all places, without loss weights.

        Args:
            out: raw outputs of M places, flat over the batch.
            labels: (M,) class of each place, negative where there is none.
            positive: (N,) indices of the places that learn a ground truth.
            quality: (N,) what :meth:`target` gave.
            image: (M,) int64, the image of the batch that each place is of: for mining within an image.
            norm: divisor of the sums.
            sums: what :meth:`sums` gave, added up over all batches of the step; None if this batch is the step.
        """
        ...

    def sums(self, out: HeadOutput, labels: Tensor, positive: Tensor, quality: Tensor | None) -> Tensor | None:
        """(S,) detached numbers of this batch that the step adds up before :meth:`losses`; None unless ``summed``."""
        ...

    def class_logits(self, out: HeadOutput) -> Tensor:
        """(..., C) logits whose sigmoid is the candidate score: thresholds and top-k work on it."""
        ...

    def scores(self, candidate_scores: Tensor, out: HeadOutput) -> Tensor:
        """(K,) final scores of K winners from their candidate scores; ``out`` holds their K rows."""
        ...


class BoxWeight(Protocol):
    """How much each positive's box terms count. Where all count the same, there is no such object but None."""

    reads_outputs: bool
    """Whether it needs the network's outputs; else the weights are known before the forward pass."""

    def __call__(self, out: HeadOutput | None, points: Points, target_boxes: Tensor, quality: Quality) -> Tensor:
        """(N,) detached weights of N positives.

        Args:
            out: their raw outputs; may be None unless ``reads_outputs``.
            points: of the positives.
            target_boxes: (N, 4).
            quality: whose class scores may count.
        """
        ...
