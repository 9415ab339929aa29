"""The command line: it parses, calls and prints."""

from __future__ import annotations


def main() -> None:
    """Run the `gfocal` command; what installed scripts call, wherever the verbs live."""
    from gfocal.cli.app import main as run

    run()
