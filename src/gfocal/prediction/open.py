"""Loading any detector; torch comes with those that need it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.errors import UsageError, require_texts
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import is_exported, open_exported

if TYPE_CHECKING:
    from gfocal.detector import DenseDetector


def load(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, names: Sequence[str] | None = None
) -> DenseDetector | ExportedDetector:
    """A detector, in evaluation mode on the CPU.

    Args:
        name_or_path: a run folder (its best weights), a ``.safetensors`` file that gfocal wrote; the name of published
            weights such as "gfl_r50_coco" (`gfocal models`), or "hub:owner/name", which are fetched where they are
            not here yet; or a recipe: a name such as "gfl_nano" or a YAML file. A recipe gives an untrained detector.
            Or a file that ``gfocal export`` wrote (``.onnx``, ``.pt2``, ``.xml``): that finds the same, and but for a
            ``.pt2`` needs no torch.
        overrides: "a.b=c" recipe keys, for example "data.resize.size=416"; an exported file takes none.
        names: class names, for a recipe only; by default "class 0" to "class 79".

    Raises:
        UsageError: nothing of the kind is there, or it does not fit.
        GfocalError: weights cannot be fetched.

    Example:
        >>> import gfocal
        >>> detector = gfocal.load("gfl_nano", names=("cat", "dog"))
        >>> detector.names
        ('cat', 'dog')
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UsageError(f"a path or the name of a recipe is needed, not {type(name_or_path).__name__} {name_or_path}")
    require_texts("overrides", overrides)
    if names is not None:
        require_texts("names", names)
    if names is not None and len(names) == 0:
        raise UsageError("names is empty: a detector needs at least one class")
    if is_exported(name_or_path):
        if names is not None:
            raise UsageError(f"names goes with a recipe; {name_or_path} has its own class names")
        refuse_overrides(name_or_path, overrides)
        return open_exported(name_or_path)
    from gfocal.prediction.load import load_recipe_or_trained

    return load_recipe_or_trained(name_or_path, overrides, names)


def refuse_overrides(path: str | Path, overrides: Sequence[str]) -> None:
    """Refuse recipe keys for an exported file.

    Raises:
        UsageError: there are some.
    """
    if overrides:
        raise UsageError(f"{path} is an exported file, which is fixed: give {overrides[0]} to gfocal export --set")
