"""Images with more objects than are reported or measured, and what that leaves of recall and AP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gfocal.data.checks.boxes import images_of_boxes, learnt_boxes
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Finding, Kind
from gfocal.utils.records import named
from gfocal.utils.text import counted

COCO_DETECTIONS = 100
"""Of each class in an image COCO's AP and AR look at so many detections, the best ones."""


@dataclass(frozen=True)
class Crowding:
    """What a limit on detections costs on N objects of I images.

    Attributes:
        limit: detections an image, ``predict.max_detections``.
        tile: its side in pixels where a detector looks at tiles: the limit is then one of each tile.
        objects: N, crowds, ignored boxes and those without area aside; as tiles show them, where there are tiles.
        images: with more objects than the limit.
        largest: number of objects in the fullest image.
        fullest: its file name; None without objects.
        recall_ceiling: share of the objects that so many detections can find, in [0, 1]; 1 without objects.
        coco_images: with more than 100 objects of one class.
        coco_largest: the largest number of objects of a class in an image.
        coco_ap_ceiling: the largest AP that there can be, in [0, 1]: its 101 recalls are not all reached; 1 without
            objects, as the next.
        coco_recall_ceiling: the largest AR100, a mean over the classes with objects.
    """

    limit: int
    tile: int | None
    objects: int
    images: int = field(metadata=named("pictures"))
    largest: int
    fullest: str | None
    recall_ceiling: float
    coco_images: int = field(metadata=named("coco_pictures"))
    coco_largest: int
    coco_ap_ceiling: float
    coco_recall_ceiling: float

    @property
    def enough(self) -> int:
        """A limit that no image exceeds: the largest number of objects, in hundreds upwards."""
        return -(-self.largest // 100) * 100


def crowding(index: DataIndex, limit: int = COCO_DETECTIONS) -> Crowding:
    """Count the images that hold more objects than may be found on them.

    Args:
        index: images, or their tiles (:func:`gfocal.data.index.tiled.cut_into_tiles`). A whole image among its own
            tiles is left aside: its objects are found in the others.
        limit: detections an image or a tile, at least 1.
    """
    image = images_of_boxes(index)[learnt_boxes(index)]
    counts = np.bincount(image, minlength=len(index))
    if index.tiles is not None:
        counts[_with_tiles(index)] = 0
    objects = int(counts.sum())
    fullest = int(counts.argmax()) if objects else None
    each = _of_each_class(index if index.tiles is None else index.tiles.of)
    return Crowding(
        limit=limit,
        tile=None if index.tiles is None else index.tiles.tiling.side,
        objects=objects,
        images=int((counts > limit).sum()),
        largest=0 if fullest is None else int(counts[fullest]),
        fullest=None if fullest is None else index.file_name(fullest),
        recall_ceiling=int(np.minimum(counts, limit).sum()) / objects if objects else 1.0,
        coco_images=each.images,
        coco_largest=each.largest,
        coco_ap_ceiling=each.ap_ceiling,
        coco_recall_ceiling=each.recall_ceiling,
    )


def _with_tiles(index: DataIndex) -> np.ndarray:
    """(T,) bool: rows that are a whole image of which there are tiles too; the whole one comes first."""
    tiles = index.tiles
    if tiles is None or not tiles.tiling.whole:
        return np.zeros(len(index), bool)
    first = np.diff(tiles.image, prepend=-1) > 0
    return first & (np.bincount(tiles.image)[tiles.image] > 1)


class _OfEachClass(NamedTuple):
    images: int
    largest: int
    ap_ceiling: float
    recall_ceiling: float


def _of_each_class(index: DataIndex) -> _OfEachClass:
    """What there is to know about COCO's limit: whole images, class by class."""
    learnt = learnt_boxes(index)
    if not learnt.any():
        return _OfEachClass(0, 0, 1.0, 1.0)
    classes = len(index.names)
    pairs = images_of_boxes(index)[learnt] * classes + np.asarray(index.labels)[learnt]
    keys, counts = np.unique(pairs, return_counts=True)
    total = np.bincount(keys % classes, counts, minlength=classes)
    within = np.bincount(keys % classes, np.minimum(counts, COCO_DETECTIONS), minlength=classes)
    recall = within[total > 0] / total[total > 0]
    reached = np.searchsorted(np.linspace(0, 1, 101), recall, side="right") / 101  # compared as COCO does
    crowded = np.unique(keys[counts > COCO_DETECTIONS] // classes)
    return _OfEachClass(len(crowded), int(counts.max()), float(reached.mean()), float(recall.mean()))


def describe_crowding(found: Crowding) -> list[str]:
    """Sentences about what the limits cost; [] where they cost nothing."""
    lines = []
    if found.images:
        what = "picture" if found.tile is None else f"tile of {found.tile} pixels"
        many = "pictures" if found.tile is None else f"tiles of {found.tile} pixels"
        have = "has" if found.images == 1 else "have"
        place = "" if found.tile is None else " in each tile"
        lines.append(
            f"{counted(found.images, what, many)} {have} more than {counted(found.limit, 'object')}, the fullest "
            f"{found.largest:,} ({found.fullest}): predict.max_detections={found.limit} finds at most "
            f"{_down(found.recall_ceiling)} of all objects{place}; --set predict.max_detections={found.enough} lifts "
            "that"
        )
    if found.coco_images:
        lines.append(
            f"{counted(found.coco_images, 'picture')} {'has' if found.coco_images == 1 else 'have'} more than "
            f"{COCO_DETECTIONS} objects of one class, up to {found.coco_largest:,}: COCO's AP and AR look at the "
            f"{COCO_DETECTIONS} best detections of a class in a picture, so AP cannot exceed "
            f"{found.coco_ap_ceiling:.3f} here, nor AR100 {found.coco_recall_ceiling:.3f}; `gfocal eval` also prints "
            f"AP at a predict.max_detections above {COCO_DETECTIONS}"
        )
    return lines


def crowding_findings(split: str, index: DataIndex) -> list[Finding]:
    """What is to say of a split where detectors report as many objects as COCO's evaluation looks at."""
    found = crowding(index)
    if not (lines := describe_crowding(found)):
        return []
    return [Finding(Kind.MANY_OBJECTS, split, index.annotations, ". ".join(lines), image=found.fullest)]


def _down(share: float) -> str:
    """A share below 1, never rounded up to all."""
    return f"{int(1000 * share) / 10:.1f} %"
