"""How threads of OpenMP wait: said before torch is loaded, unless a person has said it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gfocal.utils.waiting import wait_briefly


def test_waits_briefly_where_nothing_is_said() -> None:
    environment = {"HOME": "/home/me"}
    wait_briefly(environment)
    assert environment == {"HOME": "/home/me", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


@pytest.mark.parametrize("said", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "0"}, {"OMP_WAIT_POLICY": ""}])
def test_leaves_what_a_person_has_said(said: dict[str, str]) -> None:
    environment = dict(said)
    wait_briefly(environment)
    assert environment == said


def test_the_command_says_it_before_torch_is_loaded() -> None:
    code = (
        "import sys, os\n"
        "sys.argv = ['gfocal', '--version']\n"
        "from gfocal.cli.app import main\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(os.environ['GOMP_SPINCOUNT'])\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "10000"
