"""The run card says what a run was made of, and how each call of it ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.data.fingerprint import file_hashes, fingerprint, images_fingerprint
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.runs.card import CARD, begin, end
from gfocal.runtime.environment import versions
from gfocal.training.train import train
from helpers.small_runs import EVERY_STEP, cut_run, rewritten, small


def card(out: Path) -> dict[str, Any]:
    return card_of(out / CARD)


def card_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def test_what_a_run_was_made_of(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    recipe = small("runtime.seed=7", "schedule.epochs=1")
    train(recipe, train_index, val_index, tmp_path / "run", progress=False)
    content = card(tmp_path / "run")
    assert content["seed"] == 7
    recipe = small("runtime.seed=7", "schedule.epochs=1", "runtime.channels_last=true")  # as the run chose it
    assert content["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert (content["data"], content["pictures"]) == (fingerprint(train_index), images_fingerprint(train_index))
    assert content["val"] == {
        "annotations": str(val_index.annotations),
        "data": fingerprint(val_index),
        "pictures": images_fingerprint(val_index),
        "predict": recipe.to_dict()["predict"],
    }
    (call,) = content["calls"]
    assert call["command"] == content["command"]
    assert (call["outcome"], call["steps"]) == ("finished", [0, 3])
    assert datetime.fromisoformat(call["started"]) <= datetime.fromisoformat(call["ended"])
    assert call["versions"].keys() >= {
        "gfocal",
        "python",
        "torch",
        "torchvision",
        "numpy",
        "timm",
        "accelerate",
        "cuda",
    }
    assert call["versions"] == versions()
    assert call["versions"]["torch"] == str(torch.__version__)
    assert call["host"]["threads"] == 1
    assert call["host"]["cpus"] >= 1
    assert call["host"]["memory_gb"] > 0.1


def test_every_call_is_recorded(tmp_path: Path, train_index: DataIndex) -> None:
    out = tmp_path / "run"
    cut_run(small(EVERY_STEP), train_index, out, 2)
    with pytest.raises(UsageError, match="another recipe"):
        train(small("optim.lr=3"), train_index, None, out, resume=True, progress=False)
    train(small("data.workers=1"), train_index, None, out, resume=True, progress=False)
    content = card(out)
    assert [(call["outcome"], call["steps"]) for call in content["calls"]] == [
        ("failed: RuntimeError: power cut", [0, 2]),
        ("finished", [2, 6]),
    ]
    assert content["recipe"]["data"]["workers"] == 0, "of the run's beginning"
    assert content["val"] is None


def test_a_killed_call_is_told_from_one_that_ended(tmp_path: Path, train_index: DataIndex) -> None:
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gfocal.runs.folder.Run.ended", lambda *a: None)  # what SIGKILL leaves
        cut_run(small(EVERY_STEP), train_index, out, 2)
    assert card(out)["calls"][0]["outcome"] == "killed, or still running"
    (out / "run.json").write_text("{ not json")
    train(small(), train_index, None, out, resume=True, progress=False)
    assert [call["outcome"] for call in card(out)["calls"]] == ["finished"]


@pytest.mark.parametrize("text", ["{ not json", "[1]", "null", '"a"', '{"calls": 5}', '{"calls": null}', "\udcff"])
def test_a_damaged_card_begins_anew(text: str, tmp_path: Path) -> None:
    file = tmp_path / CARD
    file.write_bytes(text.encode(errors="surrogateescape"))
    made_of: Any = {"data": "0123", "seed": 4, "calls": []}
    content = begin(tmp_path, made_of, 3, resumed=True)
    end(tmp_path, content, "finished", 6)
    assert card_of(file) == content
    assert (content["data"], content["seed"], len(content["calls"])) == ("0123", 4, 1)
    assert (content["calls"][0]["outcome"], content["calls"][0]["steps"]) == ("finished", [3, 6])


def test_a_card_keeps_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / CARD
    file.write_text('{"seed": 1, "of a later version": [2], "calls": [{"of": "another"}]}')
    made_of: Any = {"data": "0123", "seed": 4, "calls": []}
    begin(tmp_path, made_of, 3, resumed=True)
    content = card_of(file)
    assert content.keys() == {"data", "seed", "of a later version", "calls"}
    assert (content["seed"], content["of a later version"], content["calls"][0]) == (1, [2], {"of": "another"})
    assert content["calls"][1]["outcome"] == "killed, or still running"
    assert len(card_of(file)["calls"]) == 2
    begin(tmp_path, made_of, 0, resumed=False)
    assert card_of(file)["seed"] == 4


# --- images -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path, train_index: DataIndex) -> DataIndex:
    """The same images in another place, with other dates."""
    return replace(train_index, images_dir=shutil.copytree(train_index.images_dir, tmp_path / "pictures"))


def test_content_counts_and_nothing_else(copied: DataIndex, train_index: DataIndex) -> None:
    before = images_fingerprint(train_index)
    assert images_fingerprint(copied) == before
    file = copied.path(5)
    kept = file.read_bytes()
    for place in (0, len(kept) // 2, len(kept) - 1):
        file.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
        assert images_fingerprint(copied) != before, place
    file.write_bytes(kept + b"x")
    assert images_fingerprint(copied) != before
    file.unlink()
    assert images_fingerprint(copied) != before
    file.write_bytes(kept)
    assert images_fingerprint(copied) == before


def test_each_image_has_a_hash_of_its_content(copied: DataIndex, train_index: DataIndex) -> None:
    before = file_hashes(train_index)
    assert file_hashes(copied) == before
    assert len(set(before)) == len(before) == 12
    file = copied.path(5)
    file.write_bytes(file.read_bytes() + b"x")
    copied.path(7).unlink()
    after = file_hashes(copied)
    assert [i for i in range(12) if after[i] != before[i]] == [5, 7]
    assert after[5] not in (None, *before)
    assert after[7] is None
    assert file_hashes(replace(train_index, image_ids=train_index.image_ids[:0])) == []


def test_of_many_images_two_thousand_are_looked_into(train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = np.arange(8100) % 12  # the same files over and over
    starts, names = train_index.name_start, train_index.name_bytes
    pieces = [names[starts[i] : starts[i + 1]] for i in range(12)]
    many = replace(
        train_index,
        image_ids=np.arange(len(turns)),
        name_bytes=np.concatenate([pieces[i] for i in turns]),
        name_start=np.concatenate([[0], np.cumsum([len(pieces[i]) for i in turns])]),
    )
    opened: list[Path] = []
    really = Path.open

    def noted(path: Path, *how: Any, **options: Any) -> Any:
        opened.append(path)
        return really(path, *how, **options)

    monkeypatch.setattr(Path, "open", noted)
    images_fingerprint(many)
    assert len(opened) == 1620  # every fifth
    assert set(opened) == {train_index.path(i) for i in range(12)}


def test_changed_images_are_told_when_resuming(
    copied: DataIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, recipe = tmp_path / "run", small(EVERY_STEP, "schedule.epochs=1")
    cut_run(recipe, copied, out, 2)
    same = shutil.copytree(out, tmp_path / "same")
    train(recipe, copied, None, same, resume=True)
    assert "not bit-identical" not in capsys.readouterr().err
    shutil.copy(copied.path(1), copied.path(2))
    train(recipe, copied, None, out, resume=True)
    line = "the result will not be bit-identical to an uninterrupted run, since these changed: "
    assert f"{line}the content of pictures" in capsys.readouterr().err


def _renamed(content: dict[str, Any]) -> None:
    content["images"][3]["file_name"] = content["images"][4]["file_name"]


def _other_id(content: dict[str, Any]) -> None:
    content["images"][0]["id"] = 999
    for annotation in content["annotations"]:
        if annotation["image_id"] == 1:
            annotation["image_id"] = 999


def _first(key: str, field: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[key][0].update({field: value})


@pytest.mark.parametrize(
    "change",
    [
        _renamed,
        _other_id,
        _first("images", "width", 65),
        _first("annotations", "bbox", [1.0, 2.0, 3.0, 4.0]),
        _first("annotations", "iscrowd", 1),
        _first("annotations", "ignore", 1),
        _first("categories", "name", "another"),
    ],
    ids=["file name", "image id", "width", "box", "crowd", "ignore", "class name"],
)
def test_the_fingerprint_of_data_covers(
    change: Callable[[dict[str, Any]], None], train_index: DataIndex, tmp_path: Path
) -> None:
    assert fingerprint(rewritten(train_index, tmp_path / "same", lambda content: None)) == fingerprint(train_index)
    assert fingerprint(rewritten(train_index, tmp_path / "changed", change)) != fingerprint(train_index)
