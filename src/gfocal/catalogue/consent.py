"""Whether somebody agrees to a licence that forbids commercial use."""

from __future__ import annotations

import sys

from gfocal.catalogue.entries import Published
from gfocal.catalogue.settings import says_yes
from gfocal.errors import UsageError
from gfocal.runtime.distributed import launched
from gfocal.utils.text import program


def require_consent(entry: Published, *, yes: bool) -> None:
    """Ask, where the licence forbids commercial use and nobody has agreed yet.

    Args:
        entry: what is about to be fetched.
        yes: somebody has agreed.

    Raises:
        UsageError: no, or nobody can be asked.
    """
    if not entry.source.noncommercial or yes or says_yes():
        return
    licence = f"the licence of {entry.name} ({entry.source.licence}) forbids commercial use"
    if launched() or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{licence}, and nobody can be asked here. To agree and fetch it: {program()} models {entry.name} "
            "--download --yes; GFOCAL_YES=1 agrees, too"
        )
    print(f"{licence}. Fetch it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise UsageError(f"{entry.name} is not fetched: nobody agreed to its licence")
