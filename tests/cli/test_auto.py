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


def test_a_run_and_its_continuation(scenes: Path, tmp_path: Path) -> None:
    run = ("train", "auto", "--data", scenes, "--out", tmp_path / "run", "--no-plots", *TINY)
    assert "auto: " in call(*run).stderr
    again = call(*run, "--resume")
    assert "auto: " not in again.stderr
    assert load_recipe(str(tmp_path / "run" / "recipe.yaml")).data.resize.size == 64


def test_it_takes_no_other_network(scenes: Path) -> None:
    result = call("train", "auto", "--data", scenes, "--set", "model.neck=nonsense", code=2)
    assert result.stderr.splitlines()[-1].startswith("error: ")
