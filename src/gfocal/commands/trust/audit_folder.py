"""The folder that an audit writes: never that of the data, nor one of other files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from gfocal.commands.trust.audit_report import COCO, GENERATOR, LABEL_STUDIO, NUMBERS, PAGE, TABLE, AuditReport
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.evaluation.audit.exchange import to_coco, to_csv, to_label_studio
from gfocal.utils.files import write_atomically
from gfocal.utils.locks import is_empty
from gfocal.utils.records import to_json


def check_apart(out: Path, data: Path, images: Path | None) -> None:
    """Refuse the data set's folder, and those inside and around it.

    Raises:
        UsageError: it is one of these.
    """
    place = out.resolve()
    own = [folder.resolve() for folder in (data if data.is_dir() else data.parent, images) if folder is not None]
    beside = data.parent.resolve() if not data.is_dir() else None
    for folder in own:
        inside = place != folder and place.is_relative_to(folder) and folder != beside
        if place == folder or folder.is_relative_to(place) or inside:
            raise UsageError(
                f"--out {out} is in the data set's folder or around it, which is never written: give another"
            )


def check_free(out: Path) -> None:
    """Refuse a folder of something else.

    Raises:
        UsageError: it is one.
    """
    place = out.resolve()
    if place.is_file():
        raise UsageError(f"--out {out} is a file: give a folder")
    if place.is_dir() and not is_empty(place):
        try:
            known = json.loads((place / NUMBERS).read_bytes()).get("generator") == GENERATOR
        except (OSError, ValueError, AttributeError):
            known = False
        if not known:
            raise UsageError(f"--out {out} holds other files, which are not replaced: give a new folder")


def write_files(out: Path, report: AuditReport, index: DataIndex, page: str) -> None:
    """Each file whole or not at all; the one that says whose folder it is first."""
    suspects = report.suspects
    texts = {
        NUMBERS: _json(to_json(report)),
        TABLE: to_csv(suspects),
        COCO: _json(to_coco(index, suspects)),
        LABEL_STUDIO: _json(to_label_studio(index, suspects, report.model)),
        PAGE: page,
    }
    for name, text in texts.items():
        content = text.encode("utf-8", "backslashreplace")
        write_atomically(out / name, partial(_into, content), needed=len(content))


def _into(content: bytes, file: Path) -> None:
    file.write_bytes(content)


def _json(content: object) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
