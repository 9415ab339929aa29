"""More objects in an image than are found or measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gfocal.data.checks.crowding import crowding, describe_crowding
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.tiled import cut_into_tiles
from gfocal.evaluation import CocoEvaluator
from gfocal.images.tiling import Tiling
from gfocal.structures import Detections


def crowd(counts: list[list[int]], side: int = 1000) -> DataIndex:
    """Boxes of 10 pixels in rows: of each image how many of each class."""
    boxes, labels = [], []
    for own in counts:
        for label, number in enumerate(own):
            labels += [label] * number
        for k in range(sum(own)):
            x, y = 15 * (k % 60), 15 * (k // 60)
            boxes.append([x, y, x + 10, y + 10])
    return DataIndex.build(
        images_dir=Path("nowhere"),
        annotations=Path("nowhere.json"),
        image_ids=np.arange(1, len(counts) + 1),
        file_names=[f"{i}.jpg" for i in range(len(counts))],
        widths=[side] * len(counts),
        heights=[side] * len(counts),
        box_start=np.cumsum([0, *map(sum, counts)]),
        boxes=np.array(boxes, float).reshape(-1, 4),
        labels=labels,
        names=["cell", "cup"],
    )


def perfect(index: DataIndex) -> dict[str, float]:
    """COCO's numbers of a detector that finds everything."""
    evaluator = CocoEvaluator(index)
    for i, image_id in enumerate(index.image_ids.tolist()):
        targets = index.targets(i)
        scores = torch.linspace(0.9, 0.5, len(targets.boxes))
        evaluator.update([image_id], [Detections(targets.boxes, scores, targets.labels, index.names)])
    return {str(name): value for name, value in evaluator.compute().stats.items()}


def test_the_ceilings_are_what_a_perfect_detector_reaches() -> None:
    index = crowd([[150, 10], [20, 0], [0, 101]])
    found = crowding(index)
    # Of 281 objects 100 + 20 + 100 are within 100 an image; of 170 cells 120 are within 100 of a class, of 111 cups
    # 110.
    assert (found.objects, found.images, found.largest, found.fullest) == (281, 2, 160, "0.jpg")
    assert found.recall_ceiling == pytest.approx(220 / 281)
    assert (found.coco_images, found.coco_largest) == (2, 150)
    assert found.coco_recall_ceiling == pytest.approx((120 / 170 + 110 / 111) / 2)
    assert found.coco_ap_ceiling == pytest.approx((71 / 101 + 100 / 101) / 2)
    stats = perfect(index)
    assert stats["AP"] == pytest.approx(found.coco_ap_ceiling)
    assert stats["AR100"] == pytest.approx(found.coco_recall_ceiling)
    assert found.enough == 200


def test_what_is_said_names_the_number_the_largest_the_ceiling_and_the_key() -> None:
    first, second = describe_crowding(crowding(crowd([[150, 10], [20, 0], [0, 101]])))
    assert first == (
        "2 pictures have more than 100 objects, the fullest 160 (0.jpg): predict.max_detections=100 finds at most "
        "78.2 % of all objects; --set predict.max_detections=200 lifts that"
    )
    assert second == (
        "2 pictures have more than 100 objects of one class, up to 150: COCO's AP and AR look at the 100 best "
        "detections of a class in a picture, so AP cannot exceed 0.847 here, nor AR100 0.848; `gfocal eval` also "
        "prints AP at a predict.max_detections above 100"
    )
    (only,) = describe_crowding(crowding(crowd([[101, 0]]), 300))
    assert only.startswith("1 picture has more than 100 objects of one class, up to 101: ")
    (only,) = describe_crowding(crowding(crowd([[60, 60]])))
    assert only.startswith("1 picture has more than 100 objects, the fullest 120 (0.jpg)")
    # One object too many of a million is not "100.0 %".
    few = crowding(crowd([[101, 0], *[[90, 0]] * 30]))
    assert few.recall_ceiling > 0.9995
    assert "finds at most 99.9 % of" in describe_crowding(few)[0]


@pytest.mark.parametrize("counts", [[], [[0, 0]], [[1, 0]], [[100, 100]], [[100, 0], [0, 100]]])
def test_nothing_to_say_within_the_limits(counts: list[list[int]]) -> None:
    found = crowding(crowd(counts), 200)
    assert (found.images, found.coco_images, found.recall_ceiling) == (0, 0, 1.0)
    assert (found.coco_ap_ceiling, found.coco_recall_ceiling) == (1.0, 1.0)
    assert describe_crowding(found) == []
    assert found.fullest is None or found.largest > 0


def test_only_what_is_learnt_counts() -> None:
    index = crowd([[103, 0]])
    crowd_marks, ignored = np.zeros(103, bool), np.zeros(103, bool)
    crowd_marks[0] = ignored[1] = True
    boxes = np.asarray(index.boxes).copy()
    boxes[2, 2] = boxes[2, 0]  # without area
    found = crowding(index.replace(crowd=crowd_marks, ignore=ignored, boxes=boxes))
    assert (found.objects, found.largest, found.images) == (100, 100, 0)


def test_with_tiles_the_limit_is_one_of_each_tile() -> None:
    index = crowd([[150, 0]], side=1000)  # three rows of boxes, 45 pixels high and 900 wide
    tiles = cut_into_tiles(index, Tiling(500, 0.2, whole=True))
    found = crowding(tiles)
    assert (found.tile, found.images, found.recall_ceiling) == (500, 0, 1.0)
    assert found.largest < 150  # the whole image is among the rows, and left aside
    assert found.coco_images == 1  # which is of images, whoever looks at tiles
    small = crowding(tiles, 50)
    assert small.images == 3
    assert describe_crowding(small)[0].startswith("3 tiles of 500 pixels have more than 50 objects")
    alone = crowding(cut_into_tiles(index, Tiling(2000, 0.2, whole=True)))
    assert (alone.images, alone.largest) == (1, 150)  # an image that is its own only tile counts


def test_ap_is_also_measured_beyond_coco_s_limit() -> None:
    index = crowd([[150, 10], [20, 0], [0, 101]])
    evaluator = CocoEvaluator(index)
    for i, image_id in enumerate(index.image_ids.tolist()):
        targets = index.targets(i)
        scores = torch.linspace(0.9, 0.5, len(targets.boxes))
        evaluator.update([image_id], [Detections(targets.boxes, scores, targets.labels, index.names)])
    result = evaluator.compute(beyond=150)
    assert result.beyond is not None
    assert (result.beyond.AP, result.beyond.AP50, result.beyond.AP75, result.beyond.AR) == (1, 1, 1, 1)
    assert result.stats["AP"] == pytest.approx(crowding(index).coco_ap_ceiling)  # COCO's own stays as it is
    fewer = evaluator.compute(beyond=120).beyond
    assert fewer is not None
    assert pytest.approx((140 / 170 + 1) / 2) == fewer.AR
    assert result.to_dict()["beyond"] == {"max_detections": 150, "AP": 1.0, "AP50": 1.0, "AP75": 1.0, "AR": 1.0}
    assert (result.num_objects, "beyond" in evaluator.compute().to_dict()) == (281, False)
    evaluator = CocoEvaluator(index)
    evaluator.leave_out([1])
    assert evaluator.compute().num_objects == 121
