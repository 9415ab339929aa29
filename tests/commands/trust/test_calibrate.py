"""``gfocal calibrate``: from a checkpoint and data to intervals that eval, predict and exported files use."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.commands.evaluate import _calibrated_print, evaluate_files
from gfocal.commands.report import write_report
from gfocal.commands.trust import calibrate
from gfocal.commands.trust.calibrate import calibrate_files
from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.formats.open import open_dataset
from gfocal.data.split import Apart, HeldOut
from gfocal.detector import DenseDetector
from gfocal.errors import BrokenInputError, UsageError
from gfocal.evaluation.trust.overlap import Overlap
from gfocal.export.formats import held_calibration
from gfocal.exported.detector import ExportedDetector
from gfocal.images.tiling import Tiling
from gfocal.prediction.open import load
from gfocal.prediction.predict import predict
from gfocal.runs.checkpoint import load_detector, read_about, read_weights, save_detector
from gfocal.utils.files import DiskFull
from gfocal.utils.records import to_json
from helpers.calibrated import data_for
from helpers.exporting import NAMES, checkpoint, small_square, stirred


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and data whose objects it finds."""
    folder = tmp_path_factory.mktemp("made")
    model = checkpoint(folder)
    return model, data_for(model, folder / "data")


@pytest.fixture
def model(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(made[0], tmp_path / "best.safetensors"))


@pytest.fixture
def data(made: tuple[Path, Path]) -> Path:
    return made[1]


