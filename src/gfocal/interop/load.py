"""Weights of other projects -> a gfocal checkpoint: a file's content says which project and which detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gfocal.errors import UsageError, require_path, require_texts
from gfocal.interop import picodet
from gfocal.interop.mmdetection import import_mmdetection
from gfocal.interop.nanodet import RECIPES, import_nanodet, is_nanodet
from gfocal.interop.picodet import import_picodet
from gfocal.interop.report import ImportReport, free_place
from gfocal.interop.wrappers import read_wrapped, unwrap
from gfocal.serialization.file_kinds import kind_of
from gfocal.serialization.paddle_files import read_paddle
from gfocal.utils.locks import locked_folder

Style = Literal["pytorch", "caffe"]
SIZED = RECIPES | frozenset(picodet.RECIPES.values())
"""Recipes of files that do not say their input size, so that ``size`` is for them."""
_INFERENCE = (".pdiparams", ".pdmodel")


@dataclass(frozen=True)
class _Asked:
    """What a person says beside the file; see :func:`import_weights`."""

    style: Style | None
    size: int | None
    names: Sequence[str] | None
    overwrite: bool


def import_weights(
    checkpoint: str | Path,
    out: str | Path,
    *,
    style: Style | None = None,
    size: int | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a checkpoint of mmdetection 2.x or 3.x, GFocal, NanoDet or PicoDet.

    What the file is follows from its content, not from its name.

    Args:
        checkpoint: a ``.pth``, ``.pt`` or ``.ckpt`` file of torch, a ``.pdparams`` file of paddle, or a PicoDet as
            ``.onnx``. It is read as data: nothing in it is imported or called.
        out: the folder to write to; made if it does not exist.
        style: see :func:`gfocal.interop.mmdetection.import_mmdetection`; the others have none.
        size: input side in pixels of a NanoDet or PicoDet, whose files do not say it; those of mmdetection do.
        names: of the classes, in the order of the outputs; by default what the file says, else COCO's for 80 classes,
            else "class 0", "class 1", ...
        overwrite: replace a checkpoint that ``out`` has already.

    Raises:
        UsageError: no such file, another kind of file, tensors that do not fit, an option that does not apply, or
            ``out`` has a checkpoint already.
    """
    require_path("the checkpoint", checkpoint)
    require_path("out", out)
    if names is not None:
        require_texts("names", names)
    with locked_folder(Path(out)):
        return _import(Path(checkpoint), Path(out), _Asked(style, size, names, overwrite))


def _import(checkpoint: Path, out: Path, asked: _Asked) -> ImportReport:
    free_place(out, overwrite=asked.overwrite)
    kind = kind_of(checkpoint)
    if kind == "safetensors":
        raise UsageError(
            f"{checkpoint} needs no import: give it, or its folder, as MODEL. Weights of other projects come as .pth, "
            ".pt, .ckpt, .pdparams or .onnx files"
        )
    if kind == "onnx":
        from gfocal.interop.picodet_onnx import import_picodet_onnx  # here: it asks for an optional package

        _refuse_style(asked, "PicoDet's")
        return import_picodet_onnx(checkpoint, out, size=asked.size, names=asked.names, overwrite=asked.overwrite)
    if kind == "pickle":
        content = unwrap(read_paddle(checkpoint))
        _refuse_style(asked, "PicoDet's")
        return import_picodet(checkpoint, out, content, size=asked.size, names=asked.names, overwrite=asked.overwrite)
    if kind == "unknown" and checkpoint.suffix in _INFERENCE:
        raise UsageError(
            f"{checkpoint} is a network as paddle runs it, without the names of its layers: give the .pdparams file "
            "that it was made from, or PicoDet as .onnx"
        )
    content = read_wrapped(checkpoint)
    if is_nanodet(content.state):
        _refuse_style(asked, "NanoDet's")
        return import_nanodet(
            checkpoint, out, size=asked.size, names=asked.names, overwrite=asked.overwrite, content=content
        )
    if asked.size is not None:
        raise UsageError(
            "--size is for NanoDet and PicoDet; detectors of mmdetection take another size when they are used: --set "
            "data.resize..."
        )
    return import_mmdetection(
        checkpoint, out, style=asked.style, names=asked.names, overwrite=asked.overwrite, content=content
    )


def _refuse_style(asked: _Asked, whose: str) -> None:
    if asked.style is not None:
        raise UsageError(f"--style is for ResNets of mmdetection; {whose} network has only one")
