from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from gfocal.data.formats.coco.reader import read_coco
from gfocal.evaluation import STATS, CocoEvaluator, EvalResult, GroundTruth, own_ious, score_iou_correlation, spearman
from gfocal.structures import Detections


@dataclass(frozen=True)
class Truth:
    """The least that the evaluator reads."""

    image_ids: np.ndarray
    box_start: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    area: np.ndarray
    names: tuple[str, ...]


def make_truth(content: dict[str, Any]) -> Truth:
    """From COCO JSON: images, boxes and classes in the order of the file."""
    label_of = {c["id"]: n for n, c in enumerate(content["categories"])}
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    flat = [a for annotations in by_image.values() for a in annotations]
    xywh = np.array([a["bbox"] for a in flat], dtype=np.float64).reshape(-1, 4)
    return Truth(
        image_ids=np.array(list(by_image), dtype=np.int64),
        box_start=np.cumsum([0, *map(len, by_image.values())]),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        labels=np.array([label_of[a["category_id"]] for a in flat], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in flat], dtype=bool),
        ignore=np.array([bool(a.get("ignore", 0)) for a in flat], dtype=bool),
        area=np.array([a["area"] for a in flat], dtype=np.float64),
        names=tuple(c["name"] for c in content["categories"]),
    )


def detections(boxes: Any, scores: Any, labels: Any) -> Detections:
    """In float64: two boxes of the official demo have an IoU of .6 and .8, on a threshold, and float32 moves it."""
    return Detections(
        torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.as_tensor(scores, dtype=torch.float64),
        torch.as_tensor(labels, dtype=torch.int64),
    )


def evaluate(content: dict[str, Any], results: list[dict[str, Any]], truth: GroundTruth | None = None) -> EvalResult:
    """Through the evaluator, image by image, in the order of the file."""
    truth = truth or make_truth(content)
    id_of = {c["name"]: c["id"] for c in content["categories"]}
    label_of = {id_of[name]: n for n, name in enumerate(truth.names)}
    evaluator = CocoEvaluator(truth)
    for image in content["images"]:
        mine = [r for r in results if r["image_id"] == image["id"]]
        xywh = np.array([r["bbox"] for r in mine], dtype=np.float64).reshape(-1, 4)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        found = detections(xyxy, [r["score"] for r in mine], [label_of[r["category_id"]] for r in mine])
        evaluator.update([image["id"]], [found])
    return evaluator.compute()


# ------------------------------------------------------------------ known answers


