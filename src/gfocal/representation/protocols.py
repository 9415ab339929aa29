"""What a box representation, a quality and a weighting of boxes must offer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gfocal.losses import reduce_loss
from gfocal.points import Points
from gfocal.structures import HeadOutput


@dataclass(frozen=True)
class BoxRows:
    """What a box representation learns from: N positives.

    Attributes:
        points: where they are.
        code: (N, channels) their raw outputs.
        boxes: (N, 4) what ``decode`` made of the code (given, so that nobody decodes twice).
        target_boxes: (N, 4) the objects' boxes.
        weight: (N,) how much each positive counts; None: all the same.
        norm: divisor of the sums.
    """

    points: Points
    code: Tensor
    boxes: Tensor
    target_boxes: Tensor
    weight: Tensor | None = None
    norm: Tensor | float = 1.0

    def total(self, loss: Tensor) -> Tensor:
        """The scalar of a term from its (N,) values: their weighted sum over ``norm``."""
        return reduce_loss(loss, weight=self.weight, reduction="sum", norm=self.norm)


@dataclass(frozen=True)
class RowFrom:
    """A number of a place that starts as one of another form's code.

    Attributes:
        own, other: which number it is in each code.
        lower: how much lower its bias starts; 0: it means the same.
    """

    own: int
    other: int
    lower: float = 0.0


class BoxRepresentation(Protocol):
    """How a head's numbers mean a box: channels, scaling, clamping, loss and uncertainty.

    Everywhere N is any number of places: ``points`` has N rows, ``code`` is (N, channels), boxes are (N, 4)
    xyxy in input pixels. All of it runs in float32 at least. A form names this protocol as its base and says what is
    its own; the base knows no uncertainty.
    """

    channels: int
    """Numbers a place."""
    initial_code: tuple[float, ...]
    """What the outputs of a new head start at: ``channels`` numbers for the bias of its last layer."""
    reads_anchors: bool = False
    """Whether the code is relative to the points' anchors: with others its numbers mean something else."""
    meaning: tuple[object, ...] = ()
    """All settings that decide what the numbers mean."""

    @abstractmethod
    def encode(self, points: Points, boxes: Tensor) -> Tensor:
        """The code that :meth:`decode` turns into ``boxes``, where a code can represent them."""

    @abstractmethod
    def decode(self, points: Points, code: Tensor) -> Tensor:
        """(N, 4) boxes."""

    @abstractmethod
    def losses(self, rows: BoxRows) -> dict[str, Tensor]:
        """Named scalars over the positives, without loss weights; each term is reduced by :meth:`BoxRows.total`."""

    @abstractmethod
    def truncated(self, points: Points, target_boxes: Tensor) -> Tensor:
        """(N, 4) bool: edges that lie where no code can reach."""

    def reach(self, side: float) -> float | None:
        """Strides that an edge may lie from a point whose anchor is ``side`` strides wide; None: any number."""
        return None

    def rows_from(self, other: BoxRepresentation) -> list[RowFrom]:
        """The numbers of a place that trained weights for ``other`` can give: all, if both mean the same."""
        alike = type(self) is type(other) and self.meaning == other.meaning
        return [RowFrom(i, i) for i in range(self.channels)] if alike else []

    def edge_std(self, points: Points, code: Tensor) -> Tensor | None:
        """(N, 4) standard deviation of left, top, right, bottom in input pixels; None if there is none."""
        return None

    def edge_probs(self, code: Tensor) -> Tensor | None:
        """(N, 4, n + 1) probability of each bin of each edge; None if there are no bins."""
        return None


@dataclass(frozen=True)
class LearningRows:
    """What a quality learns from: M places, flat over a batch, without those that learn nothing.

    Attributes:
        out: their raw outputs.
        labels: (M,) class of each place, negative where there is none.
        positive: (N,) indices of the places that learn a ground truth.
        target: (N,) what :meth:`Quality.target` gave.
        norm: divisor of the sums.
        image: (M,) int64, the image of the batch that each place is of, for mining within an image; None: one image.
        sums: what :attr:`Quality.sums` gave, added up over all batches of the step; None if this batch is the step.
    """

    out: HeadOutput
    labels: Tensor
    positive: Tensor
    target: Tensor | None = None
    norm: Tensor | float = 1.0
    image: Tensor | None = None
    sums: Tensor | None = None

    @property
    def known_target(self) -> Tensor:
        """The target, for a form that learns one.

        Raises:
            ValueError: there is none.
        """
        if self.target is None:
            raise ValueError("this quality needs the target of every positive, and target is None")
        return self.target


