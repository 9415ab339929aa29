"""gfocal: dense object detectors built on Generalized Focal Loss."""

from __future__ import annotations

__version__ = "0.1.0"
