"""Where an exported file goes, and what is not overwritten there."""

from __future__ import annotations

from pathlib import Path

from gfocal.errors import UsageError
from gfocal.export.formats import FORMATS, ExportOptions
from gfocal.export.web.page import GENERATOR, PAGE
from gfocal.exported.open import files_of
from gfocal.hub.names import is_hub_name, parse_hub_name
from gfocal.runs.checkpoint import find_weights
from gfocal.utils.files import real_path


def named_after(model: str, found: Path) -> Path:
    """A path that files are named after, and beside which they go: the weights, or the name in the current folder.

    Args:
        model: as a person gave it. Weights of a name lie in a cache, where nobody looks for a file.
        found: the run folder or checkpoint that it stands for.
    """
    if is_hub_name(model):
        return Path(f"{parse_hub_name(model).repo.rpartition('/')[2]}.safetensors")
    return find_weights(found) if Path(model).exists() else Path(f"{found.name}.safetensors")


def place_of(beside: Path, out: Path | None, options: ExportOptions) -> Path:
    """The file to write.

    Args:
        beside: see :func:`named_after`.
        out: as asked for; None: beside it, with the ending of the format.
        options: of the export.

    Raises:
        UsageError: it has another ending, is a folder, or another's file would be lost.
    """
    suffix = FORMATS[options.format].suffix
    if out is None:
        precision = "" if options.precision == "fp32" else f"-{options.precision}"
        out = beside.with_name(f"{beside.stem}{precision}{suffix}")
    if out.suffix.lower() != suffix:
        raise UsageError(f"--out must end in {suffix} for format {options.format}, got {out}")
    if out.is_dir():
        raise UsageError(f"cannot write {out}: it is a folder; give a file")
    out = real_path(out)
    *others, _ = files_of(out)
    if foreign := [part for part in others if part.exists() and not out.exists()]:
        raise UsageError(f"{foreign[0]} is there already, without a {out.name}: it would be lost; give another --out")
    return out


def page_place(beside: Path, out: Path | None, options: ExportOptions) -> Path:
    """The file inside the folder of a page, see :func:`place_of`; by default the folder has ``-web`` in its name."""
    folder = beside.with_name(f"{beside.stem}-web") if out is None else out
    if (folder.exists() and not folder.is_dir()) or folder.suffix.lower() in (".html", ".onnx"):
        raise UsageError(f"format web writes a folder, and {folder} is a file or named like one: give another --out")
    page = folder / PAGE
    if page.exists() and GENERATOR.encode() not in page.read_bytes()[:4096]:
        raise UsageError(f"{page} is there, and gfocal did not write it: give another folder")
    return place_of(beside, folder / f"{beside.stem}{FORMATS[options.format].suffix}", options)
