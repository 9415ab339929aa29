"""Names from outside never steer the terminal: file names, class names, words of other programs."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

import gfocal
from gfocal.cli.app import app
from gfocal.cli.console import PlainConsole
from gfocal.cli.terminal import echo, fail, say, warn
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.utils.progress import ProgressBar
from gfocal.utils.text import visible
from helpers.small_runs import SMALL

EVIL = "c\x1b[31mat\x1b]0;owned\x07\nerror: forged\u202e\x9b2J\x7f"
SHOWN = r"c\x1b[31mat\x1b]0;owned\x07\nerror: forged\u202e\x9b2J\x7f"


def harmless(text: str) -> bool:
    """Nothing but newlines and what can be seen."""
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in text) and not any(
        unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI") for c in text
    )


def test_what_is_shown_as_an_escape_and_what_is_not() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("photo ü 写真 صورة 👩\u200d🚀.jpg") == "photo ü 写真 صورة 👩\u200d🚀.jpg"
    assert visible("bytes\udcff\ud800") == r"bytes\udcff\ud800"  # of a name that is no UTF-8: it cannot be printed
    assert visible("two\nlines\t\x1b", keep="\n\t") == "two\nlines\t\\x1b"
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert harmless(visible(every))


def test_every_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    echo(EVIL)
    say(EVIL)
    warn([EVIL], "broken record", "left out")
    with pytest.raises(Exception):  # noqa: B017  typer's own way of leaving
        fail(ValueError(EVIL), 1)
    with ProgressBar(1, "reading") as bar:
        bar.say(EVIL)
    console = PlainConsole()
    console.file = io.StringIO()
    console.print(f"a: {EVIL}", soft_wrap=True)
    console.print(Text(EVIL), Text.assemble((EVIL, "bold")), EVIL)
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console.print(table)
    found = capsys.readouterr()
    assert harmless(found.out)
    assert harmless(found.err)
    assert harmless(console.file.getvalue())
    assert found.out == SHOWN + "\n"
    assert found.err.count(SHOWN) == 3
    assert r"error: c\x1b[31mat\x1b]0;owned\x07 error: forged\u202e" in found.err  # one line, its blanks made one


@pytest.fixture
def hostile(tmp_path: Path, scenes: Path) -> Path:
    """A model and data whose names are all like that."""
    names = (EVIL, "dog")
    recipe = load_recipe("gfl_nano", SMALL)
    save_detector(tmp_path / "m.safetensors", gfocal.build_detector(recipe, names).state_dict(), recipe, names)
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (40, 40), (9, 90, 9)).save(folder / f"a{EVIL.replace('/', '')}.png")
    (folder / f"b{EVIL}.jpg").write_bytes(b"nothing")
    (folder / f"c{EVIL}.heic").write_bytes(b"")
    content = {
        "images": [{"id": 1, "file_name": f"a{EVIL}.png", "width": 40, "height": 40}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20]},
            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [1, 1, 20, EVIL]},
        ],
        "categories": [{"id": 1, "name": EVIL}, {"id": 2, "name": "dog"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "m.safetensors", "data", "-o", "out", "--score", "0"],
        ["predict", "m.safetensors", f"data/{EVIL}", "-o", "out"],
        ["predict", f"{EVIL}.safetensors", "data"],
        ["predict", "m.safetensors", "data", "--set", f"data.{EVIL}=1"],
        ["eval", "m.safetensors", "--data", "data", "--skip-broken", "--split", "train"],
        ["eval", "m.safetensors", "--data", f"data/{EVIL}"],
        ["data", "check", "data", "--all"],
        ["data", "convert", "data", "--to", "yolo", "-o", "yolo", "--skip-broken"],
        ["data", "stats", "data", "--recipe", "gfl_nano", "--skip-broken"],
        ["data", "check", EVIL],
        ["train", EVIL, "--data", "data"],
        ["recipes", EVIL],
        ["import", EVIL, "-o", "x"],
    ],
)
def test_commands(arguments: list[str], hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    result = CliRunner().invoke(app, arguments)
    assert harmless(result.output)
    assert r"\x1b[31m" in result.output or arguments[0] == "data"
    assert "unexpected" not in result.output
