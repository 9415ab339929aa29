"""What a detector finds on one image, with all that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gfocal.calibration.quantiles import FloatArray
from gfocal.detections import Detections
from gfocal.explanation.places import bins_by_edge, bins_by_origin, steps_by_spread
from gfocal.explanation.records import Kind, Part, PointFacts, RunnerUp
from gfocal.exported.detector import ExportedDetector

if TYPE_CHECKING:  # an exported file is explained where torch is not
    from gfocal.detector import DenseDetector
    from gfocal.models.postprocess import Choice
    from gfocal.points import Points
    from gfocal.structures import HeadOutput

_RIVALS = 3  # classes
_REMOVED = 8  # runners-up of a detection that are told


@dataclass(frozen=True)
class Labels:
    """The objects of an image that count.

    Attributes:
        boxes: (G, 4) xyxy in its pixels.
        labels: (G,) class.
        rows: (G,) of the data set's boxes.
    """

    boxes: FloatArray
    labels: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Look:
    """What was found on an image: N detections, best first.

    Attributes:
        found: in arrays, in pixels of the image.
        kind: what is known of the edges.
        bins: (N, 4, n + 1) pixels; None unless there are bins.
        means: (N, 4) pixels of distributions; None where they are not known.
        points: of each; () where they are not known. ``parts``, ``rivals``, ``removed`` and ``counts`` are, too.
        parts: of its score.
        rivals: its next best classes.
        removed: its runners-up, best first; ``counts`` are all of them.
        assigned: for each the label that its point learns: a row of the labels, -1 none, -2 ignored; () if not known.
    """

    found: Detections
    kind: Kind
    bins: FloatArray | None = None
    means: FloatArray | None = None
    points: Sequence[PointFacts] = ()
    parts: Sequence[tuple[Part, ...]] = ()
    rivals: Sequence[tuple[Part, ...]] = ()
    removed: Sequence[tuple[RunnerUp, ...]] = ()
    counts: Sequence[int] = ()
    assigned: Sequence[int] = ()


def look_at(
    detector: DenseDetector | ExportedDetector,
    image: np.ndarray,
    *,
    score: float,
    top: int,
    precision: str = "fp32",
    labels: Labels | None = None,
) -> Look:
    """Find, and keep what led to it.

    Args:
        detector: any; tiles are not looked at, but by an exported file that has them.
        image: (H, W, 3) uint8 RGB.
        score: detections score higher.
        top: runners-up and parts are told of the first so many.
        precision: see :func:`gfocal.runtime.precision.autocast`.
        labels: of the image; None where they are not known.
    """
    if isinstance(detector, ExportedDetector):
        return _exported(detector, detector.predict(image, score_threshold=score).numpy())
    return _Trace(detector, image, precision).look(score, top, labels)


def _exported(detector: ExportedDetector, found: Detections) -> Look:
    if found.edge_std is None:
        return Look(found, "none")
    boxes, std = np.asarray(found.boxes, np.float64), np.asarray(found.edge_std, np.float64)
    boxes_form = detector.info.recipe.get("model", {}).get("boxes", {})
    if found.edge_probs is None:
        normal = isinstance(boxes_form, dict) and boxes_form.get("kind") == "gaussian"
        return Look(found, "normal" if normal else "spread", means=boxes)
    probs = np.asarray(found.edge_probs, np.float64)
    steps = steps_by_spread(std, probs)
    if steps is None:
        return Look(found, "spread", means=boxes)
    return Look(found, "bins", bins=bins_by_edge(boxes, probs, steps), means=boxes)


class _Trace:
    """One image on its way through a detector."""

    def __init__(self, detector: DenseDetector, image: np.ndarray, precision: str) -> None:
        import torch

        from gfocal.images.io import pad_batch, tensor_of
        from gfocal.runtime.precision import autocast

        self.detector = detector
        resized = detector.resize(tensor_of(image))
        self.size, self.original = tuple(resized.shape[-2:]), image.shape[:2]
        self.batch = pad_batch([resized], fill=detector.resize.fill).to(detector.device)
        detector.eval()
        with torch.no_grad(), autocast(detector.device, precision):
            self.out: HeadOutput = detector(self.batch)
        self.points: Points = detector.points(*self.batch.shape[-2:])
        y, x = self.original[0] / self.size[0], self.original[1] / self.size[1]
        self.scale = np.array([x, y, x, y])  # pixels of the image a pixel of the input

    def look(self, score: float, top: int, labels: Labels | None) -> Look:
        import torch

        from gfocal.models.postprocess import to_original

        detector, out = self.detector, self.out[0]
        own = detector.postprocess
        post = replace(own, score_threshold=min(own.score_threshold, score))
        with torch.no_grad(), torch.autocast(out.box.device.type, enabled=False):
            axes = out, self.points, detector.box_coder
            choice = post.choose(*axes, detector.quality, height=int(self.size[0]), width=int(self.size[1]))
            every = post.detections(choice, *axes, detector.names)
            above = every.scores > score
            at = choice.place[choice.kept[above]]
            found = replace(every[above], calibration=detector.calibration)
            found = to_original(found.cpu(), self.size, self.original).numpy()
            removed, counts = self._removed(choice, post.removed_by(choice), above, top)
            bins, means = self._bins(found, at, out)
            return Look(
                found,
                "bins" if bins is not None else "none" if found.edge_std is None else "normal",
                bins=bins,
                means=means,
                points=[self._point(int(i), box) for i, box in zip(at, np.asarray(found.boxes), strict=True)],
                parts=self._parts(choice, above, out),
                rivals=self._rivals(choice, above, out),
                removed=removed,
                counts=counts,
                assigned=() if labels is None else self._assigned(at, labels),
            )

    def _bins(self, found: Detections, at: Any, out: HeadOutput) -> tuple[FloatArray | None, FloatArray | None]:
        """Where bins lie, and means: of all distributions before boxes are cut off or voted on."""
        coder, points = self.detector.box_coder, self.points[at]
        if found.edge_std is None:
            return None, None
        if found.edge_probs is None:
            return None, coder.decode(points, out.box[at]).double().cpu().numpy() * self.scale
        origins = np.tile(points.xy.double().cpu().numpy(), 2) * self.scale
        spacing = float(getattr(coder, "delta", 1.0)) * points.stride.double().cpu().numpy()
        steps = spacing[:, None] * self.scale * np.array([-1.0, -1, 1, 1])
        probs = np.asarray(found.edge_probs, np.float64)
        bins = bins_by_origin(origins, steps, probs.shape[-1])
        return bins, (probs * bins).sum(-1) / probs.sum(-1)

    def _parts(self, choice: Choice, above: Any, out: HeadOutput) -> list[tuple[Part, ...]]:
        kept = choice.kept[above]
        named = self.detector.quality.score_parts(choice.label[kept], out[choice.place[kept]])
        columns = {name: values.double().cpu().tolist() for name, values in named.items()}
        return [tuple(Part(name, values[i]) for name, values in columns.items()) for i in range(len(kept))]

    def _rivals(self, choice: Choice, above: Any, out: HeadOutput) -> list[tuple[Part, ...]]:
        kept = choice.kept[above]
        scores = self.detector.quality.class_logits(out[choice.place[kept]]).float().sigmoid().cpu().numpy()
        found = []
        for label, row in zip(choice.label[kept].tolist(), scores, strict=True):
            best = [int(i) for i in np.argsort(-row, kind="stable")[: _RIVALS + 1] if i != label][:_RIVALS]
            found.append(tuple(Part(self.detector.names[i], float(row[i])) for i in best))
        return found

    def _removed(
        self, choice: Choice, removed_by: Any, above: Any, top: int
    ) -> tuple[list[tuple[RunnerUp, ...]], list[int]]:
        from gfocal.boxes import aligned_iou

        told: list[tuple[RunnerUp, ...]] = []
        counts: list[int] = []
        for position in above.nonzero()[:, 0].tolist():
            rows = (removed_by == position).nonzero()[:, 0]
            counts.append(len(rows))
            rows = rows[choice.scores[rows].argsort(descending=True, stable=True)][: _REMOVED if len(told) < top else 0]
            ious = aligned_iou(choice.boxes[rows], choice.boxes[choice.kept[position]][None])
            told.append(tuple(self._runner_up(choice, int(i), float(iou)) for i, iou in zip(rows, ious, strict=True)))
        return told, counts

    def _runner_up(self, choice: Choice, row: int, iou: float) -> RunnerUp:
        box = np.clip(
            choice.boxes[row].double().cpu().numpy() * self.scale,
            0,
            [self.original[1], self.original[0]] * 2,
        )
        x1, y1, x2, y2 = box.tolist()
        name = self.detector.names[int(choice.label[row])]
        return RunnerUp(
            (x1, y1, x2, y2), name, float(choice.scores[row]), iou, self._point(int(choice.place[row]), box)
        )

    def _point(self, place: int, box: FloatArray) -> PointFacts:
        one = self.points[[place]]
        x, y = (one.xy[0].double().cpu().numpy() * self.scale[:2]).tolist()
        level, stride = int(one.level[0]), float(one.stride[0])
        column, row = (round(float(v) / stride - self.points.offset) for v in one.xy[0])
        width, height = max(float(box[2] - box[0]), 1e-6), max(float(box[3] - box[1]), 1e-6)
        inside = (x - float(box[0])) / width, (y - float(box[1])) / height
        return PointFacts(level, stride, row, column, x, y, *inside)

    def _assigned(self, at: Any, labels: Labels) -> list[int]:
        """Rows of the labels."""
        import torch

        from gfocal.structures import Targets

        boxes = torch.from_numpy((labels.boxes / self.scale).astype(np.float32))
        targets = Targets(boxes, torch.from_numpy(labels.labels.astype(np.int64)))
        sizes = torch.tensor([self.size])
        found = self.detector.assign_batch(
            self.batch, [targets], self.out.map(lambda tensor: tensor.float()), sizes=sizes
        )
        learns = torch.full((len(self.points),), -1, dtype=torch.int64)
        if found.ignored is not None:
            learns[found.ignored.cpu()] = -2
        learns[found.positive.cpu()] = found.gt_index.cpu()
        chosen = learns[at.cpu()].tolist()
        return [int(labels.rows[i]) if i >= 0 else int(i) for i in chosen]
