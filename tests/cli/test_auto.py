"""``gfocal train auto``: the choice, its recipe to edit, and a run that continues with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gfocal.auto import choose
from gfocal.cli.app import app
from gfocal.recipe import load_recipe

SMALL = ("--set", "model.channels=16", "--set", "model.head_depth=1", "--set", "schedule.warmup_steps=1")
TINY = (*SMALL, "--size", "64", "--epochs", "1", "--set", "data.workers=0", "--set", "schedule.batch_size=4")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no weights, and a machine of a known pace."""
    monkeypatch.setenv("GFOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    monkeypatch.setattr(choose, "seconds_per_image", lambda recipe, classes: 0.03)


def call(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_a_dry_run_prints_a_recipe_to_edit(scenes: Path, tmp_path: Path) -> None:
    result = call("train", "auto", "--data", scenes, "--minutes", "5", "--dry-run", "--out", tmp_path / "run")
    (tmp_path / "mine.yaml").write_text(result.stdout)
    assert load_recipe(str(tmp_path / "mine.yaml")).model.detector == "nanodet_plus"
    reasons = [line[2:] for line in result.stdout.splitlines() if line.startswith("# ")]
    assert len(reasons) >= 4
    assert all(f"auto: {reason}" in result.stderr for reason in reasons)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_as_json(scenes: Path) -> None:
    found = json.loads(call("train", "auto", "--data", scenes, "--epochs", "3", "--dry-run", "--json").stdout)
    assert found["init"] is None
    assert found["recipe"]["schedule"]["epochs"] == 3
    assert found["reasons"]


def test_a_dry_run_of_a_recipe(scenes: Path) -> None:
    text = call("train", "gfl_nano", "--data", scenes, "--epochs", "3", "--dry-run").stdout
    assert "epochs: 3" in text
    assert not text.startswith("#")


@pytest.mark.parametrize("recipe", ["auto", "gfl_nano"])
def test_a_dry_run_has_the_batch_that_a_run_finds(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr("gfocal.training.batch_size.find_batch_size", lambda recipe, index: 6)
    words = ("train", recipe, "--data", scenes, "--batch", "auto", "--out", tmp_path / "run", *SMALL[:4])
    found = json.loads(call(*words, "--dry-run", "--json").stdout)
    assert found["recipe"]["schedule"]["batch_size"] == 6
    assert not (tmp_path / "run").exists()
    call(*words, "--size", "64", "--epochs", "1", "--set", "data.workers=0", "--no-plots")
    assert load_recipe(str(tmp_path / "run" / "recipe.yaml")).schedule.batch_size == 6
    assert list(tmp_path.glob("run*")) == [tmp_path / "run"]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a server fails."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a dry run asks no server")

    monkeypatch.delenv("GFOCAL_OFFLINE")
    monkeypatch.setattr("gfocal.catalogue.fetch.download", asked)
    monkeypatch.setattr("gfocal.hub.download.hub_file", asked)


@pytest.mark.usefixtures("online")
def test_a_dry_run_fetches_nothing(scenes: Path, tmp_path: Path) -> None:
    result = call("train", "auto", "--data", scenes, "--dry-run")
    assert "would fetch nanodet_plus_m_416_coco from " in result.stderr
    assert "35.5 MB" in result.stderr
    assert "# train it with --init nanodet_plus_m_416_coco" in result.stdout
    for recipe in ("auto", "picodet_m"):
        result = call("train", recipe, "--data", scenes, "--init", "picodet_m_416_coco", "--dry-run")
        assert result.stderr.count("would fetch picodet_m_416_coco from paddledet.bj.bcebos.com") == 1
        (tmp_path / "mine.yaml").write_text(result.stdout)
        assert load_recipe(str(tmp_path / "mine.yaml")).model.backbone == "esnet_x1_0"
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("online")
def test_a_dry_run_from_the_hub(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfocal.hub.download.local_hub_file", lambda name: None)
    init = ("--data", scenes, "--init", "hub:owner/name", "--dry-run")
    assert "would fetch hub:owner/name" in call("train", "gfl_nano", *init).stderr
    assert "which is not here, and --dry-run fetches nothing" in call("train", "auto", *init, code=2).stderr
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    assert "GFOCAL_OFFLINE forbids connections" in call("train", "gfl_nano", *init, code=2).stderr


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("nothing_of_that_name", "there is no run folder or checkpoint"),
        ("gfl_nano", "is a recipe, a detector without training"),
        ("hub:nonsense", "hub:"),
        ("fcos_r50_torchvision_coco", "cannot read fcos_r50_torchvision_coco yet"),
    ],
)
@pytest.mark.parametrize("recipe", ["auto", "gfl_nano"])
def test_a_dry_run_refuses_what_a_run_would(scenes: Path, recipe: str, init: str, words: str) -> None:
    result = call("train", recipe, "--data", scenes, "--init", init, "--dry-run", code=2)
    assert words in result.stderr


def test_a_run_and_its_continuation(scenes: Path, tmp_path: Path) -> None:
    run = ("train", "auto", "--data", scenes, "--out", tmp_path / "run", "--no-plots", *TINY)
    assert "auto: " in call(*run).stderr
    again = call(*run, "--resume")
    assert "auto: " not in again.stderr
    assert load_recipe(str(tmp_path / "run" / "recipe.yaml")).data.resize.size == 64


def test_it_takes_no_other_network(scenes: Path) -> None:
    result = call("train", "auto", "--data", scenes, "--set", "model.neck=nonsense", code=2)
    assert result.stderr.splitlines()[-1].startswith("error: ")
