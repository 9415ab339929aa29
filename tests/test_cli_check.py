"""``gfocal data check`` as people and programs call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from gfocal.cli import app
from gfocal.data.scenes import make_scenes

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
