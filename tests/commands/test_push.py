"""``gfocal push``: what is given to others, and what is kept back."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import gfocal
from gfocal.catalogue.home import Record, write_record
from gfocal.cli.app import app
from gfocal.commands.push import push
from gfocal.errors import UsageError
from gfocal.recipe import build_recipe
from gfocal.runs.checkpoint import load_detector, read_about, save_detector
from gfocal.runs.initial_weights import start_weights
from gfocal.utils.text import visible
from gfocal.zoo import build_detector
from helpers.fake_hub import Hub, Repository, fake_hub
from helpers.small_runs import assert_identical, small

NAMES = ("cat", "dog*[x](y)", "new\nline")
METRICS = {"AP": 0.5, "AP50": 0.75, "APl": None, "num_images": 1234, "skipped": ["/home/me/secret/broken.jpg: empty"]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with paths of a machine in it."""
    folder = tmp_path / "runs" / "street"
    folder.mkdir(parents=True)
    recipe = small()
    secret = recipe.model.model_copy(update={"pretrained": "/home/me/secret/backbone.pth"})
    detector = build_detector(recipe, NAMES)
    save_detector(
        folder / "best.safetensors",
        detector.state_dict(),
        recipe.model_copy(update={"model": secret}),
        NAMES,
        category_ids=(3, 5, 9),
        notes={"epoch": 7, "metrics": METRICS},
    )
    (folder / "run.json").write_text(json.dumps({"command": ["train", "/home/me/secret/data"], "init": None}))
    return folder


def written(folder: Path) -> dict[str, str]:
    return {file.name: file.read_bytes().decode("utf-8", "replace") for file in sorted(folder.iterdir())}


def test_a_folder_gets_what_would_be_uploaded(run: Path, tmp_path: Path) -> None:
    result = push(str(run), str(tmp_path / "out"))
    files = written(tmp_path / "out")
    assert list(files) == ["README.md", "best.safetensors", "recipe.yaml"]
    assert result.files == {name: (tmp_path / "out" / name).stat().st_size for name in files}
    ours, theirs = load_detector(run)[0], load_detector(tmp_path / "out")[0]
    assert_identical(ours.state_dict(), theirs.state_dict())
    about = read_about(tmp_path / "out" / "best.safetensors")
    assert (about.names, about.category_ids, about.notes["epoch"]) == (list(NAMES), [3, 5, 9], 7)
    assert build_recipe(yaml.safe_load(files["recipe.yaml"])) == build_recipe(about.recipe)


def test_nothing_of_the_machine_goes_along(run: Path, tmp_path: Path) -> None:
    push(str(run), str(tmp_path / "out"))
    for name, text in written(tmp_path / "out").items():
        assert "secret" not in text, name
        assert str(tmp_path) not in text.replace(str(tmp_path / "out"), ""), name
    assert read_about(tmp_path / "out" / "best.safetensors").recipe["model"]["pretrained"] == "backbone.pth"


def test_the_card(run: Path, tmp_path: Path) -> None:
    push(str(run), str(tmp_path / "street"), licence="Apache-2.0")
    card = (tmp_path / "street" / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "gfocal",
        "pipeline_tag": "object-detection",
        "license": "apache-2.0",
        "tags": ["object-detection", "generalized-focal-loss"],
    }
    assert body.startswith("\n# street\n")
    assert "`gfl` on `test_resnet`, images of 64 x 64 pixels" in body
    assert f"gfocal predict {tmp_path / 'street'} images/" in body
    assert "## Classes (3)\n\ncat, dog\\*\\[x\\](y), newline" in body
    assert "## Measured on 1,234 images\n\n| | COCO metric |\n|---|---|\n| AP | 0.500 |\n| AP50 | 0.750 |\n\n" in body
    assert "licence" not in body


