"""Classes of data and model that differ, classes without boxes, and what was measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gfocal.cli.app import app
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import read_about, save_detector
from gfocal.zoo import build_detector
from helpers.small_runs import SMALL

NAMES = ("disc", "box", "fox", "orb", "ring", "cone")
QUICK = ("--set", "data.workers=0")


def call(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False, env={"GFOCAL_DEBUG": "0"})


def refused(*words: object) -> str:
    result = call(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    return " ".join(result.stderr.split())


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy with both annotation files changed."""
    shutil.copytree(source, target)
    for file in (target / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
    return target


@pytest.fixture(scope="module")
def data(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of six classes by these names; only the first four have boxes, those of val are of the first three."""

    def change(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": n + 1, "name": name} for n, name in enumerate(NAMES)]
        last = 3 if len(content["images"]) == 4 else 4
        for n, annotation in enumerate(content["annotations"]):
            annotation["category_id"] = n % last + 1

    return edited(scenes, tmp_path_factory.mktemp("classes") / "data", change)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector without training that knows other classes in another order."""
    folder = tmp_path_factory.mktemp("model")
    recipe = load_recipe("gfl_nano", SMALL)
    names = ["box", "disk", "orb", "tree"]
    detector = build_detector(recipe, names, pretrained=False)
    save_detector(folder / "best.safetensors", detector.state_dict(), recipe, names)
    return folder


def boxes(data: Path, split: str) -> dict[str, int]:
    content = json.loads((data / "annotations" / f"{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = dict.fromkeys(names.values(), 0)
    for annotation in content["annotations"]:
        found[names[annotation["category_id"]]] += not annotation.get("iscrowd", 0)
    return found


def test_other_classes_are_refused_with_both_ways_out(data: Path, model: Path) -> None:
    line = refused("eval", model, "--data", data, *QUICK)
    counts = boxes(data, "val")
    assert f"it does not know disc ({counts['disc']} boxes), fox ({counts['fox']} boxes); 2 of the data's 6" in line
    assert "which has also disk, tree." in line
    assert "--rename OLD=NEW for two names of one class (disc=disk?), and --only-common" in line


def test_only_common_classes_are_measured_and_named(data: Path, model: Path) -> None:
    words = ("eval", model, "--data", data, "--only-common", "--rename", "disc=disk", *QUICK)
    content = json.loads(call(*words, "--json").stdout)
    counts, measured = boxes(data, "val"), content["measured"]
    assert (measured["pictures"], measured["boxes"]) == (4, counts["disc"] + counts["box"])
    assert (measured["renamed"], measured["only_common"]) == ({"disc": "disk"}, True)
    assert measured["classes"] == {
        "common": ["box", "disk", "orb"],
        "only_data": {"fox": counts["fox"], "ring": 0, "cone": 0},
        "only_detector": ["tree"],
    }
    assert (content["split"], content["data"]) == ("val", str(data / "annotations" / "val.json"))
    assert [name for name, ap in content["per_class"].items() if ap is not None] == ["box", "disk"]
    assert content["num_objects"] == measured["boxes"]
    out = call(*words).stdout
    first = (
        f"on val of {data / 'annotations' / 'val.json'}: 4 pictures, {measured['boxes']} boxes to find, 3 classes in"
    )
    assert first in out
    assert "note: renamed: disc -> disk" in out
    assert "note: of the detector's 4 classes the data lack 1, which have no AP: tree" in out
    assert f"does not know 3 classes of the data, their boxes are left out: fox ({counts['fox']} boxes), ring" in out


def test_classes_that_have_no_boxes_are_no_obstacle(data: Path, model: Path) -> None:
    words = ("--rename", "disc=box", "--rename", "fox=orb")
    content = json.loads(call("eval", model, "--data", data, *words, "--json", *QUICK).stdout)
    assert content["measured"]["only_common"] is False
    assert content["measured"]["boxes"] == sum(boxes(data, "val").values())
    assert content["measured"]["classes"]["only_data"] == {"ring": 0, "cone": 0}


def test_what_eval_refuses(data: Path, model: Path) -> None:
    words = ("eval", model, "--data", data, *QUICK)
    assert "the data have no class 'dics' (did you mean disc?)" in refused(*words, "--rename", "dics=disk")
    assert "no class 'disk' (did you mean --rename disc=disk?)" in refused(*words, "--rename", "disk=disc")
    words = (*words, "--only-common", *(w for n in NAMES for w in ("--rename", f"{n}=other {n}")))
    assert "have no class in common" in refused(*words)


def test_objects_beyond_the_limits_are_said_with_the_numbers(data: Path, model: Path) -> None:
    words = ("eval", model, "--data", data, "--only-common", "--set", "predict.max_detections=1", *QUICK)
    found = json.loads(call(*words, "--json").stdout)["measured"]["crowding"]
    assert (found["limit"], found["coco_pictures"], found["coco_ap_ceiling"]) == (1, 0, 1.0)
    assert found["pictures"] > 0
    assert found["recall_ceiling"] < 1
    assert f"more than 1 object, the fullest {found['largest']} (" in call(*words).stdout


def test_training_with_the_classes_that_have_boxes(data: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("train", "gfl_nano", "--data", data, "--out", run, *(w for pair in SMALL for w in ("--set", pair)))
    words = (*words, "--set", "schedule.epochs=1", "--set", "data.drop_empty_classes=true")
    more = ("--rename", "disc=disk", "--rename", "box=orb", "--rename", "orb=box")
    result = call(*words, *more, "--init", model, "--json")
    assert result.exit_code == 0, result.stderr
    names = ["disk", "orb", "fox", "box"]
    assert read_about(run / "last.safetensors").names == names
    content = json.loads(result.stdout)
    assert list(content["metrics"]["per_class"]) == names
    assert content["data"]["train"]["classes"] == 4
    assert "init: 3 of 4 classes keep their outputs, by name; new: fox; not used: tree" in result.stderr
    assert "--rename" not in result.stderr  # nothing left that is alike
    # The run goes on with the same classes, and measures data that name all six.
    again = call(*words, *more, "--resume")
    assert again.exit_code == 0, again.stderr
    measured = json.loads(call("eval", run, "--data", data, *more, "--json", *QUICK).stdout)["measured"]
    assert measured["classes"]["common"] == names
    assert measured["classes"]["only_data"] == {"ring": 0, "cone": 0}


def test_classes_without_boxes_are_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfocal.training.train.train", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("stop")))
    words = ("train", "gfl_nano", "--data", data, "--out", tmp_path / "run")
    line = "note: 2 of 6 classes without a box to learn or to measure: ring, cone; --set data.drop_empty_classes=true"
    assert line in call(*words).stderr
    assert "without a box" not in call(*words, "--set", "data.drop_empty_classes=true").stderr
    assert "no class 'rnig' (did you mean ring?)" in refused(*words, "--rename", "rnig=x")


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("N/A", 9, "a placeholder by its name, which training leaves out with --set data.drop_empty_classes=true"),
        ("__background__", 0, "a placeholder by its name"),
        ("blood cells", 0, "number 0, as Roboflow writes the group of all classes"),
        ("blood cells", 9, None),
    ],
)
def test_a_check_says_which_are_placeholders(
    scenes: Path, tmp_path: Path, name: str, number: int, words: str | None
) -> None:
    place = edited(scenes, tmp_path / "data", lambda c: c["categories"].append({"id": number, "name": name}))
    findings = json.loads(call("data", "check", place, "--json").stdout)["findings"]
    (message,) = (f["message"] for f in findings if f["kind"] == "class-empty" and f["class"] == name)
    assert message == f"class {name!r} has no boxes" if words is None else words in message
