"""``gfocal data check`` as people and programs call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.data.formats.open import open_dataset
from gfocal.data.scenes.generate import make_scenes

RUNNER = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_scenes(tmp_path / "data", train=8, val=4, size=64, seed=1)
    return tmp_path / "data"


def change(data: Path, split: str = "train", **changes: Any) -> None:
    """Set keys of the first annotation."""
    file = data / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    content["annotations"][0].update(changes)
    file.write_text(json.dumps(content))


def call(*words: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(app, ["data", "check", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_exit_codes(data: Path, tmp_path: Path) -> None:
    assert call(data)[0] == 0
    change(data, bbox=[500, 500, 3, 3])
    code, out, _ = call(data)
    assert code == 1
    assert "box-outside" in out
    assert "train leaves out 1 record" in out
    code, out, err = call(tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert "nothing does not exist" in err
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "empty")[0] == 2


def test_json_holds_every_finding(data: Path) -> None:
    change(data, bbox=[500, 500, 3, 3])
    code, out, _ = call(data, "--json")
    content = json.loads(out)
    assert code == 1
    assert (content["ok"], content["errors"]) == (False, 1)
    assert content["left_out"] == {"train": {"records": 1, "pictures": 0}, "val": {"records": 0, "pictures": 0}}
    (found,) = [each for each in content["findings"] if each["severity"] == "error"]
    assert (found["kind"], found["split"], found["picture"]) == ("box-outside", "train", "train_000001.jpg")
    assert found["file"].endswith("train.json")
    assert content["splits"]["train"]["pictures"] == 8
    for split, counts in content["splits"].items():
        index = open_dataset(data, split, skip_broken=True)  # type: ignore[arg-type]
        targets = [index.targets(i).labels.tolist() for i in range(len(index))]
        assert counts["class_counts"] == [
            {
                "class": name,
                "id": int(index.category_ids[label]),
                "pictures": sum(label in own for own in targets),
                "boxes": sum(own.count(label) for own in targets),
            }
            for label, name in enumerate(index.names)
        ]
        assert sum(each["boxes"] for each in counts["class_counts"]) == counts["learnt_boxes"] > 0
    assert len(content["findings"]) == sum(kind["count"] for kind in content["kinds"])


def test_every_finding_on_a_line_of_its_own(data: Path) -> None:
    change(data, bbox=[30, 30, 1, 9])
    assert "box-tiny: " not in call(data)[1]
    code, out, _ = call(data, "--all")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "box-tiny: " in line]
    assert line.startswith("warning ")
    assert "its shorter side is 1 pixels" in line


def test_another_data_set_to_measure_on(data: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "other", train=1, val=2, size=64, seed=2)
    content = json.loads(call(data, "--val", tmp_path / "other", "--json")[1])
    assert content["splits"]["val"]["pictures"] == 2
    one_file = json.loads(call(data / "annotations" / "train.json", "--json")[1])
    assert list(one_file["splits"]) == ["train"]


def test_an_annotation_file_that_cannot_be_read_is_a_finding(data: Path) -> None:
    (data / "annotations" / "val.json").write_text("{")
    Image.new("RGB", (64, 64)).save(data / "images" / "train_000002.jpg")
    code, out, _ = call(data, "--json")
    content = json.loads(out)
    assert code == 1
    assert list(content["splits"]) == ["train"]
    (found,) = [each for each in content["findings"] if each["kind"] == "annotations-broken"]
    assert "val.json is not JSON" in found["message"]


def test_fix_writes_a_copy_that_passes(data: Path, tmp_path: Path) -> None:
    change(data, bbox=[500, 500, 3, 3])
    (data / "images" / "train_000002.jpg").write_bytes(b"")
    code, out, _ = call(data, "--fix", tmp_path / "cleaned")
    assert code == 0
    assert "changed in the copy" in out
    assert "2 changes, listed in" in out
    assert call(tmp_path / "cleaned")[0] == 0
    fixed = json.loads(call(data, "--fix", tmp_path / "again", "--json")[1])["fixed"]
    assert (fixed["ok"], fixed["counts"]) == (True, {"box-outside": 1, "picture-unreadable": 1})
    assert len(json.loads((tmp_path / "again" / "changes.json").read_text())["changes"]) == 2


def test_fix_refuses_what_would_lose_something(data: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    code, out, err = call(data, "--fix", tmp_path / "full")
    assert (code, out) == (2, "")
    assert "not empty" in err
    code, _, err = call(data, "--fix", data / "cleaned")
    assert code == 2
    assert "inside the data set" in err
    assert not (data / "cleaned").exists()
    (data / "annotations" / "val.json").write_text("{")
    code, _, err = call(data, "--fix", tmp_path / "cleaned")
    assert code == 2
    assert "val.json" in err
    assert not (tmp_path / "cleaned").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_image_of_another_size_keeps_its_boxes_only_if_they_fit(data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["annotations"] = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": [100, 20, 40, 20] if k == 1 else [10, 12, 20, 16]}
        for k in (1, 2, 3, 4)
    ]
    for image, size in zip(content["images"], [(200, 100), (128, 128), (60, 90), (64, 64)], strict=False):
        image["width"], image["height"] = size
    file.write_text(json.dumps(content))
    assert call(data, "--fix", tmp_path / "cleaned")[0] == 0
    index = open_dataset(tmp_path / "cleaned", "train")
    boxes = {index.file_name(i)[6:12]: index.targets(i).boxes.tolist() for i in range(len(index))}
    assert "000001" not in boxes  # Neither the shape nor the box fits 64x64.
    assert boxes["000002"] == [[5, 6, 15, 14]]  # Half the size.
    assert boxes["000003"] == [[10, 12, 30, 28]]  # Another shape, and inside.
