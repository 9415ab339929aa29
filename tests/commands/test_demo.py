"""The demo as a new user runs it: what it reaches and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_reaches_its_figure(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    run = subprocess.run(
        [sys.executable, "-m", "gfocal", "demo", "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(run.stdout)
    print(result["metrics"]["AP"], result["seconds"])
    assert result["metrics"]["AP"] >= 0.50
    assert result["metrics"]["num_images"] == 500
    assert result["metrics"]["score_iou_correlation"] > 0.3
    for file in result["files"].values():
        assert Path(file).exists()
