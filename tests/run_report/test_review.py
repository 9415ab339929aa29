"""The page of suspect labels, and files for other tools, of suspects written by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfocal.evaluation.audit.exchange import to_coco, to_csv, to_label_studio
from gfocal.evaluation.audit.suspects import Suspect, by_kind, in_words
from gfocal.run_report.review.crops import crops_of
from gfocal.run_report.review.page import Review, render_review
from helpers.made_audit import made_labels
from helpers.read_page import read_page

EDGE = Suspect(
    rank=1,
    kind="edge",
    score=0.8,
    reason="left edge 14 px outside its 90 % interval (±3.0 px)",
    image="0.png",
    image_id=1,
    annotation_id=101,
    class_name="cat",
    model_class="cat",
    label_box=(4, 20, 60, 60),
    model_box=(20, 20, 60, 60),
    model_score=0.9,
    twin_id=None,
    twin_box=None,
    row=0,
    label=0,
)
MISSING = replace(
    EDGE, rank=2, kind="missing", score=0.5, annotation_id=None, class_name=None, label_box=None, label=-1
)
REVIEW = Review(
    model="m",
    data="d.json",
    subject="two pictures",
    lines=["Expect."],
    warnings=["w"],
    table=[("Edge", "1", "-")],
    total=2,
)
INDEX = made_labels([[((4, 20, 60, 60), 0), ((100, 20, 160, 60), 1)], []])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "0.png"
    Image.new("RGB", (200, 100), (90, 90, 90)).save(file)
    return file


def test_a_page_has_a_crop_of_each(picture: Path) -> None:
    page = read_page(render_review(REVIEW, [EDGE, MISSING], lambda row: picture))
    assert page.problems == []
    assert page.fetched == []
    assert [one["alt"] for one in page.of("img")] == [f"0.png: {EDGE.reason}"] * 2
    assert len(page.of("article")) == 2
    assert all(one["tabindex"] == "0" for one in page.of("article"))
    assert {one["id"] for one in page.of("input")} == {"only-all", "only-edge", "only-missing"}
    assert not page.of("script")


def test_a_page_without_suspects(picture: Path) -> None:
    page = read_page(render_review(replace(REVIEW, total=0), [], lambda row: picture))
    assert page.problems == []
    assert "No suspects" in page.text


def test_a_picture_that_is_gone(tmp_path: Path) -> None:
    page = read_page(render_review(REVIEW, [EDGE], lambda row: tmp_path / "none.png"))
    assert "cannot be read any more" in page.text


@pytest.mark.parametrize("box", [(-50, -50, -10, -10), (300, 200, 400, 300), (5, 5, 5, 5), (-10, -10, 500, 500)])
def test_boxes_anywhere_have_a_crop(picture: Path, box: tuple[float, float, float, float]) -> None:
    (crop,) = crops_of([replace(EDGE, label_box=box, model_box=None)], lambda row: picture).values()
    assert crop is not None
    assert 0 < crop.width <= 420
    assert 0 < crop.height <= 420


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_no_cell_is_a_formula(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([replace(EDGE, image=text, class_name=text)]), newline=""))
    assert row["image"] == f"'{text}"
    assert row["class_name"] == f"'{text}"
    assert row["reason"] == EDGE.reason
    assert row["label_box"] == "4 20 60 60"
    (row,) = csv.DictReader(io.StringIO(to_csv([replace(EDGE, label_box=(-4, 20, 60, 60))]), newline=""))
    assert row["label_box"] == "'-4 20 60 60"  # a text too


def test_texts_with_quotes_and_lines_stay_one_cell() -> None:
    text = 'a "b", c\nd'
    (row,) = csv.DictReader(io.StringIO(to_csv([replace(EDGE, image=text)]), newline=""))
    assert row["image"] == text


def test_coco_of_labels_that_are_no_coco_file() -> None:
    content = to_coco(INDEX, [EDGE, replace(MISSING, model_class="fish")])
    first, second, added = content["annotations"]
    assert first["bbox"] == [4, 20, 56, 40]
    assert first["attributes"] == {
        "suspect": True,
        "suspect_kind": "edge",
        "suspect_score": 0.8,
        "suspect_rank": 1,
        "suspect_reason": EDGE.reason,
    }
    assert second["attributes"] == {"suspect": False}
    assert added["id"] == 103
    assert {one["id"]: one["name"] for one in content["categories"]}[added["category_id"]] == "fish"
    json.dumps(content, allow_nan=False)


@pytest.mark.parametrize("spoil", [b"{", b"[]", b'{"annotations": [{"id": NaN}], "categories": []}', b"\xff\xfe"])
def test_coco_of_a_file_that_says_something_else(tmp_path: Path, spoil: bytes) -> None:
    index = made_labels([[((4, 20, 60, 60), 0)]], folder=tmp_path)
    index.annotations.write_bytes(spoil)
    assert [one["id"] for one in to_coco(index, [])["annotations"]] == [101]


def test_label_studio_by_hand() -> None:
    (task,) = to_label_studio(INDEX, [EDGE, MISSING], "m")
    assert task["data"] == {"image": "0.png", "image_id": 1}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("m", 0.8)
    suspect, other, missing = prediction["result"]
    assert suspect["value"] == {
        "x": 2.0,
        "y": 20.0,
        "width": 28.0,
        "height": 40.0,
        "rotation": 0,
        "rectanglelabels": ["cat"],
    }
    assert suspect["meta"]["text"] == [f"suspect, edge: {EDGE.reason}"]
    assert "meta" not in other
    assert missing["id"] == "missing-2"
    assert np.isclose(missing["value"]["width"], 20)
    assert to_label_studio(INDEX, [], "m") == []


def test_counts_in_words() -> None:
    assert by_kind([EDGE, MISSING, replace(EDGE, rank=3)]) == {"edge": 2, "missing": 1}
    assert in_words([EDGE, MISSING, replace(EDGE, rank=3)]) == "2 edges, 1 missing label"
