"""The page about a run: what it says, that it stands alone, and what it makes of odd data."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import gfocal
from gfocal.cli.app import app
from gfocal.commands import report as command
from gfocal.commands.report import write_report
from gfocal.errors import BrokenInputError, UsageError
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.runs.datasets import open_run_data
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.read_page import Page, read_page
from helpers.small_runs import cut_run, small

HOSTILE = (
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "\u202egnp.exe\u2066",
    "$x^2$",
    "_hidden",
    "日本語 ตัวอย่าง",
    "{{ 7 * 7 }} & &lt;",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run of two epochs with its evaluations."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = small("predict.score_threshold=0.0")  # so little training gives low scores
    train(recipe, gfocal.open_dataset(scenes, "train"), gfocal.open_dataset(scenes, "val"), out, progress=False)
    return out


def model(folder: Path, names: Sequence[str], *overrides: str) -> Path:
    """Weights that nobody trained, which find boxes everywhere."""
    recipe: Recipe = small("predict.score_threshold=0.0", "predict.max_detections=20", *overrides)
    file = folder / "model.safetensors"
    save_detector(file, build_detector(recipe, names).state_dict(), recipe, names)
    return file


def data(folder: Path, names: Sequence[str], boxes: Sequence[Sequence[Any]], files: Sequence[str] = ()) -> Path:
    """A COCO data set: (x, y, width, height, class) of each image."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }
    for number, own in enumerate(boxes):
        name = files[number] if files else f"{number}.png"
        if not (images / name).exists():
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)).save(images / name)
        content["images"].append({"id": number + 1, "file_name": name, "width": 64, "height": 48})
        for x, y, width, height, label in own:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number + 1,
                    "category_id": label + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    (folder / "annotations").mkdir()
    (folder / "annotations" / "val.json").write_text(json.dumps(content))
    return folder


def opened(file: Path) -> Page:
    page = read_page(file.read_text(encoding="utf-8"))
    assert page.problems == []
    assert page.fetched == []
    assert page.of("script") == []
    assert page.of("link") == []
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for svg in page.of("svg"):
        assert svg["role"] == "img"
        assert len(svg["aria-label"]) > 20
    for image in page.of("img"):
        assert image["src"].startswith("data:image/jpeg;base64,")
        assert image["alt"]
        assert int(image["width"]) <= 480
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text.split()
    return page