def test_official_demo_pair(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "coco_ap_oracle"
    annotations = folder / "instances_val2014_100.json"
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        (tmp_path / image["file_name"]).touch()  # the reader asks whether the images exist
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    expected = json.loads((folder / "expected_stats.json").read_text())
    stats = evaluate(content, results, read_coco(annotations, tmp_path)).stats
    assert list(stats) == list(STATS)
    assert list(stats.values()) == pytest.approx(expected, abs=1e-9, rel=0)


def test_padilla(shared: Path) -> None:
    folder = shared / "data" / "coco_ap_oracle" / "padilla_test_coco_eval"
    content = json.loads((folder / "gts" / "sampled_gts_bbox_area.json").read_text())
    results = json.loads((folder / "dets" / "sampled_bbox_results.json").read_text())["annotations"]
    digits = [0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363]  # the values of padilla_expected_values.txt
    digits += [0.386813, 0.593680, 0.595353, 0.654764, 0.603130, 0.553744]
    assert [round(v, 6) for v in evaluate(content, results).stats.values()] == digits


def hand_content() -> dict[str, Any]:
    """Two images with one object of class a each, 10 x 10, so small; nothing of class b; an object of class c."""
    object_of = {"bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0, "category_id": 7}
    return {
        "images": [{"id": 20}, {"id": 10}],
        "categories": [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}],
        "annotations": [{**object_of, "id": 0, "image_id": 10}, {**object_of, "id": 1, "image_id": 20}],
    }


def test_hand_worked() -> None:
    # Image 10: a perfect box, score .9. Image 20: a box of nothing, score .85, and 8 x 9 inside the object,
    # IoU 72/100, score .8. Classes without ground truth (b) do not enter the means.
    #   IoU .50 ... .70 (5 of 10): right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1. Interpolated:
    #     1 at the 51 recalls 0 ... .50, 2/3 at the 50 recalls .51 ... 1: AP = (51 + 100/3) / 101.
    #   IoU .75 ... .95 (5 of 10): right, wrong, wrong: AP = 51/101.
    # AR1: the best of image 20 is wrong: 1/2. AR10: 1 at five thresholds, 1/2 at five: 3/4.
    evaluator = CocoEvaluator(make_truth(hand_content()))
    in_20 = detections([[0, 0, 8, 9], [50, 50, 60, 60]], [0.8, 0.85], [0, 0])
    evaluator.update([20, 10], [in_20, detections([[0, 0, 10, 10]], [0.9], [0])])
    result = evaluator.compute()
    low, high = (51 + 100 / 3) / 101, 51 / 101
    mean = (low + high) / 2
    expected = {"AP": mean, "AP50": low, "AP75": high, "APs": mean, "AR1": 0.5, "AR10": 0.75, "AR100": 0.75}
    expected["ARs"] = 0.75
    missing = dict.fromkeys(("APm", "APl", "ARm", "ARl"))
    as_dict = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert {k: as_dict[k] for k in expected} == pytest.approx(expected, abs=1e-12)
    assert {k: as_dict[k] for k in missing} == missing
    assert all(math.isnan(result.stats[k]) for k in missing)
    assert as_dict["per_class"] == {"a": pytest.approx(mean, abs=1e-12), "b": None}
    assert (as_dict["num_images"], as_dict["num_detections"]) == (2, 3)


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
def test_crowd_and_ignored_boxes_are_not_counted(flag: str) -> None:
    # Without the flag the second object of image 10 is missed and the two better-scored boxes inside it are wrong
    # (IoU 1/4 each); with it neither counts and AP is 1.
    content = hand_content()
    region = {"id": 2, "image_id": 10, "bbox": [40, 40, 20, 20], "area": 400, "category_id": 7}
    results = [
        {"image_id": 10, "bbox": [40, 40, 10, 10], "category_id": 7, "score": 0.95},
        {"image_id": 10, "bbox": [50, 50, 10, 10], "category_id": 7, "score": 0.94},
        {"image_id": 10, "bbox": [0, 0, 10, 10], "category_id": 7, "score": 0.9},
        {"image_id": 20, "bbox": [0, 0, 10, 10], "category_id": 7, "score": 0.9},
    ]
    content["annotations"].append({**region, flag: 1})
    assert evaluate(content, results).stats["AP"] == pytest.approx(1)
    content["annotations"][-1] = {**region, flag: 0}
    # Three objects; wrong, wrong, right, right: precision 1/2 up to recall 2/3, that is at 67 of 101 recalls.
    assert evaluate(content, results).stats["AP"] == pytest.approx(67 / 101 / 2)


# ------------------------------------------------------------------ against pycocotools


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Integer boxes on a coarse grid and scores of one digit: IoUs on the thresholds, many ties, within and between
    images. Empty images, images without detections, crowds, classes without ground truth."""
    rng = np.random.default_rng(seed)
    image_ids = (rng.permutation(40)[:25] * 1000 + 3 * 10**9).tolist()
    categories = [{"id": int(c), "name": f"class {c}"} for c in rng.permutation(90)[:6]]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in image_ids:
        first = len(annotations)
        for _ in range(rng.integers(0, 9)):
            x, y, w, h = (rng.integers(0, 20, 4) * [8, 8, 8, 8] + [0, 0, 8, 8]).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": categories[rng.integers(0, 4)]["id"],  # of six classes two have no ground truth
                    "bbox": [x, y, w, h],
                    "area": w * h * float(rng.choice([0.5, 1.0])),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
        for _ in range(rng.integers(0, 3) * rng.integers(0, 15)):
            source = annotations[rng.integers(first, len(annotations))] if len(annotations) > first else None
            if source is None or rng.random() < 0.2:
                box = (rng.integers(0, 20, 4) * 8 + [0, 0, 8, 8]).tolist()
                label = int(rng.integers(0, 6))
                category = categories[label]["id"]
            else:
                jitter = rng.integers(-1, 2, 4) * 4
                box = np.maximum(np.array(source["bbox"]) + jitter, [0, 0, 1, 1]).tolist()
                category = source["category_id"]
            score = round(float(rng.random()), 1)
            results.append({"image_id": image_id, "category_id": category, "bbox": box, "score": score})
    images = [{"id": i, "width": 400, "height": 400} for i in image_ids]
    return {"images": images, "categories": categories, "annotations": annotations}, results


def reference(content: dict[str, Any], results: list[dict[str, Any]]) -> tuple[list[float], dict[str, float]]:
    """The 12 numbers and the class APs by pycocotools, -1 for nothing."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(content))
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = {c["id"]: c["name"] for c in content["categories"]}
    class_aps = {}
    for k, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        class_aps[names[category]] = precision[precision > -1].mean() if (precision > -1).any() else -1
    return list(evaluation.stats), class_aps


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_pycocotools(seed: int) -> None:
    content, results = random_case(seed)
    result = evaluate(content, results)
    stats, class_aps = reference(content, results)
    assert [-1 if math.isnan(v) else v for v in result.stats.values()] == pytest.approx(stats, abs=1e-9, rel=0)
    ours = {name: -1 if ap is None else ap for name, ap in result.per_class.items()}
    assert ours == pytest.approx(class_aps, abs=1e-9, rel=0)
    assert list(result.per_class.values()).count(None) >= 2
    assert 0 < result.stats["AP"] < 1, "a case that tells nothing"


def test_more_than_100_detections_in_a_image() -> None:
    content, _ = random_case(100)
    rng = np.random.default_rng(0)
    results = []
    for annotation in content["annotations"]:
        for _ in range(60):
            box = np.maximum(np.array(annotation["bbox"]) + rng.integers(-2, 3, 4) * 4, [0, 0, 1, 1]).tolist()
            score = round(float(rng.random()), 2)
            results.append({**{k: annotation[k] for k in ("image_id", "category_id")}, "bbox": box, "score": score})
    stats, _ = reference(content, results)
    ours = [-1 if math.isnan(v) else v for v in evaluate(content, results).stats.values()]
    assert ours == pytest.approx(stats, abs=1e-9, rel=0)


# ------------------------------------------------------------------ edges


def test_no_detections_is_zero() -> None:
    evaluator = CocoEvaluator(make_truth(hand_content()))
    evaluator.update([10, 20], [detections([], [], [])] * 2)
    result = evaluator.compute()
    assert [result.stats[k] for k in ("AP", "AP50", "AP75", "APs", "AR1", "AR10", "AR100", "ARs")] == [0] * 8
    assert result.to_dict()["APl"] is None
    assert result.per_class == {"a": 0, "b": None}
    assert (result.score_iou_correlation, result.num_detections) == (None, 0)
    assert CocoEvaluator(make_truth(hand_content())).compute().to_dict() == result.to_dict(), "pictures never given"


@pytest.mark.parametrize("seed", range(3))
def test_images_left_out_are_as_if_the_data_lacked_them(seed: int) -> None:
    content, results = random_case(seed)
    out = {content["images"][0]["id"], content["images"][2]["id"]}
    rest = content | {
        "images": [image for image in content["images"] if image["id"] not in out],
        "annotations": [a for a in content["annotations"] if a["image_id"] not in out],
    }
    assert len(rest["annotations"]) < len(content["annotations"])
    kept = [r for r in results if r["image_id"] not in out]
    expected = evaluate(rest, kept)
    evaluator = CocoEvaluator(make_truth(content))
    label_of = {c["id"]: n for n, c in enumerate(content["categories"])}
    evaluator.leave_out(sorted(out))
    for image in rest["images"]:
        mine = [r for r in kept if r["image_id"] == image["id"]]
        xywh = np.array([r["bbox"] for r in mine], dtype=np.float64).reshape(-1, 4)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        labels = [label_of[r["category_id"]] for r in mine]
        evaluator.update([image["id"]], [detections(xyxy, [r["score"] for r in mine], labels)])
    assert evaluator.compute().to_dict() == expected.to_dict()


def test_refuses_to_leave_out_what_is_unknown_or_was_given() -> None:
    evaluator = CocoEvaluator(make_truth(hand_content()))
    one = detections([[0, 0, 1, 1]], [0.5], [0])
    evaluator.update([10], [one])
    with pytest.raises(ValueError, match="image id 99 is not in the ground truth"):
        evaluator.leave_out([20, 99])
    with pytest.raises(ValueError, match="image id 10 was evaluated already"):
        evaluator.leave_out([20, 10])
    assert evaluator.compute().num_images == 2
    evaluator.leave_out([20])
    assert evaluator.compute().num_images == 1
    with pytest.raises(ValueError, match="image id 20 was left out"):
        evaluator.update([20], [one])


def test_no_ground_truth_at_all() -> None:
    content = hand_content() | {"annotations": []}
    found = [{"image_id": 10, "bbox": [0, 0, 10, 10], "category_id": 7, "score": 0.9}]
    for results in ([], found):
        result = evaluate(content, results).to_dict()
        assert [result[k] for k in STATS] == [None] * 12
        assert result["per_class"] == {"a": None, "b": None}


def test_classes_of_one_name_stay_apart() -> None:
    content = hand_content()
    content["categories"][1]["name"] = "a"
    assert list(evaluate(content, []).per_class) == ["a", "a (2)"]


@pytest.mark.parametrize(
    ("ids", "found", "message"),
    [
        ([99], detections([[0, 0, 1, 1]], [0.5], [0]), "image id 99 is not in the ground truth"),
        ([10], detections([[0, 0, 1, 1]], [math.nan], [0]), "image id 10: a score is not finite"),
        ([10], detections([[0, math.inf, 1, 1]], [0.5], [0]), "image id 10: a box is not finite"),
        ([10], detections([[0, 0, 1, 1]] * 2, [0.5] * 2, [0, 2]), r"image id 10: label 2 is not in 0\.\.1"),
        ([10], detections([[0, 0, 1, 1]], [0.5], [-1]), "label -1"),
        ([10, 20], detections([], [], []), "2 image ids for 1"),
    ],
)
def test_refuses_what_it_cannot_count(ids: list[int], found: Detections, message: str) -> None:
    evaluator = CocoEvaluator(make_truth(hand_content()))
    with pytest.raises(ValueError, match=message):
        evaluator.update(ids, [found])
    assert evaluator.compute().num_detections == 0
    evaluator.update([10], [detections([[0, 0, 1, 1]], [0.5], [0])])  # the refused image was not taken for seen
    assert evaluator.compute().num_detections == 1


def test_refuses_a_image_twice() -> None:
    one = detections([[0, 0, 1, 1]], [0.5], [0])
    evaluator = CocoEvaluator(make_truth(hand_content()))
    with pytest.raises(ValueError, match="image id 20 was evaluated already"):
        evaluator.update([20, 20], [one, one])
    evaluator.update([10], [one])
    with pytest.raises(ValueError, match="image id 10 was evaluated already"):
        evaluator.update([20, 10], [one, one])
    assert evaluator.compute().num_detections == 1


def test_half_precision_detections() -> None:
    evaluator = CocoEvaluator(make_truth(hand_content()))
    found = Detections(
        torch.tensor([[0.0, 0, 10, 10]]).bfloat16(),
        torch.tensor([0.5]).bfloat16(),
        torch.tensor([0], dtype=torch.int32),
    )
    evaluator.update([10, 20], [found, found])
    assert evaluator.compute().stats["AP"] == pytest.approx(1)


# ------------------------------------------------------------------ score and IoU


def test_correlation_by_hand() -> None:
    # Matched in image 10: scores .9 .8 .7 .6 with IoU 1, 50/100, 72/100, 50/100.
    # Ranks of scores 4 3 2 1, of IoUs 4 1.5 3 1.5; from their mean 2.5: (1.5 .5 -.5 -1.5) and (1.5 -1 .5 -1).
    # Products 2.25 - .5 - .25 + 1.5 = 3; squares 5 and 4.5: 3 / sqrt(22.5).
    # Left out: the wrong class, a score below .05, an IoU below .1 (9/100), a box of nothing, a box in a crowd.
    content = hand_content()
    content["annotations"].append(
        {"id": 5, "image_id": 10, "category_id": 7, "bbox": [40, 40, 20, 20], "area": 400, "iscrowd": 1}
    )
    boxes = [[0, 0, 10, 10], [0, 0, 5, 10], [0, 0, 8, 9], [0, 0, 10, 5]]
    left_out = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 3, 3], [80, 80, 90, 90], [40, 40, 60, 60]]
    scores = [0.9, 0.8, 0.7, 0.6, 0.1, 0.04, 0.99, 0.95, 0.2]
    labels = [0, 0, 0, 0, 1, 0, 0, 0, 0]
    evaluator = CocoEvaluator(make_truth(content))
    evaluator.update([10], [detections(boxes + left_out, scores, labels)])
    assert evaluator.compute().score_iou_correlation == pytest.approx(3 / math.sqrt(22.5), abs=1e-12)


