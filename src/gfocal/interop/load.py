"""Weights of other projects -> a gfocal checkpoint: the names of the tensors say which project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gfocal.errors import UsageError, require_path
from gfocal.interop.mmdetection import import_mmdetection
from gfocal.interop.nanodet import import_nanodet, is_nanodet
from gfocal.interop.report import ImportReport, free_place
from gfocal.interop.wrappers import read_wrapped
from gfocal.utils.locks import locked_folder


def import_weights(
    checkpoint: str | Path,
    out: str | Path,
    *,
    style: Literal["pytorch", "caffe"] | None = None,
    size: int | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a checkpoint of NanoDet-m, mmdetection 2.x or 3.x, or GFocal.

    Args:
        checkpoint: a ``.pth``, ``.pt`` or ``.ckpt`` file. It is read as data: nothing in it is imported or called.
        out: the folder to write to; made if it does not exist.
        style: see :func:`gfocal.interop.mmdetection.import_mmdetection`; NanoDet has none.
        size: see :func:`gfocal.interop.nanodet.import_nanodet`; files of mmdetection say it themselves.
        overwrite: replace a checkpoint that ``out`` has already.

    Raises:
        UsageError: no such file, another kind of file, tensors that do not fit, an option that does not apply, or
            ``out`` has a checkpoint already.
    """
    require_path("the checkpoint", checkpoint)
    require_path("out", out)
    with locked_folder(Path(out)):
        return _import(Path(checkpoint), Path(out), style, size, overwrite)


def _import(
    checkpoint: Path, out: Path, style: Literal["pytorch", "caffe"] | None, size: int | None, overwrite: bool
) -> ImportReport:
    free_place(out, overwrite=overwrite)
    if checkpoint.suffix == ".safetensors" and checkpoint.is_file():
        raise UsageError(
            f"{checkpoint} needs no import: give it, or its folder, as MODEL. Weights of other projects come as .pth, "
            ".pt or .ckpt files"
        )
    content = read_wrapped(checkpoint)
    if is_nanodet(content.state):
        if style is not None:
            raise UsageError("--style is for ResNets of mmdetection; NanoDet's network has only one")
        return import_nanodet(checkpoint, out, size=size, overwrite=overwrite, content=content)
    if size is not None:
        raise UsageError(
            "--size is for NanoDet; detectors of mmdetection take another size when they are used: --set data.resize..."
        )
    return import_mmdetection(checkpoint, out, style=style, overwrite=overwrite, content=content)
