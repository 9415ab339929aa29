"""``gfocal audit``: from a checkpoint or folds to files for review; the data stay as they are."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.commands.trust.audit import AuditOptions, audit_files
from gfocal.commands.trust.audit_report import COCO, LABEL_STUDIO, MISSED, NUMBERS, PAGE, TABLE
from gfocal.commands.trust.calibrate import calibrate_files
from gfocal.commands.trust.folds import deal_folds
from gfocal.data.formats.open import open_dataset
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import BrokenInputError, UsageError
from helpers.calibrated import data_for
from helpers.exporting import checkpoint
from helpers.read_page import read_page
from helpers.small_runs import SMALL, small

ALL = AuditOptions(least=0.0, shown=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(model: Path, tmp_path: Path) -> Path:
    return data_for(model, tmp_path / "data", images=12)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_for_review(model: Path, data: Path, tmp_path: Path) -> None:
    before, out = hashes(data), tmp_path / "out"
    heard: list[str] = []
    report = audit_files(data, out, model=str(model), options=ALL, say=heard.append)
    assert hashes(data) == before  # nothing is changed, nothing is added
    assert {path.name for path in out.iterdir()} >= {COCO, LABEL_STUDIO, NUMBERS, PAGE, TABLE}
    assert (report.images, report.split) == (12, "val")
    assert report.suspects
    assert MISSED in report.promise
    assert "edge_std times a conformal factor" in report.intervals
    assert any("does not say what it learnt from" in line for line in heard)
    assert json.loads((out / NUMBERS).read_bytes())["suspects"][0]["rank"] == 1
    rows = list(csv.DictReader(io.StringIO((out / TABLE).read_text())))
    assert [int(row["rank"]) for row in rows] == [one.rank for one in report.suspects]
    page = (out / PAGE).read_text()
    assert read_page(page).fetched == []
    assert "<script" not in page
    assert page.count("<article") == 6
    again = audit_files(data, out, model=str(model), options=ALL)  # its own folder is replaced
    assert again == report
    assert (out / PAGE).read_text() == page


def test_coco_keeps_all_else(model: Path, data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["licenses"] = [{"id": 1, "name": "mine"}]
    for one in content["annotations"]:
        one |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "attributes": {"occluded": True}}
    file.write_text(json.dumps(content))
    report = audit_files(data, tmp_path / "out", model=str(model), options=ALL)
    written = json.loads((tmp_path / "out" / COCO).read_text())
    assert written["licenses"] == content["licenses"]
    known = len(content["annotations"])
    suspects = {one.annotation_id: one for one in report.suspects if one.annotation_id is not None}
    for old, new in zip(content["annotations"], written["annotations"][:known], strict=True):
        assert {**new, "attributes": old["attributes"]} == old
        assert new["attributes"]["occluded"] is True
        assert new["attributes"]["suspect"] == (new["id"] in suspects)
        if new["id"] in suspects:
            assert new["attributes"]["suspect_reason"] == suspects[new["id"]].reason
    added = written["annotations"][known:]
    assert len(added) == report.kinds["missing"]
    assert {one["attributes"]["suspect_kind"] for one in added} == {"missing"}
    ids = [one["id"] for one in written["annotations"]]
    assert len(set(ids)) == len(ids)
    assert {one["category_id"] for one in added} <= {one["id"] for one in written["categories"]}


def test_label_studio_has_percentages(model: Path, data: Path, tmp_path: Path) -> None:
    report = audit_files(data, tmp_path / "out", model=str(model), options=ALL)
    tasks = json.loads((tmp_path / "out" / LABEL_STUDIO).read_text())
    assert {task["data"]["image"] for task in tasks} == {one.image for one in report.suspects}
    index = open_dataset(data, "val")
    first = report.suspects[0]
    task = next(task for task in tasks if task["data"]["image"] == first.image)
    regions = {region["id"]: region for region in task["predictions"][0]["result"]}
    region = regions[f"missing-{first.rank}" if first.kind == "missing" else f"label-{first.label}"]
    box = first.model_box if first.kind == "missing" else first.label_box
    assert box is not None
    assert region["value"]["x"] == pytest.approx(100 * box[0] / 128, abs=0.01)
    assert region["value"]["height"] == pytest.approx(100 * (box[3] - box[1]) / 96, abs=0.02)
    assert first.reason in region["meta"]["text"][0]
    labels = int(index.box_start[first.row + 1] - index.box_start[first.row])
    assert sum(name.startswith("label-") for name in regions) == labels


def test_calibrated_intervals_are_taken(model: Path, data: Path, tmp_path: Path) -> None:
    other = data_for(model, tmp_path / "other", images=24, seed=3, pictures=9)
    copy = tmp_path / "best.safetensors"
    calibrate_files(str(model), other, out=copy)
    report = audit_files(data, tmp_path / "out", model=str(copy))
    assert report.intervals == "those that the model was calibrated to (val.json)"


@pytest.mark.parametrize("where", ["", "out", "images/out", "images", ".."])
def test_the_data_folder_is_never_written(model: Path, data: Path, where: str) -> None:
    before = hashes(data)
    with pytest.raises(UsageError, match=r"ever written|other files"):
        audit_files(data, data / where, model=str(model))
    with pytest.raises(UsageError, match=r"ever written|other files"):
        audit_files(data / "annotations" / "val.json", data / "images" / "out", model=str(model))
    assert hashes(data) == before


def test_a_link_into_the_data_is_no_way_around(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data / "images")
    with pytest.raises(UsageError, match="ever written"):
        audit_files(data, tmp_path / "link" / "out", model=str(model))
    assert not (data / "images" / "out").exists()


def test_other_files_are_not_replaced(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / PAGE).write_text("mine")
    with pytest.raises(UsageError, match="other files"):
        audit_files(data, out, model=str(model))
    assert (out / PAGE).read_text() == "mine"
    with pytest.raises(UsageError, match="is a file"):
        audit_files(data, out / PAGE, model=str(model))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"model": "a", "folds": 2},
        {"folds": 2},
        {"model": "a", "recipe": "gfl_nano"},
        {"model": "a", "init": "b"},
        {"folds": 1, "recipe": "gfl_nano"},
        {"folds": 2, "recipe": "gfl_nano", "tile": 64},
        {"folds": 2, "recipe": "gfl_nano", "only_common": True},
    ],
)
def test_either_a_model_or_folds(data: Path, tmp_path: Path, asked: dict) -> None:
    with pytest.raises(UsageError, match=r"--model|--folds|folds"):
        audit_files(data, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_hostile_names(model: Path, data: Path, tmp_path: Path) -> None:
    """A file name is no formula, no markup and no code."""
    name = '=cmd("<script>alert(1)</script>")&.png'.replace("/", "")
    file = data / "annotations" / "val.json"
    content = json.loads(file.read_text())
    (data / "images" / content["images"][0]["file_name"]).rename(data / "images" / name)
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    audit_files(data, tmp_path / "out", model=str(model), options=AuditOptions(least=0.0, shown=500))
    page = (tmp_path / "out" / PAGE).read_text()
    assert "<script" not in page
    assert not read_page(page).problems
    assert name in read_page(page).text
    cells = [row["image"] for row in csv.DictReader(io.StringIO((tmp_path / "out" / TABLE).read_text()))]
    assert f"'{name}" in cells
    assert not any(cell.startswith("=") for cell in cells)


def test_no_labels_and_no_pictures(model: Path, data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "val.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": []}))
    report = audit_files(data, tmp_path / "out", model=str(model), options=ALL)
    assert (report.labels, report.expectation) == (0, None)
    assert "not known" in report.promise[0]
    file.write_text(json.dumps({**content, "annotations": [], "images": []}))
    with pytest.raises(UsageError, match="no picture"):
        audit_files(data, tmp_path / "none", model=str(model))


def test_broken_pictures(model: Path, data: Path, tmp_path: Path) -> None:
    broken = data / "images" / "3.png"
    broken.write_bytes(b"nothing")
    with pytest.raises(BrokenInputError, match=r"3\.png"):
        audit_files(data, tmp_path / "out", model=str(model))
    heard: list[str] = []
    report = audit_files(data, tmp_path / "out", model=str(model), skip_broken=True, options=ALL, warn=heard.extend)
    assert any("3.png" in line for line in heard)
    assert "3.png" not in {one.image for one in report.suspects}
    assert report.images == 11


def test_the_command(model: Path, data: Path, tmp_path: Path) -> None:
    asked = ["audit", str(data), "--model", str(model), "-o", str(tmp_path / "out"), "--score", "0"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "66 %" in shown.stdout
    assert str(tmp_path / "out" / PAGE) in shown.stdout
    as_json = CliRunner().invoke(app, [*asked, "--json"])
    assert json.loads(as_json.stdout)["generator"] == "gfocal audit"
    wrong = CliRunner().invoke(app, ["audit", str(data), "-o", str(tmp_path / "none")])
    assert wrong.exit_code == 2


def test_folds_cover_all_once(tmp_path: Path) -> None:
    make_scenes(tmp_path / "scenes", train=11, val=1, size=64)
    index = open_dataset(tmp_path / "scenes", "train")
    folds = deal_folds(index, 3, 0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(11))
    assert min(map(len, folds)) >= 2
    for one, other in zip(folds, deal_folds(index, 3, 0), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(UsageError, match="fewer folds"):
        deal_folds(index, 12, 0)


def test_look_alikes_are_in_one_fold(tmp_path: Path) -> None:
    make_scenes(tmp_path / "scenes", train=8, val=1, size=64)
    index = open_dataset(tmp_path / "scenes", "train")
    Image.open(index.path(0)).save(index.path(5))
    for rows in deal_folds(index, 3, 0):
        assert (0 in rows) == (5 in rows)


def test_folds_audit_what_they_have_not_seen(tmp_path: Path) -> None:
    from gfocal.data.fingerprint import fingerprint
    from gfocal.runs import card

    scenes = tmp_path / "scenes"
    make_scenes(scenes, train=10, val=1, size=64)
    before, out = hashes(scenes), tmp_path / "out"
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(small(*SMALL, "schedule.epochs=1").to_dict()))
    asked = {"folds": 2, "recipe": str(recipe), "options": ALL}
    report = audit_files(scenes, out, **asked)
    assert hashes(scenes) == before
    assert (report.images, report.split) == (10, "train")
    index = open_dataset(scenes, "train")
    folds = deal_folds(index, 2, 0)
    for number, rows in enumerate(folds, start=1):
        own = card.read(out / "folds" / f"fold-{number}-of-2")
        assert own is not None
        others = np.setdiff1d(np.arange(10), rows)
        assert own["data"] == fingerprint(index.take(others))
    steps = (out / "folds" / "fold-1-of-2" / "metrics.jsonl").read_bytes()
    assert audit_files(scenes, out, **asked).suspects == report.suspects
    assert (out / "folds" / "fold-1-of-2" / "metrics.jsonl").read_bytes() == steps  # trained once


def test_a_model_that_learnt_from_them_is_said_so(tmp_path: Path) -> None:
    from gfocal.training.train import train

    scenes = tmp_path / "scenes"
    make_scenes(scenes, train=6, val=1, size=64)
    index = open_dataset(scenes, "train")
    train(small("schedule.epochs=1"), index, None, tmp_path / "run", progress=False)
    heard: list[str] = []
    report = audit_files(scenes, tmp_path / "out", model=str(tmp_path / "run"), split="train", say=heard.append)
    assert any(line.startswith("warning: ") and "--folds" in line for line in heard)
    assert any("learnt from these very pictures" in line for line in report.notes)
    assert "learnt from these very pictures" in (tmp_path / "out" / PAGE).read_text()
    heard.clear()
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(json.dumps(small("schedule.epochs=1").to_dict()))
    run = str(tmp_path / "run")
    audit_files(scenes, tmp_path / "folds", folds=2, recipe=str(recipe), init=run, say=heard.append)
    assert any("learnt from these very pictures" in line for line in heard)
