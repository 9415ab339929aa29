"""Where things are, wherever the test that asks lies."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
PACKAGE = ROOT / "src" / "gfocal"
