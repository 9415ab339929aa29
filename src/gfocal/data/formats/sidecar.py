"""``gfocal.json`` beside a YOLO or VOC data set: what those formats cannot hold.

For every image it keeps all of its record and a hash of its label file. As long as a label file is the one that was
written, the record counts; one that was changed afterwards counts itself. So does the whole data set once its classes
were renamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from gfocal.data.index.build import Record
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import UsageError
from gfocal.utils.text import counted

NAME = "gfocal.json"
_VERSION = 1


class Kept(msgspec.Struct, gc=False, omit_defaults=True):
    """One image; lists follow the order of its boxes, but crowd and ignore list positions."""

    file: str  # of the image, from the folder of the sidecar
    digest: str  # of its label file
    id: int
    width: int
    height: int
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    area: list[float] = []
    ids: list[int] = []
    crowd: list[int] = []
    ignore: list[int] = []
    edge_ambiguity: list[tuple[float, float, float, float] | None] | None = None


class Content(msgspec.Struct, gc=False):
    """The file. The order of the classes is that of the labels."""

    gfocal_sidecar: int
    format: str
    names: list[str]
    category_ids: list[int]
    splits: dict[str, list[Kept]]


def digest(labels: bytes) -> str:
    """Of a label file; b"" where an image has none. The kind of line ends does not count: git changes them."""
    return hashlib.sha256(labels.replace(b"\r\n", b"\n")).hexdigest()[:24]


def keep(index: DataIndex, i: int, file: str, labels: bytes) -> Kept:
    """The record of image ``i``, written as ``file`` with a label file of these bytes."""
    own = slice(int(index.box_start[i]), int(index.box_start[i + 1]))
    ambiguity = None
    if index.edge_ambiguity is not None:
        rows = np.asarray(index.edge_ambiguity[own], np.float64)
        ambiguity = [None if np.isnan(row).any() else tuple(row.tolist()) for row in rows]
    return Kept(
        file=file,
        digest=digest(labels),
        id=int(index.image_ids[i]),
        width=int(index.widths[i]),
        height=int(index.heights[i]),
        boxes=[tuple(box) for box in np.asarray(index.boxes[own], np.float64).tolist()],
        labels=np.asarray(index.labels[own]).tolist(),
        area=np.asarray(index.area[own], np.float64).tolist(),
        ids=np.asarray(index.annotation_ids[own]).tolist(),
        crowd=np.flatnonzero(np.asarray(index.crowd[own])).tolist(),
        ignore=np.flatnonzero(np.asarray(index.ignore[own])).tolist(),
        edge_ambiguity=ambiguity,
    )


def write_sidecar(
    file: Path, fmt: str, names: Sequence[str], category_ids: Sequence[int], splits: Mapping[str, list[Kept]]
) -> None:
    content = Content(_VERSION, fmt, list(names), list(category_ids), dict(splits))
    file.write_bytes(msgspec.json.encode(content) + b"\n")


def sidecar_format(root: Path) -> str | None:
    """The format that a sidecar in a folder is of, from its first bytes; None without one."""
    try:
        with (root / NAME).open("rb") as file:
            head = file.read(200)
    except OSError:
        return None
    return next((fmt for fmt in ("yolo", "voc") if b'"format":"%s"' % fmt.encode() in head.replace(b" ", b"")), None)


@dataclass
class Sidecar:
    """What a sidecar says of one split, and which of its images were changed since."""

    names: tuple[str, ...]
    category_ids: list[int]
    kept: Mapping[str, tuple[int, Kept]]
    changed: list[str] = field(default_factory=list)

    def record(self, file: str, file_name: str, labels: bytes) -> Record | None:
        """The record of an image if its label file is still the one that was written.

        Args:
            file: from the folder of the sidecar.
            file_name: as the record should name it.
            labels: the bytes of its label file.
        """
        rank, kept = self.kept.get(file, (0, None))
        if kept is None:
            return None
        if kept.digest != digest(labels):
            self.changed.append(file)
            return None
        return _record(kept, file_name, rank)

    def identity(self, file: str) -> tuple[int | None, int]:
        """(id, rank) of an image, also where its labels changed."""
        rank, kept = self.kept.get(file, (1 << 62, None))
        return None if kept is None else kept.id, rank

    def report_changed(self, problems: Problems) -> None:
        if self.changed:
            first = ", ".join(self.changed[:3]) + (", ..." if len(self.changed) > 3 else "")
            problems.note(
                f"{NAME}: the label files of {counted(len(self.changed), 'picture')} changed after it was written; "
                f"gfocal uses them without crowds, areas and ids: {first}"
            )


def _record(kept: Kept, file_name: str, rank: int) -> Record:
    count = len(kept.labels)
    marks = [np.isin(np.arange(count), positions) for positions in (kept.crowd, kept.ignore)]
    unknown = (np.nan,) * 4
    return Record(
        file_name=file_name,
        width=kept.width,
        height=kept.height,
        labels=np.array(kept.labels, np.int64),
        boxes=np.array(kept.boxes, np.float64).reshape(-1, 4),
        crowd=marks[0],
        ignore=marks[1],
        area=np.array(kept.area, np.float64),
        annotation_ids=np.array(kept.ids, np.int64),
        edge_ambiguity=None
        if kept.edge_ambiguity is None
        else np.array([row or unknown for row in kept.edge_ambiguity], np.float64).reshape(-1, 4),
        id=kept.id,
        rank=rank,
    )


def read_sidecar(root: Path, fmt: str, split: str, names: Sequence[str] | None, problems: Problems) -> Sidecar | None:
    """What the sidecar of a data set says of a split; None without one, or where the classes were renamed since.

    Args:
        root: its folder.
        fmt: "yolo" or "voc"; that of another format is not used.
        split: a key of its splits; "all" takes them together.
        names: the class names that the data set itself gives, None where it gives none.
        problems: gets a note about a sidecar that is not used.

    Raises:
        UsageError: the file is damaged.
    """
    file = root / NAME
    if not file.is_file():
        return None
    try:
        content = msgspec.json.decode(file.read_bytes(), type=Content)
        _check(content)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OSError) as error:
        raise UsageError(f"{file} is damaged ({error}); remove it to read the label files alone") from None
    if content.format != fmt:
        problems.note(f"{file} is not used: it belongs to data in the format {content.format!r}")
        return None
    if names is not None and list(names) != content.names:
        problems.note(f"{file} is not used: the classes were changed after it was written")
        return None
    parts = content.splits.values() if split == "all" else [content.splits.get(split, [])]
    kept = {one.file: (rank, one) for rank, one in enumerate(one for part in parts for one in part)}
    return Sidecar(tuple(content.names), content.category_ids, kept)


def _check(content: Content) -> None:
    if content.gfocal_sidecar != _VERSION:
        raise ValueError(f"version {content.gfocal_sidecar}, this program knows {_VERSION}")
    classes = len(content.names)
    if len(set(content.category_ids)) != classes or len(content.category_ids) != classes:
        raise ValueError("category_ids does not fit names")
    for part in content.splits.values():
        for one in part:
            count = len(one.labels)
            lengths = {len(one.boxes), len(one.area), len(one.ids), len(one.edge_ambiguity or one.labels)}
            positions = [*one.crowd, *one.ignore]
            if lengths != {count} or any(not 0 <= label < classes for label in one.labels):
                raise ValueError(f"the record of {one.file} does not fit together")
            if min(one.width, one.height) < 1 or any(not 0 <= position < count for position in positions):
                raise ValueError(f"the record of {one.file} does not fit together")
