"""What was found in an image, in tensors or in numpy's arrays: nothing here needs torch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, SupportsIndex, TypedDict

import numpy as np

from gfocal.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


class CocoResult(TypedDict):
    """An entry of a COCO result file: ``bbox`` is x, y, width, height in pixels.

    Where the detector is calibrated: ``score_calibrated``, and ``edge_interval``, the lowest and the highest position
    of left, top, right and bottom in pixels, at ``edge_level``.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    edge_std: NotRequired[list[float]]
    score_calibrated: NotRequired[float]
    edge_interval: NotRequired[list[list[float]]]
    edge_level: NotRequired[float]


class Calibrated(Protocol):
    """What a calibrated detector knows of its detections; :class:`gfocal.calibration.Calibration` is one."""

    @property
    def level(self) -> float:
        """Of the intervals that nobody asked another one for."""

    @property
    def unfit(self) -> str:
        """Why it does not hold as the detector is used now; "" where it does."""

    def used_with(self, *, tile: int | None = None) -> Calibrated:
        """The same for tiles of that side, None for whole images."""

    def resized_by(self, rule: Mapping[str, Any]) -> Calibrated:
        """The same for images that enter by these fields of a resize."""

    def edge_interval(self, found: Detections, level: float | None = None, *, whole_box: bool = False) -> np.ndarray:
        """(N, 4, 2)."""

    def chances(self, found: Detections) -> np.ndarray:
        """(N,) in [0, 1]."""


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best score first.

    Tensors, or numpy's arrays where an exported file found it (:meth:`numpy` makes these of either).

    Attributes:
        boxes: (N, 4) float xyxy in pixels of the image given.
        scores: (N,) in [0, 1]: with a joint quality, the expected IoU of box and object.
        labels: (N,) int64 in 0..C-1.
        names: class names, C of them.
        edge_std: (N, 4) standard deviation in pixels of left, top, right, bottom; None for Dirac boxes.
        edge_probs: (N, 4, n + 1) probability of each bin; None unless the boxes are General.
        levels: (N,) int64 level of the pyramid that found each, 0 the finest; None if not known.
        image_size: height and width of the image; None if not known.
        calibration: of the detector; None where it has none.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    edge_std: Tensor | None = None
    edge_probs: Tensor | None = None
    levels: Tensor | None = None
    image_size: tuple[int, int] | None = None
    calibration: Calibrated | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.boxes)
        _require(self.boxes.shape == (count, 4), f"boxes must have shape (N, 4), got {tuple(self.boxes.shape)}")
        for name in ("scores", "labels"):
            shape = tuple(getattr(self, name).shape)
            _require(shape == (count,), f"{name} must have shape ({count},), got {shape}")
        _require(
            self.edge_std is None or self.edge_std.shape == (count, 4),
            f"edge_std must have shape ({count}, 4)",
        )
        _require(
            self.edge_probs is None or self.edge_probs.shape[:2] == (count, 4),
            f"edge_probs must have shape ({count}, 4, n + 1)",
        )
        _require(self.levels is None or self.levels.shape == (count,), f"levels must have shape ({count},)")

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detections]:
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(self, index: Tensor | slice | Sequence[int] | SupportsIndex) -> Detections:
        """Some of the detections: a mask, indices or a slice; one integer, of any library, keeps N = 1.

        Raises:
            IndexError: there is no such detection.
            TypeError: a single truth value.
        """
        # Arrays and tensors of no dimension are single integers, those with dimensions are masks or indices.
        if isinstance(index, SupportsIndex) and getattr(index, "ndim", 0) == 0:
            if isinstance(index, bool) or str(getattr(index, "dtype", "")) == "torch.bool":
                raise TypeError("detections are picked by an integer, a slice, a mask or indices, not by a truth value")
            index = [operator.index(index)]
        return self.map(lambda tensor: tensor[index])

    def cpu(self) -> Detections:
        return self.map(lambda tensor: tensor if isinstance(tensor, np.ndarray) else tensor.cpu())

    def numpy(self) -> Detections:
        """The same as numpy's arrays, on the CPU; what has no gradient and lies there shares its memory."""
        # Arrays behind attributes that are typed as tensors: who asks for them knows.
        return self.map(lambda tensor: _as_array(tensor))  # type: ignore[arg-type, return-value]

    def map(self, function: Callable[[Tensor], Tensor]) -> Detections:
        """The same change to every tensor."""
        optional = (self.edge_std, self.edge_probs, self.levels)
        edge_std, edge_probs, levels = (None if tensor is None else function(tensor) for tensor in optional)
        boxes, scores, labels = function(self.boxes), function(self.scores), function(self.labels)
        rest = self.image_size, self.calibration
        return Detections(boxes, scores, labels, self.names, edge_std, edge_probs, levels, *rest)

    def edge_interval(self, level: float | None = None, *, whole_box: bool = False) -> Tensor:
        """Where each edge lies, with a promise: of objects that are found, this share of edges is inside.

        The promise is an average over new images like those of the calibration; see docs/trust.md for what it is not.
        Intervals end at the image, if its size is known. A higher level holds all of a lower one.

        Args:
            level: the share, above 0 and at most 0.999; by default that of the calibration, usually 0.9.
            whole_box: the share of boxes with all four edges inside, not of single edges: wider.

        Returns:
            (N, 4, 2) float64, a tensor where the boxes are one: lowest and highest position of left, top, right and
            bottom in pixels; all of the image (or infinite) where the calibration had too few objects for the level.

        Raises:
            UsageError: the detector is not calibrated, or not as it is used now, or the level is out of range.
        """
        found = self._calibrated().edge_interval(self, level, whole_box=whole_box)
        return self._like_boxes(found)

    @property
    def score_calibrated(self) -> Tensor:
        """(N,) float64 in [0, 1], a tensor where the boxes are one: the chance that the detection is right.

        What right means is in the calibration, ``calibration.scores.rule``. The order is that of the scores.

        Raises:
            UsageError: the detector is not calibrated, or not as it is used now.
        """
        return self._like_boxes(self._calibrated().chances(self))

    @property
    def calibrated(self) -> bool:
        """Whether there is a calibration, and it holds for the detector as it is used now."""
        return self.calibration is not None and not self.calibration.unfit

    def _calibrated(self) -> Calibrated:
        if self.calibration is None:
            raise UsageError("these detections are not calibrated: run `gfocal calibrate MODEL --data DATA` once")
        return self.calibration

    def _like_boxes(self, values: np.ndarray) -> Tensor:
        if isinstance(self.boxes, np.ndarray):
            return values
        import torch  # the boxes are its tensors

        return torch.from_numpy(values).to(self.boxes.device)

    def _extras(self) -> dict[str, np.ndarray]:
        """What goes beside boxes and scores, as arrays of N rows."""
        found = self.numpy()
        extras: dict[str, Any] = {} if found.edge_std is None else {"edge_std": found.edge_std}
        if self.calibration is not None and self.calibrated:
            extras["score_calibrated"] = self.calibration.chances(found)
            extras["edge_interval"] = self.calibration.edge_interval(found)
        return extras

    def to_coco(self, image_id: int = 0, category_ids: Sequence[int] | None = None) -> list[CocoResult]:
        """COCO result entries.

        Args:
            image_id: the id each entry gets.
            category_ids: the data set's id of each class; by default label + 1, as COCO counts from 1.
        """
        found = self.numpy()
        xywh = np.array(found.boxes)
        xywh[:, 2:] -= xywh[:, :2]
        extras = self._extras()
        entries: list[CocoResult] = []
        for i, (box, score, label) in enumerate(
            zip(xywh.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        ):
            entry: CocoResult = {
                "image_id": image_id,
                "category_id": label + 1 if category_ids is None else int(category_ids[label]),
                "bbox": [round(v, 3) for v in box],
                "score": score,
            }
            if "edge_std" in extras:
                entry["edge_std"] = [round(v, 3) for v in extras["edge_std"][i].tolist()]
            if self.calibration is not None and "edge_interval" in extras:
                entry["score_calibrated"] = round(float(extras["score_calibrated"][i]), 6)
                # JSON has no infinity: without the image's size, an interval without an end stands for nothing known.
                if np.isfinite(extras["edge_interval"][i]).all():
                    entry["edge_interval"] = [
                        [round(v, 3) for v in ends] for ends in extras["edge_interval"][i].tolist()
                    ]
                    entry["edge_level"] = self.calibration.level
            entries.append(entry)
        return entries

    def to_supervision(self) -> Any:
        """A ``supervision.Detections`` (needs ``pip install supervision``).

        Its ``data`` have edge_std; of a calibrated detector score_calibrated and edge_interval, (N, 4, 2), too.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision() needs the package supervision: pip install supervision") from error
        found = self.numpy()
        data: dict[str, Any] = {}
        if self.names:
            data["class_name"] = [self.names[label] for label in found.labels.tolist()]
        data |= self._extras()
        return supervision.Detections(xyxy=found.boxes, confidence=found.scores, class_id=found.labels, data=data)


def _as_array(values: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    own = values.detach().cpu()
    # numpy has no bfloat16.
    return (own.float() if str(own.dtype) == "torch.bfloat16" else own).numpy()
