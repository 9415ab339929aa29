"""Raw outputs of one image -> detections: threshold, top-k, decode, non-maximum suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gfocal.boxes import aligned_iou, clip_boxes
from gfocal.errors import UsageError, require_number
from gfocal.models.voting import vote_edges
from gfocal.points import Points
from gfocal.representation import BoxRepresentation, Quality
from gfocal.structures import Detections, HeadOutput

_LEAST_SCALE = 1e-6  # of voting: below it only copies of a box have a say
_PREFIX = 300  # boxes that the first round of suppression looks at


@dataclass(frozen=True)
class Choice:
    """What suppression chose from, and what it kept.

    Attributes:
        place: (N,) int64 point of each candidate.
        label: (N,) int64 its class.
        boxes: (N, 4) xyxy in input pixels, inside the image.
        scores: (N,) final.
        kept: (K,) int64 candidates that stay, best score first.
    """

    place: Tensor
    label: Tensor
    boxes: Tensor
    scores: Tensor
    kept: Tensor


@dataclass(frozen=True)
class PostProcess:
    """How raw outputs become detections.

    Attributes:
        score_threshold: candidates must score higher, in [0, 1).
        pre_nms_top_k: best candidates kept on each level.
        nms_iou: of two boxes of one class with more overlap, the better stays; in [0, 1].
        max_detections: an image.
        clip_margin: boxes end this many pixels before the right and the bottom border (1: as published FoveaBox).
        class_agnostic: of two boxes of any classes with more overlap than ``nms_iou``, the better stays.
        voting: scale of :func:`gfocal.models.voting.vote_edges`, by which suppressed boxes move the edges of those that
            stay, above 0; None: they do not. Needs boxes that say how sure their edges are.

    Raises:
        UsageError: a value is out of its range.
    """

    score_threshold: float = 0.05
    pre_nms_top_k: int = 1000
    nms_iou: float = 0.6
    max_detections: int = 100
    clip_margin: float = 0.0
    class_agnostic: bool = False
    voting: float | None = None

    def __post_init__(self) -> None:
        require_number("score_threshold", self.score_threshold, least=0, below=1)
        require_number("nms_iou", self.nms_iou, least=0, most=1)
        require_number("clip_margin", self.clip_margin, least=0)
        if self.voting is not None:
            require_number("voting", self.voting, least=_LEAST_SCALE)
        for name in ("pre_nms_top_k", "max_detections"):
            require_number(name, getattr(self, name), least=1, whole=True)

    @torch.no_grad()
    def __call__(
        self,
        out: HeadOutput,
        points: Points,
        box_coder: BoxRepresentation,
        quality: Quality,
        *,
        height: int,
        width: int,
        names: tuple[str, ...] = (),
    ) -> Detections:
        """Detections of one image of that size, in input pixels.

        Args:
            out: (P, ...) raw outputs.
            points: the whole set of P points.
            box_coder, quality: the two axes.
            height, width: boxes are clipped to them.
            names: of the classes, handed on.
        """
        choice = self.choose(out, points, box_coder, quality, height=height, width=width)
        return self.detections(choice, out, points, box_coder, names)

    @torch.no_grad()
    def choose(
        self,
        out: HeadOutput,
        points: Points,
        box_coder: BoxRepresentation,
        quality: Quality,
        *,
        height: int,
        width: int,
    ) -> Choice:
        """The candidates of one image and what suppression keeps of them; the arguments are those of a call."""
        place, label, candidate = self.candidates(out, points, quality)
        decoded = clip_boxes(
            box_coder.decode(points[place], out.box[place]), height - self.clip_margin, width - self.clip_margin
        )
        solid = (decoded[:, 2:] > decoded[:, :2]).all(1)  # no object is without width or height, nor suppressed by one
        place, label, decoded = place[solid], label[solid], decoded[solid]
        scores = quality.scores(candidate[solid], out[place])
        kept = suppress(
            decoded,
            scores,
            label,
            iou=self.nms_iou,
            limit=self.max_detections,
            class_agnostic=self.class_agnostic,
        )
        return Choice(place, label, decoded, scores, kept)

    @torch.no_grad()
    def detections(
        self,
        choice: Choice,
        out: HeadOutput,
        points: Points,
        box_coder: BoxRepresentation,
        names: tuple[str, ...] = (),
    ) -> Detections:
        """What was kept, in input pixels; ``out`` and ``points`` are those that it was chosen from."""
        place, keep = choice.place, choice.kept
        winners, at = out[place[keep]], points[place[keep]]
        boxes = choice.boxes[keep]
        if self.voting is not None:
            edge_std = box_coder.edge_std(points[place], out.box[place])
            if edge_std is None:
                raise UsageError(
                    "predict.voting needs boxes that say how sure their edges are (not dirac): set it to null"
                )
            boxes = vote_edges(choice.boxes, edge_std, self._groups(choice.label), keep, scale=self.voting)
        return Detections(
            boxes,
            choice.scores[keep],
            choice.label[keep],
            names,
            edge_std=box_coder.edge_std(at, winners.box),
            edge_probs=box_coder.edge_probs(winners.box),
            levels=at.level,
        )

    @torch.no_grad()
    def removed_by(self, choice: Choice) -> Tensor:
        """(N,) position in ``kept`` of the box that each candidate had to go for.

        -1 for those that are kept, and those that no box was in the way of: beyond ``max_detections`` they are cut off.
        Nothing of this is computed for a prediction; it takes N times K overlaps.
        """
        kept, count = choice.kept, len(choice.place)
        found = torch.full((count,), -1, dtype=torch.int64, device=choice.place.device)
        if not len(kept):
            return found
        groups = self._groups(choice.label)
        boxes = choice.boxes.double()
        over = aligned_iou(boxes[:, None], boxes[kept][None]) > self.nms_iou
        over &= groups[:, None] == groups[kept][None]
        first = over.to(torch.uint8).argmax(1)  # kept boxes are sorted by score: the first one removed it
        found = torch.where(over.any(1), first, found)
        found[kept] = -1
        return found

    def _groups(self, labels: Tensor) -> Tensor:
        """(N,) boxes of different ones do not suppress each other."""
        return torch.zeros_like(labels) if self.class_agnostic else labels

    def candidates(self, out: HeadOutput, points: Points, quality: Quality) -> tuple[Tensor, Tensor, Tensor]:
        """(K,) points, (K,) classes and (K,) scores of the best (point, class) pairs of every level.

        The threshold is applied to the logit and the sigmoid taken of the winners alone; among equals the
        lowest flat index wins.
        """
        threshold = math.log(self.score_threshold / (1 - self.score_threshold)) if self.score_threshold else -math.inf
        picked, logits, start = [], [], 0
        all_logits = quality.class_logits(out).float()
        classes = all_logits.shape[-1]
        for count in points.level_counts:
            level = all_logits[start : start + count].reshape(-1)
            index = (level > threshold).nonzero().squeeze(1)
            values, order = level[index].sort(descending=True, stable=True)
            logits.append(values[: self.pre_nms_top_k])
            picked.append(index[order[: self.pre_nms_top_k]] + start * classes)
            start += count
        flat = torch.cat(picked)
        return flat // classes, flat % classes, torch.cat(logits).sigmoid()


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    iou: float = 0.6,
    limit: int | None = None,
    class_agnostic: bool = False,
) -> Tensor:
    """Indices of what greedy non-maximum suppression within each class keeps, best score first.

    Greedy suppression of a prefix of the sorted boxes keeps what the whole keeps of that prefix, so it looks at
    the 300 best and only goes on while fewer than ``limit`` are kept.

    Args:
        boxes: (N, 4) finite xyxy, in any unit.
        scores: (N,); of equal ones the first stays.
        labels: (N,) class of each.
        iou: boxes of more overlap with a better one of their class go; in [0, 1].
        limit: number to keep at most, in all classes together; None keeps whatever is left.
        class_agnostic: suppress across classes, whatever ``labels`` say.

    Returns:
        (K,) int64.

    Raises:
        UsageError: shapes that do not fit, or an ``iou`` out of range.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9]])
        >>> suppress(boxes, torch.tensor([0.6, 0.9, 0.5]), torch.tensor([0, 0, 1])).tolist()
        [1, 2]
        >>> suppress(boxes, torch.tensor([0.6, 0.9, 0.5]), torch.tensor([0, 0, 1]), class_agnostic=True).tolist()
        [1]
    """
    # Spelled out, and numbers looked at closely only where they are unusual: of 50 boxes that is 5 % of the time.
    if not (isinstance(boxes, Tensor) and isinstance(scores, Tensor) and isinstance(labels, Tensor)):
        kinds = ", ".join(type(given).__name__ for given in (boxes, scores, labels))
        raise UsageError(f"boxes, scores and labels must be tensors, got {kinds}")
    count = len(boxes)
    if boxes.shape != (count, 4) or scores.shape != (count,) or labels.shape != (count,):
        shapes = f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {tuple(labels.shape)}"
        raise UsageError(f"boxes, scores and labels must have shapes (N, 4), (N,) and (N,), got {shapes}")
    if type(iou) is not float or not 0 <= iou <= 1:
        require_number("iou", iou, least=0, most=1)
    if limit is not None and (type(limit) is not int or limit < 0):
        require_number("limit", limit, least=0, whole=True)
    # Not above: torchvision brings torch's compiler, which takes as long to import as torch itself.
    import torchvision  # noqa: F401

    nms = torch.ops.torchvision.nms.default  # what torchvision.ops.nms calls: of few boxes its own checks are a tenth
    if boxes.device.type == "mps":  # it has no float64
        there = boxes.cpu(), scores.cpu(), labels.cpu()
        return suppress(*there, iou=iou, limit=limit, class_agnostic=class_agnostic).to(boxes.device)
    if count == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    shifted, ranks = boxes.double(), scores.double()
    if not class_agnostic:  # classes move apart, in float64 so that the shift costs no digit of the box
        least, most = shifted.aminmax()
        shifted = torch.addcmul(shifted, labels.double().unsqueeze(1), most - least + 1)
    if limit is None or count <= _PREFIX:
        return nms(shifted, ranks, iou)[:limit]  # it sorts by itself, equal scores by index
    order = ranks.sort(descending=True, stable=True).indices
    shifted, ranks = shifted[order], ranks[order]
    size = _PREFIX
    while True:
        kept = nms(shifted[:size], ranks[:size], iou)
        if size >= count or len(kept) >= limit:
            return order[kept[:limit]]
        size *= 3


def to_original(found: Detections, size: Sequence[int], original: Sequence[int]) -> Detections:
    """Detections from pixels of the resized image to pixels of the original; both (height, width)."""
    y, x = original[0] / size[0], original[1] / size[1]
    scale = found.boxes.new_tensor([x, y, x, y])
    height, width = int(original[0]), int(original[1])
    boxes = clip_boxes(found.boxes * scale, height, width)
    edge_std = None if found.edge_std is None else found.edge_std * scale
    return replace(found, boxes=boxes, edge_std=edge_std, image_size=(height, width))
