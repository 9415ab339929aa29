"""Reading a COCO data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gfocal.data.formats.coco.locate import locate_images
from gfocal.data.formats.coco.parser import Annotations, note_unread, parse
from gfocal.data.formats.coco.validate import check_annotations, check_categories, check_images
from gfocal.data.index.columns import parts
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import EmptySplitError, UsageError


def read_coco(
    annotations: Path,
    images_dir: Path | Sequence[Path],
    *,
    search: Path | None = None,
    split: str | None = None,
    skip_broken: bool = False,
    problems: Problems | None = None,
) -> DataIndex:
    """Read a COCO annotation file and check all of it, and that each of its images exists.

    Images without boxes are kept. Category ids may be any integers; labels follow their order.

    Args:
        annotations: the JSON file.
        images_dir: the folder that its file names start from; of several, that with most of the images looked for.
        search: images that are not there are looked for below it, see :func:`locate_images`; None looks for none.
        split: decides between images of one name in several folders.
        skip_broken: leave broken annotations and images out and list them in :attr:`DataIndex.skipped`.
        problems: collects what is broken; by default it raises, or skips as ``skip_broken`` says.

    Raises:
        BrokenInputError: a record is broken, and ``skip_broken`` is False.
        EmptySplitError: no image is left.
        UsageError: the file or the folder is missing, or the file is no COCO annotation file.
    """
    annotations = Path(annotations)
    folders = [Path(images_dir)] if isinstance(images_dir, str | Path) else list(images_dir)
    if not any(folder.is_dir() for folder in folders):
        raise UsageError(f"picture folder {folders[0]} does not exist; give the folder that holds the pictures")
    problems = problems or Problems(skip_broken)
    content = parse(annotations, problems)
    category_ids, names = check_categories(annotations, content.categories)
    located = locate_images(content.images, folders, search, annotations, problems, split)
    if problems.unread is not None:
        note_unread(annotations, problems)
    images = check_images(content.images, located, annotations, problems)
    if not images:
        raise EmptySplitError(
            f"{annotations}: no picture {'is left' if content.images else 'in it'}; nothing can be done"
        )
    checked = check_annotations(content.annotations, images, category_ids, annotations, problems)
    columns = _columns(content.annotations, checked.rows)
    return DataIndex.build(
        images_dir=located.folder,
        annotations=annotations,
        image_ids=[image.id for image in images],
        file_names=[image.file_name for image in images],
        widths=[image.width for image in images],
        heights=[image.height for image in images],
        category_ids=category_ids,
        names=names,
        skipped=problems.lines,
        box_start=checked.box_start,
        labels=checked.labels,
        annotation_ids=checked.annotation_ids,
        boxes=columns.boxes,
        area=columns.area,
        crowd=columns.crowd,
        ignore=columns.ignore,
        edge_ambiguity=columns.ambiguity,
    )


class _Columns(NamedTuple):
    """Of the N boxes that stay: (N, 4) xyxy, (N,) areas and marks, (N, 4) uncertainty of edges or None."""

    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    ambiguity: np.ndarray | None


def _columns(annotations: Annotations, rows: np.ndarray | slice) -> _Columns:
    """Boxes as corners, areas where the file has none, and what else annotations say of boxes.

    Args:
        annotations: as parsed; used up, since a second copy of the boxes would be half of the memory of reading.
        rows: of those to keep.
    """
    boxes, area = annotations.boxes[rows], annotations.area[rows]
    for some in parts(len(boxes)):
        sides = boxes[some, 2:]
        with np.errstate(over="ignore"):  # Sides of 1e308 are finite, and may stand in a file.
            area[some] = np.where(np.isfinite(area[some]), area[some], sides[:, 0] * sides[:, 1])
            sides += boxes[some, :2]  # From x, y, width, height to two corners.
    known = annotations.has_ambiguity[rows].any()
    ambiguity = annotations.ambiguity[rows] if known and annotations.ambiguity is not None else None
    return _Columns(boxes, area, annotations.crowd[rows], annotations.ignore[rows], ambiguity)
