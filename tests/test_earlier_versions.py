"""Files that earlier versions wrote: they open, and give what they gave then.

``fixtures/README.md`` says how they were made. The command line and ``gfocal.load`` open them, as people would.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import gfocal
from gfocal.cli.app import app
from gfocal.evaluation import load_matches, resampled_weights, weighted_ap

FIXTURES = Path(__file__).resolve().parent / "fixtures"
SCENES = FIXTURES / "scenes"
OLD, RECENT = "v0_1_0", "v0_2_dev_2026_11_23"
VERSIONS = (OLD, RECENT)
UNKNOWN_KEYS = (
    "unknown key model.anchor_scale (did you mean model.points.scale?); "
    "unknown key model.point_offset (did you mean model.points.offset?)"
)
UNFINISHED = ("schedule.epochs=4", "schedule.eval_every=2", "schedule.save_every=1")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GFOCAL_DEBUG", "0")


def run_gfocal(*words: str | Path, code: int = 0) -> Result:
    """The command line."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def answer(*words: str | Path) -> dict[str, Any]:
    """What a verb prints with ``--json``."""
    content: dict[str, Any] = json.loads(run_gfocal(*words, "--json").stdout)
    return content


def train_scenes(out: str | Path, *words: str | Path, code: int = 0) -> Result:
    """``gfocal train`` on the scenes by the recent recipe."""
    recipe = FIXTURES / RECENT / "recipe.yaml"
    return run_gfocal("train", recipe, "--data", SCENES, "--out", out, *words, code=code)


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def recorded(version: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / version / "answers.json").read_text())
    return content


def copied(version: str, name: str, to: Path) -> Path:
    """A copy that may be written to."""
    shutil.copytree(FIXTURES / version / name, to / name)
    return to / name


def assert_agrees(found: Any, expected: Any, where: str = "answer") -> None:
    """Every recorded number within 1e-4, everything else equal; keys that came later do not matter."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{where} has no {key}"
            assert_agrees(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_agrees(found[i], value, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4), where
    else:
        assert found == expected, where


def assert_detects(model: Path, expected: dict[str, Any]) -> None:
    found = gfocal.load(model).predict(SCENES / "images" / "val_000001.jpg", score_threshold=0.02)
    assert len(found) == expected["count"]
    for name in ("boxes", "scores", "labels", "edge_std"):
        values = getattr(found, name)[: len(expected["scores"])].numpy()
        # Recorded in pixels with five digits; other processors round the last ones otherwise.
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("file", ["best.safetensors", "last.safetensors", "."])
@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoint_and_run_folder_detect_what_they_did(version: str, file: str) -> None:
    """The run ended with its best weights: both files and the folder answer alike."""
    assert_detects(FIXTURES / version / "run" / file, recorded(version)["detections"])


@pytest.mark.parametrize("version", VERSIONS)
def test_finished_run_is_measured_as_it_was(version: str) -> None:
    """The recent one remembers which pictures it set apart: 5 of those to train on, instead of the 10 of val."""
    expected = recorded(version)["eval"]
    assert expected["num_images"] == (10 if version == OLD else 5)
    found = answer("eval", FIXTURES / version / "run", "--data", SCENES)
    assert expected["AP50"] > 0.05
    assert_agrees(found, expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_weights_of_an_earlier_run_start_a_new_one(version: str, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the new run ends with the detections of the old one."""
    overrides = sets("schedule.epochs=1", "schedule.ema=0", "optim.lr=1e-12")
    train_scenes("new", "--init", FIXTURES / version / "run", *overrides)
    card = json.loads((tmp_path / "new" / "run.json").read_text())
    assert card["init"] is not None
    before, after = (gfocal.load(folder).state_dict() for folder in (FIXTURES / version / "run", tmp_path / "new"))
    weights = [name for name in before if name.endswith("weight")]
    assert len(weights) == 17
    for name in weights:
        np.testing.assert_allclose(after[name].numpy(), before[name].numpy(), atol=1e-6, err_msg=name)


def test_recent_recipe_files_are_read_as_they_were() -> None:
    for name, expected in recorded(RECENT)["recipes"].items():
        found = answer("recipes", FIXTURES / RECENT / name)["recipe"]
        expected["runtime"].pop("channels_last")  # its default is "auto" since: what was true where it is not measured
        assert_agrees(found, expected, name)


def test_old_recipe_files_are_read_where_no_key_moved_and_else_refused() -> None:
    expected = recorded(OLD)["recipes"]["anchors-left-alone.yaml"]
    model = expected["model"]
    model["points"] = {"scale": model.pop("anchor_scale"), "offset": model.pop("point_offset")}
    # Their default is "auto" since: bf16 on GPUs that compute in it, and the layout that is faster.
    del expected["runtime"]["precision"], expected["runtime"]["channels_last"]
    assert_agrees(answer("recipes", FIXTURES / OLD / "anchors-left-alone.yaml")["recipe"], expected)
    assert expected["model"]["quality"]["alpha"] == 0.5
    for name in ("recipe.yaml", "gfl_nano-printed.yaml"):
        file = FIXTURES / OLD / name
        done = run_gfocal("recipes", file, "--json", code=2)
        assert done.stderr == f"error: {file}: {UNKNOWN_KEYS}\n"
        assert done.stdout == ""


