"""What stands in a COCO file and is no part of a data set for boxes."""

from __future__ import annotations

import re
from pathlib import Path

from gfocal.data.problems import Problems

_EMPTY = rb'(?!null|""|"none"|\[\s*\]|\{\s*\})'
_KEYS = {
    "segmentation": "masks",
    "keypoints": "lists of key points",
    "attributes": "attributes",
    "score": "scores",
    "supercategory": "supercategories",
    "license": "licences of pictures",
    "licenses": "list of licences",
    "captions": "captions",
}


def tell_unread(file: Path, problems: Problems) -> None:
    """Count what the reader drops, by its keys; empty values do not count.

    The bytes are searched, since objects of all records would take several times the size of the file.
    """
    raw = file.read_bytes()
    for key, what in _KEYS.items():
        pattern = rb'"%b"\s*:\s*+' % key.encode() + _EMPTY
        if count := sum(1 for _ in re.finditer(pattern, raw)):
            problems.lose(file, f"{count:,} {what}")
