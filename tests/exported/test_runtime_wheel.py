"""The distribution for machines without torch: what it asks for is enough to run a file, and is not torch."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gfocal.errors import OF_TORCH
from helpers.made_exports import INFO, graph, save
from helpers.paths import ROOT


def said(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a copy: a build leaves folders where it works."""
    work = tmp_path_factory.mktemp("wheel")
    (work / "tree").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "tree")
    shutil.copytree(ROOT / "src", work / "tree" / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    dist = work / "dist"
    said(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(work / "tree"))
    (of_gfocal,) = dist.glob("*.whl")
    return Path(said(sys.executable, str(ROOT / "scripts" / "runtime_wheel.py"), str(of_gfocal)).strip())


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages as `pip install 'gfocal-runtime[onnx]'` would fill it, of what is installed here."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    (own,) = importlib.metadata.distributions(path=[str(folder)])
    waiting = [(Requirement(line), ("onnx", "")) for line in own.requires or ()]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        requirement, extras = waiting.pop()
        if requirement.marker is not None and not any(requirement.marker.evaluate({"extra": own}) for own in extras):
            continue
        name = canonicalize_name(requirement.name)
        asked = (*sorted(requirement.extras), "")
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        there = importlib.metadata.distribution(name)
        assert requirement.specifier.contains(there.version, prereleases=True), requirement
        for top in {file.parts[0] for file in there.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(there.locate_file(top))))
        waiting += [(Requirement(line), asked) for line in there.requires or ()]
    return folder


def alone(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Python that sees nothing but its own library and this folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    return subprocess.run(
        [sys.executable, "-S", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept, "PYTHONPATH": str(site)},
    )


def test_it_asks_for_nothing_of_torch(wheel: Path, site: Path) -> None:
    assert not {name for name in OF_TORCH if (site / name).exists()}
    assert not (site / "onnx").exists()
    (own,) = importlib.metadata.distributions(name="gfocal-runtime", path=[str(site)])
    assert own.version == importlib.metadata.version("gfocal")
    assert own.metadata.get_all("Provides-Extra") == ["onnx", "openvino", "supervision"]
    extras = {str(Requirement(line).marker) for line in own.requires or ()} - {"None"}
    assert extras == {'extra == "onnx"', 'extra == "openvino"', 'extra == "supervision"'}
    assert [point.name for point in own.entry_points] == ["gfocal"]
    wanted = {path.name for path in (ROOT / "src" / "gfocal").iterdir()} - {"__pycache__"}
    assert wanted <= {path.name for path in (site / "gfocal").iterdir()}


def test_it_finds_what_gfocal_finds(site: Path, scenes: Path, tmp_path: Path) -> None:
    file = save(tmp_path, graph(), INFO.to_text())
    image = sorted((scenes / "images").glob("*.jpg"))[0]
    code = "import sys, gfocal; print(gfocal.load(sys.argv[1]).predict(sys.argv[2]).boxes.shape)"
    assert alone(site, "-c", code, file, image).stdout == "(1, 4)\n"
    done = alone(site, "-m", "gfocal", "predict", file, image, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["drawings"]) == 1
    content = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert len(content["annotations"]) == 1


def test_it_measures(site: Path, scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations" / "val.json").read_text(encoding="utf-8"))
    names = tuple(one["name"] for one in sorted(content["categories"], key=lambda one: one["id"]))
    file = save(tmp_path, graph(), replace(INFO, names=names).to_text())
    done = alone(site, "-m", "gfocal", "eval", file, "--data", scenes, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_detections"] == len(content["images"])


def test_what_needs_torch_says_how_to_get_it(site: Path) -> None:
    done = alone(site, "-m", "gfocal", "doctor")
    assert done.returncode == 2
    assert "error: this needs torch" in done.stderr
    assert "gfocal-runtime" in done.stderr