def without_times(file: Path) -> str:
    return re.sub(r'<span class="changes">.*?</span>', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_a_run_needs_nothing_but_its_folder(run: Path) -> None:
    found = write_report(run)
    assert found.out == run / "report.html"
    page = opened(found.out)
    assert found.bytes == found.out.stat().st_size
    sections = [one["id"] for one in page.of("section")]
    assert sections == [
        "training",
        "numbers",
        "curves",
        "faults",
        "pictures",
        "scores",
        "edges",
        "calibration",
        "data",
        "origin",
    ]
    for words in (
        *found.verdict,
        "Loss.",
        "AP on the way.",
        "Most uncertain",
        "D-ECE",
        "IoU of at least 0.5",
        "Every key",
    ):
        assert words.replace(" %", "\u00a0%") in page.text
    stats = found.evaluation.evaluation.result.stats
    assert f"AP {100 * stats['AP']:.1f}" in page.text
    assert "What differs from the packaged recipe gfl_nano" in page.text
    assert "schedule.epochs" in page.text
    assert len(page.of("img")) >= 8
    assert found.diagnosis.edges is not None


def test_the_same_input_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    one, other = (write_report(run, tmp_path / name).out for name in ("a.html", "b.html"))
    assert without_times(one) == without_times(other)
    assert re.search(r">Measured 20\d\d-", one.read_text())


def test_a_second_page_replaces_the_first_and_nothing_else(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "report.html").write_text("mine")
    with pytest.raises(UsageError, match=r"was not written by gfocal report; name another file with -o FILE"):
        write_report(copy)
    (copy / "report.html").unlink()
    write_report(copy, examples=0)
    page = opened(write_report(copy, examples=0).out)
    assert page.of("img") == []
    assert "No pictures were asked for" in page.text
    assert "No picture has a fault" not in page.text
    assert sorted(path.name for path in copy.iterdir() if path.name not in {p.name for p in run.iterdir()}) in (
        [],
        ["report.html"],
    )


def test_the_command(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    words = ["report", str(run), "-o", str(file), "--timed", "2", "--score", "0.02", "--examples", "1"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert f"{file}: " in result.stdout
    page = opened(file)
    assert "Of 2 pictures that were timed one by one" in page.text
    assert "score above 0.02" in page.text
    answer = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    content = json.loads(answer.stdout)
    assert content["out"] == str(file)
    assert content["score"] == 0.02
    assert len(content["diagnosis"]["intervals"]["stats"]) == 12
    assert content["split"] == "val"
    assert content["bytes"] == file.stat().st_size


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    boxes = [[(5, 5, 20, 20, label), (30, 10, 25, 30, 0)] for label in range(len(HOSTILE))]
    files = ["<b>&amp;.png", "a'\"b.png", "\u202egnp.png", *(f"{i}.png" for i in range(5))]
    place = tmp_path / "<i>set</i>"
    weights = model(tmp_path, HOSTILE)
    found = write_report(
        weights, tmp_path / "page.html", data=data(place, HOSTILE, boxes, files), examples=8, score=0.0
    )
    page = opened(found.out)
    for name in HOSTILE:
        if "\u202e" not in name:
            assert " ".join(name.split()) in page.text
    html = found.out.read_text(encoding="utf-8")
    assert not [letter for letter in html if letter in "\u202e\u2066"], "nothing turns round what stands beside it"
    assert "\\u202egnp.exe" in page.text
    assert page.of("i") == []
    assert "<i>set</i>" in page.text


def test_no_object_to_find(tmp_path: Path) -> None:
    found = write_report(
        model(tmp_path, ["a", "b"]), tmp_path / "p.html", data=data(tmp_path / "d", ["a", "b"], [[], []])
    )
    page = opened(found.out)
    assert found.verdict[0].startswith("There is no object to find in these pictures")
    assert found.diagnosis.errors is None
    assert "there is nothing to find" in page.text


def test_nothing_is_found(tmp_path: Path) -> None:
    weights = model(tmp_path, ["a", "b"], "predict.score_threshold=0.99")
    found = write_report(weights, tmp_path / "p.html", data=data(tmp_path / "d", ["a", "b"], [[(5, 5, 20, 20, 1)], []]))
    page = opened(found.out)
    assert "It finds nothing" in found.verdict[0]
    assert "There are no boxes, so no scores." in page.text
    assert "No box found an object, so no edge can be compared" in page.text


def test_one_class_one_picture_and_no_edges(tmp_path: Path) -> None:
    weights = model(tmp_path, ["thing"], "model.boxes.kind=dirac")
    found = write_report(weights, tmp_path / "p.html", data=data(tmp_path / "d", ["thing"], [[(5, 5, 20, 20, 0)]]))
    page = opened(found.out)
    assert found.diagnosis.edges is None
    assert "Dirac boxes" in page.text
    assert "without its run folder" in page.text
    assert found.diagnosis.intervals.stats["AP"].low is None, "one picture has no spread"
    assert page.of("table"), "the matrix of one class"


def test_many_classes_show_the_most_confused_pairs(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(80)]
    boxes = [[(2 + 10 * i, 5, 9, 30, (7 * number + i) % 80) for i in range(6)] for number in range(20)]
    found = write_report(model(tmp_path, names), tmp_path / "p.html", data=data(tmp_path / "d", names, boxes), score=0)
    page = opened(found.out)
    assert "All 80 classes" in page.text
    assert "Most missed objects and boxes of nothing" in page.text
    assert "What is taken for what" not in page.text
    assert found.bytes < 4_500_000


def test_odd_pictures(tmp_path: Path) -> None:
    images = tmp_path / "d" / "images"
    images.mkdir(parents=True)
    grey = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(grey).save(images / "deep.png")
    Image.fromarray(np.full((48, 64, 4), 120, np.uint8)).save(images / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((64, 48, 3), 90, np.uint8)).save(images / "turned.jpg", exif=exif)
    files = ["deep.png", "alpha.png", "turned.jpg"]
    place = data(tmp_path / "d", ["a"], [[(5, 5, 20, 20, 0)]] * 3, files)
    page = opened(write_report(model(tmp_path, ["a"]), tmp_path / "p.html", data=place, score=0.0).out)
    assert {image["width"] for image in page.of("img") if "turned.jpg" in image["alt"]} == {"480"}, "upright: wide"
    assert all(any(name in image["alt"] for image in page.of("img")) for name in files)


def test_a_picture_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = data(tmp_path / "d", ["a", "b"], [[(5, 5, 20, 20, 1)], [(5, 5, 20, 20, 0)]])
    weights, out = model(tmp_path, ["a", "b"]), tmp_path / "p.html"
    (place / "images" / "0.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(BrokenInputError, match=r"0\.png"):
        write_report(weights, out, data=place)
    assert not out.exists()
    found = write_report(weights, out, data=place, skip_broken=True, score=0.0)
    assert "1 broken record left out" in opened(out).text
    assert found.evaluation.evaluation.result.num_images == 1

    measure = command.measure_files

    def then_gone(*words: Any, **options: Any) -> Any:
        measured = measure(*words, **options)
        (place / "images" / "1.png").unlink()
        return measured

    monkeypatch.setattr(command, "measure_files", then_gone)
    write_report(weights, out, data=place, skip_broken=True, score=0.0)
    page = opened(out)
    assert "This picture cannot be read any more." in page.text
    assert page.of("img") == []


def test_a_run_that_was_cut_off_before_it_was_measured(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    index = gfocal.open_dataset(scenes, "train")
    recipe = small("schedule.epochs=3", "schedule.eval_every=3")
    cut_run(recipe, index, out, 4, val=gfocal.open_dataset(scenes, "val"))
    found = write_report(out)
    text = opened(found.out).text
    assert "AP was never measured during this training." in text
    assert "The last call: failed" in text or "The last call: " in text
    shutil.rmtree(out)
    cut_run(recipe, index, out, 1, val=gfocal.open_dataset(scenes, "val"))
    with pytest.raises(UsageError, match=r"continue it with --resume|neither best"):
        write_report(out)


def test_what_the_run_card_names(run: Path, scenes: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    card = json.loads((copy / "run.json").read_text())
    assert card["val"]["annotations"] == str(scenes / "annotations" / "val.json")
    changed = tmp_path / "changed.json"
    content = json.loads((scenes / "annotations" / "val.json").read_text())
    content["annotations"] = content["annotations"][1:]
    shutil.copytree(scenes / "images", tmp_path / "images") if (scenes / "images").is_dir() else None
    changed.write_text(json.dumps(content))
    card["val"]["annotations"] = str(changed)
    card["calls"][-1]["command"] = ["gfocal", "train", "gfl_nano", "--data", str(tmp_path / "gone")]
    card["annotations"] = ""
    (copy / "run.json").write_text(json.dumps(card))
    text = opened(write_report(copy).out).text
    assert "they have changed, or are other ones" in text
    assert f"gfocal train gfl_nano --data {tmp_path / 'gone'}" in text
    card["val"]["annotations"] = str(tmp_path / "nowhere.json")
    (copy / "run.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=r"cannot be opened .*give --data PATH"):
        write_report(copy)
    card["val"] = None
    (copy / "run.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=r"was measured on nothing: say what to measure on with --data PATH"):
        write_report(copy)
    (copy / "run.json").write_text("{ damaged")
    with pytest.raises(UsageError, match=r"has no run card"):
        write_report(copy)
    assert "is not known: there is no run card" in opened(write_report(copy, data=scenes).out).text


@pytest.mark.parametrize(
    "kind", ["held out", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("yolo", "voc"))]
)
def test_data_of_any_format_and_pictures_set_apart(kind: str, scenes: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "set", tmp_path / "run"
    if kind == "held out":
        shutil.copytree(scenes, place)
    else:
        splits = {split: gfocal.open_dataset(scenes, split) for split in ("train", "val")}
        gfocal.write_dataset(splits, place, kind)
    train_index, val_index, apart = open_run_data(place, 0.25 if kind == "held out" else None)
    train(small("schedule.epochs=1"), train_index, val_index, out, held_out=apart, progress=False)
    found = write_report(out, examples=1)
    text = opened(found.out).text
    assert val_index is not None
    assert found.evaluation.evaluation.result.num_images == len(val_index)
    assert "they have changed" not in text
    assert ("The run set the val pictures apart from the train pictures: share 0.25, seed 0." in text) == (
        kind == "held out"
    )
    assert "# measure" in text


def test_wrong_use_says_so_before_the_work(run: Path, scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(UsageError, match="--split is train, val or test, not 'both'"):
        write_report(run, page, split="both")
    with pytest.raises(UsageError, match="no test annotations"):
        write_report(run, page, split="test", data=scenes)
    with pytest.raises(UsageError, match="it is a folder; give a file with -o FILE"):
        write_report(run, tmp_path)
    with pytest.raises(UsageError, match="--score must be at least 0 and below 1, got 1"):
        write_report(run, page, score=1.0)
    with pytest.raises(UsageError, match="for another MODEL say where: -o FILE"):
        write_report(run / "best.safetensors", data=scenes)
    assert not list(tmp_path.iterdir())
    refused = CliRunner().invoke(app, ["report", str(run), "-o", str(run / "best.safetensors" / "x.html")])
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output


def test_pictures_have_a_limit(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.run_report.sections import pictures

    monkeypatch.setattr(pictures, "MOST_BYTES", 150_000)
    found = write_report(run, tmp_path / "page.html", examples=4)
    page = opened(found.out)
    assert 0 < found.image_bytes <= 150_000
    assert sum(len(image["src"]) for image in page.of("img")) == found.image_bytes