def test_own_iou_is_the_best_of_ones_class_in_ones_image() -> None:
    # Image row 0 is id 20. Objects of class a, 10 x 10, at x = 0 and x = 4 in row 1; of class b at x = 2.
    box = {"area": 100, "image_id": 10}
    content = hand_content() | {
        "annotations": [
            {**box, "id": 1, "bbox": [0, 0, 10, 10], "category_id": 7},
            {**box, "id": 2, "bbox": [4, 0, 10, 10], "category_id": 7},
            {**box, "id": 3, "bbox": [2, 0, 10, 10], "category_id": 3},
            {**box, "id": 4, "bbox": [50, 50, 0, 0], "category_id": 7},
        ]
    }
    # [2, 0, 12, 10] as class a: 80/120 with both; as class b: 1. [3, 0, 13, 10] as a: 90/110 with the second.
    # Two boxes without area: 0/0 is no overlap. Rows are mixed on purpose; row 0 has nothing.
    rows = np.array([1, 0, 1, 1, 1])
    boxes = np.array([[2, 0, 12, 10], [2, 0, 12, 10], [2, 0, 12, 10], [3, 0, 13, 10], [5, 5, 5, 5]], dtype=np.float64)
    ious = own_ious(make_truth(content), rows, boxes, np.array([0, 0, 1, 0, 0]))
    assert ious.tolist() == pytest.approx([80 / 120, 0, 1, 90 / 110, 0], abs=1e-12)