@pytest.mark.parametrize("name", ["plain", "two words", "it's", 'a"b', "a;$(id)`id`", "me@v2", "pé", "a\nb"])
def test_what_the_card_says_to_type_works(run: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    push(str(run), str(target))
    lines = (target / "README.md").read_text(encoding="utf-8").splitlines()
    load = next(line for line in lines if line.startswith("detector = "))
    assert ast.literal_eval(load.removeprefix("detector = gfocal.load(").removesuffix(")")) == str(target)
    words = shlex.split(next(line for line in lines if line.startswith("    gfocal predict")))
    assert words == ["gfocal", "predict", visible(str(target)), "images/"]
    title = next(line for line in lines if line.startswith("# "))
    assert title.startswith(f"# {name[0]}")
    assert title.endswith(name[-1].replace("`", "\\`"))


def test_a_name_that_is_no_text_is_written_as_escapes(run: Path, tmp_path: Path) -> None:
    """As Python reads UTF-8 from a command line where LC_ALL=C."""
    target = tmp_path / "p\udcc3\udca9"
    push(str(run), str(target), licence="ours, p\udcc3")
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "\n# p\\\\udcc3\\\\udca9\n" in card
    assert f"gfocal.load({str(target)!r})" in card
    assert yaml.safe_load(card.split("---\n")[1])["license_name"] == "ours, p\\udcc3"


@pytest.mark.parametrize(
    ("licence", "header", "words"),
    [
        (None, {}, "Their owner names no licence."),
        ("Ours: ask", {"license": "other", "license_name": "Ours: ask"}, None),
        ("MIT", {"license": "mit"}, None),
    ],
)
def test_the_licence_is_what_its_owner_says(
    run: Path, tmp_path: Path, licence: str | None, header: dict[str, str], words: str | None
) -> None:
    push(str(run), str(tmp_path / "out"), licence=licence)
    card = (tmp_path / "out" / "README.md").read_text()
    found = yaml.safe_load(card.split("---\n")[1])
    assert {key: value for key, value in found.items() if key.startswith("license")} == header
    assert (words in card) if words else ("Origin" not in card)


def fetched(home: Path, licence: str, noncommercial: bool) -> Path:
    """Published weights that were fetched."""
    folder = home / "models" / "small_r1_coco"
    folder.mkdir(parents=True)
    recipe = small()
    save_detector(folder / "best.safetensors", build_detector(recipe, ("cat",)).state_dict(), recipe, ("cat",))
    record = {
        "name": "small_r1_coco",
        "address": "https://example.org/w.pth",
        "url": "",
        "sha256": "0" * 64,
        "bytes": 1,
    }
    more = {"fetched": "2026-11-27T00:00:00+00:00", "gfocal": "0", "recipe": "gfl_nano", "changed": ()}
    write_record(Record(**record, licence=licence, noncommercial=noncommercial, **more))
    return folder


def test_the_card_names_the_weights_that_these_began_with(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFOCAL_HOME", str(tmp_path / "home"))
    first = fetched(tmp_path / "home", "CC BY-NC 4.0", True)
    between = tmp_path / "runs" / "between"
    between.mkdir()
    (between / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    (between / "run.json").write_text(json.dumps({"init": {"from": str(first)}}))
    (run / "run.json").write_text(json.dumps({"init": {"from": str(between)}}))
    said: list[str] = []
    push(str(run), str(tmp_path / "out"), say=said.append)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "come from small_r1_coco (https://example.org/w.pth), published under CC BY-NC 4.0." in card
    assert said == [WARNING]


WARNING = (
    "warning: they come from small_r1_coco (https://example.org/w.pth), whose licence (CC BY-NC 4.0) forbids "
    "commercial use"
)


def test_origins_go_with_the_weights(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a push, a copy of the file alone, a run that starts from it, and when all before is gone."""
    monkeypatch.setenv("GFOCAL_HOME", str(tmp_path / "home"))
    first = fetched(tmp_path / "home", "CC BY-NC 4.0", True)
    push(str(first), str(tmp_path / "one"), licence="cc-by-nc-4.0")
    shutil.rmtree(tmp_path / "home")
    copied = tmp_path / "alone" / "x.safetensors"
    copied.parent.mkdir()
    shutil.copy(tmp_path / "one" / "best.safetensors", copied)
    started = start_weights(build_detector(small(), ("cat",)), small(), copied)
    (run / "run.json").write_text(json.dumps({"init": started.to_dict()}))
    shutil.rmtree(tmp_path / "one")
    copied.unlink()
    said: list[str] = []
    push(str(run), str(tmp_path / "two"), say=said.append)
    assert said == [WARNING, "warning: they come from one, whose licence (cc-by-nc-4.0) forbids commercial use"]
    text = (tmp_path / "two" / "README.md").read_text()
    assert "published under CC BY-NC 4.0. These weights come from one, published under cc-by-nc-4.0." in text
    assert "/one" not in text


@pytest.mark.parametrize("origins", [None, 3, [3], [{"licence": "x"}], {"words": "x"}])
def test_damaged_origins_count_as_none(run: Path, tmp_path: Path, origins: object) -> None:
    weights = build_detector(small(), NAMES).state_dict()
    save_detector(run / "best.safetensors", weights, small(), NAMES, notes={"origins": origins})
    push(str(run), str(tmp_path / "out"), licence="mit")
    assert "Origin" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        ("/nowhere/nanodet_m", "come from other weights (nanodet_m), which are not here any more"),
        ("/cache/models--me--street/snapshots/0123/best.safetensors", "come from hub:me/street"),
    ],
)
def test_other_beginnings(run: Path, tmp_path: Path, begin: str, words: str) -> None:
    (run / "run.json").write_text(json.dumps({"init": {"from": begin}}))
    push(str(run), str(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert words in card
    assert "/nowhere" not in card
    assert "/cache" not in card


def test_imported_weights_say_so(run: Path, tmp_path: Path) -> None:
    recipe = small()
    weights = build_detector(recipe, NAMES).state_dict()
    save_detector(
        run / "best.safetensors", weights, recipe, NAMES, notes={"imported_from": "x.pth", "format": "nanodet"}
    )
    push(str(run), str(tmp_path / "out"))
    assert "come from the file x.pth of another project" in (tmp_path / "out" / "README.md").read_text()


def test_a_folder_that_holds_something_is_left_alone(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    push(str(run), str(out))
    before = written(out)
    with pytest.raises(UsageError, match="holds files already: give another folder, or --overwrite"):
        push(str(run), str(out))
    push(str(run), str(out), overwrite=True, licence="mit")
    assert written(out)["README.md"] != before["README.md"]
    (out / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="holds files already"):
        push(str(run), str(out), overwrite=True)
    assert (out / "mine.txt").read_text() == "x"


def test_weights_that_are_none_leave_nothing(run: Path, tmp_path: Path) -> None:
    (run / "best.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match="not a gfocal checkpoint"):
        push(str(run), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# --- to the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with fake_hub(monkeypatch, tmp_path / "hf-cache") as running:
        yield running


def test_a_new_repository_is_private_and_works_as_model(run: Path, hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    result = push(str(run), "hub:me/street", say=said.append)
    repository = hub.repositories["me/street"]
    assert repository.private
    assert sorted(repository.files) == ["README.md", "best.safetensors", "recipe.yaml"]
    assert result.target == f"{hub.url}/me/street/commit/{repository.commit}"
    assert repository.messages == ["Weights, recipe and card by gfocal push"]
    assert said[-1].startswith("hub:me/street: best.safetensors (")
    assert said[-1].endswith("seen by you alone, if it is new (--public: anybody)")
    assert "gfocal predict hub:me/street images/" in repository.files["README.md"].decode()
    assert "\n# street\n" in repository.files["README.md"].decode()
    assert gfocal.load("hub:me/street").names == NAMES
    push("hub:me/street", str(tmp_path / "again"))
    assert "These weights come from hub:me/street." in (tmp_path / "again" / "README.md").read_text()


def test_a_repository_that_is_there_stays_as_it_is(run: Path, hub: Hub) -> None:
    hub.repositories["me/street"] = Repository({"notes.txt": b"mine"})
    push(str(run), "hub:me/street", message="Second try")
    repository = hub.repositories["me/street"]
    assert (repository.private, repository.files["notes.txt"], repository.messages) == (False, b"mine", ["Second try"])
    push(str(run), "hub:me/open", public=True)
    assert not hub.repositories["me/open"].private


def test_without_the_right_it_says_how_to_log_in(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UsageError, match=r"hf auth login"):
        push(str(run), "hub:me/street")
    assert hub.repositories == {}


def test_the_command(run: Path, tmp_path: Path) -> None:
    words = ["push", str(run), str(tmp_path / "out"), "--licence", "mit"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["best.safetensors", "recipe.yaml", "README.md"]
    assert lines[3] == f"in {tmp_path / 'out'}"
    refused = CliRunner().invoke(app, words, catch_exceptions=False)
    assert (refused.exit_code, refused.stdout) == (2, "")
    again = CliRunner().invoke(app, [*words, "--overwrite", "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["target"] == str(tmp_path / "out")
    assert "names no repository" in CliRunner().invoke(app, ["push", str(run), "hub:x"]).stderr