@dataclass(frozen=True)
class PositiveRows:
    """N places that each learn an object, and what the network says there; all of it is detached.

    Attributes:
        points: of the places.
        target_boxes: (N, 4) the objects' boxes.
        labels: (N,) the objects' classes.
        gt_index: (N,) int64: which object each place learns; those of one object share the number.
        out: raw outputs; None where only what is known before the forward pass is asked for.
        boxes: (N, 4) decoded boxes; None without ``out``.
        alignment: (N,) an assigner's measure of how well each prediction fits its object (see
            :class:`gfocal.structures.Assignment`); None where the assigner has none.
        target: (N,) what :meth:`Quality.target` gave, for a box weight, so that nobody computes it twice; None where
            it has not been asked or gave none.
    """

    points: Points
    target_boxes: Tensor
    labels: Tensor
    gt_index: Tensor
    out: HeadOutput | None = None
    boxes: Tensor | None = None
    alignment: Tensor | None = None
    target: Tensor | None = None

    @property
    def known_out(self) -> HeadOutput:
        """The raw outputs, for a form that reads them.

        Raises:
            ValueError: there are none.
        """
        if self.out is None:
            raise ValueError("this form reads the network's outputs, and out is None")
        return self.out

    @property
    def known_boxes(self) -> Tensor:
        """The decoded boxes, for a form that reads them.

        Raises:
            ValueError: there are none.
        """
        if self.boxes is None:
            raise ValueError("this form reads the decoded boxes, and boxes is None")
        return self.boxes


class Quality(Protocol):
    """How good the box is, and how that enters training and score.

    A form names this protocol as its base and says what is its own: :meth:`losses` always. The rest is here for a form
    whose score is the class score, which learns no quality and whose places do not need each other.
    """

    quality_channels: int = 0
    """Outputs of a separate quality branch, a place: 0 or 1."""
    meaning: tuple[object, ...] = ()
    """All settings that decide what the branch, or parameters of the form's own, learn."""

    sums: Callable[[LearningRows], Tensor] | None = None
    """(S,) detached numbers of a batch that the step adds up before :meth:`losses`, as a method; None: none are."""
    score_rule: str = "the class score alone"
    """How the score comes from :meth:`score_parts`, in words."""

    def num_logits(self, num_classes: int) -> int:
        """Class logits a place: ``num_classes``, or one more for a softmax."""
        return num_classes

    def target(self, positives: PositiveRows) -> Tensor | None:
        """(N,) quality of the positives, detached; None if this form learns none."""
        return None

    @abstractmethod
    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        """Named scalars over all places, without loss weights."""

    def class_logits(self, out: HeadOutput) -> Tensor:
        """(..., C) logits whose sigmoid is the candidate score: thresholds and top-k work on it."""
        return out.class_logits

    def scores(self, candidate_scores: Tensor, out: HeadOutput) -> Tensor:
        """(K,) final scores of K winners from their candidate scores; ``out`` holds their K rows."""
        return candidate_scores

    def score_parts(self, labels: Tensor, out: HeadOutput) -> dict[str, Tensor]:
        """By name (K,) numbers in [0, 1] that the scores of K winners are made of, see :attr:`score_rule`.

        Args:
            labels: (K,) class of each.
            out: their K rows.
        """
        return {"class": class_part(labels, out)}


def class_part(labels: Tensor, out: HeadOutput) -> Tensor:
    """(K,) sigmoid of the raw logit of each one's class."""
    return out.class_logits.float().gather(-1, labels[:, None])[:, 0].sigmoid()


class BoxWeight(Protocol):
    """How much each positive's box terms count. Where all count the same, there is no such object but None."""

    reads_outputs: bool
    """Whether it needs the network's outputs; else the weights are known before the forward pass."""

    def __call__(self, positives: PositiveRows, quality: Quality) -> Tensor:
        """(N,) detached weights of N positives.

        Args:
            positives: their outputs and boxes may be None unless ``reads_outputs``.
            quality: whose class scores, or target, may count.
        """
        ...