def test_recent_unfinished_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """It stopped after step 5 of 16, in the middle of an epoch, with averaged weights and AdamW's moments."""
    expected = recorded(RECENT)["uninterrupted"]
    out = copied(RECENT, "unfinished", tmp_path)
    train_scenes(out, "--resume", *sets(*UNFINISHED))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
    assert list(losses) == list(range(1, 17))
    for step in range(1, 8):  # at once: a wrong picture, moment or learning rate would show
        assert losses[step] == pytest.approx(expected["loss"][str(step)], rel=1e-3), step
    # Batch norm over few pictures makes rounding grow.
    assert losses[16] == pytest.approx(expected["loss"]["16"], rel=0.05)
    assert sorted(file.name for file in out.glob("*.safetensors")) == ["best.safetensors", "last.safetensors"]
    outcomes = [call["outcome"] for call in json.loads((out / "run.json").read_text())["calls"]]
    assert outcomes == ["interrupted", "finished"]


def test_old_unfinished_run_is_refused(tmp_path: Path) -> None:
    out = copied(OLD, "unfinished", tmp_path)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    done = train_scenes(out, "--resume", *sets("optim.kind=sgd", "schedule.ema=0", *UNFINISHED), code=2)
    assert done.stderr.splitlines()[-1] == f"error: {out / 'state.pt'}: {UNKNOWN_KEYS}"
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("version", VERSIONS)
def test_imported_checkpoint_opens(version: str, tmp_path: Path) -> None:
    """NanoDet-m as it was imported, with zeros as weights: its recipe and class names are what counts here."""
    file = tmp_path / "best.safetensors"
    file.write_bytes(gzip.decompress((FIXTURES / version / "nanodet.safetensors.gz").read_bytes()))
    detector = gfocal.load(file)
    assert (len(detector.names), detector.names[0], detector.names[79]) == (80, "person", "toothbrush")
    assert tuple(detector.strides) == (8, 16, 32)
    found = detector.predict(SCENES / "images" / "val_000001.jpg")
    assert len(found) == 100
    assert found.scores.tolist() == [0.5] * 100  # of logits that are 0
    # Eight bins with equal shares lie 3.5 strides around the centre of a cell, in a picture of 64 pixels seen at 320.
    assert found.edge_std is not None
    strides = 8.0 * 2.0 ** found.levels.double().numpy()  # type: ignore[union-attr]
    expected = np.sqrt((8**2 - 1) / 12) * strides * 64 / 320
    np.testing.assert_allclose(found.edge_std.double().numpy(), np.tile(expected[:, None], 4), rtol=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
def test_finished_demo_is_not_done_again(version: str, tmp_path: Path) -> None:
    folder = copied(version, "demo", tmp_path)
    kept = json.loads((folder / "demo.json").read_text())
    settings = kept["settings"]
    options = [f"--{name}={settings[name]}" for name in ("train", "val", "size", "seed")]
    found = answer("demo", "--out", folder, *options, *sets(*settings["overrides"]))
    assert_agrees(found, kept["result"])
    assert [file.name for file in folder.iterdir()] == ["demo.json"]


@pytest.mark.parametrize(("form", "images"), [("yolo", "images/val"), ("voc", "JPEGImages")])
def test_sidecars_give_back_what_their_format_cannot_hold(form: str, images: str, tmp_path: Path) -> None:
    """Ids, areas, the order of the classes, ambiguous edges: converted back, the COCO file is what it was."""
    data = copied(RECENT, form, tmp_path)
    (data / images).mkdir(parents=True)
    for file in (SCENES / "images").glob("val_*"):
        shutil.copy(file, data / images)
    run_gfocal("data", "convert", data, "--to", "coco", "--out", "back")
    before, after = (
        json.loads((folder / "annotations" / "val.json").read_text()) for folder in (SCENES, tmp_path / "back")
    )
    assert after["images"] == before["images"]
    assert after["categories"] == before["categories"]
    assert len(after["annotations"]) == 62
    assert any(any(one["edge_ambiguity"]) for one in after["annotations"])
    kept = after["annotations"][0].keys()
    assert after["annotations"] == [{key: one[key] for key in kept} for one in before["annotations"]]


def test_finished_study_is_reported_again_and_not_run_again(tmp_path: Path) -> None:
    folder = copied(RECENT, "study", tmp_path)
    kept = json.loads((folder / "table2c" / "results.json").read_text())
    files = sorted(file for file in (folder / "runs").rglob("*") if file.is_file())
    options = kept["settings"]["command"].removeprefix("gfocal study table2c --data ./scenes ")
    found = answer("study", "table2c", "--data", SCENES, *options.removesuffix(" --json").split())
    assert (found["runs_done"], found["runs_skipped"], found["failures"]) == (0, 2, {})
    assert sorted(file for file in (folder / "runs").rglob("*") if file.is_file()) == files
    (table,) = found["tables"]
    assert max(row["measured"]["AP50"]["mean"] for row in kept["rows"]) > 0
    numbers = ("key", "recipe", "changes", "measured", "difference", "correlation", "runs", "curve")
    rows = [{name: row[name] for name in numbers} for row in kept["rows"]]
    assert_agrees(table, {"table": "table2c", "finished": True, "rows": rows})
    page = answer("study", "overview", folder)["html"]
    assert "delta" in (tmp_path / page).read_text()


def test_matches_of_an_earlier_run_are_read() -> None:
    for run in sorted((FIXTURES / RECENT / "study" / "runs").iterdir()):
        kept = json.loads((run / "measured.json").read_text())["metrics"]
        matches = load_matches(run / "matches.npz")
        assert len(matches.scores) == kept["num_detections"] > 100
        with np.load(run / "resampled.npz") as file:
            again = weighted_ap(matches, resampled_weights(len(matches.objects), len(file["AP"]))).mean(1)
            np.testing.assert_allclose(again, file["AP"], atol=1e-9)
