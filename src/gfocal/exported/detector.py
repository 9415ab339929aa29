"""A detector from an exported file: images in, detections out, without the network's code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from gfocal.calibration.stored import Calibration
from gfocal.detections import Detections
from gfocal.errors import UsageError, require_number
from gfocal.exported.checks import check_info, check_outputs, resize_of, value_range_of
from gfocal.exported.contract import MULTIPLE, ExportInfo
from gfocal.exported.suppression import suppress_arrays
from gfocal.exported.tiles import find_in_tiles
from gfocal.images.depth import ValueRange
from gfocal.images.reading import to_array
from gfocal.images.resizing import padded_size
from gfocal.images.tiling import Tiling


class Session(Protocol):
    """A file that is ready to run."""

    info: ExportInfo

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, see :mod:`gfocal.exported.contract`."""
        ...


class ExportedDetector:
    """What :func:`gfocal.load` gives for an exported file: the same detections, as numpy's arrays.

    Args:
        session: runs the file.
        where: the file, for messages.

    Raises:
        UsageError: what the file says about itself cannot be right.

    Attributes:
        info: what the file says about itself.
        names: class names.
        resize: how an image is brought to the input size.
        tiling: how :meth:`predict` cuts images into tiles; None looks at whole images alone.
        value_range: how values of more than 8 bits become 8.
        calibration: of its edges and scores; None where it has none.
    """

    def __init__(self, session: Session, where: str = "the exported file") -> None:
        self.session, self.info, self._where = session, session.info, where
        info = session.info
        check_info(info, where)
        self.names = info.names
        self.resize = resize_of(info)
        self.tiling = None if info.tiling is None else Tiling(**asdict(info.tiling))
        self.value_range: ValueRange = value_range_of(info)
        self.calibration = None if info.calibration is None else Calibration.from_dict(info.calibration, where)

    def predict(
        self,
        source: Any,
        *,
        score_threshold: float | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        batch_size: int = 8,
        class_agnostic: bool | None = None,
    ) -> Any:
        """Detections in pixels of the images given, as numpy's arrays.

        Args:
            source: whatever :meth:`gfocal.DenseDetector.predict` takes.
            score_threshold: final scores lie above it; at least that of the file, which is part of the graph.
            tile, overlap: as there.
            batch_size: images of a list, or tiles, a run at most. Images of different sizes share none, since the
                padding would change what is found; but in a file of one size all are padded alike.
            class_agnostic: whether boxes of different classes suppress each other; that of the file, or None, unless
                suppression is not in the file (``--nms out`` or ``none``): then it is done here.

        Returns:
            Detections; a list of them for a list or tuple.

        Raises:
            BrokenInputError: an image cannot be read.
            UsageError: an option out of range, or one that the file has fixed.
        """
        require_number("batch_size", batch_size, least=1, whole=True)
        self.check_threshold(score_threshold)
        agnostic = self._agnostic(class_agnostic)
        tiling = Tiling.chosen(self.tiling, tile, overlap)
        items = list(source) if isinstance(source, list | tuple) else [source]
        found = list[Detections]()
        for first in range(0, len(items), batch_size):
            images = [to_array(item, value_range=self.value_range) for item in items[first : first + batch_size]]
            if tiling is None:
                found += self._find_alike(images, agnostic)
            else:
                found += [
                    find_in_tiles(
                        image,
                        tiling,
                        partial(self.find, class_agnostic=agnostic),
                        nms_iou=self.info.thresholds.nms_iou,
                        class_agnostic=agnostic,
                        batch_size=batch_size,
                    )
                    for image in images
                ]
        if score_threshold is not None:
            found = [one[one.scores > score_threshold] for one in found]
        return found if isinstance(source, list | tuple) else found[0]

    def _find_alike(self, images: Sequence[np.ndarray], class_agnostic: bool) -> list[Detections]:
        """In their order; those share a run that have one size when they enter, or enter a file of one size."""
        places = defaultdict[tuple[int, ...], list[int]](list)
        for i, image in enumerate(images):
            fixed = self.info.height is not None
            places[() if fixed else self.resize.target_size(*image.shape[:2])].append(i)
        found = dict[int, Detections]()
        for same in places.values():
            found |= zip(same, self.find([images[i] for i in same], class_agnostic=class_agnostic), strict=True)
        return [found[i] for i in range(len(images))]

    def find(self, images: Sequence[np.ndarray], *, class_agnostic: bool | None = None) -> list[Detections]:
        """What is found on uint8 RGB images (H, W, 3), in their own pixels, by as few runs as the file allows."""
        most = self.info.batch or len(images)
        agnostic = self._agnostic(class_agnostic)
        found = []
        for first in range(0, len(images), most):
            some = images[first : first + most]
            resized = [self.resize(image) for image in some]
            sizes = [image.shape[:2] for image in resized]
            outputs = self._run(self._batch(resized), self._sizes(sizes))
            for i, (size, image) in enumerate(zip(sizes, some, strict=True)):
                own = {name: values[i] for name, values in outputs.items()}
                found.append(to_original(self._detections(own, agnostic), size, image.shape[:2]))
        return found

    def _run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs = self.session.run(images, sizes)
        except Exception as error:  # of each runtime's own
            words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            shape = " x ".join(map(str, images.shape[:3]))
            raise UsageError(
                f"{self._where} cannot be run on {shape} pixels ({words}): the memory is too small, or it is damaged"
            ) from None
        check_outputs(outputs, self.info, len(images), self._where)
        return outputs

    def check_threshold(self, score: float | None) -> None:
        """Refuse a threshold below that of the file.

        Raises:
            UsageError: it is, or no number in [0, 1).
        """
        if score is None:
            return
        require_number("score_threshold", score, least=0, below=1)
        own = self.info.thresholds.score_threshold
        if score < own:
            raise UsageError(
                f"a score threshold of {score:g} is below that of the exported file, {own:g}, which is part of its "
                f"graph: export it again with --set predict.score_threshold={score:g}"
            )

    def _agnostic(self, asked: bool | None) -> bool:
        own = self.info.thresholds.class_agnostic
        if asked is None or asked == own or self.info.nms != "in":
            return own if asked is None else asked
        raise UsageError(
            f"suppression is part of the exported file, with class_agnostic={own}: export it again with --nms out, or "
            f"with --set predict.class_agnostic={str(asked).lower()}"
        )

    def _batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(B, H, W, 3), each at the top left; what fills up a fixed number of images is of the padding's colour."""
        height, width = padded_size([image.shape[:2] for image in images], MULTIPLE)
        fixed = self.info.height or height, self.info.width or width
        if height > fixed[0] or width > fixed[1]:
            raise UsageError(
                f"an image is {width}x{height} pixels when it enters the network, and the exported file takes "
                f"{fixed[1]}x{fixed[0]}: export it without --static, or with a larger size"
            )
        batch = np.empty((self.info.batch or len(images), *fixed, 3), np.uint8)
        batch[:] = self.resize.fill
        for slot, image in zip(batch, images, strict=False):
            slot[: image.shape[0], : image.shape[1]] = image
        return batch

    def _sizes(self, sizes: Sequence[Sequence[int]]) -> np.ndarray:
        missing = (self.info.batch or len(sizes)) - len(sizes)
        return np.array([*sizes, *[(MULTIPLE, MULTIPLE)] * missing], np.int64)

    def _calibration_now(self) -> Calibration | None:
        """For the resize as it is now: it may be set."""
        return None if self.calibration is None else self.calibration.resized_by(asdict(self.resize))

    def _detections(self, outputs: dict[str, np.ndarray], class_agnostic: bool) -> Detections:
        """Of one image, in input pixels."""
        count = int(outputs["count"])
        own: dict[str, Any] = {name: values[:count] for name, values in outputs.items() if name != "count"}
        limits = self.info.thresholds
        found = Detections(names=self.names, calibration=self._calibration_now(), **own)
        if self.info.nms == "in":
            return found
        kept = suppress_arrays(
            own["boxes"],
            own["labels"],
            iou=limits.nms_iou,
            limit=limits.max_detections,
            class_agnostic=class_agnostic,
        )
        return found.map(lambda values: values[kept])


def to_original(found: Detections, size: Sequence[int], original: Sequence[int]) -> Detections:
    """Detections in arrays from pixels of the resized image to pixels of the original; both (height, width)."""
    y, x = original[0] / size[0], original[1] / size[1]
    scale = np.array([x, y, x, y], np.float32)
    limits = np.array([original[1], original[0]] * 2, np.float32)
    own: dict[str, Any] = {"boxes": np.clip(np.asarray(found.boxes) * scale, 0, limits)}
    own["image_size"] = int(original[0]), int(original[1])
    if found.edge_std is not None:
        own["edge_std"] = np.asarray(found.edge_std) * scale
    return replace(found, **own)