@pytest.fixture(scope="module")
def calibrated(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "best.safetensors"
    calibrate_files(str(made[0]), made[1], out=out)
    return out


def trained(path: str | Path) -> DenseDetector:
    detector = load(path)
    assert isinstance(detector, DenseDetector)
    return detector


def test_a_checkpoint_is_calibrated_in_its_place(model: Path, data: Path) -> None:
    before, about = read_weights(model), read_about(model)
    report = calibrate_files(str(model), data)
    after = read_weights(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    now = read_about(model)
    assert (now.recipe, now.names, now.category_ids, now.notes) == (
        about.recipe,
        about.names,
        about.category_ids,
        about.notes,
    )
    assert now.calibration is not None
    index = open_dataset(data, "val")
    assert now.calibration["data"] == fingerprint(index)
    assert now.calibration["images"] == report.images == 24
    assert now.calibration["objects"] == report.objects == len(index.boxes)
    assert now.calibration["edges"]["matches"] == report.after.matches > 100
    assert report.source.out == str(model)
    found = trained(model).predict(index.path(0))
    low, high = found.edge_interval().unbind(-1)
    assert low.shape == found.boxes.shape
    assert ((low <= found.boxes) & (found.boxes <= high)).all()


def test_the_numbers_are_of_unseen_images(model: Path, data: Path) -> None:
    report = calibrate_files(str(model), data, level=0.8)
    assert [row.level for row in report.after.levels] == [0.5, 0.8, 0.9, 0.95]
    for row in report.after.levels:
        assert row.edges.share == pytest.approx(row.level, abs=0.06)
        assert row.box.share == pytest.approx(row.level, abs=0.12)
        assert row.edges.low < row.edges.share < row.edges.high
    assert report.before is not None
    assert report.after.level == 0.8
    assert sum(group.edges.count for group in report.after.sizes) == 4 * report.after.matches
    assert report.ap_after == report.ap_before > 0.2
    assert report.scores_after.d_ece < report.scores_before.d_ece
    assert report.scores_after.lrp == pytest.approx(report.scores_before.lrp, abs=0.02)
    assert json.loads(json.dumps(to_json(report), allow_nan=False))["after"]["levels"][1]["level"] == 0.8
    assert load(model).calibration.level == 0.8  # type: ignore[union-attr]


def test_eval_measures_what_it_is_worth_and_flags_a_drop(
    calibrated: Path, data: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    here = evaluate_files(str(calibrated), data).evaluation.calibration
    assert here is not None
    assert here.seen
    assert here.drops == ()
    worse = data_for(made[0], tmp_path / "worse", seed=5, spread=0.12, pictures=5)
    there = evaluate_files(str(calibrated), worse)
    check = there.evaluation.calibration
    assert check is not None
    assert not check.seen
    assert check.intervals is not None
    assert check.intervals.levels[2].edges.share < 0.8
    assert any("intervals of 90 % hold" in line and "of edges here" in line for line in check.drops)
    content = to_json(there)
    assert content["calibration"]["drops"] == list(check.drops)
    assert type(there.evaluation).from_dict(there.evaluation.to_dict()).calibration is not None
    shown = CliRunner().invoke(app, ["eval", str(calibrated), "--data", str(worse)], catch_exceptions=False)
    assert "warning: intervals of 90 % hold" in shown.stdout
    assert "LaECE" in shown.stdout
    plain = evaluate_files(str(made[0]), data)
    assert plain.evaluation.calibration is None
    assert "calibration" not in to_json(plain)


def part_of(data: Path, folder: Path, images: int) -> Path:
    """The first images of a data set under other names, with their boxes."""
    content = json.loads((data / "annotations" / "val.json").read_text())
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    content["images"] = content["images"][:images]
    for image in content["images"]:
        shutil.copy(data / "images" / image["file_name"], folder / "images" / f"copy_{image['file_name']}")
        image["file_name"] = f"copy_{image['file_name']}"
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] <= images]
    (folder / "annotations" / "val.json").write_text(json.dumps(content))
    return folder


def test_eval_finds_images_of_the_calibration_in_other_data(
    calibrated: Path, data: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    def check(data: Path) -> Any:
        return evaluate_files(str(calibrated), data).evaluation.calibration

    same, part = check(data), check(part_of(data, tmp_path / "part", 9))
    assert (same.seen, same.overlap) == (True, Overlap(24, 24, False))
    assert (part.seen, part.overlap) == (False, Overlap(9, 9, False))
    mixed = data_for(made[0], tmp_path / "mixed", images=10, pictures=5)
    for i in (2, 3, 8):
        shutil.copy(data / "images" / f"{i}.png", mixed / "images" / f"{i}.png")
    report = evaluate_files(str(calibrated), mixed)
    assert report.evaluation.calibration is not None
    assert report.evaluation.calibration.overlap == Overlap(10, 3, False)
    assert to_json(report)["calibration"]["overlap"] == {"pictures": 10, "seen": 3, "at_least": False}
    shown = CliRunner().invoke(app, ["eval", str(calibrated), "--data", str(mixed)], catch_exceptions=False)
    assert (
        "note: the calibration was fitted on 3 of these 10 pictures: on others it holds a little less" in shown.stdout
    )
    page = tmp_path / "page.html"
    write_report(calibrated, page, data=mixed, examples=0)
    assert "The calibration was fitted on 3 of these 10 pictures" in " ".join(page.read_text(encoding="utf-8").split())
    other = check(data_for(made[0], tmp_path / "other", images=6, pictures=6))
    assert (other.overlap, other.describe_seen()) == (Overlap(6, 0, False), "")


def test_a_calibration_of_an_earlier_version_says_nothing_of_single_images(
    calibrated: Path, data: Path, tmp_path: Path
) -> None:
    about = read_about(calibrated)
    assert about.calibration is not None
    earlier = {key: value for key, value in about.calibration.items() if key != "image_hashes"}
    detector, recipe, _ = load_detector(calibrated)
    file = tmp_path / "earlier.safetensors"
    save_detector(file, detector.state_dict(), recipe, about.names, calibration=earlier)
    same, part = (
        evaluate_files(str(file), place).evaluation.calibration for place in (data, part_of(data, tmp_path / "part", 9))
    )
    assert same is not None
    assert part is not None
    assert (same.seen, same.overlap, part.seen, part.overlap) == (True, None, False, None)
    assert part.describe_seen() == ""


def test_report_shows_what_it_is_worth(calibrated: Path, data: Path, made: tuple[Path, Path], tmp_path: Path) -> None:
    worse = data_for(made[0], tmp_path / "worse", seed=5, spread=0.12, pictures=5)
    file = tmp_path / "page.html"

    def page(model: Path, data: Path) -> str:
        write_report(model, file, data=data, examples=0)
        text = file.read_text(encoding="utf-8")
        return " ".join(text[text.index("Does the calibration hold?") :].split())  # some spaces do not break

    check = evaluate_files(str(calibrated), worse).evaluation.calibration
    assert check is not None
    assert check.intervals is not None
    assert check.after is not None
    there = page(calibrated, worse)
    assert f"{100 * check.intervals.levels[2].edges.share:.1f} (" in there
    assert f"{check.after.d_ece:.4f}" in there
    assert "ntervals of 90 % hold" in there
    here = page(calibrated, data)
    assert "These are the pictures of the calibration itself" in here
    assert "ntervals of 90 % hold" not in here
    assert "This detector is not calibrated: gfocal calibrate makes" in page(made[0], data)
    recipe = load_detector(calibrated, ["data.tile=64"])[1]
    detector, about = load_detector(calibrated)[0], read_about(calibrated)
    other = tmp_path / "tiles.safetensors"
    save_detector(other, detector.state_dict(), recipe, about.names, calibration=about.calibration)
    words = "The calibration is not measured: it was calibrated on whole pictures and looks at tiles"
    assert words in page(other, data)


def test_predict_writes_them(calibrated: Path, data: Path, tmp_path: Path) -> None:
    words = ["predict", str(calibrated), str(data / "images"), "-o", str(tmp_path / "out"), "--score", "0.1"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"]
    assert entries
    for entry in entries:
        assert entry["edge_level"] == 0.9
        x, y, width, height = entry["bbox"]
        for (low, high), edge in zip(entry["edge_interval"], (x, y, x + width, y + height), strict=True):
            assert low - 2e-3 <= edge <= high + 2e-3
        assert 0 <= entry["score_calibrated"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_exported_files_carry_it(calibrated: Path, data: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"model.{form}"
    words = ["export", str(calibrated), "--format", form, "-o", str(file), "--samples", "2"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    one, other = trained(calibrated), load(file)
    assert isinstance(other, ExportedDetector)
    assert other.calibration == one.calibration
    for i in range(3):
        image = open_dataset(data, "val").path(i)
        mine, theirs = one.predict(image).numpy(), other.predict(image)
        assert len(mine) == len(theirs) > 0
        np.testing.assert_array_equal(mine.levels, theirs.levels)
        np.testing.assert_allclose(theirs.edge_interval(0.9), mine.edge_interval(0.9), atol=0.05)
        np.testing.assert_allclose(theirs.score_calibrated, mine.score_calibrated, atol=1e-3)
    words = ["eval", str(file), "--data", str(data), "--json"]
    measured = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(measured.stdout)["calibration"]["intervals"]["levels"]


def test_an_export_with_other_images_or_tiles_leaves_it_out(calibrated: Path) -> None:
    detector, _, about = load_detector(calibrated)
    assert held_calibration(about, detector) == detector.calibration
    other, _, about = load_detector(calibrated, ["data.resize.size=96"])
    assert held_calibration(about, other) is None
    detector.tiling = Tiling(64)
    assert held_calibration(about, detector) is None
    assert held_calibration(replace(about, calibration=None), detector) is None


_SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("gaussian", "general")]


@pytest.mark.parametrize("kind", [*_SLOW, "dirac"])
def test_every_kind_of_boxes(kind: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path, f"model.boxes.kind={kind}")
    data = data_for(model, tmp_path / "data")
    said: list[str] = []
    report = calibrate_files(str(model), data, say=said.append)
    nothing = any("no distributions of their edges" in line for line in said)
    assert nothing == (kind == "dirac") == (report.before is None)
    assert ("edge_std" in report.candidates) == (kind != "dirac")
    assert ("quantiles" in report.candidates) == (kind == "general")
    assert report.after.levels[2].edges.share == pytest.approx(0.9, abs=0.06)
    found = trained(model).predict(open_dataset(data, "val").path(1))
    assert found.edge_interval(0.5).shape == (len(found), 4, 2)
    shown = CliRunner().invoke(app, ["calibrate", str(model), "--data", str(data)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "stored in" in shown.stdout


def test_tiles_have_a_calibration_of_their_own(model: Path, data: Path) -> None:
    calibrate_files(str(model), data, tile=64)
    image = open_dataset(data, "val").path(0)
    detector = trained(model)
    assert detector.predict(image, tile=64).edge_interval().isfinite().all()
    with pytest.raises(UsageError, match="calibrated on tiles of 64 pixels and looks at whole pictures"):
        detector.predict(image).edge_interval()
    said: list[str] = []
    assert evaluate_files(str(model), data, say=said.append).evaluation.calibration is None
    assert "note: the calibration is not measured: it was calibrated on tiles of 64 pixels" in said[-1]
    assert evaluate_files(str(model), data, tile=64).evaluation.calibration is not None
    predicted = predict(detector, [image], model.parent / "out")
    assert predicted.passed_over[0].startswith("the calibration is left out: it was calibrated on tiles of 64 pixels")
    with pytest.raises(UsageError, match="and looks at tiles of 48 pixels"):
        detector.predict(image, tile=48).edge_interval()
    with pytest.raises(UsageError, match="another size"):
        load_detector(model, ["data.resize.size=96"])[0].predict(image, tile=64).edge_interval()


# --- what the detector learnt from


def test_a_resize_that_is_set_later_is_noticed(calibrated: Path, data: Path) -> None:
    image, detector = next((data / "images").iterdir()), trained(calibrated)
    first = detector.resize
    assert len(detector.predict(image).edge_interval(0.9))
    detector.resize = replace(first, size=96)
    with pytest.raises(UsageError, match=r"does not hold for this detector: data\.resize has another size"):
        detector.predict(image).edge_interval(0.9)
    said: list[str] = []
    assert _calibrated_print(detector, open_dataset(data, "val"), said.append)
    assert "another size" in said[0]
    detector.resize = first
    assert len(detector.predict(image).edge_interval(0.9))


def learnt(model: Path, **notes: Any) -> Path:
    """The same weights, with what they say they learnt from."""
    _, recipe, about = load_detector(model)
    save_detector(model, read_weights(model), recipe, about.names, notes=notes)
    return model


def card(folder: Path, **content: Any) -> None:
    (folder / "run.json").write_text(json.dumps({"held_out": None, "calls": [], **content}))


def test_images_that_it_learnt_from_are_refused(model: Path, data: Path) -> None:
    index = open_dataset(data, "val")
    before = model.read_bytes()
    for notes in ({"data": fingerprint(index)}, {"data": "else", "pictures": images_fingerprint(index)}):
        learnt(model, **notes)
        before = model.read_bytes()
        with pytest.raises(UsageError, match=r"learnt from these very pictures.*--val 0\.2"):
            calibrate_files(str(model), data)
        assert model.read_bytes() == before
    card(model.parent, data="else", annotations=str(data / "annotations" / "val.json"))
    learnt(model, data="else", pictures="else")
    with pytest.raises(UsageError, match="learnt from 24 pictures of these 24"):
        calibrate_files(str(model), data)


def test_several_data_sets_that_it_learnt_from_are_remembered(model: Path, data: Path) -> None:
    """Of joined data the card has the first ones' annotations; what was typed names them all."""
    learnt(model, data="else", pictures="else")
    for words in (
        ["--data", "gone", "--data", str(data / "annotations" / "val.json")],
        [f"--data={data}/annotations/val.json"],
    ):
        card(model.parent, data="else", annotations="gone", command=["gfocal", "train", "gfl_nano", *words])
        with pytest.raises(UsageError, match="learnt from 24 pictures of these 24"):
            calibrate_files(str(model), data)
    card(model.parent, data="else", annotations="gone", command=["gfocal", "train", "gfl_nano", "--val", str(data)])
    assert calibrate_files(str(model), data).images == 24


def test_what_a_run_set_apart_is_taken(model: Path, data: Path) -> None:
    file = data / "annotations" / "val.json"
    whole = open_dataset(file, "train")
    apart = tuple(whole.file_name(i) for i in range(8))
    held_out = HeldOut(0.3, 0, (Apart(fingerprint(whole), apart),)).to_dict()
    card(model.parent, data="else", annotations=str(file), held_out=held_out)
    learnt(model, data="else", pictures="else")
    assert calibrate_files(str(model), file, images_dir=data / "images").images == 8
    with pytest.raises(UsageError, match="learnt from 16 pictures of these 16"):
        calibrate_files(str(model), file, images_dir=data / "images", split="train")


def test_images_that_the_first_weights_learnt_from_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first" / "best.safetensors"
    first.parent.mkdir()
    shutil.copy(model, first)
    learnt(first, data=fingerprint(open_dataset(data, "val")))
    card(model.parent, data="else", annotations="gone", init={"source": str(first.parent)})
    with pytest.raises(UsageError, match=f"{first} learnt from these very pictures"):
        calibrate_files(str(model), data)
    card(first.parent, init={"source": str(model.parent)})  # a circle ends
    learnt(first, data="else")
    assert calibrate_files(str(model), data).images == 24


def test_what_is_not_known_is_said(model: Path, data: Path) -> None:
    said: list[str] = []
    report = calibrate_files(str(model), data, say=said.append)
    assert any("does not say what it learnt from" in line for line in said)
    assert any("does not say what it learnt from" in line for line in report.notes)
    learnt(model, data="0123", pictures="4567")
    val = {"annotations": "val.json", "data": "x", "pictures": images_fingerprint(open_dataset(data, "val"))}
    card(model.parent, val=val, annotations="gone", data="0123")
    (note,) = calibrate_files(str(model), data).notes
    assert "were chosen on these pictures" in note
    last = shutil.copy(model, model.with_name("last.safetensors"))
    assert calibrate_files(str(last), data).notes == (), "nothing chooses the last weights"


# --- what is refused, and what is left behind


def refused(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["calibrate", *map(str, words)], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_wrong_use(model: Path, data: Path, tmp_path: Path) -> None:
    assert "is an exported file" in refused("model.onnx", "--data", data)
    assert "level must be" in refused(model, "--data", data, "--level", "1")
    assert "level must be" in refused(model, "--data", data, "--level", "90")
    assert "ends in .safetensors" in refused(model, "--data", data, "-o", tmp_path)
    assert "ends in .safetensors" in refused(model, "--data", data, "-o", tmp_path / "x.onnx")
    assert "does not exist" in refused(model, "--data", tmp_path / "gone")
    assert "there is no run folder or checkpoint" in refused(tmp_path / "gone", "--data", data)
    assert "give --out FILE.safetensors" in refused("gfl_r50_coco", "--data", data)
    assert "give --out FILE.safetensors" in refused("hub:somebody/something", "--data", data)
    assert "is a recipe" in refused("gfl_nano", "--data", data)
    assert read_about(model).calibration is None


def test_too_few_objects(model: Path, data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "val.json"
    content = json.loads(file.read_text())
    (tmp_path / "few").mkdir()
    few = {**content, "annotations": content["annotations"][:5]}
    (tmp_path / "few" / "val.json").write_text(json.dumps(few))
    words = (model, "--data", tmp_path / "few" / "val.json", "--images", data / "images")
    assert "too few to calibrate edges" in refused(*words)
    few["annotations"] = []
    (tmp_path / "few" / "val.json").write_text(json.dumps(few))
    assert "has no object of a class of the model" in refused(*words)
    few["annotations"] = content["annotations"][:60]
    few["images"] = content["images"][:24]
    (tmp_path / "few" / "val.json").write_text(json.dumps(few))
    report = calibrate_files(
        str(model), tmp_path / "few" / "val.json", images_dir=data / "images", out=tmp_path / "x.safetensors"
    )
    assert 20 < report.after.matches <= 60
    assert report.notes[1:] == (), "90 % takes 12"
    said: list[str] = []
    report = calibrate_files(
        str(model),
        tmp_path / "few" / "val.json",
        images_dir=data / "images",
        out=tmp_path / "x.safetensors",
        level=0.99,
        say=said.append,
    )
    assert "found objects are too few for 99 %, for which it takes 124" in said[-1]
    assert report.notes[-1] == said[-1]
    assert read_about(model).calibration is None, "--out leaves the weights alone"


def test_broken_images_stop_it_or_are_left_out(model: Path, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(data, copy)
    (copy / "images" / "3.png").write_bytes(b"no picture")
    with pytest.raises(BrokenInputError):
        calibrate_files(str(model), copy)
    assert read_about(model).calibration is None
    report = calibrate_files(str(model), copy, skip_broken=True)
    assert report.images == 23
    assert len(report.skipped) == 1
    assert "left out of the calibration" in report.skipped[0]


def test_a_full_disk_leaves_the_weights_whole(model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.read_bytes()

    def full(path: Path, write: Any, *, needed: int) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(calibrate, "write_atomically", full)
    with pytest.raises(DiskFull):
        calibrate_files(str(model), data)
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir() if path.is_file()] == ["best.safetensors"]


def test_unknown_classes(model: Path, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other"
    shutil.copytree(data, copy)
    file = copy / "annotations" / "val.json"
    file.write_text(file.read_text().replace('"name": "cat"', '"name": "lynx"'))
    assert "lynx" in refused(model, "--data", copy)
    report = calibrate_files(str(model), copy, rename=["lynx=cat"])
    assert calibrate_files(str(model), copy, only_common=True).objects < report.objects


def test_training_goes_on_without_it(calibrated: Path, tmp_path: Path) -> None:
    """New weights have other errors: what is saved of a calibrated detector is not calibrated."""
    detector, recipe, about = load_detector(calibrated)
    assert detector.calibration is not None
    save_detector(tmp_path / "next.safetensors", detector.state_dict(), recipe, about.names, notes=about.notes)
    assert load_detector(tmp_path / "next.safetensors")[0].calibration is None
    assert stirred(small_square()).calibration is None
    assert tuple(about.names) == NAMES
