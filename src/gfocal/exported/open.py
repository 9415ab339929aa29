"""Opening exported files by their endings."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path

from gfocal.errors import UsageError, require_number
from gfocal.exported.detector import ExportedDetector
from gfocal.utils.processor import MOST_THREADS

SESSIONS = {
    ".onnx": "gfocal.exported.onnx_session:OnnxSession",
    ".pt2": "gfocal.exported.pt2_session:Pt2Session",
    ".xml": "gfocal.exported.openvino_session:OpenVinoSession",
}
"""What runs a file of each ending. Named, not imported: each needs its own library."""


@dataclass(frozen=True)
class SessionOptions:
    """How a file is run.

    Attributes:
        provider: what runs an ONNX file, see :data:`gfocal.exported.onnx_session.PROVIDERS`, or OpenVINO's, see
            :data:`gfocal.exported.openvino_session.DEVICES`; None: the CPU.
        threads: of an operator; None: one a core, or what ``OMP_NUM_THREADS`` says.

    Raises:
        UsageError: ``threads`` is not in 1 to :data:`gfocal.utils.processor.MOST_THREADS`.
    """

    provider: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            require_number("threads", self.threads, least=1, most=MOST_THREADS, whole=True)

    @property
    def asked(self) -> bool:
        """Whether something else than the usual is asked for."""
        return self.provider is not None or self.threads is not None


USUAL = SessionOptions()


def is_exported(path: object) -> bool:
    """Whether the name of a model is that of an exported file."""
    return isinstance(path, str | os.PathLike) and Path(path).suffix.lower() in SESSIONS


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of an exported detector, the one that names it last: OpenVINO's has weights beside it."""
    return (path.with_suffix(".bin"), path) if path.suffix.lower() == ".xml" else (path,)


def open_exported(path: str | Path, session: SessionOptions = USUAL) -> ExportedDetector:
    """A detector from an exported file.

    Args:
        path: a file of :data:`SESSIONS`.
        session: how it is run.

    Raises:
        UsageError: there is no such file, it cannot be run, or it is not one of gfocal's.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} is a folder, not a file" if path.is_dir() else f"there is no exported file {path}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    module, _, name = SESSIONS[path.suffix.lower()].partition(":")
    kind = getattr(importlib.import_module(module), name)
    return ExportedDetector(kind(path, provider=session.provider, threads=session.threads), str(path))
