"""Node and npm, where they are installed; what needs them is skipped elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def node() -> str:
    """The program."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node is here: apt-get install nodejs")
    return found


def run_module(script: str, folder: Path, values: Any = None) -> Any:
    """What a module prints as JSON; it finds ``values`` in ``given``."""
    program = node()
    (folder / "given.json").write_text(json.dumps(values))
    file = folder / "script.mjs"
    file.write_text(
        'import { readFileSync } from "node:fs";\n'
        f"const given = JSON.parse(readFileSync({json.dumps(str(folder / 'given.json'))}));\n{script}"
    )
    done = subprocess.run([program, str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def npm(folder: Path, *words: str) -> str:
    """What npm prints; skipped where it is missing, or cannot have what it is asked for."""
    program = shutil.which("npm")
    if program is None:
        pytest.skip("no npm is here: apt-get install npm")
    # onnxruntime-node would fetch CUDA's libraries from elsewhere.
    environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
    done = subprocess.run([program, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    if done.returncode:
        pytest.skip(f"npm {' '.join(words)} fails here: {done.stderr[-300:]}")
    return done.stdout
