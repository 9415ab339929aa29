"""``gfocal explain``: the page, the numbers and the drawings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.commands.trust.calibrate import calibrate_files
from gfocal.commands.trust.explain import NUMBERS, PAGE, ExplainReport, ExplainSettings, explain_files
from gfocal.errors import BrokenInputError, UsageError
from gfocal.explanation import page as page_module
from gfocal.explanation.records import SIDES, Explanation
from gfocal.export.formats import ExportOptions
from gfocal.prediction.open import load
from gfocal.runs.checkpoint import save_detector
from gfocal.utils.records import from_json
from helpers.browser import browsing
from helpers.calibrated import data_for
from helpers.exporting import NAMES, checkpoint, small_square, stirred, written
from helpers.read_page import read_page

LOW = ExplainSettings(score=0.1, top=3, pictures=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_for(model, tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def calibrated(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "best.safetensors"
    calibrate_files(str(model), data, out=out)
    return out


@pytest.fixture(scope="module")
def explained(calibrated: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> ExplainReport:
    out = tmp_path_factory.mktemp("explained") / "out"
    return explain_files(str(calibrated), [], out, data=data, settings=LOW)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return picture(tmp_path / "photo.png")


def picture(file: Path, height: int = 60, width: int = 90) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def test_what_is_written(explained: ExplainReport) -> None:
    out, told = explained.page.parent, explained.explanation
    assert sorted(path.name for path in out.iterdir()) == [PAGE, NUMBERS, "pictures"]
    assert [file.name for file in explained.drawings] == [
        f"000{i}-{n}.png" for i, n in ((1, 0), (2, 1), (3, 2), (4, 3))
    ]
    assert sorted((out / "pictures").iterdir()) == list(explained.drawings)
    assert explained.page_bytes == explained.page.stat().st_size < page_module.MOST_BYTES
    for file in explained.drawings:
        with Image.open(file) as image:
            assert np.asarray(image.convert("L")).std() > 10, "something is drawn"
    assert told.notes[0].startswith("The first 4 of 24 pictures are explained")
    assert [one.id for facts in told.pictures for one in facts.detections] == list(range(1, 13))


def test_the_numbers_are_those_of_the_detector(explained: ExplainReport, calibrated: Path, data: Path) -> None:
    detector = load(calibrated)
    for facts in explained.explanation.pictures:
        found = detector.predict(facts.file, score_threshold=0.1).numpy()
        assert (facts.found, len(facts.detections)) == (len(found), 3)
        ends, chances = np.asarray(found.edge_interval()), np.asarray(found.score_calibrated)
        assert facts.labelled
        assert facts.objects > 0
        for i, one in enumerate(facts.detections):
            assert one.box == pytest.approx(found.boxes[i].tolist(), abs=1e-4)
            assert (one.label, one.score) == (NAMES[found.labels[i]], pytest.approx(float(found.scores[i])))
            assert one.chance == pytest.approx(chances[i])
            for side, edge in enumerate(one.edges):
                assert edge.side == SIDES[side]
                assert edge.after == pytest.approx(ends[i, side], abs=1e-4)
                assert edge.std == pytest.approx(float(found.edge_std[i, side]))
                low, high = max(one.box[side] - 1.6448536 * edge.std, 0), one.box[side] + 1.6448536 * edge.std
                limit = facts.height if side % 2 else facts.width
                assert edge.before == pytest.approx((low, min(high, limit)), abs=1e-4)
                assert np.dot(edge.bins, edge.probs) == pytest.approx(edge.mean, abs=1e-3)
                assert (edge.label is None) == (one.iou is None)
                if edge.label is not None:
                    assert edge.error == pytest.approx(edge.label - edge.position)
                    assert edge.inside is (edge.after[0] <= edge.label <= edge.after[1])
    every = [one for facts in explained.explanation.pictures for one in facts.detections]
    assert any(one.iou is not None for one in every)


def test_the_json_is_all_of_it(explained: ExplainReport) -> None:
    content = json.loads(explained.numbers.read_text())
    assert from_json(Explanation, content) == explained.explanation
    assert content["info"]["generator"] == "gfocal explain"
    assert "\n" not in explained.numbers.read_text()


def test_the_page_is_whole_and_fetches_nothing(explained: ExplainReport) -> None:
    page = read_page(explained.page.read_text())
    assert page.problems == []
    assert page.fetched == []
    assert not page.of("script")
    assert "default-src 'none'" in page.of("meta")[-1]["content"]
    assert len(page.of("article")) == 12
    assert len(page.of("fieldset")) == 12
    assert [field["name"] for field in page.of("input")[:4]] == ["e1"] * 4
    assert sum("checked" in field for field in page.of("input")) == 12, "one edge of each is shown"
    for words in (
        "90 % interval of the calibration",
        "Sure but wrong",
        "Widest",
        "Sharpest",
        "one number for class and",
    ):
        assert words in page.text
    assert "level 0 (stride 8)" in page.text or "level 1 (stride 16)" in page.text
    for gallery in explained.explanation.galleries[:2]:
        assert gallery.shown
        assert gallery.shown[0].why in page.text


def test_galleries_are_sorted(explained: ExplainReport) -> None:
    told = explained.explanation
    spreads = {one.id: one.widest or 0.0 for facts in told.pictures for one in facts.detections}
    widest, sharpest, wrong = told.galleries
    assert [spreads[shown.id] for shown in widest.shown] == sorted(spreads.values(), reverse=True)[:8]
    assert [spreads[shown.id] for shown in sharpest.shown] == sorted(spreads.values())[:8]
    outside = {
        one.id for facts in told.pictures for one in facts.detections if any(e.inside is False for e in one.edges)
    }
    assert {shown.id for shown in wrong.shown} <= outside


def test_a_wrong_label_is_sure_but_wrong(calibrated: Path, data: Path, tmp_path: Path) -> None:
    """The sharpest edge of a detection gets a label that is a quarter of the box off."""
    settings = ExplainSettings(score=0.1, top=3, pictures=1)
    first = explain_files(str(calibrated), [], tmp_path / "a", data=data, settings=settings).explanation.pictures[0]
    wide = [one for one in first.detections if one.iou is not None]
    one, edge = min(
        ((one, edge) for one in wide for edge in one.edges), key=lambda pair: pair[0].spread(pair[1]) or 0.0
    )
    side = SIDES.index(edge.side)
    box = list(one.box)
    extent = box[2 + side % 2] - box[side % 2]
    box[side] += (0.3 if side < 2 else -0.3) * extent
    content = json.loads((data / "annotations" / "val.json").read_text())
    x1, y1, x2, y2 = box
    category = NAMES.index(one.label) + 1
    content["annotations"] = [{"id": 1, "image_id": 1, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}]
    file = tmp_path / "val.json"
    file.write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(data / "images")
    report = explain_files(str(calibrated), [], tmp_path / "b", data=file, settings=settings)
    (shown,) = report.explanation.galleries[2].shown
    assert (shown.id, shown.why.split(":")[0]) == (one.id, edge.side)
    assert report.explanation.pictures[0].objects == 1
    assert report.explanation.pictures[0].missed == 0


@pytest.mark.parametrize(
    ("boxes", "kind", "words"),
    [
        ("general_dfl", "bins", "distribution over bins"),
        pytest.param("general", "bins", "distribution over bins", marks=pytest.mark.slow),
        ("gaussian", "normal", "a normal distribution"),
        ("dirac", "none", "no distributions of their edges"),
    ],
)
def test_each_kind_of_boxes(boxes: str, kind: str, words: str, photo: Path, tmp_path: Path) -> None:
    file = checkpoint(tmp_path, f"model.boxes.kind={boxes}")
    report = explain_files(str(file), [str(photo)], tmp_path / "out", settings=LOW)
    told = report.explanation
    assert (told.kind, told.calibrated, told.level) == (kind, False, 0.9)
    page = read_page(report.page.read_text())
    assert words in page.text
    assert page.problems == page.fetched == []
    for one in told.pictures[0].detections:
        for edge in one.edges:
            assert (edge.std is None) == (kind == "none") == (edge.before is None) == (edge.mean is None)
            assert bool(edge.bins) == (kind == "bins")
            assert edge.after is edge.label is edge.inside is None
        assert one.point is not None
        assert one.score_parts
        assert one.chance is None
    assert "takes labels" in told.galleries[2].text or kind == "none"
    assert bool(told.galleries[0].shown) == (kind != "none")


def test_dirac_boxes_with_a_calibration(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, "model.boxes.kind=dirac")
    data = data_for(file, tmp_path / "data")
    calibrate_files(str(file), data)
    report = explain_files(str(file), [], tmp_path / "out", data=data, settings=LOW)
    edge = report.explanation.pictures[0].detections[0].edges[0]
    assert edge.before is None
    assert edge.after is not None
    assert edge.after[0] <= edge.position <= edge.after[1]
    assert "of the calibration" in read_page(report.page.read_text()).text


@pytest.mark.slow
@pytest.mark.parametrize("probs", [False, True])
def test_exported_files_show_what_they_have(probs: bool, photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    recipe = small_square()
    file, _ = written(tmp_path, stirred(recipe), recipe, ExportOptions(edge_probs=probs))
    report = explain_files(str(file), [str(photo)], tmp_path / "out", settings=LOW)
    told = report.explanation
    assert told.kind == ("bins" if probs else "spread")
    one = told.pictures[0].detections[0]
    assert one.point is None
    assert one.score_parts == one.removed == ()
    assert bool(one.edges[0].bins) is probs
    assert one.edges[0].before is not None
    assert ("gfocal export --edge-probs" in read_page(report.page.read_text()).text) is not probs
    with pytest.raises(UsageError, match="below that of the exported file"):
        explain_files(str(file), [str(photo)], tmp_path / "low", settings=ExplainSettings(score=0.0))
    with pytest.raises(UsageError, match="is fixed"):
        explain_files(str(file), [str(photo)], tmp_path / "low", overrides=["predict.nms_iou=0.5"])
    assert not (tmp_path / "low").exists()


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\x1b[31m\u202e{{ 7*7 }} $x$ &amp;")


@pytest.mark.slow
def test_names_are_text(tmp_path: Path) -> None:
    recipe = small_square()
    file = tmp_path / "tiny.safetensors"
    save_detector(file, stirred(recipe, HOSTILE).state_dict(), recipe, HOSTILE)
    photo = picture(tmp_path / 'a<b onload="x">{{ 7*7 }}&$.png')
    other = picture(tmp_path / os.fsdecode(b"na\xefve.png"))
    report = explain_files(
        str(file), [str(photo), str(other)], tmp_path / "out", settings=ExplainSettings(score=0.05, top=20)
    )
    page = read_page(report.page.read_text())
    assert page.problems == page.fetched == []
    assert not page.of("script")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE[0] in page.text
    assert HOSTILE[1] in page.text
    assert "{{ 7*7 }}" in page.text
    assert "\x1b" not in page.text
    assert [file.name for file in report.drawings] == ["0001-a-b-onload-x-7-7.png", "0002-na-ve.png"]
    json.loads(report.numbers.read_text())


def test_where_nothing_is_found(model: Path, photo: Path, tmp_path: Path) -> None:
    report = explain_files(str(model), [str(photo)], tmp_path / "out", settings=ExplainSettings(score=0.9999))
    assert report.explanation.pictures[0].found == 0
    assert {gallery.text for gallery in report.explanation.galleries} == {"Nothing was found."}
    page = read_page(report.page.read_text())
    assert page.problems == []
    assert "0 detections" in page.text
    assert report.drawings[0].exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 120), (120, 1)])
def test_pictures_of_a_pixel_or_a_row(size: tuple[int, int], model: Path, tmp_path: Path) -> None:
    photo = picture(tmp_path / "thin.png", *size)
    report = explain_files(str(model), [str(photo)], tmp_path / "out", settings=LOW)
    page = read_page(report.page.read_text())
    assert page.problems == []
    assert "nan" not in report.page.read_text().replace("nano", "").split("</style>")[1].lower()
    assert report.explanation.pictures[0].detections


@pytest.mark.slow
def test_objects_of_a_pixel(model: Path, data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "annotations" / "val.json").read_text())
    content["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 1, 1]}]
    file = tmp_path / "val.json"
    file.write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(data / "images")
    facts = explain_files(str(model), [], tmp_path / "out", data=file, settings=LOW).explanation.pictures
    assert (facts[0].objects, facts[0].missed) == (1, 1)
    assert facts[1].labelled
    assert facts[1].objects == 0


def test_turned_and_deep_pictures(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    turned = tmp_path / "turned.jpg"
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.fromarray(pixels).save(turned, exif=orientation)
    deep = tmp_path / "deep.png"
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(deep)
    report = explain_files(str(model), [str(turned), str(deep)], tmp_path / "out", settings=LOW)
    assert [(facts.width, facts.height) for facts in report.explanation.pictures] == [(40, 80), (80, 40)]
    detector = load(model)
    for file, facts in zip((turned, deep), report.explanation.pictures, strict=True):
        assert facts.found == len(detector.predict(file, score_threshold=0.1))


def test_pictures_with_labels_are_known_by_their_files(model: Path, data: Path, photo: Path, tmp_path: Path) -> None:
    given = [str(data / "images" / "3.png"), str(photo)]
    told = explain_files(str(model), given, tmp_path / "out", data=data, settings=LOW).explanation
    assert [facts.labelled for facts in told.pictures] == [True, False]
    assert "1 picture is not in the data: no labels are shown." in told.notes


def test_broken_pictures_are_left_out(model: Path, photo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 nothing")
    words = ["explain", str(model), str(broken), str(photo), "-o", str(tmp_path / "out"), "--top", "2", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert (content["pictures"], len(content["skipped"])) == (1, 1)
    assert "broken.jpg" in result.stderr
    with pytest.raises(BrokenInputError):
        explain_files(str(model), [str(broken)], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_second_call_replaces_the_first(model: Path, data: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = explain_files(str(model), [], out, data=data, settings=LOW)
    second = explain_files(str(model), [str(photo)], out, settings=LOW)
    assert list((out / "pictures").iterdir()) == [second.drawings[0]]
    assert not first.drawings[0].exists()
    assert json.loads((out / NUMBERS).read_text())["info"]["written"] == ["pictures/0001-photo.png"]


@pytest.mark.parametrize("content", ["notes", '{"info": {"generator": "gfocal predict"}}', "[]"])
def test_folders_of_others_are_left_alone(content: str, model: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / NUMBERS).write_text(content)
    with pytest.raises(UsageError, match="did not write"):
        explain_files(str(model), [str(photo)], out)
    assert [path.name for path in out.iterdir()] == [NUMBERS]
    with pytest.raises(UsageError, match="it is a file"):
        explain_files(str(model), [str(photo)], photo)


def test_a_list_of_files_removes_none_of_somebody_else(model: Path, photo: Path, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.png"
    victim.write_bytes(photo.read_bytes())
    explain_files(str(model), [str(photo)], out, settings=LOW)
    content = json.loads((out / NUMBERS).read_text())
    content["info"]["written"] += ["../victim.png", str(victim), "pictures/../../victim.png", 7]
    (out / NUMBERS).write_text(json.dumps(content))
    with pytest.raises(UsageError, match="did not write"):  # a number is no name
        explain_files(str(model), [str(photo)], out, settings=LOW)
    content["info"]["written"].pop()
    (out / NUMBERS).write_text(json.dumps(content))
    explain_files(str(model), [str(photo)], out, settings=LOW)
    assert victim.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"score": 1.0}, "--score"), ({"score": -0.1}, "--score"), ({"top": 0}, "--top"), ({"pictures": 0}, "--most")],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ExplainSettings(**options)


def test_nothing_to_explain(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data PATH"):
        explain_files(str(model), [], tmp_path / "out")


@pytest.mark.slow
def test_a_page_has_an_end(calibrated: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_OTHERS", 60_000)
    settings = ExplainSettings(score=0.1, top=10, pictures=4)
    report = explain_files(str(calibrated), [], tmp_path / "out", data=data, settings=settings)
    every = sum(len(facts.detections) for facts in report.explanation.pictures)
    page = read_page(report.page.read_text())
    shown = {shown.id for gallery in report.explanation.galleries for shown in gallery.shown}
    ids = {attributes["id"] for attributes in page.of("article")}
    assert {f"d{number}" for number in shown} <= ids
    assert len(ids) < every
    assert f"{every - len(ids)} detection" in page.text
    assert page.problems == []
    content = json.loads(report.numbers.read_text())
    assert sum(len(facts["detections"]) for facts in content["pictures"]) == every


def test_edges_answer_to_pointer_and_keyboard(explained: ExplainReport, tmp_path: Path) -> None:
    with browsing(tmp_path, "--allow-file-access-from-files") as browser:
        browser.screen(1280, 900)
        browser.call("Page.navigate", url=explained.page.as_uri())
        browser.wait("document.readyState == 'complete'")
        browser.evaluate("window.one = document.querySelector('#d1'); one.scrollIntoView()")
        panels = "[...one.querySelectorAll('.panel')].map(p => getComputedStyle(p).display == 'block')"
        shown = browser.evaluate(panels)
        assert sum(shown) == 1
        chosen = shown.index(True)
        browser.evaluate("one.querySelector('input:checked').focus()")
        browser.key("ArrowRight", 39)
        assert browser.evaluate(panels).index(True) == (chosen + 1) % 4
        other = (chosen + 3) % 4
        x, y = browser.evaluate(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])(one.querySelector('.h{other}').getBoundingClientRect())"
        )
        hit = browser.evaluate(f"document.elementFromPoint({x}, {y}).className")
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        wanted = int(hit[-1])
        assert browser.evaluate(panels) == [i == wanted for i in range(4)]
        for width in (400, 1280):
            browser.screen(width, 900, phone=width == 400)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.said == []
