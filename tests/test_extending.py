"""docs/extending.md: its file and its lines, put into a copy of the package, make a form that can be trained."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FORM = "src/gfocal/representation/varifocal.py"

TRAIN = """
import torch
from gfocal.recipe import load_recipe
from gfocal.structures import Targets
from gfocal.zoo import build_detector

recipe = load_recipe("atss_nano", ["model.quality.kind=varifocal", "model.quality.gamma=1.5"])
detector = build_detector(recipe, ["a", "b"])
quality = detector.quality
assert (type(quality).__name__, quality.alpha, quality.gamma) == ("VarifocalQuality", 0.75, 1.5)
load_recipe("retinanet_nano", ["model.quality.kind=varifocal"])
load_recipe("ssd_nano", ["model.quality.kind=varifocal"])
pictures = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
assignment = detector.assign_batch(pictures, [Targets(torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.tensor([1]))])
sum(detector.losses(detector(pictures), assignment, (64, 64)).values()).backward()
assert all(p.grad.isfinite().all() for p in detector.head.parameters())
print("trained", detector.quality.__module__)
"""


def hunks(diff: str) -> Iterator[tuple[str, str, str]]:
    """(file, lines before, lines after) of each place."""
    for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        file, _, rest = part.partition("\n")
        for hunk in re.split(r"^@@\n", rest, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            yield file, *("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))


def changed_files() -> dict[str, str]:
    """New text of every file that the page changes.

    The assertion says that a place of the page is not there, or there twice: write the page again.
    """
    (form,) = re.findall(r"^whole file, .*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    files = {FORM: form}
    for file, before, after in hunks(diff):
        text = files.get(file) or (ROOT / file).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file}: {before}"
        files[file] = text.replace(before, after)
    return files


def test_the_places_of_the_page_are_there() -> None:
    files = changed_files()
    assert files.keys() == {FORM, "src/gfocal/recipe/forms.py", "docs/recipes.md"}
    for file, text in files.items():
        if file.endswith(".py"):
            compile(text, file, "exec")


@pytest.mark.slow
def test_the_lines_of_the_page_add_the_form(tmp_path: Path) -> None:
    files = changed_files()
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file, text in files.items():
        if file.startswith("src/"):
            (tmp_path / file).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "trained gfocal.representation.varifocal\n", done.stderr


def test_a_place_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules[__name__], "PAGE", PAGE.replace(' Form("representation.mined', ' Gone("representation.mined')
    )
    with pytest.raises(AssertionError, match=r"src/gfocal/recipe/forms.py: .*Gone"):
        changed_files()
