"""A detector as one graph: uint8 images in, detections of a fixed number out, nothing left to do but resizing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gfocal.boxes import clip_boxes
from gfocal.detector import DenseDetector
from gfocal.export.ranking import Best, stable_best
from gfocal.export.suppression import Suppress
from gfocal.points import Points, grid_sizes
from gfocal.structures import HeadOutput


class DetectorGraph(nn.Module):
    """What :meth:`gfocal.detector.DenseDetector.detect` does, with shapes that do not depend on what is found.

    The parts of the detector are asked through their protocols alone: whatever is a backbone, neck, head, box
    representation or quality has a place here.

    Args:
        detector: in evaluation mode; its weights stay as they are.
        suppress: non-maximum suppression; None leaves all candidates.
        best: finds the best of each row; of equal ones the first, as the detector does.
        half: run the network in float16. Pixels are normalised, boxes decoded and scores computed in float32.
        edge_probs: give the distributions of the edges, too.
        levels: give the level of the pyramid of each, too.

    The graph gives a dictionary of :data:`gfocal.exported.contract.OUTPUTS`. The candidates of an image are the
    ``pre_nms_top_k`` best of each level, a fixed number K; N is ``max_detections`` where they are suppressed, else K.
    """

    def __init__(
        self,
        detector: DenseDetector,
        suppress: Suppress | None,
        best: Best = stable_best,
        *,
        half: bool = False,
        edge_probs: bool = False,
        levels: bool = False,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.suppress, self.best = suppress, best
        self.dtype = torch.float16 if half else torch.float32
        self.edge_probs, self.levels = edge_probs, levels

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        detector, post = self.detector, self.detector.postprocess
        images = images.permute(0, 3, 1, 2)
        out = self._raw(images)
        grids = grid_sizes(images.shape[-2], images.shape[-1], detector.strides)
        points = detector.make_points(grids, device=images.device)
        place, label, candidate = self._candidates(out, points)
        rows, at = out.map(lambda tensor: _take(tensor, place)), _flat(points, place)
        batch = place.shape[:2]
        boxes = detector.box_coder.decode(at, rows.box).unflatten(0, batch)
        height, width = (sizes[:, i, None, None].to(boxes.dtype) - post.clip_margin for i in (0, 1))
        boxes = clip_boxes(boxes, height, width)
        scores = detector.quality.scores(candidate.flatten(), rows).unflatten(0, batch)
        # No object is without width or height, nor suppressed by one.
        sound = (candidate > post.score_threshold) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        scores = torch.where(sound, scores, -1.0)
        chosen, count = self._choose(boxes, scores, label)
        found = {"boxes": boxes, "scores": scores[..., None], "labels": label[..., None]}
        for name, values in (
            ("edge_std", detector.box_coder.edge_std(at, rows.box)),
            ("edge_probs", detector.box_coder.edge_probs(rows.box) if self.edge_probs else None),
        ):
            if values is not None:
                found[name] = values.unflatten(0, batch)
        if self.levels:
            found["levels"] = at.level.unflatten(0, batch)[..., None]
        there = torch.arange(chosen.shape[1], device=images.device) < count[:, None]
        outputs = {name: _pick(values, chosen, there, -1 if name == "labels" else 0) for name, values in found.items()}
        outputs |= {name: outputs[name].squeeze(-1) for name in ("scores", "labels", "levels") if name in outputs}
        return {**outputs, "count": count}

    def _raw(self, images: Tensor) -> HeadOutput:
        detector = self.detector
        pixels = detector.pixels(images).to(self.dtype)
        return detector.head(detector.neck(detector.backbone(pixels))).map(lambda tensor: tensor.float())

    def _candidates(self, out: HeadOutput, points: Points) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K) points, classes and scores of the best (point, class) pairs of every level, a fixed number of each."""
        logits = self.detector.quality.class_logits(out)
        most, classes = self.detector.postprocess.pre_nms_top_k, logits.shape[-1]
        values, picked, start = [], [], 0
        for count in points.level_counts:
            level = logits[:, start : start + count].flatten(1)
            # A level may have fewer pairs: what fills it up never passes the threshold.
            filling = level.new_full((1, most), -torch.inf).expand(level.shape[0], most)
            best, places = self.best(torch.cat((level, filling), 1), most)
            values.append(best)
            picked.append(places + start * classes)
            start = start + count
        index = torch.cat(picked, 1).clamp(max=logits.shape[1] * classes - 1)
        return index // classes, index % classes, torch.cat(values, 1).sigmoid()

    def _choose(self, boxes: Tensor, scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) rows of K, best first, and (B,) how many of them are detections."""
        post, candidates = self.detector.postprocess, scores.shape[1]
        if self.suppress is None:
            best, places = self.best(scores, candidates)
        else:
            groups = torch.zeros_like(label) if post.class_agnostic else label
            kept = self.suppress(boxes, scores, groups)
            best, places = self.best(torch.where(kept, scores, -1.0), min(post.max_detections, candidates))
        return places, (best > 0).sum(1)


def _take(values: Tensor, place: Tensor) -> Tensor:
    """(B, P, n) -> (B * K, n): the rows of places (B, K)."""
    return values.gather(1, place[..., None].expand(-1, -1, values.shape[-1])).flatten(0, 1)


def _flat(points: Points, place: Tensor) -> Points:
    return points[place.flatten()]


def _pick(values: Tensor, chosen: Tensor, there: Tensor, filling: int) -> Tensor:
    """(B, K, ...) -> (B, N, ...): the chosen rows, and ``filling`` where there is no detection."""
    shape = (-1, -1, *values.shape[2:])
    index = chosen.reshape(*chosen.shape, *(1 for _ in values.shape[2:])).expand(shape)
    mask = there.reshape(*chosen.shape, *(1 for _ in values.shape[2:]))
    return torch.where(mask, values.gather(1, index), filling)
