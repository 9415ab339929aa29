"""What the project's files say of it: one version everywhere, and the oldest libraries it supports."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import gfocal

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = ("3.11", "3.12", "3.13")


def oldest(python: str) -> dict[str, Version]:
    """What constraints-oldest.txt pins for a Python version."""
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    chosen = [one for one in wanted if one.marker is None or one.marker.evaluate({"python_version": python})]
    pinned = {one.name.lower(): Version(str(one.specifier).removeprefix("==")) for one in chosen}
    assert len(pinned) == len(chosen), "pinned twice"
    return pinned


def test_the_version_stands_in_one_place() -> None:
    """The build reads the literal without running the package, which would need torch."""
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "gfocal.__version__"}
    source = ast.parse((ROOT / "src" / "gfocal" / "__init__.py").read_text(encoding="utf-8"))
    values = [
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    assert values == [gfocal.__version__]


def test_changelog_and_citation_are_of_this_version() -> None:
    """Of a version in the making: the changelog says what is unreleased, the citation names the last release."""
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", log, re.MULTILINE)
    own = Version(gfocal.__version__)
    assert own.is_devrelease == ("\n## [Unreleased]\n" in log)
    assert own > Version(releases[0][0]) if own.is_devrelease else own == Version(releases[0][0])
    assert releases == sorted(releases, key=lambda release: Version(release[0]), reverse=True)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], str(citation["date-released"])) == releases[0]
    assert citation["license"] == PROJECT["project"]["license"]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_oldest_libraries_are_those_that_pyproject_allows(python: str) -> None:
    pinned = oldest(python)
    for text in PROJECT["project"]["dependencies"]:
        wanted = Requirement(text)
        floor = Version(str(wanted.specifier).removeprefix(">="))
        assert pinned[wanted.name] in wanted.specifier, text
        if python == PYTHONS[0]:  # newer Pythons may lack wheels of the oldest
            assert pinned[wanted.name].release[: len(floor.release)] == floor.release, text


def test_the_hosted_workflow_runs_on_the_pythons_of_the_classifiers() -> None:
    named = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert named == list(PYTHONS)
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == [PYTHONS[0], PYTHONS[-1]]
    assert all((ROOT / name).is_file() for name in matrix["constraints"])
    assert set(workflow["permissions"].items()) == {("contents", "read")}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
