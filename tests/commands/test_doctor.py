"""`gfocal doctor`: what it finds, and that it can find something wrong."""

from __future__ import annotations

import importlib.metadata
import json
import re

import pytest
import torch
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.commands import doctor
from gfocal.runtime import machine as doctor_machine
from gfocal.runtime.machine import EXTRAS, GB, libraries_fit, readable, room, room_notes
from helpers.paths import ROOT

PLENTY = {
    "memory": 16 * GB,
    "gpu_memory": [],
    "shared_memory": 8 * GB,
    "disk_here": 90 * GB,
    "disk_for_temporary_files": 90 * GB,
    "open_files": 1024,
    "open_files_at_most": 1_000_000,
}


def test_this_machine() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    content = json.loads(result.stdout)
    assert result.exit_code == 0, [check for check in content["checks"] if not check["ok"]]
    assert content["ok"]
    assert {check["name"] for check in content["checks"]} >= {"libraries", "loader process", "half precision"}
    assert sum(check["seconds"] for check in content["checks"]) < 30
    assert content["room"]["memory"] > 50 * 2**20
    assert content["room"]["open_files"] <= content["room"]["open_files_at_most"] or content["room"]["open_files"] > 0
    assert content["optional"]["wandb"]["install"] == "pip install 'gfocal[wandb]'"


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    said = CliRunner().invoke(app, ["doctor"]).stdout
    for word in ("shared memory", "GB free", "hands tensors over", "all is well"):
        assert word in said


def test_what_is_scarce_is_noted() -> None:
    assert room_notes(PLENTY) == []
    assert room_notes({**PLENTY, "open_files_at_most": -1, "shared_memory": None}) == []
    scarce = {**PLENTY, "memory": 3 * GB, "shared_memory": 64 * 2**20, "disk_here": 0, "open_files_at_most": 1024}
    memory, shared, disk, files = room_notes(scarce)
    assert memory.startswith("memory: only 3.0 GB free; ")
    assert shared.startswith("shared memory: only 0.1 GB free; ")
    assert "--shm-size=2g" in shared
    assert disk.startswith("disk here: only 0.0 GB free; ")
    assert (
        files == "open files at most: only 1024; loader processes hand over several files per picture: ulimit -n 65536"
    )
    assert readable("gpu_memory", [2 * GB, GB]) == "2.0 GB free, 1.0 GB free"
    assert readable("memory", None) == "-"
    assert room().keys() == PLENTY.keys()


@pytest.mark.parametrize(("ours", "theirs"), [("2.8.0", "0.23.0+cpu"), ("2.14.1+cu130", "0.29.1"), ("3.0.0", "1.0.0")])
def test_libraries_of_one_release(ours: str, theirs: str) -> None:
    assert libraries_fit(ours, theirs) == f"torch {ours}, torchvision {theirs}"


def test_libraries_that_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match=re.escape("torchvision 0.24.0 is made for torch 2.9, not for 2.14.1")):
        libraries_fit("2.14.1", "0.24.0")


def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "keep_best", lambda *a, **o: torch.tensor([0]))
    monkeypatch.setattr(doctor_machine, "TensorDataset", lambda numbers: [(numbers[0],)] * 4)
    found = doctor.examine()
    assert not found.ok
    failed = {check.name: check.detail for check in found.checks if not check.ok}
    assert failed.keys() == {"loader process", "post-processing"}
    assert failed["post-processing"] == "ArithmeticError: kept boxes [0] instead of [1, 2]"


def test_every_extra_is_one_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^(\w+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE))
    assert {extra for extra, _ in EXTRAS.values() if extra} <= extras
    assert doctor._version("no-such-package") is None
    assert doctor._version("torch") == importlib.metadata.version("torch")
