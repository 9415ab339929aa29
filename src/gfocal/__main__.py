"""``python -m gfocal`` is ``gfocal``."""

from __future__ import annotations

from gfocal.cli import main

if __name__ == "__main__":
    main()
