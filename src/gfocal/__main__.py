"""``python -m gfocal`` is ``gfocal``."""

from __future__ import annotations

from gfocal.cli.app import main

if __name__ == "__main__":
    main()
