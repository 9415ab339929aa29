"""gfocal: dense object detectors built on Generalized Focal Loss.

    import gfocal
    detector = gfocal.load("runs/street")  # or a checkpoint file, or a recipe name (untrained)
    found = detector.predict("street.jpg")

Importing the package loads nothing heavy: torch comes with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfocal.prediction.load import load

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from gfocal.prediction.load import load

        return load
    raise AttributeError(f"module 'gfocal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
