from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.structures import IGNORED, NEGATIVE, Assignment, Detections, HeadOutput, Targets


def three() -> Detections:
    return Detections(
        boxes=torch.tensor([[10.0, 20, 40, 60], [0, 0, 5, 5.5], [1, 2, 3, 4]]),
        scores=torch.tensor([0.9, 0.5, 0.25]),
        labels=torch.tensor([2, 0, 1]),
        names=("a", "b", "c"),
        edge_std=torch.arange(12.0).view(3, 4),
        edge_probs=torch.full((3, 4, 5), 0.2),
    )


@pytest.mark.parametrize(
    ("boxes", "labels", "word"),
    [
        (torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), r"boxes must have shape \(G, 4\), got \(2, 5\)"),
        (torch.zeros(4), torch.zeros(1, dtype=torch.int64), "boxes must have shape"),
        (torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), "boxes must be float"),
        (torch.zeros(2, 4), torch.zeros(3, dtype=torch.int64), r"labels must have shape \(2,\), got \(3,\)"),
        (torch.zeros(2, 4), torch.zeros(2), "labels must be int64, got torch.float32"),
    ],
)
def test_targets_say_what_is_wrong(boxes: torch.Tensor, labels: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Targets(boxes, labels)


def test_an_empty_image_has_targets() -> None:
    empty = Targets.empty()
    assert (len(empty), empty.boxes.shape, empty.labels.dtype) == (0, (0, 4), torch.int64)


def test_an_assignment_knows_its_positives() -> None:
    assignment = Assignment(torch.tensor([NEGATIVE, 0, IGNORED, 3]))
    assert assignment.positive.tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="int64"):
        Assignment(torch.zeros(3))


def test_raw_outputs_must_have_the_same_points() -> None:
    with pytest.raises(ValueError, match="box must have the points of class_logits"):
        HeadOutput(torch.zeros(2, 5, 3), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="quality_logits"):
        HeadOutput(torch.zeros(2, 5, 3), torch.zeros(2, 5, 4), torch.zeros(2, 6, 1))


def test_raw_outputs_are_indexed_together() -> None:
    out = HeadOutput(torch.arange(6.0).view(3, 2), torch.arange(12.0).view(3, 4), torch.arange(3.0).view(3, 1))
    picked = out[torch.tensor([2, 0])]
    assert picked.class_logits.tolist() == [[4, 5], [0, 1]]
    assert picked.box[:, 0].tolist() == [8, 0]
    assert picked.quality_logits is not None
    assert picked.quality_logits.tolist() == [[2], [0]]
    assert out[0].class_logits.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boxes", torch.zeros(3, 5)),
        ("scores", torch.zeros(2)),
        ("labels", torch.zeros(3, 1, dtype=torch.int64)),
        ("edge_std", torch.zeros(3, 2)),
        ("edge_probs", torch.zeros(3, 2, 5)),
    ],
)
def test_detections_say_which_field_is_wrong(field: str, value: torch.Tensor) -> None:
    fields: dict[str, Any] = dict(vars(three()))
    fields[field] = value
    with pytest.raises(ValueError, match=field):
        Detections(**fields)


def test_detections_are_picked_with_all_that_belongs_to_them() -> None:
    found = three()
    kept = found[found.scores > 0.3]
    assert kept.labels.tolist() == [2, 0]
    assert kept.names == ("a", "b", "c")
    assert kept.edge_std is not None
    assert kept.edge_std.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    last = found[-1]
    assert (len(last), last.labels.tolist(), last.edge_std.tolist()) == (1, [1], [[8, 9, 10, 11]])
    assert found[1:].scores.tolist() == [0.5, 0.25]
    assert [one.labels.item() for one in found] == [2, 0, 1]
    assert len(found[found.scores > 1]) == 0


@pytest.mark.parametrize("one", [1, np.int64(1), np.array(1), torch.tensor(1), -2])
def test_one_integer_of_any_library_is_one_detection(one: Any) -> None:
    assert three()[one].labels.tolist() == [0]


@pytest.mark.parametrize("some", [[2, 0], np.array([2, 0]), torch.tensor([2, 0]), np.array([True, False, True])])
def test_several_are_picked_by_lists_arrays_and_masks(some: Any) -> None:
    assert sorted(three()[some].labels.tolist()) == [1, 2]


def test_what_is_no_index_is_refused() -> None:
    with pytest.raises(IndexError):
        three()[3]
    for truth in (True, torch.tensor(True)):
        with pytest.raises(TypeError, match="not by a truth value"):
            three()[truth]


def test_coco_entries_are_json_with_width_and_height() -> None:
    entries = three().to_coco(image_id=7, category_ids=[1, 3, 90])
    # x2 - x1 = 40 - 10, y2 - y1 = 60 - 20; label 2 is the third category.
    assert entries[0] == {
        "image_id": 7,
        "category_id": 90,
        "bbox": [10, 20, 30, 40],
        "score": pytest.approx(0.9),
        "edge_std": [0, 1, 2, 3],
    }
    assert [e["category_id"] for e in three().to_coco()] == [3, 1, 2]  # label + 1
    assert json.loads(json.dumps(entries)) == entries
    plain = Detections(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    assert "edge_std" not in plain.to_coco()[0]


def test_supervision_gets_names_and_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("supervision")
    fake.Detections = lambda **fields: SimpleNamespace(**fields)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", fake)
    given = three().to_supervision()
    assert given.xyxy.tolist() == three().boxes.tolist()
    assert given.class_id.tolist() == [2, 0, 1]
    assert given.data["class_name"] == ["c", "a", "b"]
    assert given.data["edge_std"].shape == (3, 4)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        three().to_supervision()
