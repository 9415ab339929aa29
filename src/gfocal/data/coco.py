"""Reading a COCO data set."""

from __future__ import annotations

from pathlib import Path

from gfocal.data.coco_checks import check_annotations, check_categories, check_images
from gfocal.data.coco_file import parse
from gfocal.data.index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import UsageError


def read_coco(
    annotations: Path, pictures_dir: Path, *, skip_broken: bool = False, problems: Problems | None = None
) -> DataIndex:
    """Read a COCO annotation file and check all of it, and that each of its pictures exists.

    Pictures without boxes are kept. Category ids may be any integers; labels follow their order.

    Args:
        annotations: the JSON file.
        pictures_dir: the folder that its file names start from.
        skip_broken: leave broken annotations and pictures out and list them in :attr:`DataIndex.skipped`.

        problems: who is told of what is broken; by default it raises, or skips as ``skip_broken`` says.

    Raises:
        BrokenInputError: a record is broken, and ``skip_broken`` is False.
        UsageError: the file or the folder is missing, or the file is no COCO annotation file.
    """
    annotations, pictures_dir = Path(annotations), Path(pictures_dir)
    if not pictures_dir.is_dir():
        raise UsageError(f"picture folder {pictures_dir} does not exist; give the folder that holds the pictures")
    problems = problems or Problems(skip_broken)
    content = parse(annotations, problems)
    category_ids, names = check_categories(annotations, content.categories)
    images = check_images(content.images, pictures_dir, annotations, problems)
    if not images:
        raise UsageError(f"{annotations}: no picture {'is left' if content.images else 'in it'}; nothing can be done")
    columns = check_annotations(content.annotations, images, category_ids, annotations, problems)
    return DataIndex.build(
        pictures_dir=pictures_dir,
        annotations=annotations,
        image_ids=[image.id for image in images],
        file_names=[image.file_name for image in images],
        widths=[image.width for image in images],
        heights=[image.height for image in images],
        category_ids=category_ids,
        names=names,
        skipped=problems.lines,
        **columns,
    )
