"""What a file of weights is, by its first bytes: names and endings are people's."""

from __future__ import annotations

import io
import pickletools
from pathlib import Path
from typing import Literal

from gfocal.serialization import bounds
from gfocal.serialization.torch_archive import ZIP_MAGIC
from gfocal.serialization.torch_files import LEGACY_MAGIC

FileKind = Literal["torch", "pickle", "onnx", "safetensors", "unknown"]
"""``pickle``: of Python's values, as paddle writes them; ``unknown``: none of the others."""
_HEAD = 64
_NEWEST_PROTOCOL = 5
_ONNX_FIELD = b"\x08"  # of a model's first field, the version of the format: a small number follows
_NEWEST_ONNX = 64


def kind_of(file: Path) -> FileKind:
    """What a file's beginning says that it is; one that is missing or empty is unknown."""
    if not file.is_file():
        return "unknown"
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    if head.startswith(ZIP_MAGIC):
        return "torch"
    if head[:1] == b"\x80" and head[1:2] and head[1] <= _NEWEST_PROTOCOL:
        return "torch" if _first_value(head) == LEGACY_MAGIC else "pickle"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= bounds.HEADER:
        return "safetensors"
    if head[:1] == _ONNX_FIELD and len(head) > 2 and 1 <= head[1] <= _NEWEST_ONNX:
        return "onnx"
    return "unknown"


def _first_value(head: bytes) -> object:
    """The first number or text of a pickle; None where it begins with something else."""
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(head)):
            if opcode.name not in ("PROTO", "FRAME"):
                return argument
    except ValueError:  # cut off
        return None
    return None
