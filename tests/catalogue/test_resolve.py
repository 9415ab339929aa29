"""What a MODEL is: a path goes before a name, and a near miss is told what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

import gfocal
from gfocal.catalogue import entries
from gfocal.catalogue.entries import Published
from gfocal.catalogue.resolve import model_path, planned_path
from gfocal.commands.export.export import export_files
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.export.formats import ExportOptions
from gfocal.export.places import named_after, page_place, place_of
from gfocal.runs.card import read
from helpers.file_server import FileServer, Served
from helpers.published_files import entry, nanodet_file
from helpers.small_runs import SHORT


@pytest.fixture
def small(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Published:
    """The only entry of the catalogue."""
    server.files["/w.pth"] = Served(nanodet_file())
    one = entry(f"{server.url}/w.pth", aliases=("Small-R1",))
    monkeypatch.setattr(entries, "published", lambda: (one,))
    return one


def test_a_name_is_fetched(small: Published, home: Path) -> None:
    said: list[str] = []
    assert model_path("small_r1_coco", say=said.append) == home / "models" / "small_r1_coco"
    assert said[0].startswith("small_r1_coco: NanoDet-m")
    assert model_path("SMALL-r1") == model_path("small_r1_coco")


def test_a_path_goes_before_a_name(
    small: Published, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small_r1_coco").mkdir()
    said: list[str] = []
    assert model_path("small_r1_coco", say=said.append) == Path("small_r1_coco")
    assert said == ["note: the folder small_r1_coco here is taken, not the published weights of that name"]
    said.clear()
    assert model_path("./small_r1_coco", say=said.append) == Path("small_r1_coco")
    assert said == []
    assert server.asked == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "small_r1_coc",
            "checkpoint small_r1_coc; published weights of nearly that name: small_r1_coco",
        ),
        ("gfl_nan", "no run folder or checkpoint gfl_nan; the nearest recipe is gfl_nano$"),
        ("runs/street", "no run folder or checkpoint runs/street$"),
        ("gfl_nano", "gfl_nano is a recipe, a detector without training; train it"),
        ("my.yaml", "my.yaml is a recipe"),
        ("hub:street", "hub:street names no repository"),
        ("", "MODEL is an empty text: give a run folder"),
    ],
)
def test_what_is_nothing(small: Published, model: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model_path(model)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("best.onnx", "best.onnx is an exported file, which is fixed: give the checkpoint"),
        ("best.PT2", "best.PT2 is an exported file"),
        ("best.xml", "best.xml is an exported file"),
        ("best.bin", "best.bin holds the weights of .*best.xml: give that"),
    ],
)
def test_exported_files_have_no_weights_to_take(name: str, words: str, tmp_path: Path) -> None:
    for each in {name, "best.xml"}:
        (tmp_path / each).write_bytes(b"x")
    with pytest.raises(UsageError, match=words):
        model_path(tmp_path / name)
    with pytest.raises(UsageError, match=words):
        export_files(str(tmp_path / name))


def test_only_what_was_exported_is_taken_for_it(tmp_path: Path) -> None:
    run, other = tmp_path / "street.onnx", tmp_path / "pytorch_model.bin"
    run.mkdir()
    other.write_bytes(b"x")
    assert (model_path(run), model_path(other)) == (run, other)


@pytest.mark.parametrize("name", ["small_r1_coco", "SMALL-R1"])
def test_an_export_of_a_name_goes_into_the_current_folder(
    small: Published, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beside = named_after(name, model_path(name))
    options = ExportOptions(precision="fp16")
    assert place_of(beside, None, options) == tmp_path / "small_r1_coco-fp16.onnx"
    assert page_place(beside, None, ExportOptions()) == tmp_path / "small_r1_coco-web" / "small_r1_coco.onnx"
    Path("small_r1_coco").symlink_to(model_path(name))  # a path goes before a name
    beside = named_after("small_r1_coco", model_path("small_r1_coco"))
    assert beside == Path("small_r1_coco/best.safetensors")


def test_python_takes_names(small: Published) -> None:
    assert len(gfocal.load("small_r1_coco").names) == 80
    with pytest.raises(UsageError, match="has its own class names"):
        gfocal.load("small_r1_coco", names=["cat"])


def test_a_training_begins_with_a_name_and_resumes_without_it(
    small: Published, server: FileServer, tmp_path: Path, home: Path
) -> None:
    make_scenes(tmp_path / "data", train=4, val=2, size=64)
    index = gfocal.open_dataset(tmp_path / "data", "train")
    recipe = gfocal.load_recipe("gfl_nano", [*SHORT, "schedule.epochs=1"])
    gfocal.train(recipe, index, None, tmp_path / "run", init="small_r1_coco", progress=False, plots=False)
    card = read(tmp_path / "run")
    assert card is not None
    assert card["init"] is not None
    folder = home / "models" / "small_r1_coco"
    assert card["init"]["from"] == str(folder)
    assert "backbone.conv1.0.weight" not in card["init"]["fresh"]
    (folder / "model.json").unlink()
    asked = len(server.asked)
    again = gfocal.train(recipe, index, None, tmp_path / "run", resume=True, init="small_r1_coco", progress=False)
    assert again.steps == 1
    assert len(server.asked) == asked, "a run that continues has weights of its own"


def test_a_planned_path_fetches_nothing(small: Published, server: FileServer, home: Path, tmp_path: Path) -> None:
    assert planned_path("small_r1_coco") == home / "models" / "small_r1_coco"
    assert planned_path(tmp_path) == tmp_path
    assert planned_path("anything") == Path("anything")
    assert server.asked == []
