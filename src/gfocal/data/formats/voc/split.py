"""Where one split of a Pascal VOC data set lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VocSplit:
    """Where one split is.

    Attributes:
        root: the folder of the data set.
        labels: the folder of its XML files.
        images: the folder of its images.
        stems: names of the images of the split without ending; None for all in the folders.
        listed: the file that lists them.
        class_folders: folders whose XML files together name the classes of the data set.
    """

    root: Path
    labels: Path
    images: Path
    stems: tuple[str, ...] | None
    listed: Path | None
    class_folders: tuple[Path, ...]