def test_perfect_and_inverse_order() -> None:
    scores = np.array([0.2, 0.9, 0.5, 0.6])
    assert score_iou_correlation(scores, scores**3 + 0.2) == pytest.approx(1, abs=1e-12)
    assert score_iou_correlation(scores, 1 - scores) == pytest.approx(-1, abs=1e-12)


def test_correlation_limits_are_inclusive() -> None:
    scores = np.array([0.05, 0.5, 0.9])
    ious = np.array([0.1, 0.5, 0.9])
    assert score_iou_correlation(scores, ious) == pytest.approx(1)
    assert score_iou_correlation(scores, ious, min_score=0.06) is None, "two pairs are too few"
    assert score_iou_correlation(scores, ious, min_iou=0.11) is None


def test_constant_sides_have_no_correlation() -> None:
    assert spearman(np.full(5, 0.3), np.arange(5.0)) is None
    assert spearman(np.arange(5.0), np.full(5, 0.3)) is None


@pytest.mark.parametrize("digits", [1, 2, 17])
def test_spearman_agrees_with_scipy(digits: int) -> None:
    rng = np.random.default_rng(digits)
    for size in (3, 10, 1000):
        x = rng.random(size)
        y = (x + rng.random(size)).round(digits)
        x = x.round(digits)
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
